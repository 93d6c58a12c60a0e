"""Copies of past poses in the filter's state: their algebra, and that odom takes no step."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.config import PoseConfig
from mm_fusion.geometry import RigidTransform, rotation_exp
from mm_fusion.pose.clones import POSE
from mm_fusion.pose.estimator import Estimator
from mm_fusion.pose.filter import SIZE, VEL, ErrorStateFilter

G = 9.80665
MS = 1_000_000


def moving(seed: int = 1) -> ErrorStateFilter:
    """A filter on its way, with a covariance that correlates everything a little."""
    rng = np.random.default_rng(seed)
    core = ErrorStateFilter(G)
    core.rotation = rotation_exp(0.05, -0.03, 0.7)
    core.velocity = core.rotation @ np.array([8.0, 0.0, 0.0])
    mixed = rng.normal(0.0, 0.03, (SIZE, SIZE))
    core.covariance = mixed @ mixed.T
    return core


def drive(core: ErrorStateFilter, steps: int) -> None:
    noise = np.full(SIZE, 1e-7)
    for _ in range(steps):
        core.propagate_imu(np.array([0.01, 0.0, 0.3]), np.array([0.2, 2.4, G]), 0.01, noise)


def joint(core: ErrorStateFilter) -> np.ndarray:
    clones = core.clones
    assert clones is not None
    return np.block([[core.covariance, clones.cross], [clones.cross.T, clones.own]])


def test_the_jacobian_of_the_motion_between_copies() -> None:
    """Against differences: each copy is moved and turned a little in the filter's own axes."""
    core = moving()
    core.remember_pose(1)
    drive(core, 30)
    core.remember_pose(2)
    clones = core.clones
    assert clones is not None
    before, jacobian = clones.relative(1, 2)
    for column in range(2 * POSE):
        error = np.zeros(2 * POSE)
        error[column] = 1e-6
        clones.correct(error)
        after, _ = clones.relative(1, 2)
        clones.correct(-error)
        turned = before.rotation.T @ after.rotation
        change = [
            *(after.translation - before.translation),
            turned[2, 1],
            turned[0, 2],
            turned[1, 0],
        ]
        assert np.array(change) / 1e-6 == pytest.approx(jacobian[:, column], abs=1e-4)


def test_the_covariance_stays_one_through_all_that_happens() -> None:
    """GIVEN two copies WHEN the filter moves, measures, holds states and is doubted for a minute
    THEN filter and copies keep one covariance without a negative direction, and a fresh copy
    stays as uncertain as the pose it was made of."""
    core = moving()
    rng = np.random.default_rng(2)
    variance = np.diag([1e-5] * 6)
    core.remember_pose(0)
    for key in range(1, 600):
        drive(core, 10)
        speed = np.zeros((1, SIZE))
        speed[0, VEL] = core.rotation[:, 0]
        core.update(speed, rng.normal(0.0, 0.05, 1), np.eye(1) * 0.0025, [0, 1, 2, 8])
        core.remember_pose(key)
        motion, _ = core.clones.relative(key - 1, key)  # type: ignore[union-attr]
        residual, jacobian, _ = core.motion_test(key - 1, key, motion, np.eye(6), variance)
        core.update_motion(jacobian, residual, variance, [])
        core.clones.drop_before(key)  # type: ignore[union-attr]
        if key % 50 == 0:
            core.doubt(np.concatenate([np.full(3, 1e-3), np.zeros(5), [1e-4], np.zeros(9)]))
            core.doubt_fixes(0.01, 0.02)
            core.relax_gps_bias(0.2, 1.0, 30.0)
    whole = joint(core)
    sigma = np.sqrt(np.diag(whole))
    assert np.linalg.eigvalsh(whole / np.outer(sigma, sigma))[0] > -1e-9
    rows = [0, 1, 2, 6, 7, 8]
    assert core.clones is not None
    assert core.clones.own == pytest.approx(core.covariance[np.ix_(rows, rows)], abs=1e-9)


def test_a_common_doubt_does_not_doubt_the_motion_since() -> None:
    """GIVEN a copy and a well-known way since WHEN place and heading are doubted by metres and
    half a radian THEN measuring that way takes none of the doubt away."""
    core = moving()
    core.covariance = np.eye(SIZE) * 1e-8
    core.remember_pose(1)
    drive(core, 100)
    core.remember_pose(2)
    spread = np.zeros(SIZE)
    spread[:2], spread[8] = 9.0, 0.25
    core.doubt(spread)
    motion, _ = core.clones.relative(1, 2)  # type: ignore[union-attr]
    variance = np.eye(6) * 1e-6
    residual, jacobian, _ = core.motion_test(1, 2, motion, np.eye(6), variance)
    core.update_motion(jacobian, residual, variance, [])
    assert core.covariance[0, 0] == pytest.approx(9.0, rel=0.01)
    assert core.covariance[8, 8] == pytest.approx(0.25, rel=0.01)


def test_odom_takes_no_step_when_a_sweep_corrects_it() -> None:
    """GIVEN odom WHEN a sweep says that the base went 10 cm less far THEN the pose stays where it
    was and goes there within a tenth of a second; the global one is there at once."""
    for continuous in (True, False):
        core = moving()
        core.covariance = np.eye(SIZE) * 1e-6
        core.covariance[VEL, VEL] = np.eye(3) * 0.1
        estimator = Estimator(PoseConfig(), "odom", "base_link", core, 0, continuous=continuous)
        core.remember_pose(0)
        drive(core, 20)
        estimator.step(200 * MS)
        core.remember_pose(200 * MS)
        shown = estimator.transform().translation
        predicted, _ = core.clones.relative(0, 200 * MS)  # type: ignore[union-attr]
        less = RigidTransform(predicted.rotation, predicted.translation - (0.1, 0.0, 0.0))
        estimator.fuse_motion((0, 200 * MS), less, np.eye(6), np.eye(6) * 1e-6, 0.0)
        corrected = core.position
        moved = np.linalg.norm(estimator.transform().translation - shown)
        assert np.linalg.norm(corrected - shown) == pytest.approx(0.1, abs=0.01)
        assert moved == pytest.approx(0.0 if continuous else 0.1, abs=0.01)
        for tenth in range(1, 11):
            estimator.step((200 + 10 * tenth) * MS)
        assert estimator.transform().translation == pytest.approx(core.position)
