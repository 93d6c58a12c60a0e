"""IMU on its side, extrinsics missing or wrong: said, and driven with all the same."""

from __future__ import annotations

import numpy as np
import pytest
from support.pose_drives import Drive, Sensors, errors, frames, merge, play, rms

from mm_fusion.geometry import FrameTree, RigidTransform
from mm_fusion.pose.mounting import levelling

ON_ITS_SIDE = RigidTransform.from_rpy((0.0, 0.0, 0.0), (np.pi / 2, 0.0, 0.0))
TURNED = RigidTransform.from_rpy((0.8, -0.4, 0.5), (np.pi / 2, 0.0, -np.pi / 2))
DRIVE = Drive(duration_s=40.0)


def run(sensors: Sensors, tree: FrameTree):
    return play(merge(sensors.imu(DRIVE), sensors.wheels(DRIVE), sensors.gps(DRIVE)), tree)


def test_levelling_turns_gravity_up() -> None:
    for force in ([0, 9.8, 0], [0, 0, -9.8], [0, 0, 9.8], [3.0, -5.0, 2.0]):
        f = np.array(force, dtype=float)
        turned = levelling(f) @ f
        assert turned == pytest.approx([0, 0, np.linalg.norm(f)], abs=1e-9)


def test_a_known_mounting_and_lever_arm_are_used() -> None:
    """GIVEN an IMU turned about two axes and 0.9 m off the base, as TF says
    WHEN the robot drives THEN the track is as good as with an IMU in the base, without warning."""
    inside, outside = Sensors(seed=2), Sensors(seed=2, base_from_imu=TURNED)
    expected = rms(errors(DRIVE, run(inside, frames(inside)).global_, 15.0))
    out = run(outside, frames(outside))
    assert rms(errors(DRIVE, out.global_, 15.0)) < expected + 0.05
    assert out.pipeline.warnings() == []


def test_an_imu_far_from_the_base_does_not_lean_it() -> None:
    """GIVEN an IMU 3 m ahead of the base on a flat, winding course WHEN its own centripetal and
    Euler accelerations are known THEN the pose does not take them for a slope."""
    drive = Drive(duration_s=40.0, speed=10.0, turn=1.5)
    sensors = Sensors(
        seed=9,
        base_from_imu=RigidTransform.from_rpy((3.0, 0.0, 1.0), (0.0, 0.0, 0.0)),
        accel_bias=(0.0, 0.0, 0.0),
    )
    out = play(merge(sensors.imu(drive), sensors.wheels(drive)), frames(sensors))
    lean = [np.arccos(min(1.0, e.frame_from_base.rotation[2, 2])) for e in out.local]
    assert max(lean) < 0.03


def test_an_unknown_mounting_is_levelled_by_gravity_and_announced() -> None:
    """GIVEN an IMU on its side and no TF WHEN the robot stands at the start
    THEN roll is taken from gravity, it is said, and the heading follows the right axis."""
    sensors = Sensors(seed=3, base_from_imu=ON_ITS_SIDE)
    tree = FrameTree()
    tree.set("base_link", "gps_link", RigidTransform.identity())
    out = run(sensors, tree)
    assert any(
        "'imu_link'" in w and ("roll 90" in w or "roll 89" in w) for w in out.pipeline.warnings()
    )
    assert rms(errors(DRIVE, out.global_, 15.0)) < 0.6


def test_extrinsics_that_gravity_contradicts_are_named_with_the_angle() -> None:
    """GIVEN an IMU on its side and TF that calls it upright WHEN the robot stands
    THEN the warning names 90 degrees, and the pose is sane all the same."""
    sensors = Sensors(seed=4, base_from_imu=ON_ITS_SIDE)
    out = run(sensors, frames(Sensors()))
    (warning,) = out.pipeline.warnings()
    assert "90.0 deg away from up" in warning or "89." in warning
    assert rms(errors(DRIVE, out.global_, 15.0)) < 0.6
    last = out.local[-1].frame_from_base.rotation
    assert last[2, 2] > 0.99


def test_extrinsics_that_come_late_are_taken_over() -> None:
    sensors = Sensors(seed=5, base_from_imu=ON_ITS_SIDE)
    tree = FrameTree()
    samples = merge(sensors.imu(DRIVE), sensors.wheels(DRIVE))
    out = play(samples[:600], tree)
    assert any("taken from gravity" in w for w in out.pipeline.warnings())
    tree.set("base_link", "imu_link", ON_ITS_SIDE)
    out.feed(samples[600:1000])
    assert any("arrived late" in w for w in out.pipeline.warnings())


def test_an_unknown_antenna_costs_certainty_and_is_announced() -> None:
    sensors = Sensors(seed=6)
    tree = FrameTree()
    tree.set("base_link", "imu_link", RigidTransform.identity())
    without = run(sensors, tree)
    known = run(sensors, frames(sensors))
    assert any("'gps_link'" in w and "0.5 m added" in w for w in without.pipeline.warnings())
    assert without.global_[-1].pose_covariance[0, 0] > known.global_[-1].pose_covariance[0, 0]


def test_the_antennas_lever_arm_is_taken_out() -> None:
    """GIVEN an antenna 2 m ahead and 1 m left WHEN its place is known THEN the base is where it is
    and not where the antenna is."""
    sensors = Sensors(seed=7, antenna=(2.0, 1.0, 1.5), gps_sigma=0.3)
    out = run(sensors, frames(sensors))
    assert rms(errors(DRIVE, out.global_, 15.0)) < 0.3


def test_wheels_of_an_unknown_frame_are_announced() -> None:
    sensors = Sensors(seed=8)
    tree = frames(sensors)
    samples = merge(sensors.imu(DRIVE), sensors.wheels(DRIVE))[:500]
    for sample in samples:
        if sample.sensor == "wheels":
            object.__setattr__(sample, "frame_id", "base_footprint")
    out = play(samples, tree)
    assert any("'base_footprint'" in w and "base's own" in w for w in out.pipeline.warnings())
