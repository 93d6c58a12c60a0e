"""The obstacle cloud: what stands in the way, by height."""

from __future__ import annotations

import numpy as np
import scenes

from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.obstacles import OBSTACLE_DTYPE, obstacle_points
from mm_fusion.samples import SyncedSet

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


def obstacles(sweep, motion=None, **settings):
    config = scenes.config(**settings)
    return obstacle_points(SyncedSet(T0, (sweep,), (None,)), Calibration(config), config, motion)


def test_the_band_of_heights_is_kept_with_its_intensity():
    found = obstacles(scenes.sweep(SEEN, intensity=[0, 51, 1000, 0, 0, 0]))
    assert found.dtype == OBSTACLE_DTYPE
    expected = [[5.5, 0.0, 0.3, 0.2], [90.5, 1.0, 1.8, 1.0]]
    np.testing.assert_allclose([list(p) for p in found.tolist()], expected, atol=1e-5)


def test_the_heights_are_parameters():
    found = obstacles(scenes.sweep(SEEN), obstacles__min_height_m=-0.1, obstacles__max_height_m=2.4)
    np.testing.assert_allclose(found["z"], [0.0, 0.3, 1.8, 2.3], atol=1e-5)
    assert not found["intensity"].any()


def test_no_sweep_and_no_place_give_no_cloud():
    assert obstacles(None) is None
    assert obstacles(scenes.sweep(SEEN, frame_id="unknown")) is None


def test_a_sweep_without_obstacles_gives_an_empty_cloud():
    assert len(obstacles(scenes.sweep(SEEN[:1]))) == 0


def test_motion_is_taken_out():
    motion = MotionBuffer(scenes.config().deskew)
    for ms in range(-200, 1, 20):
        where = RigidTransform.from_rpy((0.01 * ms, 0, 0), (0, 0, 0))  # 10 m/s
        motion.add(scenes.pose(T0 + ms * 1_000_000, where, (10, 0, 0)))
    sweep = scenes.sweep([[5.0, 0.0, -1.0]] * 2, seconds=[-0.1, 0.0])
    np.testing.assert_allclose(obstacles(sweep, motion)["x"], [4.5, 5.5], atol=1e-5)
    off = obstacles(sweep, motion, deskew__enabled=False)
    np.testing.assert_allclose(off["x"], [5.5, 5.5], atol=1e-5)
