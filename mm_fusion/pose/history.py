"""Dead reckoning of the last minutes, laid on its fixes as a whole.

A filter decides about every fix once, by what it believed then. Where fixes are bad and odometry is
good that is a poor bargain: five minutes of dead reckoning, given one place, one heading, one gyro
bias and one wheel scale, are a far better instrument than any fix. Here these five are found by
least squares with Cauchy weights (P. J. Huber and E. M. Ronchetti, "Robust statistics" (2009),
chapter 7) over pieces of a second, anew with every piece: a fix believed at first may be given up
later. Errors of fixes between houses stay alike for many seconds: the weights of the last rounds
are those of a Gauss-Markov process as long-lived as the misfits (generalized least squares).

Two uses: where the filter has left the last minute of fixes it starts anew from there
(``diverged``); where fixes scatter far more than they claim, the whole leads and the filter only
carries it from piece to piece (``leads``).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

F64 = npt.NDArray[np.float64]

_S = 1_000_000_000
_PIECE_S = 1.0
_LONG_S = 300.0
_MINUTE_S = 60.0
_BLOCK_S = 20.0  # fixes are judged over so long: dead reckoning errs little meanwhile
_LONG_BLOCK_S = 40.0  # the same for errors that change slowly
_JUDGED_S = 90.0  # of which a jump of 20 s does not reach the median
_JUDGED_LEAST_S = 60.0
_JUDGE_EVERY_S = 10.0
_LEAST_PIECES = 12
_PAIRS = 20
_ROUNDS = 8
_SETTLED = 3e-4  # rad by which a round turns, and no more are made
_SHARP = 1.5  # power of the Cauchy weights where what is far off stays so for a while
_WORSE = 2.0  # as many times their claim fixes must scatter before the whole leads
_WORSE_LONG = 1.5  # or miss what is laid on _JUDGED_S of them, and scatter in long blocks
_AGAIN = 1.4  # and scatter no more than this before the filter does again,
_NEAR = 1.2  # and miss what is laid on them by no more than this
_GOOD_AT_LAST_S = 150.0  # or scatter no more than _NEAR so long, where they miss it all the same
_DRIFT = 0.015  # of the way: what dead reckoning may err within a block
_MEDIAN_CHI2_2 = 1.386  # of a chi-square variable of two degrees of freedom
_BETTER = 2.0
_FEW = 0.42  # as many fixes may be near the filter all the same
_SIGMAS = 3.0


@dataclass(slots=True, eq=False)
class Piece:
    """Fixes of about a second and where odometry had the antenna meanwhile (means, [2] m).

    ``bias_radps`` is the bias that odometry had subtracted, ``moving_s`` the time since the
    beginning in which a bias could turn it, ``off_m`` how far the filter was.
    """

    stamp_ns: int
    enu: F64
    odom: F64
    bias_radps: float
    moving_s: float
    off_m: float
    claimed_m: float
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """``map = R(yaw) (odom - odom_end) / (1 + scale) + map_end`` from the last piece on.

    ``covariance`` [5,5] of (east, north at the last piece, heading, gyro bias, wheel scale);
    ``residual_m`` per axis, ``misfits`` [N,2] of the pieces, ``track`` [N,2] their places.
    """

    yaw_rad: float
    odom_end: F64
    map_end: F64
    bias_radps: float
    scale: float
    covariance: F64
    residual_m: float
    misfits: F64
    track: F64

    def place(self, odom: F64) -> F64:
        """Where a place [2] in odom, reached after the last piece, is in the map."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        x, y = ((odom - self.odom_end) / (1.0 + self.scale)).tolist()
        return self.map_end + np.array((c * x - s * y, s * x + c * y))


