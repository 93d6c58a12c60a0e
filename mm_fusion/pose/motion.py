"""What carries the filters through time: IMU samples, or wheel velocities where there is no IMU."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.config import PoseConfig
from mm_fusion.pose.estimator import Estimator, lateral_variance
from mm_fusion.pose.filter import ACCEL, ATT, GYRO, SCALE, SIZE, VEL, ErrorStateFilter
from mm_fusion.pose.mounting import levelling
from mm_fusion.samples import NS_PER_S, ImuSample, Reason, Rejection, WheelOdometry

F64 = npt.NDArray[np.float64]

_UNMOUNTED_ACCEL_NOISE = 1.0  # m/s^2/sqrt(Hz): forward may be any horizontal direction
_VIBRATION_S = 1.0
_GAP_S = 3.0  # an IMU gap up to this is bridged by its two ends
_SCALE_WALK = 1e-4
_MAX_GYRO_RADPS = 70.0
_MAX_ACCEL_MPS2 = 800.0
_HALF = np.full(3, 0.5)  # an array times an array is twice as fast as times a number


@dataclass(frozen=True, slots=True, eq=False)
class Wheels:
    """Wheel odometry in base axes: velocities and their variances [3]."""

    sensor: str
    stamp_ns: int
    linear: F64
    angular: F64
    linear_variance: F64
    yaw_variance: float


def check_imu(sample: ImuSample) -> Rejection | None:
    """Numbers no IMU can mean."""
    values = [*sample.angular_velocity.tolist(), *sample.linear_acceleration.tolist()]
    if not math.isfinite(math.fsum(values)):
        return Rejection(sample.sensor, sample.stamp_ns, Reason.NON_FINITE, f"{values}")
    turn, push = max(map(abs, values[:3])), max(map(abs, values[3:]))
    if turn > _MAX_GYRO_RADPS or push > _MAX_ACCEL_MPS2:
        detail = f"{turn:.3g} rad/s, {push:.3g} m/s^2"
        return Rejection(sample.sensor, sample.stamp_ns, Reason.OUT_OF_RANGE, detail)
    return None


def check_wheels(sample: WheelOdometry, config: PoseConfig) -> Rejection | None:
    """Numbers no wheels can mean."""
    values = [*sample.linear.tolist(), *sample.angular.tolist()]
    if not math.isfinite(math.fsum(values)):
        return Rejection(sample.sensor, sample.stamp_ns, Reason.NON_FINITE, f"{values}")
    if max(map(abs, values[:3])) > config.max_speed_mps:
        return Rejection(sample.sensor, sample.stamp_ns, Reason.OUT_OF_RANGE, f"{values[:3]} m/s")
    return None


def wheels_in_base(sample: WheelOdometry, linear: F64, angular: F64, config: PoseConfig) -> Wheels:
    """With variances from the message where it has usable ones, else from the parameters."""
    given = np.diagonal(sample.covariance).tolist()
    sideways = lateral_variance(config, float(linear[0]))
    forward = _usable(given[0], config.wheel_sigma_mps)
    if config.nonholonomic:
        linear = np.array((linear[0], 0.0, 0.0))
        across = sideways
    else:
        linear = np.array((linear[0], linear[1], 0.0))
        across = _usable(given[1], config.wheel_sigma_mps)
    return Wheels(
        sample.sensor,
        sample.stamp_ns,
        linear,
        np.array((0.0, 0.0, angular[2])),
        np.array((forward, across, sideways)),
        _usable(given[5], config.wheel_yaw_sigma_radps),
    )


def forget_all_but_last(pending: deque[Any]) -> None:
    """Of the wheels that waited for a filter to begin, the last tells the speed to begin with; the
    others tell of a time before it, and where the vehicle gains speed they would contradict it."""
    for old in [m for m in pending if isinstance(m, Wheels)][:-1]:
        pending.remove(old)


def _usable(variance: float, sigma: float) -> float:
    return variance if 0.0 < variance < 100.0 else sigma * sigma


class ImuMotion:
    """Turns IMU samples in base axes into steps; trapezoidal between samples."""

    def __init__(self, config: PoseConfig) -> None:
        self._config = config
        self._last: tuple[int, F64, F64] | None = None
        self._noise_key: tuple[float, ...] = ()
        self._noise: F64 = np.zeros(SIZE)
        self._rest_noise: F64 = np.zeros(SIZE)
        self._vibration = self._vibration_used = 0.0
        self.angular_variance = 0.0

    def forget(self) -> None:
        """The next sample begins anew."""
        self._last = None

    def step(
        self,
        sample: ImuSample,
        gyro: F64,
        accel: F64,
        lever_arm: F64,
        mounted: bool,
        resting: bool,
        estimators: list[Estimator],
    ) -> None:
        """Carry the estimators to the sample's stamp; ``gyro``, ``accel`` [3] in base axes."""
        last, self._last = self._last, (sample.stamp_ns, gyro, accel)
        from_ns = estimators[0].stamp_ns
        dt_s = (sample.stamp_ns - from_ns) / NS_PER_S
        if last is None:
            last = self._last
        turn, force = (gyro + last[1]) * _HALF, (accel + last[2]) * _HALF
        if lever_arm.any() and dt_s > 0:
            force = _to_base_origin(turn, force, gyro - last[1], dt_s, lever_arm)
        self._feel(accel - last[2], dt_s)
        noise = self._noise_of(sample, dt_s, mounted)
        for estimator in estimators:
            if resting:
                estimator.core.stand(self._rest_noise)
            elif dt_s > _GAP_S:
                estimator.core.coast(dt_s, 4.0, 0.1)
            else:
                estimator.core.propagate_imu(turn, force, dt_s, noise)
            estimator.step(sample.stamp_ns)

    def _feel(self, change: F64, dt_s: float) -> None:
        """Follow the variance of single samples: vibration is what differs from one to the next.

        Messages state the noise of the chip; on a driving vehicle vibration is many times that.
        """
        seen = change.dot(change).item() / 6.0
        self._vibration += min(1.0, dt_s / _VIBRATION_S) * (seen - self._vibration)
        if not 0.8 < self._vibration / (self._vibration_used or 1e-9) < 1.25:
            self._vibration_used = self._vibration

    def _noise_of(self, sample: ImuSample, dt_s: float, mounted: bool) -> F64:
        gyro_var = sample.angular_velocity_covariance.item(0)
        accel_var = sample.linear_acceleration_covariance.item(0)
        key = (dt_s, gyro_var, accel_var if mounted else -1.0, self._vibration_used)
        if key == self._noise_key:
            return self._noise
        config = self._config
        # A covariance in the message is per sample; its density is variance times interval.
        gyro = gyro_var * dt_s if 0.0 < gyro_var < 1.0 else config.gyro_noise**2
        accel = accel_var * dt_s if 0.0 < accel_var < 100.0 else config.accel_noise**2
        accel = max(accel, self._vibration_used * dt_s)
        if not mounted:
            accel = _UNMOUNTED_ACCEL_NOISE**2
        if dt_s > 0.1:  # what happened in a gap is known by its ends only
            accel, gyro = accel + dt_s, gyro + 0.01 * dt_s
        noise = np.zeros(SIZE)
        noise[VEL] = accel * dt_s
        noise[ATT] = gyro * dt_s
        noise[GYRO] = config.gyro_bias_walk**2 * dt_s
        noise[ACCEL] = config.accel_bias_walk**2 * dt_s
        noise[SCALE] = _SCALE_WALK**2 * dt_s
        rest = noise.copy()
        rest[VEL] = rest[ATT] = 0.0
        self._noise_key, self._noise, self._rest_noise = key, noise, rest
        self.angular_variance = gyro / dt_s if dt_s > 0 else 0.0
        return noise


