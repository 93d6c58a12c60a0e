"""Real recordings end to end, through the command line with the packaged network."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mm_fusion import config
from mm_fusion.cli.main import main
from mm_fusion.evaluation import records
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.scenes import load_scenes
from mm_fusion.geometry import project

# The Velodyne of the KITTI car sits 1.73 m above the ground; the bag has no base_link.
KITTI_MOUNTING = "calibration.extrinsics=[velodyne 0 0 1.73 0 0 0]"


def data(name: str) -> Path:
    root = os.environ.get("MM_FUSION_DATA", "")
    if not root or not (Path(root) / name).exists():
        pytest.skip(f"MM_FUSION_DATA names no folder with {name}")
    return Path(root) / name


def test_points_fall_on_the_car_ahead() -> None:
    settings = config.load(assignments=[KITTI_MOUNTING])
    line = {"stamp_ns": 1_317_000_000_000_000_000, "mode": "", "detections": []}
    with Bag(data("kitti_five_frames")) as bag:
        (scene,) = load_scenes(bag, settings, [line])
    assert scene.image is not None
    assert scene.image.shape == (375, 1242, 3)
    assert scene.pixel_from_base is not None
    p = scene.points
    # The only thing that stands in our lane between 5 and 14 m: the rear of the car ahead.
    car = p[(p[:, 0] > 5) & (p[:, 0] < 14) & (abs(p[:, 1]) < 1.1) & (p[:, 2] > 0.35)]
    pixels, front = project(scene.pixel_from_base, car[car[:, 2] < 1.7])
    assert len(pixels) > 500
    assert front.all()
    # Its outline in the first image, marked by hand: u 555 .. 701, v 187 .. 312.
    inside = (abs(pixels[:, 0] - 628) < 73 + 3) & (abs(pixels[:, 1] - 249.5) < 62.5 + 3)
    assert inside.mean() > 0.98
    left, right = np.percentile(pixels[:, 0], [1, 99])
    assert left == pytest.approx(555, abs=8)
    assert right == pytest.approx(701, abs=8)


def test_kitti_through_the_network_with_overlays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = data("kitti_five_frames"), tmp_path / "out"
    arguments = ["replay", str(bag), "--out", str(out), "--set", KITTI_MOUNTING]
    assert main([*arguments, "--overlays", "2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["sweeps"], summary["answered"]) == (5, 5)
    assert summary["modes"] == {"camera+lidar": 5}
    assert summary["drops"] == {}
    assert len(list((out / "overlays").glob("camera_*.png"))) == 2
    above = cv2.imread(str(next((out / "overlays").glob("above_*.png"))))
    assert above is not None
    assert (out / records.POSE).read_text() == ""  # there is neither IMU nor GPS


def test_husky_gives_a_drive_that_agrees_with_gps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["replay", str(data("husky_test1")), "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["sweeps"] == 0
    assert any("gravity" in w or "roll" in w for w in summary["warnings"])
    pose, gps = records.read_tum(out / records.POSE), records.read_tum(out / records.GPS)
    # Fixes have 0.9 m per axis by their own words, and the antenna's place is not known.
    at = np.searchsorted(pose.stamps_ns, gps.stamps_ns[10:-5])
    apart = np.linalg.norm(
        (pose.positions[np.clip(at, 0, len(pose) - 1)] - gps.positions[10:-5])[:, :2], axis=1
    )
    assert np.median(apart) < 2.0
    # 13.6 m between the first and the last fix.
    end = np.linalg.norm(pose.positions[-1, :2] - pose.positions[0, :2])
    assert end == pytest.approx(13.6, abs=4.0)
    assert main(["report", str(out)]) == 0
