"""The obstacle cloud: what stands in the way, by height."""

from __future__ import annotations

import numpy as np
import scenes

from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.obstacles import OBSTACLE_DTYPE, obstacle_points
from mm_fusion.samples import SyncedSet, Track

T0 = scenes.T0
# In the LIDAR's axes, 1.8 m up and 0.5 m ahead of the base.
SEEN = [
    [5.0, 0.0, -1.8],  # ground
    [5.0, 0.0, -1.5],  # 0.3 m
    [90.0, 1.0, 0.0],  # 1.8 m, beyond the network's range
    [5.0, 0.0, 0.5],  # 2.3 m: a branch above
    [np.nan, 0.0, -1.0],
    [5.0, np.inf, -1.0],
]


LEVEL = {"ground__find": False, "obstacles__min_height_m": 0.25}


def obstacles(sweep, motion=None, tracks=(), tracks_from_base=None, **settings):
    config = scenes.config(**settings)
    synced = SyncedSet(T0, (sweep,), (None,))
    return obstacle_points(
        synced, Calibration(config), config, motion, None, tracks, tracks_from_base
    )


def test_the_band_of_heights_is_kept_with_its_intensity():
    found = obstacles(scenes.sweep(SEEN, intensity=[0, 51, 1000, 0, 0, 0]), **LEVEL)
    assert found.dtype == OBSTACLE_DTYPE
    expected = [[5.5, 0.0, 0.3, 0.3, 0.2, 0, 0], [90.5, 1.0, 1.8, 1.8, 1.0, 0, 0]]
    np.testing.assert_allclose([list(p) for p in found.tolist()], expected, atol=1e-5)


def test_the_heights_are_parameters():
    heights = {"obstacles__min_height_m": 0.5, "obstacles__max_height_m": 2.4}
    found = obstacles(scenes.sweep(SEEN), ground__find=False, **heights)
    np.testing.assert_allclose(found["z"], [1.8, 2.3], atol=1e-5)
    assert not found["intensity"].any()


def test_no_sweep_and_no_place_give_no_cloud():
    assert obstacles(None) is None
    assert obstacles(scenes.sweep(SEEN, frame_id="unknown")) is None


def test_a_sweep_without_obstacles_gives_an_empty_cloud():
    assert len(obstacles(scenes.sweep(SEEN[:1]))) == 0
    assert len(obstacles(scenes.sweep(np.zeros((0, 3))))) == 0


def test_motion_is_taken_out():
    motion = MotionBuffer(scenes.config().deskew)
    for ms in range(-200, 1, 20):
        where = RigidTransform.from_rpy((0.01 * ms, 0, 0), (0, 0, 0))  # 10 m/s
        motion.add(scenes.pose(T0 + ms * 1_000_000, where, (10, 0, 0)))
    sweep = scenes.sweep([[5.0, 0.0, -1.0]] * 2, seconds=[-0.1, 0.0])
    np.testing.assert_allclose(obstacles(sweep, motion, **LEVEL)["x"], [4.5, 5.5], atol=1e-5)
    off = obstacles(sweep, motion, deskew__enabled=False, **LEVEL)
    np.testing.assert_allclose(off["x"], [5.5, 5.5], atol=1e-5)


# ------------------------------------------------------- on the ground, as a LIDAR sees it


def hill_with(*things, slope=0.12):
    """A sweep over a slope, with things [N,3] on it: x, y in the base frame, height over it."""
    down = np.deg2rad(np.linspace(2.0, 24.0, 40))
    azimuth = np.arange(360) * (np.pi / 180)
    reach = (1.8 / np.tan(down))[:, None]
    x, y = (reach * np.cos(azimuth)).ravel(), (reach * np.sin(azimuth)).ravel()
    cloud = np.concatenate([np.column_stack([x, y, np.zeros_like(x)]), *things])
    cloud[:, 2] += slope * cloud[:, 0]
    return scenes.sweep(cloud - np.array(scenes.LIDAR_AT[:3])), len(x)


def column(x, y, top):
    height = np.arange(0.02, top, 0.04)
    return np.column_stack([np.full_like(height, x), np.full_like(height, y), height])


def test_on_a_slope_only_what_stands_on_it_is_left():
    """GIVEN a hill of 12 % with a post on it and a branch over it THEN only the post hinders."""
    branch = column(9.0, -2.0, 4.0)[70:]
    sweep, _ = hill_with(column(12.0, 3.0, 1.2), branch)
    found = obstacles(sweep)
    far = np.hypot(found["x"], found["y"]) > 35.0  # where rings of the slope are metres apart
    assert far.sum() < 0.05 * len(sweep.points)
    found = found[~far]
    assert np.allclose(found["x"], 12.0, atol=1e-4)
    assert len(found) == 28  # of the column's 30, two are lower than obstacles.min_height_m
    np.testing.assert_allclose(found["z"], 0.12 * 12.0 + found["height"], atol=0.03)
    assert 0.1 <= found["height"].min() <= found["height"].max() < 1.25


def test_the_robots_own_body_is_left_out():
    """GIVEN a mast of the robot's, and a post beside it THEN the footprint takes the mast away."""
    sweep, _ = hill_with(column(-0.8, 0.2, 1.5), column(-1.6, 0.2, 1.5), slope=0.0)
    assert set(np.round(obstacles(sweep)["x"], 2)) == {np.float32(-0.8), np.float32(-1.6)}
    found = obstacles(sweep, obstacles__footprint_m=[-1.0, 1.0, -0.5, 0.5])
    assert set(np.round(found["x"], 2)) == {np.float32(-1.6)}


def moving_track(number, center, velocity, yaw=0.0):
    size = np.array([4.0, 1.8, 1.5])
    place = (np.array(center, float), size, yaw, np.array(velocity, float))
    return Track(number, "car", 0.9, *place, np.eye(4), 5, 0.0)


def test_what_moves_is_marked_with_its_track():
    """GIVEN a robot turned left in odom, a car that drives, one that stands, and a post."""
    where = RigidTransform.from_rpy((50.0, 20.0, 0.0), (0.0, 0.0, np.pi / 2))
    sweep, _ = hill_with(
        column(10.0, 0.5, 1.4), column(10.0, 6.0, 1.4), column(10.0, -6.0, 1.4), slope=0.0
    )
    tracks = [
        moving_track(7, where.apply(np.array([11.0, 0.0, 0.75])), (0.0, 6.0), np.pi / 2),
        moving_track(8, where.apply(np.array([11.0, 6.0, 0.75])), (0.0, 0.2), np.pi / 2),
    ]
    found = obstacles(sweep, tracks=tracks, tracks_from_base=where)
    by_place = {y: set(found["track"][np.isclose(found["y"], y)]) for y in (0.5, 6.0, -6.0)}
    assert by_place == {0.5: {7}, 6.0: {0}, -6.0: {0}}
    np.testing.assert_array_equal(found["moving"], found["track"] > 0)
    # Without ego motion speeds are relative: then everything would seem to move.
    assert not obstacles(sweep, tracks=tracks)["moving"].any()


def test_no_number_in_the_cloud_is_nan():
    sweep, count = hill_with(column(6.0, 1.0, 1.5))
    sweep.points["x"][:3] = np.nan
    sweep.points["z"][count : count + 4] = np.inf
    found = obstacles(sweep)
    assert len(found)
    for name in ("x", "y", "z", "height", "intensity"):
        assert np.isfinite(found[name]).all()
