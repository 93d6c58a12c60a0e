"""Rigid transforms, the tree of frames, and projection into images.

Names read from the left: ``camera_from_base`` maps base coordinates into camera coordinates, and
``camera_from_base @ base_from_lidar`` is ``camera_from_lidar``. Rotations are scipy's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from mm_fusion.errors import CalibrationError

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RigidTransform:
    """A proper rigid motion: ``rotation`` float64 [3,3] (orthonormal, det +1), ``translation`` [3].

    Raises CalibrationError for matrices that are not rotations and for non-finite numbers.
    """

    rotation: F64
    translation: F64

    def __post_init__(self) -> None:
        r = np.asarray(self.rotation, dtype=np.float64)
        t = np.asarray(self.translation, dtype=np.float64)
        if r.shape != (3, 3) or t.shape != (3,):
            raise CalibrationError(
                f"transform: rotation must be [3,3] and translation [3], got {r.shape}, {t.shape}"
            )
        if not (np.isfinite(r).all() and np.isfinite(t).all()):
            raise CalibrationError("transform: rotation and translation must be finite")
        if abs(np.linalg.det(r) - 1.0) > 1e-4 or np.abs(r @ r.T - np.eye(3)).max() > 1e-4:
            raise CalibrationError("transform: rotation must be orthonormal with determinant +1")
        object.__setattr__(self, "rotation", r)
        object.__setattr__(self, "translation", t)

    @staticmethod
    def identity() -> RigidTransform:
        """The transform that changes nothing."""
        return RigidTransform.trusted(np.eye(3), np.zeros(3))

    @staticmethod
    def trusted(rotation: F64, translation: F64) -> RigidTransform:
        """Without the checks, for float64 arrays that are a rotation and finite by construction."""
        out = object.__new__(RigidTransform)
        object.__setattr__(out, "rotation", rotation)
        object.__setattr__(out, "translation", translation)
        return out

    @staticmethod
    def from_quaternion(translation: npt.ArrayLike, xyzw: npt.ArrayLike) -> RigidTransform:
        """From a translation [3] and a quaternion (x, y, z, w), which is normalised here.

        Raises CalibrationError for a quaternion whose norm is not within 1 % of one (a message
        left at its all-zero default, typically).
        """
        x, y, z, w = np.asarray(xyzw, dtype=np.float64).tolist()
        norm = math.sqrt(x * x + y * y + z * z + w * w)
        if not math.isfinite(norm) or abs(norm - 1.0) > 1e-2:
            raise CalibrationError(f"transform: quaternion must have unit norm, got {norm:.4g}")
        t = np.asarray(translation, dtype=np.float64)
        if t.shape != (3,) or not all(map(math.isfinite, t.tolist())):
            raise CalibrationError(f"transform: translation must be three finite numbers, got {t}")
        rotation = _rotation(x / norm, y / norm, z / norm, w / norm)
        return RigidTransform.trusted(rotation, t)

    @staticmethod
    def from_rpy(translation: npt.ArrayLike, rpy_rad: npt.ArrayLike) -> RigidTransform:
        """From a translation [3] and roll, pitch, yaw about fixed axes x, y, z (REP-103)."""
        matrix = Rotation.from_euler("xyz", np.asarray(rpy_rad, dtype=np.float64)).as_matrix()
        return RigidTransform(matrix, np.asarray(translation, dtype=np.float64))

    def __matmul__(self, other: RigidTransform) -> RigidTransform:
        # A product of two rotations is one: nothing to check, at a third of the time.
        return RigidTransform.trusted(
            self.rotation @ other.rotation, self.rotation @ other.translation + self.translation
        )

    def inverse(self) -> RigidTransform:
        """The transform the other way round."""
        rt = self.rotation.T
        return RigidTransform.trusted(rt, -rt @ self.translation)

    def apply(self, points: npt.NDArray[np.floating]) -> F64:
        """Map points [..., 3]."""
        return points @ self.rotation.T + self.translation

    def quaternion_xyzw(self) -> F64:
        """The rotation as a unit quaternion (x, y, z, w)."""
        return np.asarray(Rotation.from_matrix(self.rotation).as_quat())

    def yaw_rad(self) -> float:
        """Heading: the angle of the rotated x axis in the xy plane."""
        return float(np.arctan2(self.rotation[1, 0], self.rotation[0, 0]))

    def matrix(self) -> F64:
        """Homogeneous float64 [4,4]."""
        m = np.eye(4)
        m[:3, :3] = self.rotation
        m[:3, 3] = self.translation
        return m


def _rotation(x: float, y: float, z: float, w: float) -> F64:
    """The matrix of a unit quaternion, in the order of operations of scipy's Rotation.

    The same to the last bit, at a tenth of the time for one quaternion: poses come 50 times a
    second, and what runs that seldom finds none of scipy's code in the processor's caches.
    """
    x2, y2, z2, w2 = x * x, y * y, z * z, w * w
    xy, zw, xz, yw, yz, xw = x * y, z * w, x * z, y * w, y * z, x * w
    return np.array(
        [
            [x2 - y2 - z2 + w2, 2.0 * (xy - zw), 2.0 * (xz + yw)],
            [2.0 * (xy + zw), -x2 + y2 - z2 + w2, 2.0 * (yz - xw)],
            [2.0 * (xz - yw), 2.0 * (yz + xw), -x2 - y2 + z2 + w2],
        ]
    )


def _nowhere() -> RigidTransform:
    identity = RigidTransform.identity()
    for array in (identity.rotation, identity.translation):
        array.setflags(write=False)
    return identity


# What FrameTree answers for a frame looked up from itself: always this object, not to be written.
SAME = _nowhere()


class _Tree(NamedTuple):
    """The links of one moment, by frame and neighbour, and what was looked up among them."""

    edges: dict[str, dict[str, RigidTransform]]
    found: dict[tuple[str, str], RigidTransform]


class FrameTree:
    """Static frames and their transforms, as /tf_static and parameters give them.

    A later transform for the same child replaces the earlier one. There is no identity in place
    of a missing link: ``lookup`` answers None.
    """

    def __init__(self) -> None:
        self._tree = _Tree({}, {})
        self._parent: dict[str, str] = {}

    def set(self, parent: str, child: str, parent_from_child: RigidTransform) -> None:
        """Put one link. Frame names lose a leading slash, as tf2 wants it."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if not parent or not child or parent == child:
            raise CalibrationError(f"transform: bad frame names '{parent}' -> '{child}'")
        # A new tree takes the old one's place, so that a lookup elsewhere sees one or the other.
        edges = {frame: dict(links) for frame, links in self._tree.edges.items()}
        old = self._parent.get(child)
        if old is not None and old != parent:
            edges[old].pop(child, None)
            edges[child].pop(old, None)
        self._parent[child] = parent
        edges.setdefault(parent, {})[child] = parent_from_child
        edges.setdefault(child, {})[parent] = parent_from_child.inverse()
        self._tree = _Tree(edges, {})

    def frames(self) -> list[str]:
        """All known frame names, sorted."""
        return sorted(self._tree.edges)

    def lookup(self, target: str, source: str) -> RigidTransform | None:
        """``target_from_source``, or None where the two frames are not connected."""
        target, source = target.lstrip("/"), source.lstrip("/")
        if target == source:
            return SAME
        edges, found = self._tree
        way = (target, source)
        known = found.get(way)
        if known is None:
            known = _searched(edges, target, source)
            if known is not None:  # there is no end to the names of what is not there
                found[way] = known
        return known


