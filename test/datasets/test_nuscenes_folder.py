"""A nuScenes folder made here: one scene, two samples, worked out by hand.

The vehicle stands at (100, 50) and looks along +y; half a second later it is where it was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mm_fusion.datasets.nuscenes import NuScenesFolder
from mm_fusion.errors import StageError

HALF = float(np.sqrt(0.5))
LEFT = [HALF, 0, 0, HALF]  # +90 degrees about z, (w, x, y, z)
RIGHT = [HALF, 0, 0, -HALF]
OPTICAL = [0.5, -0.5, 0.5, -0.5]  # z ahead, x right, y down


def annotation(token: str, sample: str, at: list[float], **more: Any) -> dict[str, Any]:
    yaw = more.pop("yaw", np.pi / 2)
    return {
        "token": token,
        "sample_token": sample,
        "instance_token": "i_car",
        "visibility_token": "4",
        "attribute_tokens": [],
        "translation": at,
        "size": [1.9, 4.5, 1.6],
        "rotation": [float(np.cos(yaw / 2)), 0, 0, float(np.sin(yaw / 2))],
        "prev": "",
        "next": "",
        "num_lidar_pts": 1,
        **more,
    }


def tables() -> dict[str, list[dict[str, Any]]]:
    t0 = 1_500_000_000_000_000
    data = []
    for sample, offset in (("s0", 0), ("s1", 500_000)):
        data.append(
            {
                "token": f"l_{sample}",
                "sample_token": sample,
                "is_key_frame": True,
                "calibrated_sensor_token": "c_lidar",
                "ego_pose_token": "e_lidar",
                "filename": "samples/LIDAR_TOP/a.pcd.bin",
                "timestamp": t0 + offset,
            }
        )
        data.append(
            {
                "token": f"p_{sample}",
                "sample_token": sample,
                "is_key_frame": True,
                "calibrated_sensor_token": "c_camera",
                "ego_pose_token": "e_camera",
                "filename": "samples/CAM_FRONT/a.png",
                "timestamp": t0 + offset + 40_000,
            }
        )
    sweep = {**data[0], "token": "sweep", "is_key_frame": False, "filename": "sweeps/none.bin"}
    kinds = {
        "i_car": "vehicle.bus.rigid",
        "i_cone": "movable_object.trafficcone",
        "i_bike": "vehicle.bicycle",
        "i_ped": "human.pedestrian.adult",
        "i_chair": "human.pedestrian.wheelchair",
    }
    return {
        "sample": [
            {"token": "s0", "timestamp": t0, "scene_token": "scene"},
            {"token": "s1", "timestamp": t0 + 500_000, "scene_token": "scene"},
        ],
        "sample_data": [sweep, *data],
        "sensor": [
            {"token": "x_lidar", "channel": "LIDAR_TOP"},
            {"token": "x_camera", "channel": "CAM_FRONT"},
        ],
        "calibrated_sensor": [
            {
                "token": "c_lidar",
                "sensor_token": "x_lidar",
                "translation": [0.9, 0.0, 1.8],
                "rotation": RIGHT,
                "camera_intrinsic": [],
            },
            {
                "token": "c_camera",
                "sensor_token": "x_camera",
                "translation": [1.5, 0.0, 1.5],
                "rotation": OPTICAL,
                "camera_intrinsic": [[300, 0, 160], [0, 300, 90], [0, 0, 1]],
            },
        ],
        "ego_pose": [
            {"token": "e_lidar", "translation": [100, 50, 0], "rotation": LEFT},
            {"token": "e_camera", "translation": [100, 51, 0], "rotation": LEFT},
        ],
        "category": [{"token": f"k_{i}", "name": name} for i, name in kinds.items()],
        "instance": [{"token": i, "category_token": f"k_{i}"} for i in kinds],
        "attribute": [
            {"token": "with", "name": "cycle.with_rider"},
            {"token": "without", "name": "cycle.without_rider"},
        ],
        "scene": [{"token": "scene", "description": "Night, heavy rain, parked cars"}],
        "sample_annotation": [
            annotation("a0", "s0", [100, 60, 1], yaw=np.deg2rad(120), next="a1"),
            annotation("a1", "s1", [100, 62, 1], yaw=np.deg2rad(120), prev="a0"),
            annotation("b", "s0", [98, 60, 1], instance_token="i_cone"),
            annotation("c", "s0", [98, 60, 1], instance_token="i_bike", attribute_tokens=["with"]),
            annotation(
                "d", "s0", [97, 60, 1], instance_token="i_bike", attribute_tokens=["without"]
            ),
            annotation("e", "s0", [96, 60, 1], instance_token="i_ped", visibility_token="1"),
            annotation("f", "s0", [95, 60, 1], instance_token="i_chair"),
        ],
    }


def write(root: Path, changed: dict[str, list[dict[str, Any]]]) -> Path:
    (root / "v1.0-mini").mkdir(parents=True, exist_ok=True)
    for name, records in changed.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(records))
    for name in ("LIDAR_TOP", "CAM_FRONT"):
        (root / "samples" / name).mkdir(parents=True, exist_ok=True)
    # 9.1 m ahead of the LIDAR, whose y axis points ahead; 0.8 m below it
    points = np.array([[0, 9.1, -0.8, 51, 7], [3, 0, 0, 255, 31]], np.float32)
    points.tofile(root / "samples" / "LIDAR_TOP" / "a.pcd.bin")
    image = np.full((180, 320, 3), (10, 20, 230), np.uint8)
    cv2.imwrite(str(root / "samples" / "CAM_FRONT" / "a.png"), image)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "nuscenes", tables())


def test_samples_and_points(folder: Path) -> None:
    source = NuScenesFolder(folder, 10**6)
    assert len(source) == 2
    cloud = source.frame(0).cloud
    np.testing.assert_allclose(cloud.xyz, [[10.0, 0.0, 1.0], [0.9, -3.0, 1.8]], atol=1e-5)
    np.testing.assert_allclose(cloud.intensity, [0.2, 1.0])
    assert cloud.ring.tolist() == [7, 31]


def test_boxes_by_hand(folder: Path) -> None:
    source = NuScenesFolder(folder, 10**6)
    o = source.frame(0).objects
    # (100, 60) is 10 m ahead; 120 degrees is 30 to the left of ahead; 2 m in 0.5 s, ahead
    expected = [10.0, 0.0, 1.0, 4.5, 1.9, 1.6, np.deg2rad(30), 4.0, 0.0]
    np.testing.assert_allclose(o.boxes[0], expected, atol=1e-5)
    assert o.num_points[0] == 1
    assert o.visible[0, 0] == pytest.approx(0.9)
    later = source.frame(1).objects.boxes[0]
    np.testing.assert_allclose(later[[0, 7, 8]], [12.0, 4.0, 0.0], atol=1e-5)


def test_classes(folder: Path) -> None:
    o = NuScenesFolder(folder, 10**6).frame(0).objects
    assert list(zip(o.labels.tolist(), o.kinds, strict=True)) == [
        (0, "vehicle.bus.rigid"),
        (2, "vehicle.bicycle"),
        (-1, "vehicle.bicycle"),
        (1, "human.pedestrian.adult"),
        (-1, "human.pedestrian.wheelchair"),
    ]
    assert np.isnan(o.boxes[1, 7:]).all()  # seen once: its velocity is not known
    np.testing.assert_allclose(o.boxes[1, :2], [10.0, 2.0], atol=1e-5)


def test_the_camera_looks_from_where_the_vehicle_was_at_its_exposure(folder: Path) -> None:
    frame = NuScenesFolder(folder, 10**6).frame(0)
    assert (frame.images[0][..., 0] > 220).all()
    u, v, w = frame.pixel_from_base[0] @ [10.0, 0.5, 1.0, 1.0]
    # the vehicle is 1 m further: 10 - 1 - 1.5 = 7.5 ahead, 0.5 to the left, 0.5 below
    np.testing.assert_allclose([u / w, v / w], [160 - 300 / 15, 90 + 300 / 15], atol=1e-3)
    assert frame.conditions["exposure_offset_s"] == pytest.approx(0.04)
    assert (frame.conditions["night"], frame.conditions["weather"]) == (True, "rain")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no v1\.0-"):
        NuScenesFolder(tmp_path, 10**6)
    root = write(tmp_path / "a", tables())
    (root / "v1.0-mini" / "ego_pose.json").write_text("{")
    with pytest.raises(StageError, match=r"ego_pose\.json: not a readable table"):
        NuScenesFolder(root, 10**6)
    root = write(tmp_path / "b", tables() | {"ego_pose": []})
    with pytest.raises(StageError, match=r"ego_pose\.json: no record e_lidar"):
        NuScenesFolder(root, 10**6).frame(0)
    only = [d for d in tables()["sample_data"] if not d["token"].startswith("p_")]
    root = write(tmp_path / "c", tables() | {"sample_data": only})
    with pytest.raises(StageError, match="s0 has no CAM_FRONT"):
        NuScenesFolder(root, 10**6).frame(0)
