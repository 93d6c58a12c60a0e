"""Is the vehicle at rest? Wheels say so, the gyro may object; without wheels the IMU decides."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.config import PoseConfig
from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]

_WINDOW_S = 0.5
_TURN_RADPS = 0.03  # a gyro off its bias by more than this is turning
_QUIET_ACCEL_MPS2 = 0.25
_QUIET_GYRO_RADPS = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class RestMeasurement:
    """Means over ``span_s`` at rest: ``gyro`` and ``accel`` [3] in base axes, None without IMU;
    ``gyro_variance`` [3] is that of the mean turn rate, by the scatter of its samples.
    """

    gyro: F64 | None
    accel: F64 | None
    span_s: float
    gyro_variance: F64 | None = None


class Standstill:
    """Watches wheels and IMU. ``resting`` is the present verdict."""

    def __init__(self, config: PoseConfig) -> None:
        self._config = config
        self.resting = False
        self._wheels: deque[tuple[int, float, float]] = deque()
        self._block: list[tuple[F64, F64]] = []
        self._block_start_ns = 0
        self._turn = 0.0
        self._waiting: RestMeasurement | None = None

    def add_wheels(self, stamp_ns: int, speed_mps: float, turn_radps: float) -> None:
        """Speed and yaw rate of the base by the wheels."""
        window = self._wheels
        window.append((stamp_ns, speed_mps, turn_radps))
        while stamp_ns - window[0][0] > _WINDOW_S * 1.5 * NS_PER_S:
            window.popleft()
        limit = self._config.standstill_speed_mps
        if abs(speed_mps) > 10.0 * limit or (self.resting and not self.wheels_rest()):
            self.resting = False

    def wheels_rest(self) -> bool:
        """Whether the wheels have stood for a whole window."""
        window = self._wheels
        if not window or (window[-1][0] - window[0][0]) < _WINDOW_S * NS_PER_S:
            return False
        count = len(window)
        limit = self._config.standstill_speed_mps
        speed = math.fsum(v for _, v, _ in window) / count
        scatter = math.fsum(v * v for _, v, _ in window) / count
        turn = math.fsum(w for _, _, w in window) / count
        return abs(speed) < limit and scatter < (5.0 * limit) ** 2 and abs(turn) < _TURN_RADPS

    def without_imu(self, stamp_ns: int) -> RestMeasurement | None:
        """The verdict by the wheels alone; a measurement once per window at rest."""
        self.resting = self._config.zero_velocity and self.wheels_rest()
        if not self.resting or stamp_ns - self._block_start_ns < _WINDOW_S * NS_PER_S:
            return None
        self._block_start_ns = stamp_ns
        # A yaw rate that a gyro gave has a bias, and now nothing else.
        turns = np.array([w for _, _, w in self._wheels])
        scatter = np.full(3, float(turns.var()) / len(turns))
        return RestMeasurement(np.array((0.0, 0.0, turns.mean())), None, _WINDOW_S, scatter)

    def add_imu(
        self, stamp_ns: int, gyro: F64, accel: F64, gyro_bias: F64, wheels: bool, slow: bool
    ) -> RestMeasurement | None:
        """An IMU sample in base axes. ``wheels``: they are being heard; ``slow``: nothing says
        that the vehicle moves. Answers the means of a whole window at rest.
        """
        if not self._config.zero_velocity:
            return None
        self._turn += 0.2 * (float(gyro[2] - gyro_bias[2]) - self._turn)
        if self.resting and abs(self._turn) > _TURN_RADPS:
            self.resting = False
            self._block.clear()
            self._waiting = None
        if not self._block:
            self._block_start_ns = stamp_ns
        self._block.append((gyro, accel))
        span_s = (stamp_ns - self._block_start_ns) / NS_PER_S
        if span_s < _WINDOW_S:
            return None
        gyros = np.array([g for g, _ in self._block])
        accels = np.array([a for _, a in self._block])
        self._block.clear()
        mean = gyros.mean(axis=0)
        turning = abs(float(mean[2] - gyro_bias[2])) > _TURN_RADPS
        if wheels:
            rest = self.wheels_rest() and not turning
        else:
            rest = slow and not turning and _quiet(gyros, accels)
        was_resting, self.resting = self.resting, rest
        # A window in which the vehicle starts looks like rest to the wheels, and would teach its
        # acceleration as a bias: each counts when the one after it was at rest as well.
        # Wheels are watched for longer than a window: where they rest, all of it was at rest.
        measured, self._waiting = self._waiting, None
        if rest and (was_resting or wheels):
            scatter = gyros.var(axis=0) / len(gyros)
            self._waiting = RestMeasurement(mean, accels.mean(axis=0), span_s, scatter)
        return measured if rest else None


def _quiet(gyros: F64, accels: F64) -> bool:
    scatter = math.sqrt(float(accels.var(axis=0).sum()))
    return scatter < _QUIET_ACCEL_MPS2 and float(gyros.std(axis=0).max()) < _QUIET_GYRO_RADPS
