"""Triangle meshes with a material per triangle, and the shapes the town is made of.

Coordinates are metres, x forward, y left, z up, in the shape's own frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """``vertices`` f64 [V,3], ``triangles`` i32 [T,3], ``materials`` i32 [T] (rows of a table)."""

    vertices: F64
    triangles: I32
    materials: I32

    def placed(self, position: npt.ArrayLike, yaw_rad: float = 0.0) -> Mesh:
        """Turned about z, then moved."""
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        moved = self.vertices @ rotation.T + np.asarray(position, dtype=np.float64)
        return Mesh(moved, self.triangles, self.materials)

    def sphere(self) -> tuple[float, float]:
        """Height of a point above the origin, and how far the mesh reaches around it."""
        middle = 0.5 * float(self.vertices[:, 2].min() + self.vertices[:, 2].max())
        reach = np.linalg.norm(self.vertices - [0.0, 0.0, middle], axis=1)
        return middle, float(reach.max())

    def turned(self, rotation: F64) -> Mesh:
        """Turned by a rotation matrix [3,3] about the origin."""
        return Mesh(self.vertices @ rotation.T, self.triangles, self.materials)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh out of many."""
    if not meshes:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32), np.zeros(0, np.int32))
    counts = np.cumsum([0] + [len(m.vertices) for m in meshes])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate(
            [m.triangles + np.int32(n) for m, n in zip(meshes, counts[:-1], strict=True)]
        ),
        np.concatenate([m.materials for m in meshes]),
    )


