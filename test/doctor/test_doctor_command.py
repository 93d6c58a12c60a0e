"""``mm_fusion doctor`` on a bag: exit codes, JSON, text; real recordings; its document."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest
from doctor.conftest import examine_bag, find
from support import doctor_bags
from support.doctor_bags import LIDAR, Rows

from mm_fusion.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MM_FUSION_DATA", ROOT / "data"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(("doctor", *arguments))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def broken(healthy_rows: Rows, tmp_path: Path) -> Path:
    """Without any transform, and with one warning besides."""
    rows = doctor_bags.without(healthy_rows, doctor_bags.TF_STATIC)
    return doctor_bags.write(tmp_path / "broken", rows)


def test_a_healthy_bag_ends_with_0(
    capsys: pytest.CaptureFixture[str], healthy_rows: Rows, tmp_path: Path
) -> None:
    bag = doctor_bags.write(tmp_path / "bag", healthy_rows)
    code, out, _ = run(capsys, str(bag), "--set", "network.provider=cpu")
    assert code == 0
    lines = out.splitlines()
    assert lines[2].split() == ["topic", "messages", "rate", *lines[2].split()[3:]]
    assert any(line.split()[:2] == [LIDAR, "30"] and "10.0 Hz" in line for line in lines)
    assert lines[-1].startswith("healthy: 0 errors, 0 warnings")


def test_a_bag_with_an_error_ends_with_1_and_says_the_worst_first(
    capsys: pytest.CaptureFixture[str], broken: Path
) -> None:
    code, out, _ = run(capsys, str(broken), "--no-network")
    assert code == 1
    heads = [line.split()[0] for line in out.splitlines() if line.endswith("]")]
    heads = [h for h in heads if h in ("ERROR", "WARN", "INFO")]
    assert heads == sorted(heads, key=["ERROR", "WARN", "INFO"].index)
    assert heads[0] == "ERROR"
    assert out.splitlines()[-1].startswith("not healthy: 2 errors")
    assert all(len(line) <= 100 for line in out.splitlines() if line.startswith("      "))


def test_json_has_the_findings_the_sensors_and_the_facts(
    capsys: pytest.CaptureFixture[str], broken: Path
) -> None:
    code, out, _ = run(capsys, str(broken), "--json", "--no-network")
    report = json.loads(out)
    assert (code, report["healthy"], report["live"]) == (1, False, False)
    assert report["errors"] == sum(f["severity"] == "error" for f in report["findings"])
    assert set(report["findings"][0]) == {"severity", "code", "subject", "seen", "remedy"}
    assert {s["topic"] for s in report["sensors"]} >= {LIDAR}
    assert report["facts"]["inputs"]["topics.lidars[0]"] == LIDAR


def test_strict_makes_warnings_count(
    capsys: pytest.CaptureFixture[str], healthy_rows: Rows, tmp_path: Path
) -> None:
    rows = doctor_bags.change(healthy_rows, LIDAR, lambda m, i, _: None if i in (5, 6, 12) else m)
    bag = str(doctor_bags.write(tmp_path / "bag", rows))
    assert run(capsys, bag, "--no-network")[0] == 0
    assert run(capsys, bag, "--no-network", "--strict")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), ("nowhere", "no such bag")),
        (("nowhere", "--duration", "0"), ("--duration", "0")),
        (("nowhere", "--set", "topics.lidar=x"), ("did you mean",)),
        (("nowhere", "--config", "no.yaml"), ("no.yaml", "cannot be read")),
    ],
)
def test_a_mistake_ends_with_2_and_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in err


@pytest.mark.slow
def test_a_simulated_drive_is_healthy(tmp_path: Path) -> None:
    """GIVEN the drive of the demo, THEN there is nothing to complain of, nor to warn."""
    drive = pytest.importorskip("mm_fusion.sim.drive")
    drive.simulate(1, 3.0, "town", tmp_path / "drive")
    report = examine_bag(tmp_path / "drive")
    assert [f for f in report.findings if f.severity.value != "info"] == []
    assert len(report.sensors) == 5


# --------------------------------------------------------------------- real recordings


@pytest.mark.skipif(not (DATA / "kitti_five_frames").is_dir(), reason="no recordings here")
def test_the_street_scene_lacks_its_base_and_the_remedy_mends_it() -> None:
    bag = DATA / "kitti_five_frames"
    report = examine_bag(bag)
    errors = [f for f in report.findings if f.severity.value == "error"]
    assert [f.code for f in errors] == ["no-base-frame"]
    assert "no frame base_link in TF, which holds camera_2, velodyne" in errors[0].seen
    assert 'calibration.extrinsics=["velodyne X Y Z ROLL PITCH YAW"]' in errors[0].remedy
    mended = examine_bag(bag, 'calibration.extrinsics=["velodyne 0 0 1.73 0 0 0"]')
    assert mended.healthy


@pytest.mark.skipif(not (DATA / "husky_test1").is_dir(), reason="no recordings here")
def test_the_outdoor_robot_has_its_imu_on_its_side_and_no_transforms() -> None:
    report = examine_bag(DATA / "husky_test1")
    assert report.healthy
    (mounting,) = find(report, "imu-mounting")
    assert "on its side: gravity is on +y" in mounting.seen
    assert "no transform came at all" in find(report, "no-transform", "imu_link")[0].seen
    assert [f.code for f in report.findings if f.severity.value == "warn"] == [
        "no-transform",
        "imu-mounting",
    ]


# ------------------------------------------------------------------------ its document


def codes() -> set[str]:
    """Every kind of finding that the checks can make, read from their source."""
    found = set()
    for path in sorted((ROOT / "mm_fusion" / "doctor").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called, first = ast.unparse(node.func), node.args[0]
            if any(w in called for w in ("error", "warn", "info", "make")) and isinstance(
                first, ast.Constant
            ):
                found.add(str(first.value))
    return found


def test_the_document_lists_every_kind_of_finding() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text()
    assert len(codes()) > 60
    assert [c for c in sorted(codes()) if f"`{c}`" not in text] == []
