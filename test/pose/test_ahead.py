"""Where the robot is now, while the last sample is a little older: TF answers for the present."""

from __future__ import annotations

import numpy as np
import pytest
from support.pose_drives import Drive, Sensors, frames, merge, play

from mm_fusion.pose.ahead import ahead

MS = 10**6
DRIVE = Drive(duration_s=16.0, speed=10.0)


@pytest.fixture(scope="module")
def local():
    """Local estimates of a winding drive, 100 a second."""
    sensors = Sensors(seed=71, wheel_scale=0.0)
    return play(merge(sensors.imu(DRIVE), sensors.wheels(DRIVE)), frames(sensors)).local


def moved(one, other) -> np.ndarray:
    """The base's motion [2] from one estimate to another, in the first's axes, and its turn."""
    motion = one.frame_from_base.inverse() @ other.frame_from_base
    return np.array((*motion.translation[:2], motion.yaw_rad()))


def test_a_pose_asked_for_later_than_the_last_sample_is_answered_and_marked(local) -> None:
    """GIVEN somebody who asks for the pose at the present instant, 100 ms after the last sample, as
    a planner does who would otherwise be told that TF cannot look into the future WHEN it is
    extrapolated THEN it is where the samples that come later put the base, within a few
    centimetres where standing on the last pose would be a metre off, and it says how far ahead of
    its sensors it is."""
    errors, stale, normalised = [], [], []
    for k in range(600, len(local) - 10, 7):
        last, later = local[k], local[k + 10]
        found = ahead(last, last.stamp_ns + 100 * MS, 0.2)
        assert found is not None
        assert found.stamp_ns == later.stamp_ns
        assert found.extrapolated_ns == 100 * MS
        assert last.extrapolated_ns == 0
        off = moved(found, later)
        errors.append(off)
        stale.append(moved(last, later))
        grown = found.pose_covariance - last.pose_covariance
        normalised.append(off[2] ** 2 / grown[5, 5])
    place = np.linalg.norm(np.array(errors)[:, :2], axis=1)
    assert place.max() < 0.08
    assert np.linalg.norm(np.array(stale)[:, :2], axis=1).min() > 0.9
    assert np.mean(normalised) < 2.0


def test_what_is_ahead_is_less_certain_and_has_an_end(local) -> None:
    """GIVEN a last sample WHEN asked for later and later instants THEN the covariance grows, and
    beyond the limit, or before the sample, there is no answer."""
    last = local[1000]
    traces = [
        np.trace(ahead(last, last.stamp_ns + ms * MS, 0.2).pose_covariance)
        for ms in (0, 50, 100, 200)
    ]
    assert traces[0] == pytest.approx(np.trace(last.pose_covariance))
    assert np.all(np.diff(traces) > 0)
    assert ahead(last, last.stamp_ns + 201 * MS, 0.2) is None
    assert ahead(last, last.stamp_ns - 1, 0.2) is None
