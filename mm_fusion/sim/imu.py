"""An inertial unit: what gyroscope and accelerometer of a moving body feel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.ego import EgoMotion

F64 = npt.NDArray[np.float64]

GRAVITY_MS2 = 9.80665
_DIFFERENCE_S = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class ImuSpec:
    """A device and how it is mounted: white noise per sample, constant biases' spread, and the
    biases' random walk per square root of a second. Gyroscope in rad/s, accelerometer in m/s^2."""

    base_from_imu: RigidTransform
    gyro_sigma: float = 0.004
    accel_sigma: float = 0.06
    gyro_bias: float = 0.004
    accel_bias: float = 0.06
    gyro_walk: float = 1e-4
    accel_walk: float = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class ImuSamples:
    """Samples [N,3] in the IMU's frame: angular velocity rad/s and specific force m/s^2."""

    angular_velocity: F64
    linear_acceleration: F64


def ideal(ego: EgoMotion, base_from_imu: RigidTransform, times: F64) -> ImuSamples:
    """What a perfect unit measures at ``times`` [N]: the rigid body's rotation, and the
    acceleration of the mounting point minus gravity."""
    omega = ego.angular_velocity(times)
    ahead = ego.angular_velocity(times + _DIFFERENCE_S)
    behind = ego.angular_velocity(times - _DIFFERENCE_S)
    alpha = (ahead - behind) / (2 * _DIFFERENCE_S)
    arm = base_from_imu.translation
    world_from_base = ego.rotation(times)
    force_world = ego.acceleration(times) + np.array([0.0, 0.0, GRAVITY_MS2])
    in_base = np.einsum("nji,nj->ni", world_from_base, force_world)
    in_base += np.cross(alpha, arm) + np.cross(omega, np.cross(omega, arm))
    turn = base_from_imu.rotation  # rows times it: into the IMU's axes
    return ImuSamples(omega @ turn, in_base @ turn)


def measure(ego: EgoMotion, spec: ImuSpec, times: F64, rng: np.random.Generator) -> ImuSamples:
    """What this unit measures at ``times`` [N], which must be evenly spaced."""
    true = ideal(ego, spec.base_from_imu, times)
    count = len(times)
    step = np.sqrt(times[1] - times[0]) if count > 1 else 0.0

    def disturbed(values: F64, sigma: float, bias: float, walk: float) -> F64:
        drift = np.cumsum(rng.normal(scale=walk * step, size=(count, 3)), axis=0)
        white = rng.normal(scale=sigma, size=(count, 3))
        return np.asarray(values + rng.normal(scale=bias, size=3) + drift + white)

    return ImuSamples(
        disturbed(true.angular_velocity, spec.gyro_sigma, spec.gyro_bias, spec.gyro_walk),
        disturbed(true.linear_acceleration, spec.accel_sigma, spec.accel_bias, spec.accel_walk),
    )
