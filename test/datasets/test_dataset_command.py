"""``mm_fusion dataset``: writes, goes on where it stopped, and refuses to mix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mm_fusion.cli.main import main
from mm_fusion.datasets import writing
from mm_fusion.datasets.frame import read_frame
from mm_fusion.errors import ConfigError
from mm_fusion.sim.frames import FRAMES_PER_DRIVE
from mm_fusion.sim.rigs import Wanted


def test_simulated_frames_and_how_they_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN two simulated frames, of which one was lost
    out = tmp_path / "set"
    options = ("--sim", "--seed", "5", "--lidar", "vlp16", "--weather", "fog", "--night")
    asked = ["dataset", *options, "--pixels", "12000", "--workers", "1", "--out", str(out)]
    assert main([*asked, "--frames", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["frames"], said["written"]) == (2, 2)
    frame = read_frame(out / "000000.npz")
    assert (frame.conditions["device"], frame.conditions["weather"]) == ("vlp16", "fog")
    assert frame.conditions["night"] is True
    lost = (out / "000001.npz").read_bytes()
    (out / "000001.npz").unlink()
    # WHEN the same command is given again
    assert main([*asked, "--frames", "2", "--json"]) == 0
    # THEN only the lost one is made, as it was
    assert json.loads(capsys.readouterr().out)["written"] == 1
    assert (out / "000001.npz").read_bytes() == lost
    # AND another set does not go into the same folder
    assert main([*asked[:3], "6", *asked[4:], "--frames", "2"]) == 2
    assert "seed 5, now 6" in capsys.readouterr().err


def test_a_kitti_folder(
    kitti_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    asked = ["dataset", "--kitti", str(kitti_folder), "--workers", "1", "--out", str(out)]
    assert main(asked) == 0
    assert "1 frames, 1 of them new" in capsys.readouterr().out
    frame = read_frame(out / "000000.npz")
    assert frame.conditions["source"] == "kitti"
    assert frame.images[0].shape == (360, 1200, 3)  # as large as it is
    assert main(asked) == 0
    assert "0 of them new" in capsys.readouterr().out
    # a worker's error comes back as one line
    (kitti_folder / "training" / "calib" / "000007.txt").write_text("P2: 1\n")
    (out / "000000.npz").unlink()
    assert main(asked) == 2
    assert "000007.txt: needs P2" in capsys.readouterr().err


def test_simulated_pictures_have_no_less_to_show_than_the_network_takes() -> None:
    assert Wanted().pixels >= 640 * 384


def test_jobs_do_not_depend_on_how_many_frames_are_asked_for() -> None:
    few = writing.sim_jobs(FRAMES_PER_DRIVE + 2, 3, Wanted())
    many = writing.sim_jobs(3 * FRAMES_PER_DRIVE, 3, Wanted())
    assert [j.frames for j in few] == [range(16), range(16, 18)]  # type: ignore[attr-defined]
    assert [j.drive for j in many] == [0, 1, 2]  # type: ignore[attr-defined]
    assert few[0] == many[0]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds \.npz files but no dataset\.json"):
        writing.claim(tmp_path, writing.options_of("sim", seed=1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sim", "--frames", "0"), "--frames: must be 1 or more"),
        (("--sim", "--workers", "0"), "workers: must be 1 or more"),
        (("--sim", "--seed", "-1"), "seed 0 or more"),
        (("--sim", "--pixels", "5"), "pixels: must be between"),
        (("--kitti", "nowhere", "--pixels", "0"), "pixels: must be between"),
        (("--kitti", "nowhere"), "nowhere: no label_2"),
        (("--nuscenes", "nowhere"), "nowhere: no v1.0-"),
        (("--bag", "nowhere"), "nowhere: no such bag"),
        (("--kitti", "x", "--lidar", "vlp16"), "go with --sim only"),
    ],
)
def test_mistakes_are_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["dataset", *arguments, "--out", str(tmp_path / "set")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert said[-1].startswith("mm_fusion: ")
