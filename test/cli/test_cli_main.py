"""The command line: help, exit codes, one clear line for a user's mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import bags

import mm_fusion
from mm_fusion import config, parameters
from mm_fusion.cli.main import COMMANDS, command_module, main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def exits(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """For what argparse itself ends: help, version, usage."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = exits(capsys, "--help")
    assert code == 0
    for name in COMMANDS:
        assert f"    {name}" in out
    assert "examples:" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if name in ("train", "export"):
        pytest.importorskip("torch", reason="the options of train and export need torch")
    code, out, _ = exits(capsys, name, "--help")
    assert code == 0
    assert f"mm_fusion {name}" in out.split("examples:")[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_same_four_parts(name: str) -> None:
    module = command_module(name)
    assert name == module.NAME
    assert module.HELP
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = exits(capsys, "--version")
    assert (code, out) == (0, f"mm_fusion {mm_fusion.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replay", "nowhere", "--out", "o"), ("nowhere", "no such bag")),
        (("evaluate", "nowhere", "--truth", "x"), ("nowhere", "summary.json")),
        (("report", "nowhere"), ("nowhere", "summary.json")),
        (("check-model", "nowhere.onnx"), ("nowhere.onnx", "no such network file")),
        (("params", "--check", "nowhere.yaml"), ("nowhere.yaml", "cannot be read")),
        (("simulate", "--duration", "0", "--out", "o"), ("--duration", "more than 0")),
        (("simulate", "--scenario", "moon", "--out", "o"), ("moon",)),
        (("replay", "x", "--out", "o", "--set", "sync.deadline=1"), ("did you mean",)),
        (("replay", "x", "--out", "o", "--set", "sync.deadline_s=7"), ("within 0 .. 1 s", "7")),
        (("replay", "x", "--out", "o", "--set", "nonsense"), ("must be key=value",)),
        (("replay", "x", "--out", "o", "--config", "no.yaml"), ("no.yaml", "cannot be read")),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("mm_fusion: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not (tmp_path / "o").exists()  # nothing is left behind


def test_an_unknown_command_and_none_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert exits(capsys, "bogus")[0] == 2
    assert exits(capsys)[0] == 2


def test_params_prints_what_it_reads_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(capsys, "params")
    assert code == 0
    assert config.load(out) == config.Config()
    file = tmp_path / "my.yaml"
    file.write_text(out.replace("max_dt_s: 0.06", "max_dt_s: 0.02"))
    code, out, _ = run(capsys, "params", "--check", str(file), "--json")
    assert (code, json.loads(out)["changed"]) == (0, {"sync.max_dt_s": 0.02})


def test_params_markdown_has_a_row_for_every_parameter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = run(capsys, "params", "--format", "markdown")
    rows = out.splitlines()[2:]
    assert len(rows) == len(list(parameters.describe(config.Config)))
    assert all(row.startswith("| `") for row in rows)


def test_params_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "params", "--json")
    assert {"name", "type", "default", "unit", "range", "meaning"} == set(json.loads(out)[0])


def test_train_without_torch_says_what_to_install(tmp_path: Path) -> None:
    # A torch that cannot be imported stands for none: the message must name it and the way out.
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    ended = subprocess.run(
        [sys.executable, "-m", "mm_fusion.cli.main", "train", "--frames", "x", "--out", "y"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert ended.returncode == 2
    assert "needs torch" in ended.stderr
    assert "pip install torch" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_output_into_a_closed_pipe_is_no_traceback() -> None:
    ended = subprocess.run(
        [
            *("bash", "-c"),
            f"set -o pipefail; {sys.executable} -m mm_fusion.cli.main params | true",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert "Traceback" not in ended.stderr


def test_replay_of_the_pose_road_end_to_end(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bag = bags.write_bag(tmp_path / "bag", bags.drive_rows(3.0, perception=False))
    code, out, _ = run(capsys, "replay", str(bag), "--out", str(tmp_path / "out"), "--json")
    assert code == 0
    summary = json.loads(out)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["datum"]["lat"] == pytest.approx(48.0)
    code, out, _ = run(capsys, "report", str(tmp_path / "out"))
    assert code == 0
    assert Path(out.strip()).read_text().startswith("<!doctype html>")
