"""Where the base was at the instant of every point and exposure, from a few recent poses.

Between two poses the body is taken to move with constant twist (a screw motion): within a sweep
with the mean of the velocities the poses carry, which is smooth where a filter's poses are not.
After the newest and before the oldest, that pose's own velocity goes on for a limited time.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.config import DeskewConfig
from mm_fusion.geometry import SAME, RigidTransform
from mm_fusion.perception.twist import moved, twist_of
from mm_fusion.samples import NS_PER_S, PoseEstimate, Reason, Rejection

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

KEPT_S = 3.0
RESET_S = 1.0
DEGREE = 3  # of the motion over one sweep as a polynomial of time
# A degree that moves no point of this distance by more than this is left out: it costs time.
REACH_M, LEAST_M = 60.0, 2e-4
COUNT = 9  # instants at which the motion is looked up to fit it
# Chebyshev's nodes: the fit stays good up to the ends. The fit is linear in what is found there.
NODES = np.cos(np.pi * (np.arange(COUNT) + 0.5) / COUNT)
FIT = np.linalg.pinv(np.vander(NODES, DEGREE + 1, increasing=True))
# By the power j that is made and the power k that it is made of.
BINOMIALS = np.array([[math.comb(k, j) for k in range(DEGREE + 1)] for j in range(DEGREE + 1)])
EXPONENTS = np.array([[max(k - j, 0) for k in range(DEGREE + 1)] for j in range(DEGREE + 1)])


class Twist(NamedTuple):
    """A velocity: linear (m/s) and angular (rad/s) [3], in the body's own axes."""

    linear: list[float]
    angular: list[float]


class _Known(NamedTuple):
    """One pose of the buffer with its place on the path.

    The path is the sum of the velocities since the buffer began: free of the small jumps with
    which a filter corrects its pose, and so the better witness of a tenth of a second.
    """

    estimate: PoseEstimate
    path_from_base: F64  # [3,4]
    until: Twist  # mean velocity since the pose before
    onward: Twist  # velocity to go on with


class _Course(NamedTuple):
    """The poses of one moment in their order, and their stamps."""

    known: tuple[_Known, ...]
    stamps_ns: tuple[int, ...]


