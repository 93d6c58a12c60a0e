"""Where the base was at the instant of every point and exposure, from a few recent poses.

Between two poses the body is taken to move with constant twist (a screw motion); after the newest
and before the oldest, with that pose's own velocity, for a limited time. Formulas of the
exponential of SE(3) and its inverse: Barfoot, State Estimation for Robotics, 2017, ch. 7.
"""

from __future__ import annotations

from bisect import bisect_left

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


class MotionBuffer:
    """The last few seconds of local poses, and the base's pose at any instant near them.

    One thread may add while others look up: an addition replaces the list of poses as a whole.
    """

    def __init__(self, config: DeskewConfig) -> None:
        self._max_age_ns = round(config.max_motion_age_s * NS_PER_S)
        self._poses: tuple[PoseEstimate, ...] = ()

    def add(self, estimate: PoseEstimate) -> Rejection | None:
        """Take a pose newer than the last; one much older begins anew (a bag's loop)."""
        poses = self._poses
        fallen = None
        if poses and estimate.stamp_ns <= poses[-1].stamp_ns:
            behind_ns = poses[-1].stamp_ns - estimate.stamp_ns
            if behind_ns <= RESET_S * NS_PER_S:
                reason = Reason.OUT_OF_ORDER if behind_ns else Reason.DUPLICATE
                return Rejection("motion", estimate.stamp_ns, reason, "an older local pose")
            detail = f"local pose went back by {behind_ns / NS_PER_S:.3f} s: motion begins anew"
            fallen = Rejection("motion", estimate.stamp_ns, Reason.TIME_JUMP, detail)
            poses = ()
        if poses and poses[-1].frame_id != estimate.frame_id:
            poses = ()
        oldest_ns = estimate.stamp_ns - round(KEPT_S * NS_PER_S)
        first = 0
        while first < len(poses) and poses[first].stamp_ns < oldest_ns:
            first += 1
        self._poses = (*poses[first:], estimate)
        return fallen

    def odom_from_base(self, stamp_ns: int) -> RigidTransform | None:
        """The base's pose in the odometry frame, None where no pose is near enough in time."""
        found = self._lookup([stamp_ns])
        return None if found is None else RigidTransform(found[0][0], found[1][0])

    def base_from_base(self, target_ns: int, source_ns: int) -> RigidTransform | None:
        """``base(target)_from_base(source)``, None where the motion is not known for both."""
        found = self._lookup([target_ns, source_ns])
        if found is None:
            return None
        target, source = (RigidTransform(r, t) for r, t in zip(*found, strict=True))
        return target.inverse() @ source

    def polynomial(self, stamp_ns: int, first_s: float, last_s: float) -> MotionPolynomial | None:
        """The motion within a sweep; ``first_s`` and ``last_s`` are relative to ``stamp_ns``.

        None where the motion is not known for all of it.
        """
        middle_s, half_s = (first_s + last_s) / 2.0, max((last_s - first_s) / 2.0, 1e-6)
        # Chebyshev's nodes: the fit stays good up to the ends.
        nodes = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
        instants = [stamp_ns + round(s * NS_PER_S) for s in (middle_s + half_s * nodes).tolist()]
        found = self._lookup([stamp_ns, *instants])
        if found is None:
            return None
        rotations, translations = found
        inverse = rotations[0].T
        matrices = np.empty((NODES, 3, 4))
        matrices[:, :, :3] = inverse @ rotations[1:]
        matrices[:, :, 3] = (translations[1:] - translations[0]) @ rotations[0]
        powers = np.vander(nodes, DEGREE + 1, increasing=True)
        fit = np.linalg.lstsq(powers, matrices.reshape(NODES, 12), rcond=None)[0]
        return MotionPolynomial(middle_s, half_s, fit.reshape(DEGREE + 1, 3, 4))

    def _lookup(self, stamps_ns: list[int]) -> tuple[F64, F64] | None:
        """Rotations [N,3,3] and translations [N,3] of the base in the odometry frame."""
        poses = self._poses
        if not poses:
            return None
        known_ns = [p.stamp_ns for p in poses]
        pairs, shares = [], []
        for stamp_ns in stamps_ns:
            at = bisect_left(known_ns, stamp_ns)
            before, after = max(at - 1, 0), min(at, len(poses) - 1)
            gap_ns = min(abs(stamp_ns - known_ns[before]), abs(known_ns[after] - stamp_ns))
            if gap_ns > self._max_age_ns:
                return None
            span_ns = NS_PER_S if before == after else known_ns[after] - known_ns[before]
            pairs.append((before, after))
            shares.append((stamp_ns - known_ns[before]) / span_ns)
        wanted = sorted(set(pairs))
        linear, angular = _twists([(poses[a], poses[b]) for a, b in wanted])
        row = [wanted.index(pair) for pair in pairs]
        share = np.array(shares)[:, None]
        rotations, translations = se3_exp(linear[row] * share, angular[row] * share)
        first = np.array([poses[a].frame_from_base.rotation for a, _ in pairs])
        offset = np.array([poses[a].frame_from_base.translation for a, _ in pairs])
        return first @ rotations, offset + np.einsum("nij,nj->ni", first, translations)


def _twists(pairs: list[tuple[PoseEstimate, PoseEstimate]]) -> tuple[F64, F64]:
    """What moves each first pose to its second in one unit of time: linear [N,3], angular [N,3].

    Of a pose beside itself, its own velocity per second.
    """
    first = np.array([a.frame_from_base.rotation for a, _ in pairs])
    second = np.array([b.frame_from_base.rotation for _, b in pairs])
    offset = np.array(
        [b.frame_from_base.translation - a.frame_from_base.translation for a, b in pairs]
    )
    back = first.transpose(0, 2, 1)
    linear, angular = se3_log(back @ second, np.einsum("nij,nj->ni", back, offset))
    for n, (a, b) in enumerate(pairs):
        if a is b:
            linear[n], angular[n] = a.linear, a.angular
    return linear, angular


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
