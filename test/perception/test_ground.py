"""Ground and obstacles are told apart: on slopes, over kerbs, beside reflections below the road."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.config_objects import GroundConfig
from mm_fusion.perception.ground import find_ground

CONFIG = GroundConfig()


def rings(height_m: float = 1.8, beams: int = 48, columns: int = 720):
    """Where the beams of a LIDAR over the origin meet the plane z = 0: x, y [N]."""
    down = np.deg2rad(np.linspace(1.8, 24.0, beams))
    azimuth = np.arange(columns) * (2 * np.pi / columns)
    reach = height_m / np.tan(down)
    x, y = reach[:, None] * np.cos(azimuth), reach[:, None] * np.sin(azimuth)
    return x.ravel(), y.ravel()


def wall(x_m: float, y_m: tuple[float, float], z_m: tuple[float, float]):
    """Points [3,N] of an upright board across the way."""
    y, z = np.meshgrid(np.arange(*y_m, 0.1), np.arange(*z_m, 0.1))
    return np.stack([np.full(y.size, x_m), y.ravel(), z.ravel()])


def found(*parts):
    return find_ground(np.concatenate(parts, axis=1).astype(np.float32), CONFIG)


@pytest.mark.parametrize("slope", [-0.3, -0.15, 0.0, 0.15, 0.3])
@pytest.mark.parametrize("towards", [0.0, 1.2])
def test_a_slope_is_ground_and_a_board_on_it_is_not(slope: float, towards: float) -> None:
    """GIVEN an even slope with a board on it WHEN the ground is found THEN that is the slope."""
    x, y = rings()
    rise = slope * (x * np.cos(towards) + y * np.sin(towards))
    board = wall(12.0, (-1.0, 1.0), (0.15, 1.5))
    board[2] += slope * (12.0 * np.cos(towards) + board[1] * np.sin(towards))
    ground = found(np.stack([x, y, rise]), board)
    on_slope, on_board = np.split(ground.is_ground, [len(x)])
    assert on_slope.mean() > 0.98
    assert not on_board.any()
    near = np.hypot(x, y) < 30.0
    np.testing.assert_allclose(ground.height_m[: len(x)][near], 0.0, atol=0.12)


def test_the_foot_of_what_is_tall_is_kept() -> None:
    """GIVEN a person and the road around them WHEN ground is removed THEN the shoes stay."""
    x, y = rings()
    person = wall(8.0, (-0.2, 0.2), (0.1, 1.7))
    ground = found(np.stack([x, y, np.zeros_like(x)]), person)
    assert not ground.is_ground[len(x) :].any()
    np.testing.assert_allclose(ground.height_m[len(x) :], person[2], atol=0.03)


def test_a_kerb_is_ground() -> None:
    """GIVEN a pavement 12 cm above the road THEN both are ground, and a bollard on it is not."""
    x, y = rings()
    z = np.where(y > 3.0, 0.12, 0.0)
    bollard = wall(6.0, (3.5, 3.7), (0.25, 1.0))
    ground = found(np.stack([x, y, z]), bollard)
    assert ground.is_ground[: len(x)].mean() > 0.97
    assert not ground.is_ground[len(x) :].any()


def test_reflections_below_the_road_do_not_draw_it_down() -> None:
    """GIVEN a lorry mirrored in a wet road, metres below it THEN the road is ground as before."""
    x, y = rings()
    mirrored = wall(20.0, (-6.0, 6.0), (-15.0, -3.0))
    ground = found(np.stack([x, y, np.zeros_like(x)]), mirrored)
    assert ground.is_ground[: len(x)].mean() > 0.99
    assert ground.is_ground[len(x) :].all(), "below the road nothing hinders"


def test_the_base_frame_may_hang_above_the_ground() -> None:
    """GIVEN a base frame at the LIDAR, 1.8 m up THEN the ground is found all the same."""
    x, y = rings()
    board = wall(10.0, (-1.0, 1.0), (-1.6, 0.0))
    ground = found(np.stack([x, y, np.full_like(x, -1.8)]), board)
    assert ground.is_ground[: len(x)].mean() > 0.98
    assert not ground.is_ground[len(x) :].any()


def test_points_that_are_no_numbers_are_no_ground() -> None:
    x, y = rings(columns=90)
    cloud = np.stack([x, y, np.zeros_like(x)]).astype(np.float32)
    cloud[0, 3], cloud[2, 5], cloud[1, 7] = np.nan, np.inf, -np.inf
    ground = find_ground(cloud, CONFIG)
    broken = np.zeros(len(x), bool)
    broken[[3, 5, 7]] = True
    np.testing.assert_array_equal(np.isnan(ground.height_m), broken)
    np.testing.assert_array_equal(ground.is_ground, ~broken)


def test_an_empty_cloud_and_a_single_point_are_answered() -> None:
    assert found(np.zeros((3, 0))).is_ground.shape == (0,)
    assert found(np.array([[5.0], [0.0], [0.02]])).is_ground.all()
    assert not found(np.array([[5.0], [0.0], [1.5]])).is_ground.any()


def test_what_lies_beyond_the_grid_is_answered() -> None:
    x, y = rings()
    far = np.array([[150.0, 150.0], [0.0, 0.0], [0.0, 3.0]])
    ground = found(np.stack([x, y, np.zeros_like(x)]), far)
    np.testing.assert_array_equal(ground.is_ground[-2:], [True, False])


def test_a_cloud_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"xyz: must have the shape \[3, N\], got \[7, 3\]"):
        find_ground(np.zeros((7, 3), np.float32), CONFIG)
