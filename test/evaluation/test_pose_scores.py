"""``evaluate --pose`` on runs whose errors are known by construction."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mm_fusion.evaluation import records
from mm_fusion.evaluation.evaluate import evaluate_pose
from mm_fusion.evaluation.pose_picture import pose_picture
from mm_fusion.evaluation.pose_scores import dead_reckoning, nees, read_pose_run, score
from mm_fusion.evaluation.records import RecordError, Trajectory
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import PoseEstimate

S = 1_000_000_000
T0 = 1_700_000_000 * S
SPEED = 10.0


def straight(seconds: np.ndarray, north_m: np.ndarray | float = 0.0) -> Trajectory:
    """Eastwards at 10 m/s."""
    places = np.stack([SPEED * seconds, np.zeros_like(seconds) + north_m, 0 * seconds], axis=1)
    upright = np.tile([0.0, 0.0, 0.0, 1.0], (len(seconds), 1))
    return Trajectory(T0 + np.round(seconds * S).astype(np.int64), places, upright)


def write(
    directory: Path,
    track: Trajectory,
    local: Trajectory,
    fixes: list[tuple[float, float, float, str]],
    sigma_m: float = 0.5,
    kind: str = "replay",
) -> Path:
    """A run's pose files; ``fixes`` are (second, east, north, why refused)."""
    directory.mkdir()
    for name, poses in ((records.POSE, track), (records.POSE_LOCAL, local)):
        lines = [
            records.tum_line(int(n), p, q)
            for n, p, q in zip(poses.stamps_ns, poses.positions, poses.xyzw, strict=True)
        ]
        (directory / name).write_text("".join(lines))
    variances = np.diag([sigma_m**2] * 3 + [1e-4] * 3)
    lines = [
        records.covariance_line(
            PoseEstimate(
                int(n), "map", "base_link", RigidTransform.identity(),
                np.array([SPEED, 0, 0]), np.zeros(3), variances, np.eye(6),
            )
        )
        for n in track.stamps_ns
    ]  # fmt: skip
    (directory / records.COVARIANCE).write_text("".join(lines))
    text = [
        records.fix_line(T0 + int(t * S), (e, n, 0.0), (1.0, 1.0, 2.0), why)
        for t, e, n, why in fixes
    ]
    (directory / records.FIXES).write_text("".join(text))
    summary = {"source": {"kind": kind}, "datum": {"lat": 48.0, "lon": 11.0, "alt": 0.0}}
    (directory / records.SUMMARY).write_text(json.dumps(summary))
    return directory


def even(first: float = 0.0, last: float = 100.0, off_m: float = 0.0) -> list:
    return [(t, SPEED * t, off_m, "") for t in np.arange(first, last, 1.0)]


TIMES = np.arange(0.0, 100.0, 0.1)


def test_without_truth_it_says_how_the_track_agrees_with_the_fixes_it_used(tmp_path: Path) -> None:
    """GIVEN a run whose used fixes are 2 m aside and whose refused ones 50 m
    WHEN scored without truth THEN agreement is 2 m, the refused are counted, and there is no error
    nor NEES made up."""
    fixes = [*even(off_m=2.0), (40.5, 405.0, 50.0, "outlier"), (41.5, 415.0, 50.0, "outlier")]
    out = score(
        read_pose_run(write(tmp_path / "run", straight(TIMES), straight(TIMES), fixes), None)
    )
    assert out["fixes"]["agreement_m"]["rmse"] == pytest.approx(2.0, abs=1e-3)
    assert out["fixes"]["refused"] == {"outlier": 2}
    assert out["global"] is None
    assert "nees" not in out
    assert out["dead_reckoning"]["reference"] == "global"


def test_nees_is_one_where_errors_are_as_claimed(tmp_path: Path) -> None:
    """GIVEN errors drawn with the sigma that is claimed WHEN scored THEN NEES is about 1 per
    element; claimed half as large, it is about 4."""
    rng = np.random.default_rng(3)
    times = np.arange(0.0, 1000.0, 1.0)
    truth = straight(times)
    off = straight(times)
    off.positions[:, :] += rng.normal(0, 0.5, off.positions.shape)
    for sigma, expected in ((0.5, 1.0), (0.25, 4.0)):
        run = read_pose_run(
            write(tmp_path / f"run{sigma}", off, straight(times), [], sigma_m=sigma), truth
        )
        found = nees(run)
        assert found["position"]["mean"] == pytest.approx(expected, rel=0.08)
        assert found["position"]["instants"] == 1000
    assert found["height"]["mean"] == pytest.approx(4.0, rel=0.15)


