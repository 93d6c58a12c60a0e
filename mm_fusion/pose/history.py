"""Who leads, the filter or the last minutes as a whole.

A filter decides about every fix once, by what it believed then. Where fixes are bad and odometry is
good that is a poor bargain: five minutes of dead reckoning, laid on their fixes as a whole anew
every second (``whole.py``), are a far better instrument than any fix, and a fix believed at first
may be given up later.

Two uses: where the filter has left the last minute of fixes it starts anew from there
(``diverged``); where fixes are far worse than they claim, the whole leads and the filter only
carries it from second to second (``leads``). Errors that jump and scatter are seen by the filter,
which is off them. Errors that change slowly look right to it, and it follows: these are seen by how
far most of the last minute and a half misses what is laid on it alone. A jump that passes is seen
by neither.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import wrap_angle_rad
from mm_fusion.pose.whole import MEDIAN_CHI2_2, Piece, Whole, lay_whole

F64 = npt.NDArray[np.float64]

_S = 1_000_000_000
_PIECE_S = 1.0
_LONG_S = 300.0
_MINUTE_S = 60.0
_BLOCK = (20.0, 0.015)  # fixes are judged over so many seconds; dead reckoning may err meanwhile by
_LONG_BLOCK = (40.0, 0.02)  # this part of the way. The longer for errors that change slowly
_JUDGED_S = 90.0  # of which a jump of 20 s does not reach the median
_JUDGED_LEAST_S = 60.0
_JUDGE_EVERY_S = 10.0
_LEAST_PIECES = 12
_PAIRS = 20
_WORSE = 2.0  # as many times their claim fixes must scatter before the whole leads
_FEW_OFF = 0.45  # as many fixes may be near the filter then: a jump of 20 s is less than half
_WORSE_LONG = 1.5  # or miss what is laid on _JUDGED_S of them, and scatter in long blocks
_AGAIN = 1.4  # and scatter no more than this before the filter does again,
_NEAR = 1.2  # and miss what is laid on them by no more than this, so many times in a row
_IN_A_ROW = 3
_GOOD_AT_LAST_S = 150.0  # or scatter no more than _NEAR so long, where they miss it all the same
_BETTER = 2.0
_FEW = 0.42  # as many fixes may be near the filter all the same
_SIGMAS = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class _Verdict:
    """How far most fixes miss the track ``found`` and how far they scatter about it within a block,
    as many times their claim; ``white`` as told."""

    missed: float
    scatter: float
    white: float
    found: Whole


class History:
    """Collects pieces; ``leads`` is the verdict on the fixes."""

    def __init__(self, scale_sigma: float) -> None:
        self._scale_sigma = max(scale_sigma, 1e-4)
        self._pieces: deque[Piece] = deque()
        self._moving_s = self._yaw_rad = 0.0
        self._last_ns = self._judged_ns = self._good = 0
        self.leads = False

    def clear(self) -> None:
        """Odometry before now is not to be trusted."""
        self._pieces.clear()
        self._judged_ns = self._good = 0
        self.leads = False

    def add(self, piece: Piece, moving: bool) -> bool:
        """Note a fix as a piece of its own; whether a second is full and the whole may be asked.

        ``piece.moving_s`` is filled in here, and full turns are added to its heading.
        """
        passed_s = max(0.0, (piece.stamp_ns - self._last_ns) / _S) if self._last_ns else 0.0
        self._last_ns = piece.stamp_ns
        self._moving_s += passed_s if moving else 0.0
        piece.moving_s = self._moving_s
        self._yaw_rad += wrap_angle_rad(piece.yaw_rad - self._yaw_rad)
        piece.yaw_rad = self._yaw_rad
        pieces = self._pieces
        if pieces and piece.stamp_ns - pieces[-1].stamp_ns < _PIECE_S * _S:
            _join(pieces[-1], piece)
            return False
        full = len(pieces) >= _LEAST_PIECES
        pieces.append(piece)
        while piece.stamp_ns - pieces[0].stamp_ns > _LONG_S * _S:
            pieces.popleft()
        return full

    # ------------------------------------------------------------------------- verdicts

    def diverged(self, yaw_rad: float, shift: F64, bias: float, bias_sigma: float) -> Whole | None:
        """What to believe instead of ``map = R(yaw) odom + shift``; None where that may be."""
        minute = self._since(_MINUTE_S)
        if len(minute) < _PAIRS:
            return None
        claimed = minute[-1].claimed_m
        if float(np.quantile([p.off_m for p in minute], _FEW)) < _BETTER * claimed:
            return None
        found = self._laid(minute, bias, bias_sigma)
        if found is None:
            return None
        c, s = math.cos(yaw_rad), math.sin(yaw_rad)
        odom = np.array([p.odom for p in minute])
        filtered = odom @ np.array(((c, s), (-s, c))) + shift
        off = float(np.median(np.linalg.norm(found.track - filtered, axis=1)))
        sigma = math.sqrt(0.5 * float(found.covariance[0, 0] + found.covariance[1, 1]))
        return found if off > _SIGMAS * max(sigma, claimed / 3.0) else None

    def whole(self, bias: float, bias_sigma: float, white: float) -> Whole | None:
        """The whole where it ``leads``; where it has just ceased to, what the filter is to go on
        from; else None. ``white``: how many times the variance of single fixes is their claim, by
        their scatter from one to the next.
        """
        pieces = list(self._pieces)
        if len(pieces) < _LEAST_PIECES:
            self.leads = False
            return None
        due = pieces[-1].stamp_ns - self._judged_ns >= 0.99 * _JUDGE_EVERY_S * _S
        verdict = self._judge(bias, bias_sigma, white) if due else None
        if self.leads and verdict is not None:
            good = self._good_again(verdict, bias, bias_sigma)
            self._good = self._good + 1 if good else 0
            if self._good >= _IN_A_ROW:
                self._good, self.leads = 0, False
                return verdict.found
        missed = verdict is not None and min(verdict.missed, verdict.scatter) > _WORSE_LONG
        if self.leads or missed:
            found = self._laid(pieces, bias, bias_sigma)
        else:
            found = self._scattered(pieces, bias, bias_sigma, white)
        self.leads = found is not None
        return found

    def _scattered(
        self, pieces: list[Piece], bias: float, bias_sigma: float, white: float
    ) -> Whole | None:
        """The whole where fixes are far off the filter and scatter far more than they claim."""
        off = [p.off_m / p.claimed_m for p in self._since(_MINUTE_S)]
        if float(np.quantile(off, _FEW_OFF)) <= _WORSE:
            return None
        found = self._laid(pieces, bias, bias_sigma)
        if found is None or self._ratio(pieces, found.misfits, white, *_BLOCK) <= _WORSE:
            return None
        return found

    def _judge(self, bias: float, bias_sigma: float, white: float) -> _Verdict | None:
        """What the last minute and a half, laid on its fixes alone, says of them; None where it is
        too early to say."""
        recent = self._since(_JUDGED_S)
        self._judged_ns = recent[-1].stamp_ns
        if recent[-1].stamp_ns - recent[0].stamp_ns < _JUDGED_LEAST_S * _S:
            return None
        found = self._laid(recent, bias, bias_sigma)
        if found is None:
            return None
        claimed = float(np.median([p.claimed_m for p in recent]))
        middle = float(np.median((found.misfits**2).sum(axis=1)))
        missed = math.sqrt(middle / MEDIAN_CHI2_2) / claimed
        scatter = self._ratio(recent, found.misfits, white, *_LONG_BLOCK)
        return _Verdict(missed, scatter, white, found)

    def _good_again(self, verdict: _Verdict, bias: float, bias_sigma: float) -> bool:
        """Whether fixes are worth their claim again: where they agree with dead reckoning, and
        also where they do not for long, for then that may be what is wrong.
        """
        if verdict.scatter > _AGAIN:
            return False
        if verdict.missed < _NEAR:
            return True
        recent = self._since(_GOOD_AT_LAST_S)
        if recent[-1].stamp_ns - recent[0].stamp_ns < 0.9 * _GOOD_AT_LAST_S * _S:
            return False
        found = self._laid(recent, bias, bias_sigma)
        if found is None:
            return False
        return self._ratio(recent, found.misfits, verdict.white, *_LONG_BLOCK) < _NEAR

    def _laid(self, pieces: list[Piece], bias: float, bias_sigma: float) -> Whole | None:
        return lay_whole(pieces, bias, bias_sigma, self._scale_sigma)

    def _since(self, span_s: float) -> list[Piece]:
        last_ns = self._pieces[-1].stamp_ns if self._pieces else 0
        return [p for p in self._pieces if last_ns - p.stamp_ns <= span_s * _S]

    def _ratio(
        self, pieces: list[Piece], misfits: F64, white: float, block_s: float, drift: float
    ) -> float:
        """How many times their claim fixes scatter within a block, dead reckoning's share off."""
        first_ns = pieces[0].stamp_ns
        index = np.array([int((p.stamp_ns - first_ns) / (block_s * _S)) for p in pieces])
        odom = np.array([p.odom for p in pieces])
        claimed2 = float(np.median([p.claimed_m for p in pieces])) ** 2
        fast = white * claimed2 / np.array([p.count for p in pieces])  # what is left of it in means
        variances = []
        for k in range(index[-1] + 1):
            here = index == k
            if here.sum() >= 0.25 * block_s:
                way = float(np.linalg.norm(np.diff(odom[here], axis=0), axis=1).sum())
                seen = float(misfits[here].var(axis=0).sum()) / 2.0 - float(fast[here].mean())
                variances.append(max(0.0, seen - (drift * way) ** 2))
        if not variances:
            return 0.0
        return math.sqrt(float(np.median(variances)) / claimed2 + white)


def _join(piece: Piece, other: Piece) -> None:
    """Make ``piece`` the mean of the fixes in both."""
    piece.count += 1
    share = 1.0 / piece.count
    piece.enu = piece.enu + (other.enu - piece.enu) * share
    piece.odom = piece.odom + (other.odom - piece.odom) * share
    piece.moving_s += (other.moving_s - piece.moving_s) * share
    piece.yaw_rad += (other.yaw_rad - piece.yaw_rad) * share
    piece.off_m += (other.off_m - piece.off_m) * share
