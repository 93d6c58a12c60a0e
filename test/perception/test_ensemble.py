"""Two detectors side by side: what is one thing, what is two, and who says so."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import scenes
from support.small_detectors import write_detector

from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.detectors import open_network
from mm_fusion.perception.ensemble import merged
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.samples import Detection, SyncedSet


def box(
    x: float,
    y: float = 0.0,
    label: str = "car",
    score: float = 0.5,
    source: str = "fusion",
    covariance: np.ndarray | None = None,
) -> Detection:
    size = np.array([4.0, 1.8, 1.5] if label in ("car", "unknown") else [0.6, 0.6, 1.7])
    center = np.array([x, y, 0.8])
    return Detection(label, score, center, size, 0.1, np.zeros(2), source, covariance)


def test_what_both_see_is_one_and_surer() -> None:
    sure = np.eye(4)
    (one,) = merged([box(10.0)], [box(11.0, 0.5, source="camera2d", score=0.6, covariance=sure)])
    assert one.source == "camera2d+fusion"
    assert one.score == pytest.approx(0.8)  # 1 - 0.5 * 0.4
    assert one.center.tolist() == [10.0, 0.0, 0.8]
    assert one.covariance is sure


def test_what_is_apart_or_of_another_class_stays_two() -> None:
    found = merged(
        [box(10.0), box(20.0, label="pedestrian")],
        [box(12.5, source="camera2d"), box(20.0, label="cyclist", source="camera2d", score=0.4)],
    )
    assert len(found) == 4
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_each_box_is_merged_once() -> None:
    """GIVEN two cars side by side, and one box of the other detector between them
    WHEN they are merged
    THEN it is joined with one of them only."""
    found = merged([box(10.0, 0.0), box(10.0, 1.9)], [box(10.0, 0.8, source="camera2d")])
    assert sorted(d.source for d in found) == ["camera2d+fusion", "fusion"]


def test_a_guessed_range_gives_way_to_a_measured_one() -> None:
    (one,) = merged([box(25.0, source="bearing", score=0.3)], [box(28.0, 0.3, source="fusion")])
    assert (one.center[0], one.source) == (28.0, "bearing+fusion")


def test_a_named_box_takes_the_cluster_under_it() -> None:
    cluster = box(10.5, label="unknown", source="cluster", score=0.3)
    (one,) = merged([box(10.0, score=0.5)], [cluster])
    assert (one.label, one.score, one.source) == ("car", 0.5, "cluster+fusion")


def test_nothing_with_nothing() -> None:
    assert merged([], []) == ()


def test_both_networks_run_in_the_pipeline(tmp_path: Path) -> None:
    """GIVEN the fusion network of the tests, and a camera detector that sees nothing
    WHEN a set is processed with both
    THEN the fusion network's boxes come out as its own, and the summary names both files."""
    fusion = scenes.write_network(tmp_path)
    camera = write_detector(tmp_path / "v8.onnx", {"output0": np.zeros((1, 84, 8400))})
    config = scenes.config(
        detector="ensemble",
        model=str(camera),
        network__model=str(fusion),
        network__provider="cpu",
        camera2d__unknown=False,
    )
    calibration = Calibration(config)
    network = open_network(config)
    pipeline = PerceptionPipeline(config, network, calibration)
    calibration.set_camera(scenes.camera_model(320, 320))
    frame = scenes.frame(np.full((320, 320, 3), 128, np.uint8))
    points = np.random.default_rng(0).uniform((5, -5, -1), (15, 5, 1), (200, 3))
    synced = SyncedSet(
        scenes.T0, (scenes.sweep(points),), (frame,), dt_ns={"lidar": 0, "camera": 0}
    )
    result = pipeline.process(synced)
    assert result.mode.value == "camera+lidar"
    assert result.rejections == ()
    assert {d.source for d in result.detections} == {"fusion"}
    facts = network.facts()
    assert facts["model"] == "net.onnx"
    assert facts["with"]["sha256"] == hashlib.sha256(camera.read_bytes()).hexdigest()
