"""The error-state filter: its Jacobians against differences, its covariance against the error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.pose_drives import T0_NS, Drive, Run, Sensors, errors, frames, merge, play, rms

from mm_fusion.pose.filter import ATT, GYRO, POS, SIZE, VEL, ErrorStateFilter, rotation_exp

G = 9.80665


def some_filter() -> ErrorStateFilter:
    core = ErrorStateFilter(G)
    core.position = np.array([10.0, -5.0, 1.0])
    core.velocity = np.array([6.0, 2.0, -0.5])
    core.rotation = Rotation.from_euler("xyz", [0.1, -0.2, 2.0]).as_matrix()
    core.gyro_bias = np.array([0.01, -0.02, 0.03])
    core.accel_bias = np.array([0.1, 0.2, -0.1])
    core.wheel_scale = 0.03
    return core


def disturbed(error: np.ndarray) -> ErrorStateFilter:
    """The filter whose true state differs from some_filter by ``error``, by the definition."""
    core = some_filter()
    turn = Rotation.from_rotvec(error[ATT]).as_matrix()
    core.position = core.position + error[POS]
    core.velocity = turn @ core.velocity + error[VEL]
    core.rotation = turn @ core.rotation
    core.gyro_bias = core.gyro_bias + error[GYRO]
    core.accel_bias = core.accel_bias + error[12:15]
    core.wheel_scale += error[15]
    core.gps_bias = core.gps_bias + error[16:18]
    return core


def difference(true: ErrorStateFilter, core: ErrorStateFilter) -> np.ndarray:
    turn = true.rotation @ core.rotation.T
    out = np.zeros(SIZE)
    out[POS] = true.position - core.position
    out[VEL] = true.velocity - turn @ core.velocity
    out[ATT] = Rotation.from_matrix(turn).as_rotvec()
    out[GYRO] = true.gyro_bias - core.gyro_bias
    out[12:15] = true.accel_bias - core.accel_bias
    out[15] = true.wheel_scale - core.wheel_scale
    out[16:18] = true.gps_bias - core.gps_bias
    return out


def by_imu(core: ErrorStateFilter) -> None:
    core.propagate_imu(np.array([0.2, -0.1, 0.5]), np.array([1.0, 2.0, 9.5]), 0.01, np.zeros(SIZE))


def by_wheels(core: ErrorStateFilter) -> None:
    core.propagate_twist(
        np.array([5.0, 0.1, 0.0]),
        np.array([5.0, 0.1, 0.0]),
        np.array([0.0, 0.0, 0.4]),
        0.02,
        np.zeros(3),
        np.zeros(SIZE),
    )


@pytest.mark.parametrize("step", [by_imu, by_wheels])
def test_an_error_travels_as_the_covariance_says(step) -> None:
    """GIVEN a state and a slightly different true one WHEN both take the same step
    THEN their difference is what the propagated covariance carries, element by element."""
    for index in range(SIZE):
        small = np.zeros(SIZE)
        small[index] = 1e-5
        core, true = some_filter(), disturbed(small)
        core.covariance = np.outer(small, small)
        step(core)
        step(true)
        seen = difference(true, core)
        expected = np.outer(seen, seen)
        assert core.covariance == pytest.approx(expected, abs=2e-3 * expected.max() + 1e-20)


def test_a_correction_lands_where_the_error_was() -> None:
    error = np.linspace(0.01, 0.02, SIZE)
    core, true = some_filter(), disturbed(error)
    core.covariance = np.eye(SIZE)
    core.update(np.eye(SIZE), error, np.eye(SIZE) * 1e-12)
    assert difference(true, core) == pytest.approx(np.zeros(SIZE), abs=1e-9)


def test_rotation_exp_is_scipys() -> None:
    for v in ([0.0, 0.0, 0.0], [1e-5, -2e-5, 3e-5], [0.3, -0.2, 0.9], [2.0, 1.0, -1.0]):
        expected = Rotation.from_rotvec(v).as_matrix()
        assert rotation_exp(*v) == pytest.approx(expected, abs=1e-12)


def test_what_is_held_takes_no_correction_and_the_covariance_stays_valid() -> None:
    core = some_filter()
    root = np.random.default_rng(5).normal(size=(SIZE, SIZE))
    core.covariance = root @ root.T
    before = core.position.copy()
    jacobian = np.zeros((3, SIZE))
    jacobian[:, VEL] = np.eye(3)
    core.update(jacobian, np.ones(3), np.eye(3) * 0.01, [0, 1, 2])
    assert (core.position == before).all()
    assert np.linalg.eigvalsh(core.covariance)[0] > 0


@pytest.fixture(scope="module")
def runs() -> list[tuple[Drive, Run]]:
    """Six seeds of a minute with white noise as told and constant biases and scale error."""
    drive = Drive()
    out = []
    for seed in range(6):
        sensors = Sensors(seed=seed, wheel_scale=(-0.02, -0.01, 0.0, 0.01, 0.015, 0.02)[seed])
        samples = merge(sensors.imu(drive), sensors.wheels(drive), sensors.gps(drive))
        out.append((drive, play(samples, frames(sensors))))
    return out


def test_the_covariance_is_honest(runs) -> None:
    """GIVEN six seeded drives WHEN errors are weighed with the covariances given for them
    THEN position, heading and speed are neither over- nor grossly underconfident.

    The expectation of a normalised squared error is the number of its elements; a minute holds
    some ten independent ones per run.
    """
    place, heading, speed = [], [], []
    for drive, run in runs:
        for e in run.global_[2000::50]:
            east, north, yaw, v = drive.at(e.stamp_ns)
            d = e.frame_from_base.translation[:2] - (east, north)
            place.append(d @ np.linalg.solve(e.pose_covariance[:2, :2], d))
            dyaw = np.angle(np.exp(1j * (e.frame_from_base.yaw_rad() - yaw)))
            heading.append(dyaw**2 / e.pose_covariance[5, 5])
            speed.append((e.linear[0] - v) ** 2 / e.twist_covariance[0, 0])
    assert 0.8 < np.mean(place) < 3.5
    assert 0.2 < np.mean(heading) < 1.8
    assert 0.3 < np.mean(speed) < 1.8


def test_covariances_stay_symmetric_and_positive(runs) -> None:
    for _, run in runs:
        for e in (*run.local[::200], *run.global_[::200]):
            for c in (e.pose_covariance, e.twist_covariance):
                assert np.abs(c - c.T).max() < 1e-9 * max(1.0, np.abs(c).max())
                assert np.linalg.eigvalsh(c)[0] > -1e-9


def test_the_fused_track_is_far_better_than_the_fixes(runs) -> None:
    """Fixes have sigma 1 m per axis, 1.41 m in the plane."""
    for drive, run in runs:
        assert rms(errors(drive, run.global_, 15.0)) < 0.45


def test_biases_and_wheel_scale_are_learned(runs) -> None:
    for (_, run), scale in zip(runs, (-0.02, -0.01, 0.0, 0.01, 0.015, 0.02), strict=True):
        core = run.pipeline._global.estimator.core
        assert core.gyro_bias == pytest.approx((0.002, -0.003, 0.004), abs=4e-4)
        assert core.wheel_scale == pytest.approx(scale, abs=6e-3)
        assert run.global_[-1].stamp_ns == T0_NS + 60 * 10**9