def _searched(
    edges: Mapping[str, Mapping[str, RigidTransform]], target: str, source: str
) -> RigidTransform | None:
    """``target_from_source`` along the links, None where there is no way."""
    seen = {target}
    queue: deque[tuple[str, RigidTransform]] = deque([(target, RigidTransform.identity())])
    while queue:
        frame, target_from_frame = queue.popleft()
        for neighbour, frame_from_neighbour in edges.get(frame, {}).items():
            if neighbour in seen:
                continue
            found = target_from_frame @ frame_from_neighbour
            if neighbour == source:
                return found
            seen.add(neighbour)
            queue.append((neighbour, found))
    return None


def wrap_angle_rad(angle: float) -> float:
    """The same angle in (-pi, pi]."""
    return float(-((-angle + np.pi) % (2.0 * np.pi) - np.pi))


def wrap_angles_rad(angles: F64) -> F64:
    """The same angles in (-pi, pi], element by element."""
    return np.asarray(-((-angles + np.pi) % (2.0 * np.pi) - np.pi))


def skew(v: npt.ArrayLike) -> F64:
    """The matrix [3,3] with ``skew(a) @ b == cross(a, b)``."""
    x, y, z = np.asarray(v, dtype=np.float64)
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def random_direction(rng: np.random.Generator) -> F64:
    """A unit vector [3], every direction as likely."""
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def rotation_exp(x: float, y: float, z: float) -> F64:
    """Rotation matrix [3,3] of a rotation vector (Rodrigues), plain floats for speed."""
    angle2 = x * x + y * y + z * z
    if angle2 < 1e-8:
        a = 1.0 - angle2 / 6.0
        b = 0.5 - angle2 / 24.0
    else:
        angle = math.sqrt(angle2)
        a = math.sin(angle) / angle
        b = (1.0 - math.cos(angle)) / angle2
    xy, xz, yz = b * x * y, b * x * z, b * y * z
    ax, ay, az = a * x, a * y, a * z
    c = 1.0 - b * angle2
    return np.array(
        (
            (c + b * x * x, xy - az, xz + ay),
            (xy + az, c + b * y * y, yz - ax),
            (xz - ay, yz + ax, c + b * z * z),
        )
    )