def _to_base_origin(turn: F64, force: F64, turn_change: F64, dt_s: float, arm: F64) -> F64:
    """Specific force at the base origin from that of an IMU at ``arm`` [3]: less the centripetal
    and Euler accelerations of the arm. The Euler term telescopes, so differencing adds no drift.
    """
    wx, wy, wz = turn.tolist()
    ax, ay, az = arm.tolist()
    ux, uy, uz = turn_change.tolist()
    along, squared = wx * ax + wy * ay + wz * az, wx * wx + wy * wy + wz * wz
    # -(w x (w x arm)) - turn_change / dt x arm, element by element: half the time of products
    return force + np.array(
        (
            ax * squared - wx * along + (ay * uz - az * uy) / dt_s,
            ay * squared - wy * along + (az * ux - ax * uz) / dt_s,
            az * squared - wz * along + (ax * uy - ay * ux) / dt_s,
        )
    )


class WheelMotion:
    """Turns wheel velocities into steps where no IMU is heard."""

    def __init__(self, config: PoseConfig) -> None:
        self._config = config
        self._last: Wheels | None = None
        self._level_ns = 0

    def step(self, wheels: Wheels, resting: bool, estimators: list[Estimator]) -> None:
        """Carry the estimators to the wheels' stamp."""
        last, self._last = self._last or wheels, wheels
        dt_s = (wheels.stamp_ns - estimators[0].stamp_ns) / NS_PER_S
        config = self._config
        noise = np.zeros(SIZE)
        noise[GYRO] = config.gyro_bias_walk**2 * dt_s
        noise[SCALE] = _SCALE_WALK**2 * dt_s
        rest = noise.copy()
        noise[6:8] = 2.5e-5 * dt_s  # slopes come and go: half a degree in a second
        noise[8] = wheels.yaw_variance * dt_s**2
        linear = 0.5 * (wheels.linear + last.linear)
        angular = 0.5 * (wheels.angular + last.angular)
        level = wheels.stamp_ns - self._level_ns > NS_PER_S
        for estimator in estimators:
            if resting:
                estimator.core.stand(rest)
            else:
                estimator.core.propagate_twist(
                    linear, wheels.linear, angular, dt_s, wheels.linear_variance, noise
                )
            estimator.step(wheels.stamp_ns)
            if level:
                _fuse_level(estimator.core)
        if level:
            self._level_ns = wheels.stamp_ns