class MotionBuffer:
    """The last few seconds of local poses, and the base's motion at any instant near them.

    One thread may add while others look up: an addition replaces the list of poses as a whole.
    ``base_from`` says where the body sits whose poses come (their child frame): a LIDAR odometry's
    is the LIDAR. Without it, and where poses name no body, they are the base's.
    """

    def __init__(
        self,
        config: DeskewConfig,
        base_from: Callable[[str], RigidTransform | None] | None = None,
    ) -> None:
        self._max_age_ns = round(config.max_motion_age_s * NS_PER_S)
        self._base_from = base_from
        self._course = _Course((), ())

    def add(self, estimate: PoseEstimate) -> Rejection | None:
        """Take a pose newer than the last; one much older begins anew (a bag's loop)."""
        if self._base_from is not None and estimate.child_frame_id.strip("/"):
            base_from_child = self._base_from(estimate.child_frame_id)
            if base_from_child is None:
                detail = f"nothing connects frame '{estimate.child_frame_id}' with the base frame"
                return Rejection("motion", estimate.stamp_ns, Reason.NO_EXTRINSICS, detail)
            estimate = _of_base(estimate, base_from_child)
        known, stamps_ns = self._course
        fallen = None
        if known and estimate.stamp_ns <= stamps_ns[-1]:
            behind_ns = stamps_ns[-1] - estimate.stamp_ns
            if behind_ns <= RESET_S * NS_PER_S:
                reason = Reason.OUT_OF_ORDER if behind_ns else Reason.DUPLICATE
                return Rejection("motion", estimate.stamp_ns, reason, "an older local pose")
            detail = f"local pose went back by {behind_ns / NS_PER_S:.3f} s: motion begins anew"
            fallen = Rejection("motion", estimate.stamp_ns, Reason.TIME_JUMP, detail)
            known, stamps_ns = (), ()
        if known and known[-1].estimate.frame_id != estimate.frame_id:
            known, stamps_ns = (), ()
        first = bisect_left(stamps_ns, estimate.stamp_ns - round(KEPT_S * NS_PER_S))
        kept = known[first:]
        new = _continued(kept[-1] if kept else None, estimate)
        self._course = _Course((*kept, new), (*stamps_ns[first:], estimate.stamp_ns))
        return fallen

    def settled(self, until_ns: int) -> _Known | None:
        """A mark where no pose that is still to come can change the motion up to an instant."""
        known, stamps_ns = self._course
        return known[-1] if known and stamps_ns[-1] >= until_ns else None

    def still(self, mark: _Known) -> bool:
        """Whether the motion up to a mark is what it was: only newer poses came since."""
        return any(k is mark for k in reversed(self._course.known))

    def odom_from_base(self, stamp_ns: int) -> RigidTransform | None:
        """The base's pose in the odometry frame, None where no pose is near enough in time."""
        known, stamps_ns = self._course
        found = self._around(stamps_ns, stamp_ns)
        if found is None:
            return None
        before, after = known[found[0]], known[found[1]]
        start, since_ns = before.estimate.frame_from_base, stamp_ns - before.estimate.stamp_ns
        if before is after:
            step, share = before.onward, since_ns / NS_PER_S
        else:
            step = _step(before.estimate, after.estimate)
            share = since_ns / (after.estimate.stamp_ns - before.estimate.stamp_ns)
        motion = np.array(moved(*step, share)).reshape(3, 4)
        return start @ RigidTransform.trusted(motion[:, :3], motion[:, 3])

    def base_from_base(self, target_ns: int, source_ns: int) -> RigidTransform | None:
        """``base(target)_from_base(source)``, None where the motion is not known for both."""
        found = self.bases(target_ns, [source_ns])
        return None if found is None else RigidTransform.trusted(found[0, :, :3], found[0, :, 3])

    def bases(self, target_ns: int, sources_ns: Sequence[int]) -> F64 | None:
        """``base(target)_from_base(source)`` [N,3,4]; None: not known for all of them."""
        found = self._on_path([target_ns, *sources_ns])
        return None if found is None else found[0, :, :3].T @ (found[1:] - _shift(found[0]))

    def polynomial(self, stamp_ns: int, first_s: float, last_s: float) -> MotionPolynomial | None:
        """The motion within a sweep; ``first_s`` and ``last_s`` are relative to ``stamp_ns``.

        None where the motion is not known for all of it.
        """
        middle_s, half_s = (first_s + last_s) / 2.0, max((last_s - first_s) / 2.0, 1e-6)
        nodes_s = (middle_s + half_s * NODES).tolist()
        matrices = self.bases(stamp_ns, [stamp_ns + round(s * NS_PER_S) for s in nodes_s])
        if matrices is None:
            return None
        fit = (FIT @ matrices.reshape(COUNT, 12)).reshape(DEGREE + 1, 3, 4)
        return MotionPolynomial(middle_s, half_s, fit[: _needed(fit)])

    def _around(self, stamps_ns: tuple[int, ...], stamp_ns: int) -> tuple[int, int] | None:
        """The poses before and after an instant, the same twice at the ends; None too far off."""
        if not stamps_ns:
            return None
        at = bisect_left(stamps_ns, stamp_ns)
        before, after = max(at - 1, 0), min(at, len(stamps_ns) - 1)
        gap_ns = min(abs(stamp_ns - stamps_ns[before]), abs(stamp_ns - stamps_ns[after]))
        return None if gap_ns > self._max_age_ns else (before, after)

    def _on_path(self, stamps_ns: list[int]) -> F64 | None:
        """Where the base is along the path [N,3,4], None where that is not known for all."""
        known, poses_ns = self._course
        starts, motions = [], []
        for stamp_ns in stamps_ns:
            found = self._around(poses_ns, stamp_ns)
            if found is None:
                return None
            before, after = known[found[0]], known[found[1]]
            velocity = before.onward if before is after else after.until
            since_s = (stamp_ns - before.estimate.stamp_ns) / NS_PER_S
            starts.append(before.path_from_base)
            motions.append(moved(*velocity, since_s))
        return _composed(np.array(starts), np.array(motions).reshape(-1, 3, 4))


def _of_base(estimate: PoseEstimate, base_from_child: RigidTransform) -> PoseEstimate:
    """The base's pose and velocity from those of a body that sits on it."""
    if base_from_child is SAME or np.array_equal(base_from_child.matrix(), np.eye(4)):
        return estimate
    child_from_base = base_from_child.inverse()
    lever = np.cross(estimate.angular, child_from_base.translation)
    return dataclasses.replace(
        estimate,
        frame_from_base=estimate.frame_from_base @ child_from_base,
        linear=base_from_child.rotation @ (estimate.linear + lever),
        angular=base_from_child.rotation @ estimate.angular,
    )