def project(
    pixel_from_frame: F64, points: npt.NDArray[np.floating]
) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Project points [N,3] by a matrix [3,4]: pixels [N,2] (u right, v down) and who is in front.

    Points less than 0.1 m in front of the camera are marked False and their pixels are NaN.
    """
    h = points @ pixel_from_frame[:, :3].T + pixel_from_frame[:, 3]
    front = h[:, 2] > 0.1
    pixels = np.full((len(points), 2), np.nan)
    np.divide(h[:, :2], h[:, 2:3], out=pixels, where=front[:, None])
    return pixels, front


def box_corners(center: npt.ArrayLike, size: npt.ArrayLike, yaw_rad: float) -> F64:
    """The eight corners [8,3] of a yawed box: four at the bottom, then four at the top, in order.

    The first two corners are the front ones (x forward), so that an edge shows the heading.
    """
    length, width, height = np.asarray(size, dtype=np.float64)
    x = np.array([1, 1, -1, -1, 1, 1, -1, -1]) * length / 2
    y = np.array([1, -1, -1, 1, 1, -1, -1, 1]) * width / 2
    z = np.array([-1, -1, -1, -1, 1, 1, 1, 1]) * height / 2
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    corners = np.stack([c * x - s * y, s * x + c * y, z], axis=1)
    return corners + np.asarray(center, dtype=np.float64)


def areas(rectangles: F64) -> F64:
    """Areas [N] of rectangles [N,4] (left, top, right, bottom)."""
    return np.asarray(np.prod(rectangles[:, 2:] - rectangles[:, :2], axis=1))


def shared_areas(a: F64, b: F64) -> F64:
    """Areas [M,N] that rectangles [M,4] and [N,4] have in common; 0 where one is NaN."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.nan_to_num(np.prod(np.maximum(high - low, 0.0), axis=-1))


def overlaps(a: F64, b: F64) -> F64:
    """Intersection over union [M,N] of rectangles [M,4] and [N,4]; 0 or NaN where one is NaN."""
    shared = shared_areas(a, b)
    return shared / np.maximum(areas(a)[:, None] + areas(b)[None, :] - shared, 1e-9)