def test_dead_reckoning_is_judged_from_every_start(tmp_path: Path) -> None:
    """GIVEN odometry whose heading drifts by 1 mrad/s WHEN laid on the truth at many instants
    THEN after 10, 30 and 60 s it is v w t^2 / 2 aside: 0.5, 4.5 and 18 m."""
    yaw = 1e-3 * TIMES
    x = np.concatenate([[0.0], np.cumsum(SPEED * np.cos(yaw[:-1]) * 0.1)])
    y = np.concatenate([[0.0], np.cumsum(SPEED * np.sin(yaw[:-1]) * 0.1)])
    local = straight(TIMES)
    local.positions[:, 0], local.positions[:, 1] = x, y
    local.xyzw[:, 2], local.xyzw[:, 3] = np.sin(yaw / 2), np.cos(yaw / 2)
    run = read_pose_run(write(tmp_path / "run", straight(TIMES), local, even()), straight(TIMES))
    table = dead_reckoning(run)
    assert table["reference"] == "truth"
    for span, expected in (("10_s", 0.5), ("30_s", 4.5), ("60_s", 18.0)):
        assert table["after"][span]["error_m"]["median"] == pytest.approx(expected, rel=0.02)
    assert table["after"]["60_s"]["median_percent_of_distance"] == pytest.approx(3.0, rel=0.02)


def test_an_outage_is_listed_with_the_error_at_its_end(tmp_path: Path) -> None:
    """GIVEN no fix from 30 s to 50 s, at whose end the track is 7 m aside WHEN scored
    THEN the outage stands there with its length, its way and 7 m."""
    off = np.where((TIMES > 30) & (TIMES < 50), (TIMES - 30) * 0.35, 0.0)
    fixes = even(0, 31) + even(50, 100)
    run = read_pose_run(
        write(tmp_path / "run", straight(TIMES, off), straight(TIMES), fixes), straight(TIMES)
    )
    (row,) = score(run)["outages"]
    assert row["from_s"] == pytest.approx(30.0)
    assert row["lasted_s"] == pytest.approx(20.0)
    assert row["distance_m"] == pytest.approx(200.0, rel=0.01)
    assert row["error_m"] == pytest.approx(7.0, abs=0.05)


def test_a_step_of_odom_is_seen(tmp_path: Path) -> None:
    """GIVEN odometry that jumps by 0.4 m once WHEN scored THEN this step is what motion does not
    explain; without the jump next to nothing is."""
    jumped = straight(TIMES)
    jumped.positions[500:, 1] += 0.4
    for local, expected in ((jumped, np.hypot(1.0, 0.4) - 1.0), (straight(TIMES), 0.0)):
        folder = tmp_path / f"run{expected:.2f}"
        out = score(read_pose_run(write(folder, straight(TIMES), local, even()), None))
        assert out["odom"]["largest_unexplained_step_m"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("truth", [True, False])
def test_the_picture_shows_fixes_and_track(tmp_path: Path, truth: bool) -> None:
    fixes = [*even(off_m=2.0), (40.5, 405.0, 50.0, "outlier")]
    folder = write(tmp_path / "run", straight(TIMES, 0.3), straight(TIMES), fixes)
    run = read_pose_run(folder, straight(TIMES) if truth else None)
    labels = [t.get_text() for t in pose_picture(run).axes[0].get_legend().get_texts()]
    assert "fixes used (100)" in labels
    assert "fixes refused (1)" in labels
    assert ("truth" in labels) == truth


def test_files_are_written_beside_the_run(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", straight(TIMES), straight(TIMES), even())
    scores = evaluate_pose(folder, None)
    assert json.loads((folder / records.POSE_EVALUATION).read_text()) == json.loads(
        json.dumps(scores)
    )
    picture = cv2.imread(str(folder / records.POSE_PICTURE))
    assert picture is not None
    assert picture.shape[1] > 800


def test_a_live_run_does_not_know_what_became_of_the_fixes(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", straight(TIMES), straight(TIMES), even(), kind="live")
    assert score(read_pose_run(folder, None))["fixes"]["refused"] is None


def test_a_run_of_an_older_version_is_refused_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", straight(TIMES), straight(TIMES), even())
    (folder / records.COVARIANCE).unlink()
    with pytest.raises(RecordError, match=r"pose_covariance\.txt: no such file"):
        read_pose_run(folder, None)