def _continued(last: _Known | None, estimate: PoseEstimate) -> _Known:
    """The next pose on the path.

    Its velocity is the mean of the two poses' own. Where neither gives one (some odometries leave
    their twist at zero), what happened between the poses has to do.
    """
    own = Twist(estimate.linear.tolist(), estimate.angular.tolist())
    if last is None:
        return _Known(estimate, np.eye(3, 4), own, own)
    dt_s = (estimate.stamp_ns - last.estimate.stamp_ns) / NS_PER_S
    before = Twist(last.estimate.linear.tolist(), last.estimate.angular.tolist())
    given = any(map(any, (*own, *before)))
    if given:
        pairs = zip(own, before, strict=True)
        mean = Twist(*([(a + b) / 2.0 for a, b in zip(*p, strict=True)] for p in pairs))
    else:
        mean = Twist(*([v / dt_s for v in part] for part in _step(last.estimate, estimate)))
    motion = np.array(moved(*mean, dt_s)).reshape(3, 4)
    path_from_base = _composed(last.path_from_base, motion)
    return _Known(estimate, path_from_base, mean, own if given else mean)


def _needed(coefficients: F64) -> int:
    """How many of the coefficients [...,k+1,3,4] of motions move anything: all but the last ones
    that do not."""
    reach = np.abs(coefficients) @ np.array([REACH_M, REACH_M, REACH_M, 1.0])
    most = reach.reshape(-1, *reach.shape[-2:]).max(axis=(0, 2)).tolist()
    count = len(most)
    while count > 2 and most[count - 1] < LEAST_M:
        count -= 1
    return count


def _composed(first: F64, second: F64) -> F64:
    """One rigid motion [...,3,4] after another."""
    out = first[..., :3] @ second
    out[..., 3] += first[..., 3]
    return np.asarray(out)


def _shift(motion: F64) -> F64:
    """The translation of a motion [3,4] alone, as a summand [3,4]."""
    out = np.zeros((3, 4))
    out[:, 3] = motion[:, 3]
    return out


def _step(first: PoseEstimate, second: PoseEstimate) -> Twist:
    """What moves the first pose to the second in one unit of time."""
    move = first.frame_from_base.inverse() @ second.frame_from_base
    return Twist(*twist_of(move.rotation, move.translation))


class MotionPiece(NamedTuple):
    """A motion over a part of a sweep, for points: ``matrix`` float32 [3,4*(k+1)] leads from the
    features of ``features`` to base coordinates."""

    middle_s: float
    half_s: float
    matrix: F32

    def features(self, rows: F32, seconds: F32) -> None:
        """Fill ``rows`` [4*(k+1), N], whose first four rows are x y z 1 in sensor axes.

        ``seconds`` [N] are instants relative to the stamp.
        """
        power = (seconds - np.float32(self.middle_s)) * np.float32(1.0 / self.half_s)
        for start in range(4, self.matrix.shape[1], 4):
            np.multiply(rows[start - 4 : start], power, out=rows[start : start + 4])


class MotionPolynomial:
    """``base(stamp)_from_base(t)`` over one sweep: a polynomial in t, at the most a cubic, whose
    coefficients are matrices.

    Rigid only within the fit's error: under a millimetre at 50 m for a turn of 2 rad/s over 0.1 s.
    In exchange, correcting every point for its own instant is one matrix product.
    """

    def __init__(self, middle_s: float, half_s: float, coefficients: F64) -> None:
        self.middle_s = middle_s
        self.half_s = half_s
        self.coefficients = coefficients  # [k+1,3,4] of ((t - middle_s) / half_s)^k

    def pieces(
        self, lows_s: F32, highs_s: F32, base_from_sensor: RigidTransform
    ) -> list[MotionPiece]:
        """The motion of points in sensor axes over parts of the sweep, from ``lows_s`` [N] to
        ``highs_s`` [N]. Over a short one few degrees of time are left that move anything.

        With t' the time about a part's own middle, t = a + b t', and the powers of t are
        (a + b t')^k = sum over j of binomial(k, j) a^(k-j) b^j t'^j.
        """
        lows, highs = lows_s.astype(np.float64), highs_s.astype(np.float64)
        middles, halves = (lows + highs) / 2.0, np.maximum((highs - lows) / 2.0, 1e-6)
        count = len(self.coefficients)
        a, b = (middles - self.middle_s) / self.half_s, halves / self.half_s
        weights = BINOMIALS[:count, :count] * a[:, None, None] ** EXPONENTS[:count, :count]
        weights *= (b[:, None] ** np.arange(count))[:, :, None]
        parts = weights @ self.coefficients.reshape(count, 12)
        parts = parts.reshape(-1, count, 3, 4)
        parts = parts[:, : _needed(parts)] @ base_from_sensor.matrix()
        matrices = parts.transpose(0, 2, 1, 3).reshape(len(parts), 3, -1).astype(np.float32)
        rows = zip(middles.tolist(), halves.tolist(), matrices, strict=True)
        return [MotionPiece(*row) for row in rows]
