"""Who is believed when sweeps and the estimate contradict each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mm_fusion.config import PoseConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.pose.estimator import Estimator
from mm_fusion.pose.filter import SCALE, SIZE, VEL, ErrorStateFilter
from mm_fusion.pose.lidar_odometry import SweepMotion
from mm_fusion.pose.sweeps import Sweeps
from mm_fusion.samples import Reason, Rejection

MS = 1_000_000


def contradicted(times: int, sigma: float, wheels_agree: bool):
    """Sweeps that each say a metre more than an estimate that is sure; it stands still."""
    config = dataclasses.replace(PoseConfig(), wheel_scale_sigma=sigma)
    core = ErrorStateFilter(9.80665)
    core.covariance = np.eye(SIZE) * 1e-6
    local = Estimator(config, "odom", "base_link", core, 1, continuous=True)
    sweeps, answers = Sweeps(config, 1), []
    for k in range(times):
        begin, end = (1 + 2 * k) * 100 * MS, (2 + 2 * k) * 100 * MS
        core.remember_pose(begin)
        core.remember_pose(end)
        motion = RigidTransform.trusted(np.eye(3), np.array((1.0, 0.0, 0.0)))
        told = SweepMotion("lidar", begin, end, motion, np.eye(6), np.eye(6) * 1e-4)
        answers.append(sweeps.fuse(told, local, [local], wheels_agree))
    return core, sweeps, answers


@pytest.mark.parametrize("sigma", [0.01, 0.04])
def test_sweeps_that_agree_outvote_an_estimate_that_no_wheels_speak_for(sigma) -> None:
    """GIVEN sweeps that contradict the estimate, and wheels that do not speak for it WHEN there are
    ten in a row THEN all were refused as outliers, velocity and wheel scale are doubted, the scale
    by its own parameter, and it is said."""
    core, sweeps, answers = contradicted(10, sigma, wheels_agree=False)
    assert all(isinstance(a, Rejection) and a.reason is Reason.OUTLIER for a in answers)
    assert np.diagonal(core.covariance)[VEL].min() >= 1.0
    assert core.covariance[SCALE, SCALE] == pytest.approx(sigma**2, rel=0.02)
    assert any("its velocity was given up" in w for w in sweeps.warnings())


@pytest.mark.parametrize(("times", "wheels_agree"), [(9, False), (30, True)])
def test_few_sweeps_or_wheels_that_agree_leave_the_estimate(times, wheels_agree) -> None:
    """GIVEN the same contradiction WHEN it is shorter, or the wheels agree with the estimate
    THEN the sweeps are refused and the estimate is as sure as before."""
    core, sweeps, answers = contradicted(times, 0.01, wheels_agree)
    assert all(isinstance(a, Rejection) for a in answers)
    assert np.diagonal(core.covariance).max() < 1e-5
    assert not any("given up" in w for w in sweeps.warnings())
