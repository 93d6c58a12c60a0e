"""IMU, GPS and wheels against the trajectory they all come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim import gnss, imu, wheels

UP = np.array([0.0, 0.0, 1.0])
MOUNT = RigidTransform.from_rpy((0.5, -0.3, 0.8), (0.2, -0.1, 0.4))


def test_at_rest_the_imu_feels_gravity_upwards(bare_world: Any) -> None:
    world = bare_world(speed_ms=0.0)
    samples = imu.ideal(world.ego, RigidTransform.identity(), np.array([1.0, 2.0]))
    np.testing.assert_allclose(samples.linear_acceleration, [[0, 0, 9.80665]] * 2, atol=1e-6)
    np.testing.assert_allclose(samples.angular_velocity, 0.0, atol=1e-9)


def test_the_imu_integrates_to_the_trajectory(town_world: Any) -> None:
    """Strapdown integration, step by step, from the first pose and velocity of the IMU."""
    ego, step = town_world.ego, 0.002
    times = np.arange(0.6, 9.0, step)
    samples = imu.ideal(ego, MOUNT, times + step / 2)

    def place(t: float) -> tuple[np.ndarray, np.ndarray]:
        pose = ego.pose(t) @ MOUNT
        return pose.translation, pose.rotation

    position, rotation = place(times[0])
    velocity = (place(times[0] + 1e-4)[0] - place(times[0] - 1e-4)[0]) / 2e-4
    for omega, force in zip(samples.angular_velocity, samples.linear_acceleration, strict=True):
        half = rotation @ Rotation.from_rotvec(omega * step / 2).as_matrix()
        acceleration = half @ force - 9.80665 * UP
        position = position + velocity * step + 0.5 * acceleration * step**2
        velocity = velocity + acceleration * step
        rotation = rotation @ Rotation.from_rotvec(omega * step).as_matrix()
    true_position, true_rotation = place(times[-1] + step)
    moved = np.linalg.norm(true_position - place(times[0])[0])
    assert moved > 20.0
    assert np.linalg.norm(position - true_position) < 0.02
    assert Rotation.from_matrix(rotation.T @ true_rotation).magnitude() < 1e-3


def test_imu_noise_and_bias_are_as_large_as_said(bare_world: Any) -> None:
    world = bare_world(duration_s=40.0)
    spec = imu.ImuSpec(RigidTransform.identity())
    times = np.arange(0.0, 40.0, 0.01)
    biases = []
    for seed in range(12):
        found = imu.measure(world.ego, spec, times, np.random.default_rng(seed))
        steps = np.diff(found.angular_velocity, axis=0)
        assert steps.std() / np.sqrt(2) == pytest.approx(spec.gyro_sigma, rel=0.05)
        biases.append(found.linear_acceleration.mean(axis=0) - [0, 0, 9.80665])
    assert np.std(biases) == pytest.approx(spec.accel_bias, rel=0.35)


def test_gps_scatters_as_its_covariance_says(bare_world: Any) -> None:
    """Many short drives: the error of a fix has the covariance the receiver claims."""
    world = bare_world()
    spec = gnss.GnssSpec(RigidTransform.from_rpy((0.3, 0.2, 1.6), (0, 0, 0)))
    truth = world.ego.position(1.0) + spec.base_from_gps.translation
    errors = np.array(
        [
            gnss.measure(world.ego, spec, np.array([0.8, 1.0]), np.random.default_rng(k))[1] - truth
            for k in range(4000)
        ]
    )
    np.testing.assert_allclose(np.cov(errors.T), spec.covariance(), atol=0.16)
    assert np.abs(errors.mean(axis=0)).max() < 0.1
    assert np.sqrt(spec.covariance()[0, 0]) == pytest.approx(1.0, abs=0.1)


def test_gps_error_wanders_slowly(bare_world: Any) -> None:
    world = bare_world(duration_s=200.0)
    spec = gnss.GnssSpec(RigidTransform.identity(), white_m=(0, 0, 0))
    times = np.arange(0.0, 200.0, 0.2)
    found = gnss.measure(world.ego, spec, times, np.random.default_rng(2))
    error = found - world.ego.position(times)
    assert np.abs(np.diff(error[:, :2], axis=0)).max() < 0.3
    assert error[:, 0].std() > 0.15


def test_wheels_measure_the_way(town_world: Any) -> None:
    ego, spec = town_world.ego, wheels.WheelSpec()
    times = np.arange(0.5, 9.5, 0.02)
    speed, turn = wheels.measure(ego, spec, times, np.random.default_rng(0))
    way = np.linalg.norm(np.diff(ego.position(times), axis=0), axis=1).sum()
    assert speed[:-1].sum() * 0.02 == pytest.approx(way * spec.speed_scale, rel=0.01)
    heading = np.unwrap([ego.pose(t).yaw_rad() for t in times])
    assert turn.sum() * 0.02 == pytest.approx(
        (heading[-1] - heading[0]) * spec.turn_scale, abs=0.02
    )


def test_wheel_errors_fit_their_covariance(town_world: Any) -> None:
    ego, spec = town_world.ego, wheels.WheelSpec()
    times = np.arange(0.5, 9.5, 0.02)
    speed, turn = wheels.measure(ego, spec, times, np.random.default_rng(0))
    linear, angular = wheels.body_velocity(ego, times)
    variance = np.diag(spec.covariance())
    assert np.mean((speed - linear[:, 0]) ** 2) < variance[0]
    assert np.mean((turn - angular[:, 2]) ** 2) < 1.5 * variance[5]
    assert np.mean(linear[:, 1] ** 2) < variance[1]  # what is said to be no sideways motion


def test_velocity_and_acceleration_are_derivatives_of_the_position(town_world: Any) -> None:
    ego, h = town_world.ego, 1e-3
    times = np.arange(0.5, 9.0, 0.37)
    velocity = (ego.position(times + h) - ego.position(times - h)) / (2 * h)
    np.testing.assert_allclose(ego.velocity(times), velocity, atol=1e-3)
    acceleration = (ego.velocity(times + h) - ego.velocity(times - h)) / (2 * h)
    np.testing.assert_allclose(ego.acceleration(times), acceleration, atol=2e-2)
    assert np.abs(ego.acceleration(times)).max() < 6.0
