"""A public 2D detector and a real 64-beam LIDAR: the cars ahead, boxed in space on every frame."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mm_fusion import config, wire
from mm_fusion.datasets.frame import count_inside
from mm_fusion.evaluation import records
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.order import read_samples
from mm_fusion.evaluation.replay import replay
from mm_fusion.evaluation.topics import find_inputs
from mm_fusion.samples import LidarSweep

DATA = Path(os.environ.get("MM_FUSION_DATA") or "nowhere")
BAG, MODEL = DATA / "kitti_five_frames", DATA / "coco_detector" / "FastestDet.onnx"
LIDAR_HEIGHT_M = 1.73


@pytest.mark.skipif(
    not (BAG.is_dir() and MODEL.is_file()), reason="MM_FUSION_DATA names no real recordings"
)
def test_the_cars_ahead_are_boxed_on_every_frame(tmp_path: Path) -> None:
    """GIVEN five frames of a street, and a detector that nobody here made and that has no contract
    WHEN they are replayed with nothing but the detector's file and the LIDAR's height
    THEN on every frame there is a box around the car ahead and the one left of it, and all boxes
    of named things within 25 m hold LIDAR points."""
    settings = config.load(
        assignments=[
            "detector=camera2d",
            f"model={MODEL}",
            "network.provider=cpu",
            f'calibration.extrinsics=["velodyne 0 0 {LIDAR_HEIGHT_M} 0 0 0"]',
        ]
    )
    summary = replay(BAG, tmp_path, settings)
    assert summary["modes"] == {"camera+lidar": 5}
    assert (summary["network"]["head"], summary["network"]["recognized"]) == ("fastestdet", True)
    lines = records.read_lines(tmp_path / records.DETECTIONS)
    clouds = sweeps(settings)
    assert len(lines) == len(clouds) == 5
    for line, xyz in zip(lines, clouds, strict=True):
        cars = [d for d in line["detections"] if d["class"] == "car" and d["source"] == "camera2d"]
        for x, y in ((9.8, -0.2), (7.0, 3.3)):  # where the points show their rears, and half a car
            off = [np.hypot(d["center"][0] - x, d["center"][1] - y) for d in cars]
            assert min(off) < 1.0
        boxes = np.array([[*d["center"], *d["size"], d["yaw"], 0.0, 0.0] for d in cars])
        near = boxes[np.hypot(boxes[:, 0], boxes[:, 1]) < 25.0]
        assert len(near) >= 4
        assert count_inside(xyz, near.astype(np.float32)).min() >= 10


def sweeps(settings: config.Config) -> list[np.ndarray]:
    """The clouds [N,3] in the base frame."""
    with Bag(BAG) as bag:
        inputs = find_inputs(bag.topics, settings, str(BAG))
        lidars = wire.Lidars(settings.lidar, inputs.config(settings).topics.lidars)
        found = [a.sample for a in read_samples(bag, inputs, lidars)]
    clouds = []
    for sweep in (s for s in found if isinstance(s, LidarSweep)):
        xyz = np.stack([sweep.points[axis].astype(np.float64) for axis in "xyz"], axis=1)
        clouds.append(xyz + np.array([0.0, 0.0, LIDAR_HEIGHT_M]))
    return clouds
