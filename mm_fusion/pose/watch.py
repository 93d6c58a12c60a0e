"""Is the filter still where the fixes of the last minute, taken together, put it?

Single fixes are compared with the filter's own covariance, which is only as good as what it was
told. Here the last minute of dead reckoning is laid on the fixes as a whole, robustly, and their
errors are taken as alike over a while. Where most fixes of that minute were off the filter by more
than they can be, and the whole puts it elsewhere, the filter has diverged, and this is what it
starts anew from.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from mm_fusion.pose.alignment import lay

F64 = npt.NDArray[np.float64]

_S = 1_000_000_000
_STEP_S = 1.0
_WINDOW_S = 60.0
_PAIRS = 20
_BETTER = 2.0
_FEW = 0.42  # as many fixes may be near the filter all the same
_SIGMAS = 3.0
_ROUNDS = 6


class Overlay:
    """``map = R(yaw) (odom - odom_centre) + map_centre`` in the plane, with honest sigmas."""

    def __init__(
        self, yaw: float, odom_centre: F64, map_centre: F64, residual: float, sigma: float
    ) -> None:
        self.yaw_rad = yaw
        self.odom_centre = odom_centre
        self.map_centre = map_centre
        self.residual_m = residual
        self.sigma_m = sigma
        self.yaw_sigma_rad = math.pi

    def place(self, odom: F64) -> F64:
        """Where places [N,2] in odom are in the map, [N,2]."""
        return _turned(odom - self.odom_centre, self.yaw_rad) + self.map_centre


class Watch:
    """Collects fixes with the antenna's place in odom, about one a second."""

    def __init__(self, correlation_s: float) -> None:
        self._correlation_s = correlation_s
        self._pairs: deque[tuple[int, F64, F64, float]] = deque()
        self._sigma_m = 0.0

    def clear(self) -> None:
        """Odometry before now is not to be trusted."""
        self._pairs.clear()

    def add(self, stamp_ns: int, enu: F64, odom: F64, off_m: float, sigma_m: float) -> bool:
        """Note a fix [2], ``off_m`` from the filter as it was then; whether it is time to look at
        the whole.
        """
        if self._pairs and stamp_ns - self._pairs[-1][0] < _STEP_S * _S:
            return False
        self._pairs.append((stamp_ns, enu, odom, off_m))
        self._sigma_m = sigma_m
        while stamp_ns - self._pairs[0][0] > _WINDOW_S * _S:
            self._pairs.popleft()
        return len(self._pairs) >= _PAIRS

    def judge(self, yaw_rad: float, shift: F64) -> Overlay | None:
        """What to believe instead of ``map = R(yaw) odom + shift``; None where that may be."""
        believed = float(np.quantile([off for *_, off in self._pairs], _FEW))
        if believed < _BETTER * self._sigma_m:
            return None
        odom = np.array([o for _, _, o, _ in self._pairs])
        enu = np.array([e for _, e, _, _ in self._pairs])
        found = self._overlay(odom, enu)
        if found is None:
            return None
        off = np.linalg.norm(found.place(odom) - _turned(odom, yaw_rad) - shift, axis=1)
        return found if float(np.median(off)) > _SIGMAS * found.sigma_m else None

    def _overlay(self, odom: F64, enu: F64) -> Overlay | None:
        weight = np.ones(len(odom))
        yaw, residual2 = lay(odom, enu, weight)
        for _ in range(_ROUNDS):
            scale2 = max(self._sigma_m**2, float(np.median(residual2)))
            weight = 1.0 / (1.0 + residual2 / scale2)
            yaw, residual2 = lay(odom, enu, weight)
        total = float(weight.sum())
        centre = weight @ odom / total
        spread = float(weight @ ((odom - centre) ** 2).sum(axis=1)) / total
        residual = math.sqrt(max(float(np.median(residual2)), 1e-6))
        span_s = (self._pairs[-1][0] - self._pairs[0][0]) / _S
        pieces = max(1.0, 2.0 * span_s / self._correlation_s)
        sigma = max(residual, self._sigma_m) / math.sqrt(pieces)
        found = Overlay(yaw, centre, weight @ enu / total, residual, sigma)
        if spread < (4.0 * sigma) ** 2:
            return None
        found.yaw_sigma_rad = sigma / math.sqrt(spread)
        return found


def _turned(points: F64, yaw_rad: float) -> F64:
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return points @ np.array(((c, s), (-s, c)))
