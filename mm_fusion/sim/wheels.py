"""Wheel odometry: the body's speed and turn rate, with a scale error and slip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.ego import EgoMotion

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WheelSpec:
    """Errors of the encoders: scales as shares, noise per sample in m/s and rad/s, slip as a
    share of the acceleration (m/s per m/s^2)."""

    speed_scale: float = 1.006
    turn_scale: float = 0.985
    speed_sigma: float = 0.04
    turn_sigma: float = 0.012
    slip_s: float = 0.02

    def covariance(self) -> F64:
        """Covariance [6,6] of (linear, angular): forward speed, no sideways motion, turn rate."""
        forward, turn = self.speed_sigma + 0.04, self.turn_sigma + 0.006
        return np.diag(np.square([forward, 0.08, 0.15, 0.1, 0.1, turn]))


def body_velocity(ego: EgoMotion, times: F64) -> tuple[F64, F64]:
    """True linear and angular velocity [N,3] of the base in its own frame."""
    linear = np.einsum("nji,nj->ni", ego.rotation(times), ego.velocity(times))
    return linear, ego.angular_velocity(times)


def measure(
    ego: EgoMotion, spec: WheelSpec, times: F64, rng: np.random.Generator
) -> tuple[F64, F64]:
    """Measured forward speed [N] and turn rate [N] at ``times`` [N]."""
    linear, angular = body_velocity(ego, times)
    forward = np.einsum("nji,nj->ni", ego.rotation(times), ego.acceleration(times))[:, 0]
    speed = linear[:, 0] * spec.speed_scale + spec.slip_s * forward
    still = np.abs(linear[:, 0]) < 0.02  # encoders do not tick at rest
    speed = np.where(still, 0.0, speed + rng.normal(scale=spec.speed_sigma, size=len(times)))
    turn = angular[:, 2] * spec.turn_scale + rng.normal(scale=spec.turn_sigma, size=len(times))
    return speed, np.where(still, 0.0, turn)
