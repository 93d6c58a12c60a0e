"""What a measured heading is worth: what is new with each sample averages away, the rest stays."""

from __future__ import annotations

import numpy as np
import pytest
from support.pose_drives import Drive, Sensors, errors, frames, merge, play

from mm_fusion.pose.compass import Compass

S = 10**9
MAP = "pose.imu_orientation=map"


def looks(white: float, stays: float, seconds: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the looks over their sigmas, and the sigmas, of a robot that moves, 100 Hz."""
    rng = np.random.default_rng(7)
    compass, found = Compass(0.02), []
    for k in range(100 * seconds):
        slow = stays * np.sin(k // 150)  # another one every second and a half
        yaw = 3.1 + slow + rng.normal(0.0, white)
        compass.add(k * S // 100, np.arctan2(np.sin(yaw), np.cos(yaw)), resting=False)
        look = compass.next()
        if look is not None:
            off = (look.yaw_rad - 3.1 + np.pi) % (2 * np.pi) - np.pi
            found.append((off / look.sigma_rad, look.sigma_rad))
    return np.array(found).T


def test_a_heading_that_scatters_as_it_claims_is_averaged_within_a_second() -> None:
    """GIVEN headings whose whole error is new with each sample WHEN a second is full THEN the look
    is at least twice as sure as one sample, and no surer than it is right."""
    off, sigma = looks(white=0.02, stays=0.0)
    assert len(off) > 15
    assert sigma[1:].max() < 0.02 / 2.0
    assert np.abs(off).max() < 3.5


def test_a_compass_that_does_not_scatter_stays_as_wrong_as_it_claims() -> None:
    """GIVEN headings whose error stays WHEN they are averaged THEN nothing is gained by it."""
    off, sigma = looks(white=0.001, stays=0.02)
    assert sigma.min() > 0.019
    assert np.abs(off).max() < 3.0


def test_a_second_holds_one_look_and_rest_holds_one_altogether() -> None:
    compass = Compass(0.02)
    assert compass.first(0) is None
    for k in range(1000):
        compass.add(k * S // 100, 1.0, resting=True)
    look = compass.first(10 * S)
    assert look is not None
    assert look.yaw_rad == pytest.approx(1.0)
    assert compass.first(12 * S) is None  # too long ago


def test_a_robot_whose_heading_is_measured_loses_no_fix_of_its_start() -> None:
    """GIVEN fixes from the beginning and headings a little later WHEN both are there THEN the first
    pose is already the mean of the fixes; and a few looks later the heading is known to a third of
    a degree."""
    for seed in range(4):
        drive = Drive(duration_s=8.0, heading=0.7 * seed)
        sensors = Sensors(seed=seed, heading_sigma=0.017)
        samples = merge(sensors.imu(drive), sensors.wheels(drive), sensors.gps(drive))
        out = play(samples, frames(sensors), MAP)
        known = [e for e in out.global_ if e.pose_covariance[5, 5] < 0.03**2]
        assert known[0].pose_covariance[0, 0] < 0.3  # m^2, of fixes of 1 m^2 each
        rows = errors(drive, out.global_, 6.0)
        assert np.sqrt(known[-1].pose_covariance[5, 5]) < 0.006
        assert np.abs(rows[:, 3]).max() < 0.018
