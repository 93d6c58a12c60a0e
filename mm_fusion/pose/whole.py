"""Dead reckoning of some minutes, laid on its fixes as a whole.

One place, one heading, one gyro bias and one scale each of wheels and turns: these six are found by
least squares with Cauchy weights (P. J. Huber and E. M. Ronchetti, "Robust statistics" (2009),
chapter 7) over pieces of a second. Errors of fixes between houses stay alike for many seconds: the
weights of the last rounds are those of a Gauss-Markov process as long-lived as the misfits
(generalized least squares).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

F64 = npt.NDArray[np.float64]

_S = 1_000_000_000
_ROUNDS = 8
_SETTLED = 3e-4  # rad by which a round turns, and no more are made
_SHARP = 1.5  # power of the Cauchy weights where what is far off stays so for a while
_TURN_SIGMA = 0.02  # of the yaw rate's scale
MEDIAN_CHI2_2 = 1.386  # of a chi-square variable of two degrees of freedom


@dataclass(slots=True, eq=False)
class Piece:
    """Fixes of about a second and where odometry had the antenna meanwhile (means, [2] m).

    ``bias_radps`` is the bias that odometry had subtracted, ``moving_s`` the time since the
    beginning in which a bias could turn it, ``off_m`` how far the filter was, ``yaw_rad`` the
    heading in odom (full turns counted once it is in a history).
    """

    stamp_ns: int
    enu: F64
    odom: F64
    bias_radps: float
    moving_s: float
    off_m: float
    claimed_m: float
    yaw_rad: float = 0.0
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


def lay_whole(
    pieces: list[Piece], bias: float, bias_sigma: float, scale_sigma: float
) -> Whole | None:
    """Gauss-Newton over all six, at first with Cauchy weights alone; None where the way is too
    short to tell a heading. ``bias`` rad/s is known to ``bias_sigma``, the wheels' scale is zero to
    ``scale_sigma``.
    """
    fit = _Fit(pieces, bias)
    known = (max(bias_sigma, 1e-6), scale_sigma, _TURN_SIGMA)
    priors = np.array((0.0, *(sigma**-2 for sigma in known)))
    least2 = float(np.median([p.claimed_m for p in pieces])) ** 2
    # At first the fixes are taken at their word: misfits that bias and scales explain must not be
    # held against the fixes. What is left then tells what they are worth.
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
        self.turned = _from_end(np.diff([p.yaw_rad for p in pieces]))
        self.first_bias = bias
        self.bias = self.scale = self.turn_scale = self.yaw = 0.0
        self.weight = np.ones(len(pieces))
        self.own = self.own2
        self.banded: F64 = np.ones((2, len(pieces)))

    def _reckon(self) -> tuple[F64, F64]:
        """Dead reckoning [N,2] with the present bias and scales, and its derivatives [N,2,2] by the
        bias and by the scale of turns."""
        angle = self.known + self.bias * self.ago_s + self.turn_scale * self.turned
        c, s = np.cos(angle), np.sin(angle)
        x, y = self.steps.T / (1.0 + self.scale)
        way, bent = np.zeros((len(x) + 1, 2)), np.zeros((len(x) + 1, 2, 2))
        steps = np.stack([c * x - s * y, s * x + c * y], axis=1)
        np.cumsum(steps, axis=0, out=way[1:])
        aside = np.stack([-steps[:, 1], steps[:, 0]], axis=1)
        np.cumsum(aside * self.ago_s[:, None], axis=0, out=bent[1:, :, 0])
        np.cumsum(aside * self.turned[:, None], axis=0, out=bent[1:, :, 1])
        return way, bent

    def lay(self) -> None:
        """Lay dead reckoning on the fixes by their weights: heading and place."""
        way, bent = self._reckon()
        share = self.weight / self.weight.sum()
        arm, e = way - share @ way, self.enu - share @ self.enu
        w = self.weight
        cross = float((w * (arm[:, 0] * e[:, 1] - arm[:, 1] * e[:, 0])).sum())
        self.yaw = math.atan2(cross, float((w * (arm * e).sum(axis=1)).sum()))
        self._place(way, bent, share)

    def _place(self, way: F64, bent: F64, share: F64) -> None:
        """Turn dead reckoning by the heading and lay its centre, by ``share`` [N], on that of the
        fixes."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        back = np.array(((c, s), (-s, c)))
        self.centre = share @ self.enu
        self.arm = (way - share @ way) @ back
        self.bent = np.einsum("ijk,jl->ilk", bent - np.einsum("i,ijk->jk", share, bent), back)
        self.misfits = self.enu - self.centre - self.arm

    def weigh(self, least2: float) -> float:
        """Cauchy weights by the median misfit; answers the squared size of a misfit per axis."""
        squares = (self.misfits**2).sum(axis=1)
        middle = max(MEDIAN_CHI2_2 * least2, float(np.median(squares)))
        self.weight = 1.0 / (1.0 + squares / middle)
        self.size_m = math.sqrt(middle / MEDIAN_CHI2_2)
        return middle / MEDIAN_CHI2_2

    def _columns(self) -> F64:
        """Jacobian [N,2,4] of the places by heading, bias, and the scales of way and turns."""
        by_yaw = np.stack([-self.arm[:, 1], self.arm[:, 0]], axis=1)
        by_scale = -self.arm / (1.0 + self.scale)
        return np.stack([by_yaw, self.bent[:, :, 0], by_scale, self.bent[:, :, 1]], axis=2)

    def step(self, priors: F64, variance: float) -> None:
        """One step of bias and scales, and the heading with them: misfits independent."""
        columns = self._columns()
        weighted = columns * (self.weight / variance)[:, None, None]
        normal = np.einsum("nij,nik->jk", weighted, columns) + np.diag(priors)
        normal[0, 0] += 1e-9
        push = np.einsum("nij,ni->j", weighted, self.misfits)
        push -= priors * self._known()
        self._move(*np.linalg.solve(normal, push)[1:].tolist())

    def _known(self) -> F64:
        """What priors pull at, with the heading's place kept free."""
        return np.array((0.0, self.bias, self.scale, self.turn_scale))

    def _move(self, bias: float, scale: float, turn_scale: float) -> None:
        self.bias += bias
        self.scale = min(max(self.scale + scale, -0.3), 0.3)
        self.turn_scale = min(max(self.turn_scale + turn_scale, -0.3), 0.3)

    def refine(self, priors: F64, least2: float) -> float:
        """One step of all six where misfits stay alike for a while (generalized least squares);
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
        push[2:] -= priors * self._known()
        _, _, turn, *others = np.linalg.solve(normal, push).tolist()
        turn = min(max(turn, -0.3), 0.3)
        self.yaw += turn
        self._move(*others)
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
        """Jacobian [N,2,6] of the places by the centre, heading, bias and scales."""
        columns = self._columns()
        centre = np.broadcast_to(np.eye(2), (len(columns), 2, 2))
        return np.concatenate([centre, columns], axis=2)

    def _normal(self, full: F64, priors: F64) -> tuple[F64, F64]:
        """Normal matrix [6,6] with the priors, and the weighted Jacobian [N,2,6]."""
        weighted = self._whitened(full.reshape(len(full), -1)).reshape(full.shape)
        normal: F64 = np.einsum("nij,nik->jk", full, weighted) + np.eye(6) * 1e-12
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
            covariance=np.asarray(np.linalg.inv(normal)[:5, :5], dtype=np.float64),
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
