"""Training frames: shapes, and truth that fits what the sensors saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mm_fusion.geometry import project
from mm_fusion.sim import frames
from mm_fusion.sim.camera import pixel_rays
from mm_fusion.sim.world import World


@pytest.fixture(scope="module")
def frame(town_world: World) -> dict[str, Any]:
    rng = np.random.default_rng(21)
    rig = frames.random_rig(rng)
    return frames.make_frame(town_world, rig, 5.0, rng, pixel_rays(rig.camera))


def test_arrays_have_the_contracts_shapes(frame: dict[str, Any]) -> None:
    count = len(frame["labels"])
    assert frame["points"].dtype == np.float32
    assert frame["points"].shape[1] == 5
    assert 1000 < len(frame["points"]) <= frames.POINT_BUDGET
    assert frame["image"].shape == (256, 512, 3)
    assert frame["image"].dtype == np.uint8
    assert frame["pixel_from_base"].shape == (3, 4)
    assert frame["boxes"].shape == (count, 9)
    assert frame["boxes"].dtype == np.float32
    assert frame["labels"].dtype == np.int64
    assert frame["num_points"].shape == frame["num_pixels"].shape == (count,)
    assert frame["seg"].shape == (32, 64)
    assert (frame["points"][:, 3] >= 0).all()
    assert (frame["points"][:, 3] <= 1).all()
    assert (frame["points"][:, 4] >= 0).all()
    assert (frame["points"][:, 4] < 0.1).all()


def test_points_counted_for_a_box_lie_in_it(frame: dict[str, Any]) -> None:
    still = np.hypot(frame["boxes"][:, 7], frame["boxes"][:, 8]) < 0.1
    chosen = np.flatnonzero(still & (frame["num_points"] > 20))
    assert len(chosen) >= 2
    for k in chosen:
        cx, cy, cz, length, width, height, yaw = frame["boxes"][k, :7]
        local = frame["points"][:, :3] - [cx, cy, cz]
        c, s = np.cos(yaw), np.sin(yaw)
        x, y = local[:, 0] * c + local[:, 1] * s, local[:, 1] * c - local[:, 0] * s
        slack = 0.12
        inside = (
            (np.abs(x) < length / 2 + slack)
            & (np.abs(y) < width / 2 + slack)
            & (local[:, 2] < height / 2 + slack)
            & (local[:, 2] > -height / 2 + 0.05)
        )
        assert inside.sum() >= 0.8 * frame["num_points"][k]


def test_segmentation_lies_where_the_boxes_project(frame: dict[str, Any]) -> None:
    seen = np.flatnonzero(frame["num_pixels"] > 150)
    assert len(seen) >= 1
    for k in seen:
        center = frame["boxes"][k : k + 1, :3].astype(float)
        pixel, front = project(frame["pixel_from_base"].astype(float), center)
        assert front[0]
        u, v = pixel[0] / 8
        if not (1 <= u < 63 and 1 <= v < 31):
            continue
        near = frame["seg"][int(v) - 1 : int(v) + 2, int(u) - 1 : int(u) + 2]
        assert (near > 0).any()


def test_frames_are_repeatable_and_resumed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert frames.write_drive(tmp_path / name, 0, 0, 2, seed=77) == 2
    first, second = (dict(np.load(tmp_path / n / "000001.npz")) for n in ("a", "b"))
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)
    (tmp_path / "a" / "000001.npz").unlink()
    assert frames.write_drive(tmp_path / "a", 0, 0, 2, seed=77) == 1
    again = dict(np.load(tmp_path / "a" / "000001.npz"))
    np.testing.assert_array_equal(again["image"], first["image"])
    assert frames.write_drive(tmp_path / "a", 0, 0, 2, seed=77) == 0


def test_rigs_differ() -> None:
    rigs = [frames.random_rig(np.random.default_rng(k)) for k in range(30)]
    assert len({len(r.lidar.elevations_rad) for r in rigs}) >= 3
    fields = [np.rad2deg(2 * np.arctan(256 / r.camera.k[0, 0])) for r in rigs]
    assert min(fields) < 65
    assert max(fields) > 90
    heights = [r.lidar.base_from_lidar.translation[2] for r in rigs]
    assert min(heights) >= 1.4
    assert max(heights) <= 2.1