class History:
    """Collects pieces; ``leads`` is the verdict on the fixes."""

    def __init__(self, scale_sigma: float) -> None:
        self._scale_sigma = max(scale_sigma, 1e-4)
        self._pieces: deque[Piece] = deque()
        self._moving_s = 0.0
        self._last_ns = self._judged_ns = 0
        self.leads = False

    def clear(self) -> None:
        """Odometry before now is not to be trusted."""
        self._pieces.clear()
        self.leads = False

    def add(self, piece: Piece, moving: bool) -> bool:
        """Note a fix as a piece of its own; whether a second is full and the whole may be asked.

        ``piece.moving_s`` is filled in here.
        """
        passed_s = max(0.0, (piece.stamp_ns - self._last_ns) / _S) if self._last_ns else 0.0
        self._last_ns = piece.stamp_ns
        self._moving_s += passed_s if moving else 0.0
        piece.moving_s = self._moving_s
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
        found = self._fit(minute, bias, bias_sigma)
        if found is None:
            return None
        c, s = math.cos(yaw_rad), math.sin(yaw_rad)
        odom = np.array([p.odom for p in minute])
        filtered = odom @ np.array(((c, s), (-s, c))) + shift
        off = float(np.median(np.linalg.norm(found.track - filtered, axis=1)))
        sigma = math.sqrt(0.5 * float(found.covariance[0, 0] + found.covariance[1, 1]))
        return found if off > _SIGMAS * max(sigma, claimed / 3.0) else None

    def whole(self, bias: float, bias_sigma: float, white: float) -> Whole | None:
        """The whole where it is to lead, else None. ``white``: how many times the variance of
        single fixes is their claim, by their scatter from one to the next.
        """
        pieces = list(self._pieces)
        if len(pieces) < _LEAST_PIECES:
            self.leads = False
            return None
        due = pieces[-1].stamp_ns - self._judged_ns >= 0.99 * _JUDGE_EVERY_S * _S
        if due:
            self._judged_ns = pieces[-1].stamp_ns
        if self.leads:
            self.leads = not (due and self._good_again(bias, bias_sigma, white))
            found = self._fit(pieces, bias, bias_sigma) if self.leads else None
        else:
            found = self._scattered(pieces, bias, bias_sigma, white)
            if found is None and due and self._missed(bias, bias_sigma, white):
                found = self._fit(pieces, bias, bias_sigma)
        self.leads = found is not None
        return found

    def _scattered(
        self, pieces: list[Piece], bias: float, bias_sigma: float, white: float
    ) -> Whole | None:
        """The whole where fixes are far off the filter and scatter far more than they claim."""
        off = float(np.median([p.off_m / p.claimed_m for p in self._since(_MINUTE_S)]))
        if off <= _WORSE:
            return None
        found = self._fit(pieces, bias, bias_sigma)
        if found is None or self._ratio(pieces, found.misfits, white, _BLOCK_S) <= _WORSE:
            return None
        return found

    def _missed(self, bias: float, bias_sigma: float, white: float) -> bool:
        """Whether fixes are worse than they claim though the filter is with them: errors that
        change slowly look right to it, and it follows. What is laid on the last minutes alone is
        missed by most of them, and by more than dead reckoning may err within a block.
        """
        missed, scatter = self._judge(bias, bias_sigma, white)
        return min(missed, scatter) > _WORSE_LONG

    def _good_again(self, bias: float, bias_sigma: float, white: float) -> bool:
        """Whether fixes are worth their claim again: where they agree with dead reckoning of the
        last minutes, and also where they do not for long, for then that may be what is wrong.
        """
        missed, scatter = self._judge(bias, bias_sigma, white)
        if missed < _NEAR and scatter < _AGAIN:
            return True
        recent = self._since(_GOOD_AT_LAST_S)
        if recent[-1].stamp_ns - recent[0].stamp_ns < 0.9 * _GOOD_AT_LAST_S * _S:
            return False
        found = self._fit(recent, bias, bias_sigma)
        return (
            found is not None and self._ratio(recent, found.misfits, white, _LONG_BLOCK_S) < _NEAR
        )

    def _judge(self, bias: float, bias_sigma: float, white: float) -> tuple[float, float]:
        """By how much most of the last fixes miss what is laid on them alone, and how far they
        scatter within a block, as many times their claim; nothing of either where it is too early
        to say."""
        recent = self._since(_JUDGED_S)
        early = recent[-1].stamp_ns - recent[0].stamp_ns < _JUDGED_LEAST_S * _S
        found = None if early else self._fit(recent, bias, bias_sigma)
        if found is None:
            return (_NEAR, _AGAIN)
        claimed = float(np.median([p.claimed_m for p in recent]))
        middle = float(np.median((found.misfits**2).sum(axis=1)))
        missed = math.sqrt(middle / _MEDIAN_CHI2_2) / claimed
        return missed, self._ratio(recent, found.misfits, white, _LONG_BLOCK_S)

    def _since(self, span_s: float) -> list[Piece]:
        last_ns = self._pieces[-1].stamp_ns if self._pieces else 0
        return [p for p in self._pieces if last_ns - p.stamp_ns <= span_s * _S]

    def _ratio(self, pieces: list[Piece], misfits: F64, white: float, block_s: float) -> float:
        """How many times their claim fixes scatter within a block, dead reckoning's share off."""
        last_ns = pieces[-1].stamp_ns
        index = np.array([int((last_ns - p.stamp_ns) / (block_s * _S)) for p in pieces])
        variances = []
        for k in range(index[0] + 1):
            here = index == k
            if here.sum() >= 0.25 * block_s:
                odom = np.array([p.odom for p, h in zip(pieces, here, strict=True) if h])
                way = float(np.linalg.norm(np.diff(odom, axis=0), axis=1).sum())
                seen = float(misfits[here].var(axis=0).sum()) / 2.0
                variances.append(max(0.0, seen - (_DRIFT * way) ** 2))
        if not variances:
            return 0.0
        claimed2 = float(np.median([p.claimed_m for p in pieces])) ** 2
        return math.sqrt(float(np.median(variances)) / claimed2 + white)

    # ------------------------------------------------------------------------- the fit

    def _fit(self, pieces: list[Piece], bias: float, bias_sigma: float) -> Whole | None:
        """Gauss-Newton over place, heading, bias and scale; at first with Cauchy weights alone."""
        fit = _Fit(pieces, bias)
        priors = np.array((0.0, 1.0 / max(bias_sigma, 1e-6) ** 2, self._scale_sigma**-2))
        least2 = float(np.median([p.claimed_m for p in pieces])) ** 2
        # At first the fixes are taken at their word: misfits that bias and scale explain must not
        # be held against the fixes. What is left then tells what they are worth.
        for k in range(_ROUNDS):
            fit.lay()
            size2 = fit.weigh(least2)
            fit.step(priors, size2 * fit.alike() if 2 * k >= _ROUNDS else least2)
        fit.lay()
        size2 = fit.weigh(least2)
        alike = fit.alike()
        if fit.spread() < 16.0 * size2 * alike / (alike + len(pieces)):
            return None
        for _ in range(_ROUNDS):
            if fit.refine(priors, least2) < _SETTLED:
                break
        return fit.answer(priors)


