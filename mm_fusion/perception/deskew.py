"""Where the base was at the instant of every point and exposure, from a few recent poses.

Between two poses the body is taken to move with constant twist (a screw motion): within a sweep
with the mean of the velocities the poses carry, which is smooth where a filter's poses are not.
After the newest and before the oldest, that pose's own velocity goes on for a limited time.
Formulas of the exponential of SE(3) and its inverse: Barfoot, State Estimation for Robotics, 2017,
ch. 7.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from mm_fusion.config import DeskewConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import NS_PER_S, PoseEstimate, Reason, Rejection

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

KEPT_S = 3.0
RESET_S = 1.0
DEGREE = 3  # of the motion over one sweep as a polynomial of time
NODES = 9  # instants at which the motion is looked up to fit it
SMALL_ANGLE_RAD = 1e-4


def se3_exp(linear: F64, angular: F64) -> tuple[F64, F64]:
    """Motions after one unit of time at constant twists: rotations [N,3,3], translations [N,3].

    ``linear`` and ``angular`` [N,3] are in the moving body's axes.
    """
    k, a, b = _series(angular)
    kk = k @ k
    theta2 = np.einsum("ni,ni->n", angular, angular)[:, None, None]
    rotations = np.asarray(np.eye(3) + (1.0 - theta2 * b) * k + a * kk)
    return rotations, np.einsum("nij,nj->ni", np.eye(3) + a * k + b * kk, linear)


def se3_log(rotations: F64, translations: F64) -> tuple[F64, F64]:
    """The twists (linear [N,3], angular [N,3]) that in one unit of time make these motions."""
    angular = np.asarray(Rotation.from_matrix(rotations).as_rotvec(), dtype=np.float64)
    k, a, b = _series(angular)
    jacobians = np.eye(3) + a * k + b * (k @ k)
    linear = np.linalg.solve(jacobians, translations[:, :, None])[:, :, 0]
    return np.asarray(linear), angular


def _series(angular: F64) -> tuple[F64, F64, F64]:
    """For rotation vectors [N,3]: cross product matrices [N,3,3], and of their angles [N,1,1]
    (1 - cos) / angle^2 and (angle - sin) / angle^3."""
    theta = np.linalg.norm(angular, axis=1)[:, None, None]
    small = theta < SMALL_ANGLE_RAD
    safe = np.where(small, 1.0, theta)
    a = np.where(small, 0.5 - theta**2 / 24.0, (1.0 - np.cos(safe)) / safe**2)
    b = np.where(small, 1.0 / 6.0 - theta**2 / 120.0, (safe - np.sin(safe)) / safe**3)
    x, y, z = angular.T
    zero = np.zeros_like(x)
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    return k, np.asarray(a), np.asarray(b)


class _Known(NamedTuple):
    """One pose of the buffer with its place on the path.

    The path is the sum of the velocities since the buffer began: free of the small jumps with
    which a filter corrects its pose, and so the better witness of a tenth of a second.
    """

    estimate: PoseEstimate
    rotation: F64  # [3,3] path_from_base
    translation: F64  # [3]
    until: tuple[F64, F64]  # mean velocity since the pose before: linear, angular [3], base axes
    onward: tuple[F64, F64]  # velocity to go on with


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
        self._known: tuple[_Known, ...] = ()

    def add(self, estimate: PoseEstimate) -> Rejection | None:
        """Take a pose newer than the last; one much older begins anew (a bag's loop)."""
        if self._base_from is not None and estimate.child_frame_id.strip("/"):
            base_from_child = self._base_from(estimate.child_frame_id)
            if base_from_child is None:
                detail = f"nothing connects frame '{estimate.child_frame_id}' with the base frame"
                return Rejection("motion", estimate.stamp_ns, Reason.NO_EXTRINSICS, detail)
            estimate = _of_base(estimate, base_from_child)
        known = self._known
        fallen = None
        if known and estimate.stamp_ns <= known[-1].estimate.stamp_ns:
            behind_ns = known[-1].estimate.stamp_ns - estimate.stamp_ns
            if behind_ns <= RESET_S * NS_PER_S:
                reason = Reason.OUT_OF_ORDER if behind_ns else Reason.DUPLICATE
                return Rejection("motion", estimate.stamp_ns, reason, "an older local pose")
            detail = f"local pose went back by {behind_ns / NS_PER_S:.3f} s: motion begins anew"
            fallen = Rejection("motion", estimate.stamp_ns, Reason.TIME_JUMP, detail)
            known = ()
        if known and known[-1].estimate.frame_id != estimate.frame_id:
            known = ()
        oldest_ns = estimate.stamp_ns - round(KEPT_S * NS_PER_S)
        kept = [k for k in known if k.estimate.stamp_ns >= oldest_ns]
        self._known = (*kept, _continued(kept[-1] if kept else None, estimate))
        return fallen

    def odom_from_base(self, stamp_ns: int) -> RigidTransform | None:
        """The base's pose in the odometry frame, None where no pose is near enough in time."""
        known = self._known
        found = self._around(known, stamp_ns)
        if found is None:
            return None
        before, after = known[found[0]], known[found[1]]
        start, since_ns = before.estimate.frame_from_base, stamp_ns - before.estimate.stamp_ns
        if before is after:
            linear, angular = before.onward
            share = since_ns / NS_PER_S
        else:
            linear, angular = _step(before.estimate, after.estimate)
            share = since_ns / (after.estimate.stamp_ns - before.estimate.stamp_ns)
        rotations, translations = se3_exp(linear[None] * share, angular[None] * share)
        return start @ RigidTransform.trusted(rotations[0], translations[0])

    def base_from_base(self, target_ns: int, source_ns: int) -> RigidTransform | None:
        """``base(target)_from_base(source)``, None where the motion is not known for both."""
        found = self._on_path([target_ns, source_ns])
        if found is None:
            return None
        target, source = (RigidTransform.trusted(r, t) for r, t in zip(*found, strict=True))
        return target.inverse() @ source

    def polynomial(self, stamp_ns: int, first_s: float, last_s: float) -> MotionPolynomial | None:
        """The motion within a sweep; ``first_s`` and ``last_s`` are relative to ``stamp_ns``.

        None where the motion is not known for all of it.
        """
        middle_s, half_s = (first_s + last_s) / 2.0, max((last_s - first_s) / 2.0, 1e-6)
        # Chebyshev's nodes: the fit stays good up to the ends.
        nodes = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
        instants = [stamp_ns + round(s * NS_PER_S) for s in (middle_s + half_s * nodes).tolist()]
        found = self._on_path([stamp_ns, *instants])
        if found is None:
            return None
        rotations, translations = found
        matrices = np.empty((NODES, 3, 4))
        matrices[:, :, :3] = rotations[0].T @ rotations[1:]
        matrices[:, :, 3] = (translations[1:] - translations[0]) @ rotations[0]
        powers = np.vander(nodes, DEGREE + 1, increasing=True)
        fit = np.linalg.lstsq(powers, matrices.reshape(NODES, 12), rcond=None)[0]
        return MotionPolynomial(middle_s, half_s, fit.reshape(DEGREE + 1, 3, 4))

    def _around(self, known: tuple[_Known, ...], stamp_ns: int) -> tuple[int, int] | None:
        """The poses before and after an instant, the same twice at the ends; None too far off."""
        if not known:
            return None
        at = bisect_left(known, stamp_ns, key=lambda k: k.estimate.stamp_ns)
        before, after = max(at - 1, 0), min(at, len(known) - 1)
        gaps_ns = (abs(stamp_ns - known[n].estimate.stamp_ns) for n in (before, after))
        return None if min(gaps_ns) > self._max_age_ns else (before, after)

    def _on_path(self, stamps_ns: list[int]) -> tuple[F64, F64] | None:
        """Rotations [N,3,3] and translations [N,3] of the base along the path."""
        known = self._known
        starts, linear, angular = [], [], []
        for stamp_ns in stamps_ns:
            found = self._around(known, stamp_ns)
            if found is None:
                return None
            before, after = known[found[0]], known[found[1]]
            velocity = before.onward if before is after else after.until
            since_s = (stamp_ns - before.estimate.stamp_ns) / NS_PER_S
            starts.append(before)
            linear.append(velocity[0] * since_s)
            angular.append(velocity[1] * since_s)
        rotations, translations = se3_exp(np.array(linear), np.array(angular))
        first = np.array([s.rotation for s in starts])
        offset = np.array([s.translation for s in starts])
        return first @ rotations, offset + np.einsum("nij,nj->ni", first, translations)


def _of_base(estimate: PoseEstimate, base_from_child: RigidTransform) -> PoseEstimate:
    """The base's pose and velocity from those of a body that sits on it."""
    if np.array_equal(base_from_child.matrix(), np.eye(4)):
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
    own = (estimate.linear, estimate.angular)
    if last is None:
        return _Known(estimate, np.eye(3), np.zeros(3), own, own)
    dt_s = (estimate.stamp_ns - last.estimate.stamp_ns) / NS_PER_S
    before = (last.estimate.linear, last.estimate.angular)
    given = any(v.any() for v in (*own, *before))
    if given:
        linear, angular = (own[0] + before[0]) / 2.0, (own[1] + before[1]) / 2.0
    else:
        step = _step(last.estimate, estimate)
        linear, angular = step[0] / dt_s, step[1] / dt_s
    rotations, translations = se3_exp(linear[None] * dt_s, angular[None] * dt_s)
    return _Known(
        estimate,
        last.rotation @ rotations[0],
        last.translation + last.rotation @ translations[0],
        (linear, angular),
        own if given else (linear, angular),
    )


def _step(first: PoseEstimate, second: PoseEstimate) -> tuple[F64, F64]:
    """What moves the first pose to the second in one unit of time: linear [3], angular [3]."""
    move = first.frame_from_base.inverse() @ second.frame_from_base
    linear, angular = se3_log(move.rotation[None], move.translation[None])
    return linear[0], angular[0]


class MotionPolynomial:
    """``base(stamp)_from_base(t)`` over one sweep: a cubic in t whose coefficients are matrices.

    Rigid only within the fit's error: under a millimetre at 50 m for a turn of 2 rad/s over 0.1 s.
    In exchange, correcting every point for its own instant is one matrix product.
    """

    def __init__(self, middle_s: float, half_s: float, coefficients: F64) -> None:
        self.middle_s = middle_s
        self.half_s = half_s
        self.coefficients = coefficients  # [DEGREE+1,3,4] of ((t - middle_s) / half_s)^k

    def stacked(self, base_from_sensor: RigidTransform) -> F32:
        """float32 [3, 4*(DEGREE+1)]: from the features of ``features`` to base coordinates."""
        matrices = self.coefficients @ base_from_sensor.matrix()
        return np.concatenate(list(matrices), axis=1).astype(np.float32)

    def features(self, rows: F32, seconds: F32) -> None:
        """Fill ``rows`` [4*(DEGREE+1), N], whose first four rows are x y z 1 in sensor axes.

        ``seconds`` [N] are instants relative to the stamp.
        """
        power = (seconds - np.float32(self.middle_s)) * np.float32(1.0 / self.half_s)
        for degree in range(1, DEGREE + 1):
            block = rows[4 * degree : 4 * degree + 4]
            np.multiply(rows[4 * degree - 4 : 4 * degree], power, out=block)
