"""What a receiver's fixes are really worth, learned from how they differ from the track.

A receiver claims one number. Its errors have two parts: one that is new with every fix and can be
averaged away, and a slow one (reflections, orbits, atmosphere) that cannot. How much is new is
seen in the differences of consecutive residuals; what the claim leaves after that is slow; how slow
is seen in second differences over some seconds, which a steady drift of the track leaves alone; and
residuals that stay larger than both say that the claim is wrong.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

_S = 1_000_000_000
_MEDIAN_CHI2_2 = 1.386  # of a chi-square variable of two degrees of freedom
_PRIOR = 10.0  # the claim counts as much as so many differences
_SURE = 4.5  # over the root of their count: a ratio's logarithm within this of zero is chance
_WINDOW = 100
_LEAST = 0.05  # a receiver never scatters less than this part of its claim for long
_ASTRAY_MPS2 = 1.0  # accelerations by which a tilted IMU deceives itself
_LEVEL_S = 20.0
_LEVEL_FIXES = 10
_CHANCE = 5.0
_PAIR_S = 3.0
_FORGIVE_S = 60.0
_LAG_S = 5.0
_SLOW_WINDOW_S = 90.0
_SLOW_PRIOR = 1.0  # the parameter counts as much as so many independent second differences
_SLOWEST = 20.0  # as many times the parameter
_TRUST_S = 10.0  # after this long in agreement, the past is not doubted any more


class Receiver:
    """``white`` is the variance ratio (true to claimed) of the errors' fast part, ``slow_m2`` the
    variance of their slow part, which forgets in ``tau_s``.
    """

    def __init__(self, correlation_s: float) -> None:
        self.tau_s = self._correlation_s = correlation_s
        self._marks: deque[tuple[int, float, float]] = deque()
        self._bends: deque[tuple[int, float]] = deque()
        self.white = 1.0
        self.slow_m2 = 0.0
        self._ratios: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._levels: deque[tuple[int, float]] = deque()
        self._last: tuple[int, float, float] | None = None
        self._agreed_s = 0.0

    def forget_level(self) -> None:
        """The filter was put elsewhere: what residuals said about the fixes is void."""
        self._levels.clear()
        self._marks.clear()
        self._bends.clear()
        self.tau_s = self._correlation_s
        self._last = None

    def restart(self, slow_m2: float) -> None:
        """The filter was started anew from fixes whose slow error is this large."""
        self.forget_level()
        self.slow_m2 = slow_m2

    def seen(self, stamp_ns: int, place: F64, claimed_m2: float, alone: bool = False) -> None:
        """Note a fix, fused or not: ``place`` [2] is its distance from the track without the
        track's corrections. An IMU ``alone`` may have led the track astray between two fixes:
        what it may have done is held neither for nor against them.
        """
        last, self._last = self._last, (stamp_ns, float(place[0]), float(place[1]))
        self._bend(stamp_ns, place, claimed_m2)
        if last is None or stamp_ns <= last[0] or stamp_ns - last[0] > _PAIR_S * _S:
            return
        change2 = (place[0] - last[1]) ** 2 + (place[1] - last[2]) ** 2
        passed_s = (stamp_ns - last[0]) / _S
        own_m2 = (0.5 * _ASTRAY_MPS2 * passed_s**2) ** 2 if alone else 0.0
        halved = 0.5 * float(change2)
        self._ratios.append((halved / (claimed_m2 + own_m2), halved / claimed_m2))
        count = len(self._ratios)
        if count < _LEVEL_FIXES:
            return
        low, high = (np.median(np.array(self._ratios), axis=0) / _MEDIAN_CHI2_2).tolist()
        ratio = max(low if low > 1.0 else min(high, 1.0), _LEAST)
        logarithm = math.log(ratio)
        sure = math.sqrt(max(0.0, logarithm**2 - _SURE**2 / count)) * count / (count + _PRIOR)
        self.white = math.exp(math.copysign(sure, logarithm))

    def _bend(self, stamp_ns: int, place: F64, claimed_m2: float) -> None:
        """Follow how fast the slow part changes: for a Gauss-Markov process of variance s and
        correlation r over the lag, second differences have the variance s (6 - 8 r + 2 r^2).
        """
        marks = self._marks
        if marks and stamp_ns - marks[-1][0] < 0.99 * _S:
            return
        marks.append((stamp_ns, float(place[0]), float(place[1])))
        lag = int(_LAG_S)
        if len(marks) > 2 * lag:
            (t0, x0, y0), (_, x1, y1), (_, x2, y2) = marks[0], marks[lag], marks[2 * lag]
            if stamp_ns - t0 < 2.5 * _LAG_S * _S:
                self._bends.append((stamp_ns, (x0 - 2 * x1 + x2) ** 2 + (y0 - 2 * y1 + y2) ** 2))
            marks.popleft()
        while self._bends and stamp_ns - self._bends[0][0] > _SLOW_WINDOW_S * _S:
            self._bends.popleft()
        count = len(self._bends) / _LAG_S
        if count < 1.0 or self.slow_m2 <= 0.0:
            self.tau_s = self._correlation_s
            return
        seen = float(np.median([b for _, b in self._bends])) / _MEDIAN_CHI2_2
        r = math.exp(-_LAG_S / self._correlation_s)
        prior = 6.0 - 8.0 * r + 2.0 * r * r
        x = max(0.0, seen - 6.0 * self.white * claimed_m2) / self.slow_m2
        x = min((x * count + prior * _SLOW_PRIOR) / (count + _SLOW_PRIOR), prior)
        tau_s = _LAG_S / -math.log(max(1e-6, min(1.0 - 1e-9, 2.0 - math.sqrt(1.0 + 0.5 * x))))
        self.tau_s = min(tau_s, _SLOWEST * self._correlation_s)

    def fused(
        self, stamp_ns: int, residual: F64, claimed_m2: float, known_m2: float, passed_s: float
    ) -> tuple[float, float]:
        """Note a fix that passed the gate: ``residual`` [2] with the slow part left in it,
        ``known_m2`` the track's own variance.

        Answers by how much (m^2) the slow part's variance was underrated: in the past that the
        track has averaged, and at present.
        """
        levels = self._levels
        levels.append((stamp_ns, float(residual[0] ** 2 + residual[1] ** 2)))
        while stamp_ns - levels[0][0] > _LEVEL_S * _S:
            levels.popleft()
        white = self.white * claimed_m2
        slow = max(0.0, claimed_m2 - 2.0 * white)
        excess = 0.0
        if len(levels) >= _LEVEL_FIXES:
            level = float(np.median([v for _, v in levels])) / _MEDIAN_CHI2_2
            # The median of a few fixes is large by chance now and then.
            chance = 1.0 + max(1.0, _CHANCE / math.sqrt(len(levels)))
            excess = level - known_m2 - chance * max(white, claimed_m2)
        if excess <= 0.0:
            self._agreed_s += passed_s
        # A receiver that was bad is not good again with the next few fixes.
        slow = max(slow, excess, self.slow_m2 * math.exp(-passed_s / _FORGIVE_S))
        past = math.exp(-self._agreed_s / _TRUST_S)
        grown = max(0.0, slow - self.slow_m2)
        self.slow_m2 = slow
        return (grown * past, grown * (1.0 - past))