class _Fit:
    """The state of one fit: pieces as columns and the present estimate."""

    def __init__(self, pieces: list[Piece], bias: float) -> None:
        odom = np.array([p.odom for p in pieces])
        moving = np.array([p.moving_s for p in pieces])
        stamps = np.array([p.stamp_ns for p in pieces])
        self.enu = np.array([p.enu for p in pieces])
        self.own2 = np.array([p.claimed_m**2 / p.count for p in pieces])
        self.apart_s = np.maximum(np.diff(stamps) / _S, 1e-3)
        self.every_s = float(np.median(self.apart_s))
        self.odom_end = odom[-1]
        self.steps = np.diff(odom, axis=0)
        span = np.diff(moving)
        used = np.array([p.bias_radps for p in pieces])[:-1]
        # How much odometry turned too far in each step by what is now known of the bias, and the
        # time in which a further bias did; both counted back from the end.
        self.known = _from_end((bias - used) * span)
        self.ago_s = _from_end(span)
        self.first_bias = bias
        self.bias = self.scale = self.yaw = 0.0
        self.weight = np.ones(len(pieces))
        self.own = self.own2
        self.banded: F64 = np.ones((2, len(pieces)))

    def _reckon(self) -> tuple[F64, F64]:
        """Dead reckoning [N,2] with the present bias and scale, and its derivative by the bias."""
        angle = self.known + self.bias * self.ago_s
        c, s = np.cos(angle), np.sin(angle)
        x, y = self.steps.T / (1.0 + self.scale)
        steps = np.stack([c * x - s * y, s * x + c * y], axis=1)
        turned = np.stack([-steps[:, 1], steps[:, 0]], axis=1) * self.ago_s[:, None]
        way = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        return way, np.concatenate([np.zeros((1, 2)), np.cumsum(turned, axis=0)])

    def lay(self) -> None:
        """Lay dead reckoning on the fixes by their weights: heading and place."""
        way, by_bias = self._reckon()
        share = self.weight / self.weight.sum()
        arm, e = way - share @ way, self.enu - share @ self.enu
        w = self.weight
        cross = float((w * (arm[:, 0] * e[:, 1] - arm[:, 1] * e[:, 0])).sum())
        self.yaw = math.atan2(cross, float((w * (arm * e).sum(axis=1)).sum()))
        self._place(way, by_bias, share)

    def _place(self, way: F64, by_bias: F64, share: F64) -> None:
        """Turn dead reckoning by the heading and lay its centre, by ``share`` [N], on that of the
        fixes."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        back = np.array(((c, s), (-s, c)))
        self.centre = share @ self.enu
        self.arm = (way - share @ way) @ back
        self.by_bias = (by_bias - share @ by_bias) @ back
        self.misfits = self.enu - self.centre - self.arm

    def weigh(self, least2: float) -> float:
        """Cauchy weights by the median misfit; answers the squared size of a misfit per axis."""
        squares = (self.misfits**2).sum(axis=1)
        middle = max(_MEDIAN_CHI2_2 * least2, float(np.median(squares)))
        self.weight = 1.0 / (1.0 + squares / middle)
        self.size_m = math.sqrt(middle / _MEDIAN_CHI2_2)
        return middle / _MEDIAN_CHI2_2

    def _columns(self) -> F64:
        """Jacobian [N,2,3] of the places by heading, bias and scale."""
        by_yaw = np.stack([-self.arm[:, 1], self.arm[:, 0]], axis=1)
        return np.stack([by_yaw, self.by_bias, -self.arm / (1.0 + self.scale)], axis=2)

    def step(self, priors: F64, variance: float) -> None:
        """One step of bias and scale (and the heading that goes with them), misfits independent."""
        columns = self._columns()
        weighted = columns * (self.weight / variance)[:, None, None]
        normal = np.einsum("nij,nik->jk", weighted, columns) + np.diag(priors)
        normal[0, 0] += 1e-9
        push = np.einsum("nij,ni->j", weighted, self.misfits)
        push -= priors * np.array((0.0, self.bias, self.scale))
        _, bias, scale = np.linalg.solve(normal, push).tolist()
        self._move(bias, scale)

    def _move(self, bias: float, scale: float) -> None:
        self.bias += bias
        self.scale = min(max(self.scale + scale, -0.3), 0.3)

    def refine(self, priors: F64, least2: float) -> float:
        """One step of all five where misfits stay alike for a while (generalized least squares);
        answers by how much it turned, rad.

        A misfit is the sum of a Gauss-Markov process, of what a piece has of its own, and, where
        it is far off, of as much more as its weight says.
        """
        size2 = self.weigh(least2)
        self.weight = self.weight**_SHARP
        # Of a Gauss-Markov process so many count as one; twice as long as that, since what is
        # fitted away makes misfits look shorter-lived than errors are.
        alike = max(self.alike(), 1.0 + 1e-6)
        lives_s = 2.0 * self.every_s / math.log((alike + 1.0) / (alike - 1.0))
        self.own = self.own2 + size2 * (1.0 / self.weight - 1.0)
        self.banded = _markov_precision(np.exp(-self.apart_s / lives_s), size2)
        self.banded[0] += 1.0 / self.own
        full = self._all_columns()
        normal, weighted = self._normal(full, priors)
        push = np.einsum("nij,ni->j", weighted, self.misfits)
        push[2:] -= priors * np.array((0.0, self.bias, self.scale))
        _, _, turn, bias, scale = np.linalg.solve(normal, push).tolist()
        turn = min(max(turn, -0.3), 0.3)
        self.yaw += turn
        self._move(bias, scale)
        share = self._whitened(np.ones(len(self.own)))
        self._place(*self._reckon(), share / share.sum())
        return abs(turn)

    def _whitened(self, columns: F64) -> F64:
        """``columns`` [N,...] from the left by the inverse of the misfits' covariance, which is a
        Markov process's and a diagonal's (M. A. Woodbury's identity keeps it tridiagonal).
        """
        own = self.own if columns.ndim == 1 else self.own[:, None]
        scaled = columns / own
        return scaled - solveh_banded(self.banded, scaled, lower=True) / own

    def _all_columns(self) -> F64:
        """Jacobian [N,2,5] of the places by the centre, heading, bias and scale."""
        columns = self._columns()
        centre = np.broadcast_to(np.eye(2), (len(columns), 2, 2))
        return np.concatenate([centre, columns], axis=2)

    def _normal(self, full: F64, priors: F64) -> tuple[F64, F64]:
        """Normal matrix [5,5] with the priors, and the weighted Jacobian [N,2,5]."""
        weighted = self._whitened(full.reshape(len(full), 10)).reshape(full.shape)
        normal: F64 = np.einsum("nij,nik->jk", full, weighted) + np.eye(5) * 1e-12
        normal[2:, 2:] += np.diag(priors)
        return normal, weighted

    def spread(self) -> float:
        """Weighted mean square of the places about their centre, m^2."""
        return float(self.weight @ (self.arm**2).sum(axis=1)) / float(self.weight.sum())

    def answer(self, priors: F64) -> Whole:
        """The present estimate with its covariance."""
        full = self._all_columns()
        # Places are counted from the end: what the others do to the end is taken off.
        full[:, :, 2:] -= full[-1, :, 2:]
        normal, _ = self._normal(full, priors)
        return Whole(
            yaw_rad=self.yaw,
            odom_end=self.odom_end,
            map_end=self.centre + self.arm[-1],
            bias_radps=self.first_bias + self.bias,
            scale=self.scale,
            covariance=np.asarray(np.linalg.inv(normal), dtype=np.float64),
            residual_m=self.size_m,
            misfits=self.misfits,
            track=self.centre + self.arm,
        )

    def alike(self) -> float:
        """How many pieces' misfits count as one: 1 + 2 * the sum of their autocorrelation."""
        r = self.misfits * np.sqrt(self.weight)[:, None]
        power = float((r * r).sum())
        total, count = 1.0, len(r)
        for lag in range(1, count // 3):
            rho = float((r[lag:] * r[:-lag]).sum()) / max(power, 1e-12)
            if rho < 0.05:
                break
            total += 2.0 * rho
        return total


def _markov_precision(keep: F64, variance: float) -> F64:
    """Inverse covariance of a Gauss-Markov process, of which ``keep`` [N-1] is left from one
    element to the next: its diagonal and the one below it [2,N]."""
    lost = np.maximum(1.0 - keep**2, 1e-9)
    out = np.zeros((2, len(keep) + 1))
    out[0, 0] = 1.0
    out[0, 1:] = 1.0 / lost
    out[0, :-1] += keep**2 / lost
    out[1, :-1] = -keep / lost
    return out / variance


def _from_end(increments: F64) -> F64:
    """Sums of [N] from each element (itself included) to the last."""
    return np.cumsum(increments[::-1])[::-1]


def _join(piece: Piece, other: Piece) -> None:
    """Make ``piece`` the mean of the fixes in both."""
    piece.count += 1
    share = 1.0 / piece.count
    piece.enu = piece.enu + (other.enu - piece.enu) * share
    piece.odom = piece.odom + (other.odom - piece.odom) * share
    piece.moving_s += (other.moving_s - piece.moving_s) * share
    piece.off_m += (other.off_m - piece.off_m) * share
