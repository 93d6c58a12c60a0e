"""A heading that is measured: by two antennas, or by a compass."""

from __future__ import annotations

import numpy as np
import pytest
from support.pose_drives import T0_NS, Drive, Sensors, errors, frames, merge, play

from mm_fusion.samples import ImuSample, Sample

S = 10**9
MAP = "pose.imu_orientation=map"


def with_heading(drive: Drive, imu: list[Sample], turned_rad: float = 0.0) -> list[Sample]:
    """The same IMU messages with an orientation: the true heading with 1 degree of white noise, and
    turned."""
    rng = np.random.default_rng(4)
    for sample in imu:
        yaw = drive.at(sample.stamp_ns)[2] + rng.normal(0.0, 0.017) + turned_rad
        assert isinstance(sample, ImuSample)
        half = np.array((0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)))
        object.__setattr__(sample, "orientation_xyzw", half)
    return imu


def heard(drive: Drive, turned_rad: float, *assignments: str, antenna=(0.0, 0.0, 0.0)):
    sensors = Sensors(seed=81, antenna=antenna)
    imu = with_heading(drive, sensors.imu(drive), turned_rad)
    return play(
        merge(imu, sensors.wheels(drive), sensors.gps(drive)), frames(sensors), *assignments
    )


def test_a_measured_heading_is_known_before_the_robot_has_moved() -> None:
    """GIVEN a robot at rest whose receiver has two antennas WHEN the first fixes come THEN map and
    odom are joined at once, the heading is right within three of its sigmas, and the base is beside
    the antenna where it belongs; without them nobody knows the heading."""
    drive = Drive(duration_s=6.0, rest_s=60.0, heading=2.0)
    out = heard(drive, 0.0, MAP, antenna=(2.0, 1.0, 1.5))
    assert out.pipeline.map_from_odom is not None
    known = [e for e in out.global_ if e.pose_covariance[5, 5] < 0.03**2]
    assert known[0].stamp_ns - T0_NS < 1 * S
    rows = errors(drive, known)
    assert np.abs(rows[:, 3]).max() < 0.06
    assert np.linalg.norm(rows[-1, 1:3]) < 1.2
    assert heard(drive, 0.0, "pose.imu_orientation=off").pipeline.map_from_odom is None


@pytest.mark.parametrize("turned_rad", [0.0, 1.2])
def test_it_goes_on_being_measured_and_may_be_offset(turned_rad) -> None:
    """GIVEN antennas that lie across, or a declination WHEN the offset is given THEN the heading is
    right throughout the drive."""
    drive = Drive(duration_s=25.0, heading=-2.0)
    out = heard(drive, turned_rad, MAP, f"pose.imu_orientation_offset_rad={-turned_rad}")
    assert np.abs(errors(drive, out.global_, 1.0)[:, 3]).max() < 0.06
    odom = out.local[0].frame_from_base
    assert odom.yaw_rad() == pytest.approx(0.0, abs=1e-3)
