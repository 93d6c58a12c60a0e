"""Past poses kept in the filter's state, so that motion between two instants can be measured.

A LIDAR odometry says how the base moved from one sweep to another, not where it is. Such a
measurement depends on two past poses; the filter keeps a copy of both with their covariance and
their correlation with the present state: stochastic cloning, after S. Roumeliotis and J. Burdick,
"Stochastic cloning: a generalized framework for processing relative state measurements" (2002).
The copies' errors are those of the filter: position plain, attitude ``R_true = Exp(e) R``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform, rotation_exp, skew

F64 = npt.NDArray[np.float64]

POSE = 6  # elements of a copy's error: position, attitude
MOST = 4  # copies; sweeps under way are fewer


class Clones:
    """Copies of the pose, oldest first. ``own`` [6n,6n] is their covariance, ``cross`` [S,6n]
    that of the filter's S elements with them."""

    def __init__(self, size: int) -> None:
        self.keys: list[int] = []
        self.positions: list[F64] = []
        self.rotations: list[F64] = []
        self.own: F64 = np.zeros((0, 0))
        self.cross: F64 = np.zeros((size, 0))

    def add(self, key: int, position: F64, rotation: F64, covariance: F64, rows: list[int]) -> None:
        """Copy the present pose, whose elements in the error state are ``rows`` [6]."""
        if len(self.keys) == MOST:
            self.drop(self.keys[0])
        between = self.cross[rows]
        self.own = np.block([[self.own, between.T], [between, covariance[np.ix_(rows, rows)]]])
        self.cross = np.hstack([self.cross, covariance[:, rows]])
        self.keys.append(key)
        self.positions.append(position)
        self.rotations.append(rotation)

    def drop(self, key: int) -> None:
        """Forget one copy."""
        if key not in self.keys:
            return
        n = self.keys.index(key)
        gone = list(range(POSE * n, POSE * n + POSE))
        self.own = np.delete(np.delete(self.own, gone, 0), gone, 1)
        self.cross = np.delete(self.cross, gone, 1)
        for each in (self.keys, self.positions, self.rotations):
            del each[n]

    def drop_before(self, key: int) -> None:
        """Forget the copies older than ``key``."""
        for old in [k for k in self.keys if k < key]:
            self.drop(old)

    def relative(self, first: int, second: int) -> tuple[RigidTransform, F64]:
        """How the base moved from one copy to another, and the Jacobian [6,6n] of that motion:
        translation in the first's axes, rotation in the second's."""
        a, b = self.keys.index(first), self.keys.index(second)
        from_first, way = self.rotations[a].T, self.positions[b] - self.positions[a]
        jacobian = np.zeros((POSE, POSE * len(self.keys)))
        at_a, at_b = POSE * a, POSE * b
        jacobian[:3, at_b : at_b + 3] = from_first
        jacobian[:3, at_a : at_a + 3] = -from_first
        jacobian[:3, at_a + 3 : at_a + 6] = from_first @ skew(way)
        jacobian[3:, at_b + 3 : at_b + 6] = self.rotations[b].T
        jacobian[3:, at_a + 3 : at_a + 6] = -self.rotations[b].T
        return RigidTransform.trusted(from_first @ self.rotations[b], from_first @ way), jacobian

    def common_doubt(self, variance: F64, position: F64) -> None:
        """The filter at ``position`` is doubted by ``variance`` [S], and its past just as much.

        The copies move along: with the position, and about it with the attitude. Else the motion
        since they were taken would be doubted, and measuring that would end the doubt.
        """
        shared = np.concatenate([variance[:3], variance[6:9]])
        moved = np.vstack([self._moved_along(p - position) for p in self.positions])
        self.own = self.own + (moved * shared) @ moved.T
        cross = self.cross.copy()
        cross[[0, 1, 2, 6, 7, 8]] += (moved * shared).T
        self.cross = cross

    @staticmethod
    def _moved_along(way: F64) -> F64:
        both = np.eye(POSE)
        both[:3, 3:] = -skew(way)
        return both

    def turn(self, rotation: F64, position: F64) -> None:
        """Turn the copies about ``position``, as the filter is turned there."""
        self.positions = [position + rotation @ (p - position) for p in self.positions]
        self.rotations = [rotation @ r for r in self.rotations]

    def correct(self, error: F64) -> None:
        """Take errors [6n] off the copies."""
        for n in range(len(self.keys)):
            part = error[POSE * n : POSE * n + POSE]
            x, y, z = part[3:].tolist()
            self.positions[n] = self.positions[n] + part[:3]
            self.rotations[n] = rotation_exp(x, y, z) @ self.rotations[n]