def _fuse_level(core: ErrorStateFilter) -> None:
    """Without an IMU, roads are level within a tenth."""
    jacobian = np.zeros((2, SIZE))
    jacobian[0, 6] = jacobian[1, 7] = 1.0
    # The base's up axis leans by (rotation about x, about y) = (-R12, R02).
    lean = np.array((-core.rotation[1, 2], core.rotation[0, 2]))
    core.update(jacobian, -lean, np.eye(2) * 0.01)


def first_filter(
    config: PoseConfig, force: F64 | None, still: bool, yaw_rad: float
) -> ErrorStateFilter:
    """A filter at the origin: ``force`` [3] mean specific force in base axes, None without IMU."""
    core = ErrorStateFilter(config.gravity_mps2)
    variance = np.zeros(SIZE)
    variance[VEL] = 1e-4 if still else 100.0
    variance[GYRO] = config.gyro_bias_sigma**2
    variance[ACCEL] = config.accel_bias_sigma**2
    variance[SCALE] = config.wheel_scale_sigma**2
    variance[8] = 1e-8
    core.covariance = np.diag(variance)
    turn_to(core, force, still, yaw_rad, config)
    return core


def turn_to(
    core: ErrorStateFilter, force: F64 | None, still: bool, yaw_rad: float, config: PoseConfig
) -> None:
    """Give a filter a heading, and roll and pitch by gravity (level where there is no IMU)."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    heading = np.array(((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)))
    sigma = 0.03 if force is None else 0.1
    if force is None:
        core.rotation = heading
    else:
        tilt = levelling(force)
        lean = math.atan2(tilt[1, 0], tilt[0, 0])
        c, s = math.cos(-lean), math.sin(-lean)
        upright = np.array(((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)))
        core.rotation = heading @ upright @ tilt
        if still:
            sigma = math.hypot(config.accel_bias_sigma / config.gravity_mps2, 0.003)
    core.covariance[6:8] = 0.0
    core.covariance[:, 6:8] = 0.0
    core.covariance[6, 6] = core.covariance[7, 7] = sigma**2
