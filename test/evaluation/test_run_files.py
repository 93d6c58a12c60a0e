"""The files of a run: what is written is what is read, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mm_fusion.errors import MmFusionError
from mm_fusion.evaluation import records
from mm_fusion.evaluation.files import Files
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import (
    CovarianceType,
    Detection,
    FusionResult,
    GnssFix,
    Mode,
    PoseEstimate,
    Track,
)

T0 = 1_700_000_000_123_456_789


def result(stamp_ns: int = T0) -> FusionResult:
    box = {
        "label": "car",
        "center": np.array([1.23456789, -0.00001, 0.8]),
        "size": np.array([4.2, 1.8, 1.5]),
        "yaw": -3.0,
        "velocity": np.array([5.0, -0.5]),
    }
    return FusionResult(
        stamp_ns=stamp_ns,
        frame_id="base_link",
        mode=Mode.LIDAR,
        missing=("camera",),
        detections=(Detection(score=0.987654321, **box),),
        tracks=(
            Track(
                track_id=7,
                score=0.5,
                covariance=np.eye(4),
                hits=3,
                time_since_update_s=0.0,
                **box,
            ),
        ),
        track_frame_id="odom",
        ego_motion=True,
        stage_ns={"network": 12_345_678, "total": 20_000_000},
    )


def estimate(stamp_ns: int, x: float, frame: str = "map", yaw: float = 0.5) -> PoseEstimate:
    return PoseEstimate(
        stamp_ns=stamp_ns,
        frame_id=frame,
        child_frame_id="base_link",
        frame_from_base=RigidTransform.from_rpy([x, 2.0, 3.0], [0.0, 0.0, yaw]),
        linear=np.zeros(3),
        angular=np.zeros(3),
        pose_covariance=np.eye(6),
        twist_covariance=np.eye(6),
    )


def test_detections_line() -> None:
    assert json.loads(records.detections_line(result())) == {
        "stamp_ns": T0,
        "frame_id": "base_link",
        "mode": "lidar",
        "missing": ["camera"],
        "detections": [
            {
                "class": "car",
                "score": 0.98765,
                "center": [1.2346, 0.0, 0.8],
                "size": [4.2, 1.8, 1.5],
                "yaw": -3.0,
                "velocity": [5.0, -0.5],
                "source": "fusion",
            }
        ],
    }
    assert "-0.0" not in records.detections_line(result())


def test_tracks_line_adds_the_id_in_the_tracks_frame() -> None:
    line = json.loads(records.tracks_line(result()))
    assert line["frame_id"] == "odom"
    assert line["tracks"][0]["id"] == 7


def test_timing_line_is_in_milliseconds() -> None:
    line = json.loads(records.timing_line(result()))
    assert line["stage_ms"] == {"network": 12.3457, "total": 20.0}


def test_tum_keeps_nanoseconds_and_one_sign() -> None:
    line = records.tum_line(T0, [1.0, -2.0, 0.0], [0.0, 0.0, -0.6, -0.8])
    assert line == (
        "1700000000.123456789 1.000000 -2.000000 0.000000"
        " 0.000000000 0.000000000 0.600000000 0.800000000\n"
    )
    half_turn = records.tum_line(5, [0, 0, 0], [0.0, 0.0, -1.0, 0.0])
    assert half_turn.endswith(" 0.000000000 0.000000000 1.000000000 0.000000000\n")
    assert half_turn.startswith("0.000000005 ")


def test_files_read_back(tmp_path: Path) -> None:
    with Files(tmp_path / "run") as files:
        files.result(result())
        files.pose(estimate(T0, 1.0), is_global=True)
        files.pose(estimate(T0, 1.5), is_global=True)  # the same instant again: the last counts
        files.pose(estimate(T0 + 10, 2.0), is_global=True)
        files.pose(estimate(T0, 9.0, "odom"), is_global=False)
        fix = GnssFix("gps", T0, "gps", 48.0, 8.0, 110.0, np.eye(3), CovarianceType.DIAGONAL_KNOWN)
        files.gps([fix], (48.0, 8.0, 100.0), {T0: "outlier"})
    read = records.read_tum(tmp_path / "run" / records.POSE)
    assert read.stamps_ns.tolist() == [T0, T0 + 10]
    assert read.positions[:, 0].tolist() == [1.5, 2.0]
    np.testing.assert_allclose(read.xyzw[0], [0, 0, np.sin(0.25), np.cos(0.25)], atol=1e-9)
    assert len(records.read_tum(tmp_path / "run" / records.POSE_LOCAL)) == 1
    np.testing.assert_allclose(
        records.read_tum(tmp_path / "run" / records.GPS).positions, [[0, 0, 10]], atol=1e-6
    )
    (verdict,) = records.read_lines(tmp_path / "run" / records.FIXES, "enu")
    assert verdict["refused"] == "outlier"
    assert verdict["enu"] == pytest.approx([0, 0, 10], abs=1e-3)
    stamps, columns = records.read_covariances(tmp_path / "run" / records.COVARIANCE)
    assert stamps.tolist() == read.stamps_ns.tolist()
    np.testing.assert_allclose(columns["yaw2"], estimate(T0, 1.0).pose_covariance[5, 5])
    (line,) = records.read_lines(tmp_path / "run" / records.DETECTIONS)
    assert line["stamp_ns"] == T0


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text('{"stamp_ns": 1, "detections": []}\nnot json\n')
    with pytest.raises(records.RecordError, match="bad:2: not JSON"):
        records.read_lines(bad)
    bad.write_text('{"stamp_ns": 1}\n')
    with pytest.raises(records.RecordError, match="bad:1: must have stamp_ns and detections"):
        records.read_lines(bad)
    bad.write_text("1.0 2 3\n")
    with pytest.raises(records.RecordError, match="bad:1: must be 't x y z"):
        records.read_tum(bad)
    bad.write_text("soon 1 2 3 0 0 0 1\n")
    with pytest.raises(records.RecordError, match="bad:1: not a pose"):
        records.read_tum(bad)
    for read in (records.read_lines, records.read_tum):
        with pytest.raises(records.RecordError, match="nothere: no such file"):
            read(tmp_path / "nothere")
    with pytest.raises(records.RecordError, match=r"no summary\.json"):
        records.read_summary(tmp_path)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(records.RecordError, match="must hold one object"):
        records.read_summary(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MmFusionError, match="file/run: cannot be written"):
        Files(tmp_path / "file" / "run")
