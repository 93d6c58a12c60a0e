"""Frames of a labelled bag: a vehicle at 10 m/s past a post, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import bags
from support.bags import START_NS, S

from mm_fusion import config
from mm_fusion.datasets.labelled_bag import read_bag
from mm_fusion.errors import BagError

SPEED_MS = 10.0
POST = (30.0, 2.0, 1.0)  # in the map, where the vehicle is at the origin at START_NS
STAMP_NS = START_NS + S


def timed_cloud(ns: int, rows: np.ndarray) -> Any:
    """A PointCloud2 of rows [N,6]: x y z intensity time ring."""
    kind = np.dtype([*((n, "<f4") for n in ("x", "y", "z", "intensity", "time")), ("ring", "<u2")])
    data = np.zeros(len(rows), kind)
    for name, column in zip(kind.names or (), np.asarray(rows, float).T, strict=True):
        data[name] = column
    fields = [
        bags.make(
            "sensor_msgs/msg/PointField", name=n, offset=kind.fields[n][1], datatype=t, count=1
        )
        for n, t in (*((n, 7) for n in ("x", "y", "z", "intensity", "time")), ("ring", 4))
    ]
    return bags.make(
        "PointCloud2",
        header=bags.header(ns, "lidar"),
        height=1,
        width=len(rows),
        fields=fields,
        is_bigendian=False,
        point_step=kind.itemsize,
        row_step=kind.itemsize * len(rows),
        data=np.frombuffer(data.tobytes(), np.uint8),
        is_dense=True,
    )


def sweep() -> np.ndarray:
    """The post as seen at five instants of the turn from the moving LIDAR, 1.8 m above the base,
    and a far point that makes the intensities' scale plain."""
    rows = []
    for k, t in enumerate((-0.099, -0.075, -0.05, -0.025, 0.0)):
        ahead = POST[0] - SPEED_MS * (1.0 + t)
        rows.append([ahead, POST[1], POST[2] - 1.8, 51.0, t, k])
    return np.array([*rows, [50.0, -20.0, 0.0, 255.0, 0.0, 31]])


def rows(truth: bool = True, odometry: bool = True, camera: bool = True) -> list[bags.Row]:
    out: list[bags.Row] = [("/tf_static", START_NS, bags.car_mounting())]
    if odometry:
        for t in range(0, 2 * S, S // 50):
            at = bags.odometry(START_NS + t, position=(SPEED_MS * t / S, 0, 0), frame="map")
            out.append(("/truth/odometry", START_NS + t, at))
    for k in range(8, 13):
        ns = START_NS + k * S // 10
        if camera:
            exposed = ns - 40_000_000
            out.append(("/camera/camera_info", exposed, bags.camera_info(exposed)))
            out.append(("/camera/image_raw", exposed, bags.image(exposed)))
        out.append(("/lidar/points", ns, timed_cloud(ns, sweep())))
        if truth and ns == STAMP_NS:
            boxes = (
                ("17", "pedestrian", (20.0, 2.0, 1.0), (0.6, 0.6, 1.9), 1.0),
                ("x", "dog", (5.0, 0.0, 0.3), (0.8, 0.3, 0.6), 1.0),
                ("18", "car", (50.0, 9.0, 0.8), (4.0, 1.8, 1.6), 0.0),
            )
            out.append(("/truth/objects", ns, bags.objects(ns, *boxes)))
    return sorted(out, key=lambda r: r[1])


def frames(path: Path, pixels: int = 10**6) -> list[Any]:
    return list(read_bag(path, config.load(), pixels))


def test_the_sweep_is_straightened_by_the_true_motion(tmp_path: Path) -> None:
    (frame,) = frames(bags.write_bag(tmp_path / "bag", rows()))
    cloud = frame.cloud
    # at the stamp the vehicle has gone 10 m: the post is 20 m ahead, for every one of the points
    np.testing.assert_allclose(cloud.xyz[:5], np.tile([20.0, 2.0, 1.0], (5, 1)), atol=0.006)
    np.testing.assert_allclose(cloud.seconds[:5], [0.099, 0.075, 0.05, 0.025, 0.0], atol=1e-6)
    np.testing.assert_allclose(cloud.intensity[:5], 0.2, atol=1e-6)
    assert cloud.ring.tolist() == [0, 1, 2, 3, 4, 31]


def test_without_the_motion_it_stays_as_it_came(tmp_path: Path) -> None:
    (frame,) = frames(bags.write_bag(tmp_path / "bag", rows(odometry=False)))
    assert np.ptp(frame.cloud.xyz[:5, 0]) == pytest.approx(0.99, abs=1e-4)


def test_truth_becomes_labels(tmp_path: Path) -> None:
    (frame,) = frames(bags.write_bag(tmp_path / "bag", rows()))
    o = frame.objects
    assert o.labels.tolist() == [1, -1, 0]
    np.testing.assert_allclose(o.boxes[0, :7], [20, 2, 1, 0.6, 0.6, 1.9, 0], atol=1e-6)
    assert o.num_points.tolist() == [5, 0, 0]
    assert o.ids.tolist() == [17, -1, 18]
    assert (o.visible[2] == 0.0).all()  # the truth says that nobody could see it
    assert np.isnan(o.visible[0]).all()
    assert frame.conditions["lidar_height_m"] == 1.8
    assert frame.conditions["stamp_ns"] == STAMP_NS


def test_the_picture_before_is_projected_from_where_the_vehicle_was(tmp_path: Path) -> None:
    path = bags.write_bag(tmp_path / "bag", rows())
    (frame,) = frames(path)
    # 40 ms before, the vehicle was 0.4 m back, and the camera is 0.5 m ahead, 1.5 m up
    u, v, w = frame.pixel_from_base[0] @ [20.0, 2.0, 1.0, 1.0]
    depth = 20.0 + 0.4 - 0.5
    np.testing.assert_allclose([u / w, v / w], [64 - 200 / depth, 48 + 50 / depth], atol=1e-3)
    assert frame.images[0].shape == (96, 128, 3)
    (small,) = frames(path, pixels=96 * 128 // 4)
    assert small.images[0].shape == (48, 64, 3)
    (none,) = frames(bags.write_bag(tmp_path / "blind", rows(camera=False)))
    assert none.images == ()


def test_a_bag_without_labels_is_refused(tmp_path: Path) -> None:
    path = bags.write_bag(tmp_path / "bag", rows(truth=False))
    with pytest.raises(BagError, match="no truth/objects"):
        frames(path)


def test_an_unmounted_lidar_is_refused(tmp_path: Path) -> None:
    path = bags.write_bag(tmp_path / "bag", [r for r in rows() if r[0] != "/tf_static"])
    with pytest.raises(BagError, match="nothing connects frame 'lidar'"):
        frames(path)
