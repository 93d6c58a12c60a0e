"""A pose from outside, and a fresh start, told as stories."""

from __future__ import annotations

import numpy as np
import pytest
from support.pose_drives import T0_NS, Drive, Sensors, errors, frames, merge, play

S = 10**9
DRIVE = Drive(duration_s=24.0)
SURE = np.diag([0.04, 0.04, 0.04, 0.01, 0.01, 0.0004])


def test_a_given_pose_places_the_robot_without_gps() -> None:
    """GIVEN no GPS WHEN somebody says where the robot is and how it stands
    THEN there is a global pose from there on, and odom takes no step."""
    sensors = Sensors(seed=51)
    samples = merge(sensors.imu(DRIVE), sensors.wheels(DRIVE))
    cut = next(i for i, s in enumerate(samples) if s.stamp_ns > T0_NS + 12 * S)
    out = play(samples[:cut], frames(sensors))
    assert out.global_ == []
    before = out.local[-1].frame_from_base.matrix()
    east, north, yaw, _ = DRIVE.at(out.local[-1].stamp_ns)
    assert out.pipeline.set_pose(np.array((east, north, 0.0)), yaw, SURE) == ""
    out.feed(samples[cut : cut + 3])
    assert np.abs(out.local[-1].frame_from_base.matrix() - before).max() < 0.2
    out.feed(samples[cut + 3 :])
    rows = errors(DRIVE, out.global_)
    assert np.abs(rows[:, 1:3]).max() < 1.5
    assert np.abs(rows[:, 3]).max() < 0.05
    assert out.pipeline.map_from_odom is not None


def test_a_given_pose_wins_against_a_wrong_estimate_and_fixes_go_on() -> None:
    sensors = Sensors(seed=52)
    samples = merge(sensors.imu(DRIVE), sensors.wheels(DRIVE), sensors.gps(DRIVE))
    out = play(samples[: len(samples) // 2], frames(sensors))
    east, north, yaw, _ = DRIVE.at(out.global_[-1].stamp_ns)
    place = np.array((east + 3.0, north, 0.0))
    assert out.pipeline.set_pose(place, yaw, np.diag([9.0, 9.0, 1.0, 0.1, 0.1, 0.01])) == ""
    out.feed(samples[len(samples) // 2 :])
    assert np.linalg.norm(errors(DRIVE, out.global_, 22.0)[:, 1:3], axis=1).max() < 1.2


@pytest.mark.parametrize(
    ("place", "variance"), [((np.nan, 0.0, 0.0), 1.0), ((0.0, 0.0, 0.0), -1.0)]
)
def test_a_pose_that_cannot_be_is_refused_with_the_reason(place, variance) -> None:
    sensors = Sensors(seed=53)
    out = play(merge(sensors.imu(DRIVE)[:300]), frames(sensors))
    said = out.pipeline.set_pose(np.array(place), 0.0, np.eye(6) * variance)
    assert "finite and positive" in said
    assert out.pipeline.map_from_odom is None


def test_before_any_sensor_a_given_pose_has_nothing_to_stand_on() -> None:
    out = play([], frames(Sensors()))
    assert "no local pose" in out.pipeline.set_pose(np.zeros(3), 0.0, SURE)


def test_a_reset_begins_both_anew_and_keeps_the_datum() -> None:
    sensors = Sensors(seed=54)
    samples = merge(sensors.imu(DRIVE), sensors.wheels(DRIVE), sensors.gps(DRIVE))
    out = play(samples[: len(samples) // 2], frames(sensors))
    datum = out.pipeline.datum
    out.pipeline.reset()
    assert out.pipeline.local is None
    assert out.pipeline.map_from_odom is None
    out.local.clear()
    out.feed(samples[len(samples) // 2 :])
    assert np.linalg.norm(out.local[0].frame_from_base.translation) < 0.2
    assert out.pipeline.datum == datum