_BOX_CORNERS = np.array(
    [[x, y, z] for z in (-1, 1) for x, y in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
)
_HEX_TRIANGLES = np.array(
    [
        *([0, 2, 1], [0, 3, 2]),  # bottom
        *([4, 5, 6], [4, 6, 7]),  # top
        *([0, 1, 5], [0, 5, 4]),  # left (+y)
        *([1, 2, 6], [1, 6, 5]),  # rear (-x)
        *([2, 3, 7], [2, 7, 6]),  # right (-y)
        *([3, 0, 4], [3, 4, 7]),  # front (+x)
    ],
    dtype=np.int32,
)


def hexahedron(corners: F64, material: int) -> Mesh:
    """Six faces on eight corners [8,3]: four at the bottom (front-left, rear-left, rear-right,
    front-right), then the four above them."""
    return Mesh(corners, _HEX_TRIANGLES, np.full(12, material, np.int32))


def box(center: npt.ArrayLike, size: npt.ArrayLike, material: int) -> Mesh:
    """A cuboid along the axes."""
    half = np.asarray(size, dtype=np.float64) / 2
    return hexahedron(_BOX_CORNERS * half + np.asarray(center, dtype=np.float64), material)


def quad(corners: npt.ArrayLike, material: int) -> Mesh:
    """A flat four-sided patch [4,3]."""
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    return Mesh(np.asarray(corners, np.float64), triangles, np.full(2, material, np.int32))


def loft(rings: F64, material: int, cap: bool = True) -> Mesh:
    """A skin over closed rings [K,N,3], one after the other, its two ends closed by fans."""
    k, n, _ = rings.shape
    triangles = _skin(k, n, cap)
    return Mesh(rings.reshape(-1, 3), triangles, np.full(len(triangles), material, np.int32))


@lru_cache(maxsize=1024)
def _skin(k: int, n: int, cap: bool) -> I32:
    """The triangles [T,3] over ``k`` rings of ``n`` points: a town has thousands of few kinds."""
    index = np.arange(k * n, dtype=np.int32).reshape(k, n)
    after = np.roll(index, -1, axis=1)
    a, b, c, d = index[:-1], after[:-1], after[1:], index[1:]
    sides = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    if cap:
        fan = np.stack(
            [np.zeros(n - 2, np.int32), np.arange(1, n - 1), np.arange(2, n)], axis=1
        ).astype(np.int32)
        sides += [fan[:, ::-1], fan + np.int32((k - 1) * n)]
    triangles = np.concatenate(sides).astype(np.int32)
    triangles.setflags(write=False)
    return triangles


def _cross(a: F64, b: F64) -> F64:
    """The cross product of two vectors: numpy's own is made for many, and slow for one."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def _length(v: F64) -> float:
    """The length of one vector, as numpy's norm has it."""
    return math.sqrt(v.dot(v))


def tube(
    start: npt.ArrayLike,
    end: npt.ArrayLike,
    radius_m: float,
    material: int,
    end_radius_m: float | None = None,
    sides: int = 8,
) -> Mesh:
    """A closed cone frustum between two points."""
    p, q = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = (q - p) / max(_length(q - p), 1e-9)
    helper = np.array([1.0, 0.0, 0.0]) if abs(axis[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    u = _cross(axis, helper)
    u /= _length(u)
    v = _cross(axis, u)
    cosine, sine = _circle(sides)
    circle = cosine * u + sine * v
    rings = np.empty((2, sides, 3))
    rings[0] = p + circle * radius_m
    rings[1] = q + circle * (radius_m if end_radius_m is None else end_radius_m)
    return loft(rings, material)


@lru_cache(maxsize=64)
def _circle(sides: int) -> tuple[F64, F64]:
    """Cosines and sines [N,1] of the corners of a regular polygon."""
    angle = np.arange(sides) * (2 * np.pi / sides)
    return np.cos(angle)[:, None], np.sin(angle)[:, None]


def _icosphere() -> tuple[F64, I32]:
    """A sphere of 80 triangles: an icosahedron, every triangle split in four."""
    phi = (1 + 5**0.5) / 2
    base = [(-1, phi, 0), (1, phi, 0), (-1, -phi, 0), (1, -phi, 0)]
    points = [np.array(np.roll(p, r), float) for r in (0, 1, 2) for p in base]
    vertices = [p / np.linalg.norm(p) for p in points]
    # a face is any three vertices that are mutual nearest neighbours
    edge = min(float(np.linalg.norm(vertices[0] - v)) for v in vertices[1:]) * 1.01
    near = np.linalg.norm(np.array(vertices)[:, None] - np.array(vertices)[None], axis=-1) < edge
    faces = [
        (i, j, k)
        for i in range(12)
        for j in range(i + 1, 12)
        for k in range(j + 1, 12)
        if near[i, j] and near[j, k] and near[i, k]
    ]
    middle: dict[tuple[int, int], int] = {}

    def midpoint(i: int, j: int) -> int:
        key = (min(i, j), max(i, j))
        if key not in middle:
            m = vertices[i] + vertices[j]
            vertices.append(m / np.linalg.norm(m))
            middle[key] = len(vertices) - 1
        return middle[key]

    split: list[tuple[int, int, int]] = []
    for i, j, k in faces:
        a, b, c = midpoint(i, j), midpoint(j, k), midpoint(i, k)
        split += [(i, a, c), (a, j, b), (c, b, k), (a, b, c)]
    return np.array(vertices), np.array(split, np.int32)


_SPHERE = _icosphere()


def blob(
    center: npt.ArrayLike,
    radii: npt.ArrayLike,
    material: int,
    rng: np.random.Generator | None = None,
    roughness: float = 0.0,
) -> Mesh:
    """An ellipsoid of 80 triangles whose vertices are pushed in and out by ``roughness``."""
    vertices, triangles = _SPHERE
    shape = vertices
    if rng is not None and roughness > 0:
        shape = vertices * (1.0 + roughness * rng.uniform(-1, 1, (len(vertices), 1)))
    placed = shape * np.asarray(radii, np.float64) + np.asarray(center, np.float64)
    return Mesh(placed, triangles, np.full(len(triangles), material, np.int32))


def leaves(
    center: npt.ArrayLike,
    radii: npt.ArrayLike,
    count: int,
    leaf_m: float,
    material: int,
    rng: np.random.Generator,
) -> Mesh:
    """Loose triangles near the skin of an ellipsoid: a crown that LIDAR sees through in part."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depth = rng.uniform(0.7, 1.12, (count, 1))
    middle = direction * depth * np.asarray(radii, np.float64) + np.asarray(center, np.float64)
    vertices = middle[:, None, :] + rng.normal(scale=leaf_m * 0.6, size=(count, 3, 3))
    triangles = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    return Mesh(vertices.reshape(-1, 3), triangles, np.full(count, material, np.int32))


def gable(length_m: float, width_m: float, rise_m: float, eaves_z_m: float, material: int) -> Mesh:
    """A saddle roof over a rectangle centred at the origin, its ridge along x."""
    x, y = length_m / 2, width_m / 2
    z, top = eaves_z_m, eaves_z_m + rise_m
    vertices = np.array(
        [[x, y, z], [-x, y, z], [-x, -y, z], [x, -y, z], [x, 0, top], [-x, 0, top]], float
    )
    triangles = np.array(
        [[0, 1, 5], [0, 5, 4], [2, 3, 4], [2, 4, 5], [3, 0, 4], [1, 2, 5]], np.int32
    )
    return Mesh(vertices, triangles, np.full(6, material, np.int32))


def grid(xs: F64, ys: F64, material: int) -> Mesh:
    """A flat sheet at z = 0 with vertices at all pairs of ``xs`` and ``ys``."""
    gx, gy = np.meshgrid(xs, ys, indexing="ij")
    vertices = np.stack([gx, gy, np.zeros_like(gx)], -1).reshape(-1, 3)
    index = np.arange(gx.size, dtype=np.int32).reshape(gx.shape)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.stack(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)], axis=1
    ).reshape(-1, 3)
    return Mesh(vertices, triangles, np.full(len(triangles), material, np.int32))


def quads(corners: F64, material: int) -> Mesh:
    """Many flat patches [N,4,3]."""
    n = len(corners)
    first = np.arange(n, dtype=np.int32)[:, None] * 4
    halves = [first + np.array(corner) for corner in ([0, 1, 2], [0, 2, 3])]
    triangles = np.concatenate(halves).astype(np.int32)
    return Mesh(corners.reshape(-1, 3), triangles, np.full(2 * n, material, np.int32))
