"""Which points of a cloud are ground, and how high each lies above it: slopes, kerbs and all.

The ground is a surface of planes on grids over the base frame, found from coarse to fine. Each
grid explains what the ones before left over: at every node a plane is fitted, by weighted least
squares with a Gaussian window about the node, to the lowest points of the cells around it. What
lies above the surface found so far loses weight with each pass, so that the surface settles on
what carries cars and walls, and not on them. Where nothing is seen it goes on as the coarser grid
says. Last, a point is held against the lowest points next to it, and a column that holds something
tall is told from one that holds a kerb at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array

from mm_fusion.config_objects import GroundConfig

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

HALF_M = 80.0  # the grids' half width; what lies beyond is held against the outermost planes
CELL_M = 0.5  # cells whose lowest points make the surface, and in which points are compared
WALL_M = 0.4  # a cell that holds more than this from top to bottom holds no ground alone
WALL_WEIGHT = 0.05
PRIOR = 0.2  # weight, in cells, with which a node keeps the coarser surface
KERB_M = 0.04  # the lowest point of a cell is ground up to here above the surface, and
BELOW = 3.0  # a surface settles from above: this many times as much is forgiven below it
BELOW_M = 0.3  # down to here below it
RISE_M = 0.06  # ... and up to here above that of a neighbouring cell
TALLEST_M = 2.5  # what hangs higher over the ground says nothing about what stands on it
NOTHING = np.float32(1e9)


class Level(NamedTuple):
    """One grid: its spacing, its window's deviation in nodes, passes, and the residual (m) from
    which points above lose weight."""

    spacing_m: float
    window: float
    passes: int
    above_m: float


LEVELS = (Level(10.0, 1.2, 3, 0.3), Level(5.0, 1.0, 2, 0.2), Level(2.5, 1.0, 2, 0.1))


class Ground(NamedTuple):
    """What was found, point by point: ``is_ground`` bool [N], ``height_m`` float32 [N] above the
    local ground. A point that is not finite is not ground and has the height NaN."""

    is_ground: Bools
    height_m: F32


def find_ground(xyz: F32, config: GroundConfig) -> Ground:
    """The ground in a cloud ``xyz`` float32 [3,N] in a frame whose z points up, within 30 degrees
    or so, such as the base frame. Points below the surface count as ground. Where ``config.find``
    is False the ground is the plane z = 0, and ``step_m`` above it."""
    if xyz.ndim != 2 or len(xyz) != 3:
        raise ValueError(f"xyz: must have the shape [3, N], got {list(xyz.shape)}")
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(xyz[0] + xyz[1] + xyz[2])
    if not config.find:
        height = np.where(finite, xyz[2], np.float32(np.nan))
        with np.errstate(invalid="ignore"):
            return Ground(height < config.step_m, height)
    if len(finite) and finite.all():
        return _find(xyz, config)
    found = Ground(np.zeros(len(finite), np.bool_), np.full(len(finite), np.nan, np.float32))
    if finite.any():
        found.is_ground[finite], found.height_m[finite] = _find(xyz[:, finite], config)
    return found


def _find(xyz: F32, config: GroundConfig) -> Ground:
    x, y, z = xyz
    cell, cells = _cells(x, y, CELL_M), _count(CELL_M) ** 2
    height = z - _at(_surface(x, y, z, cell), x, y, cell)
    # The lowest near the surface of each cell and of those around it; a step is a kerb's.
    lowest = np.full(cells, np.float32(KERB_M))
    np.minimum.at(lowest, cell, np.where(height > -BELOW_M, height, np.float32(KERB_M)))
    low = lowest.reshape(_count(CELL_M), -1)
    for _ in range(2):
        around = cv2.erode(low, np.ones((3, 3), np.uint8))
        np.minimum(low, around + np.float32(RISE_M), out=low)
    height -= lowest.take(cell)
    limit = np.full(cells, np.float32(config.step_m))
    limit[cell[(height > config.step_m) & (height < TALLEST_M)]] = config.tolerance_m
    return Ground(height < limit.take(cell), height)


# ------------------------------------------------------------------------------- the surface


def _surface(x: F32, y: F32, z: F32, cell: Index) -> F64:
    """Planes (offset, slope along x, slope along y) [n,n,3] on the finest grid, about the origin
    of the frame."""
    low = np.full(_count(CELL_M) ** 2, NOTHING)
    np.minimum.at(low, cell, z)
    above = z - low.take(cell)
    wall = np.zeros(len(low), np.bool_)
    wall[cell[above > WALL_M]] = True
    chosen = np.flatnonzero(above == 0.0)
    seen = _Lowest(x[chosen], y[chosen], z[chosen], wall[cell[chosen]])
    for level in LEVELS:
        seen.explain(level)
    return _summed(seen.planes)


class _Lowest:
    """The lowest points of the cells, and the planes that explain them so far."""

    def __init__(self, x: F32, y: F32, z: F32, wall: Bools) -> None:
        self._x, self._y, self._z = (v.astype(np.float64) for v in (x, y, z))
        self._weight = np.where(wall, WALL_WEIGHT, 1.0)
        self._surface = np.zeros(len(x))
        self.planes: list[F64] = []

    def explain(self, level: Level) -> None:
        """Add the planes of one grid."""
        count, points = _count(level.spacing_m), len(self._x)
        node = _cells(self._x, self._y, level.spacing_m)
        middle = _middles(level.spacing_m)
        dx, dy = self._x - middle[node // count], self._y - middle[node % count]
        one, left = np.ones(points), self._z - self._surface
        shapes = np.stack([one, dx, dy, left, dx * dx, dx * dy, dy * dy, dx * left, dy * left], -1)
        # Point by point, the node that it counts for: summing by node is a product with this.
        each = np.arange(points + 1)
        before = self._surface
        planes = np.zeros((count, count, 3))
        for _ in range(level.passes):
            by_node = csc_array((self._weights(level), node, each), shape=(count**2, points))
            planes = _planes((by_node @ shapes).reshape(count, count, -1), level)
            a, b, c = planes.reshape(-1, 3).take(node, axis=0).T
            self._surface = before + a + b * dx + c * dy
        self.planes.append(planes)

    def _weights(self, level: Level) -> F64:
        """What is off the surface so far weighs less, above it more so than below: by the fourth
        power, and by the second."""
        off = (self._z - self._surface) / level.above_m
        below = off < 0.0
        off = np.where(below, off / -BELOW, off * off)
        weight = np.where(below, 1.0, self._weight)
        return np.asarray(weight / np.square(np.maximum(off, 1.0)))


def _planes(sums: F64, level: Level) -> F64:
    """Planes [n,n,3] about the nodes from the sums [n,n,9] of w (1, x, y, r, xx, xy, yy, xr, yr),
    each about its own node: the window's weighted least squares, with a prior of zero."""
    # Sums about the node at the window's middle: those of a neighbour ``i`` nodes off along x
    # and ``j`` along y, whose x count from a node i * spacing away.
    h, reach = level.spacing_m, int(np.ceil(2.5 * level.window))
    off: F64 = np.arange(-reach, reach + 1, dtype=np.float64)
    g0: F64 = np.exp(-0.5 * np.square(off / level.window))
    g1: F64 = g0 * off * h
    g2: F64 = g0 * np.square(off * h)

    def over(values: F64, along_x: F64, along_y: F64) -> F64:
        constant = cv2.BORDER_CONSTANT
        found = cv2.sepFilter2D(values, cv2.CV_64F, along_y, along_x, borderType=constant)
        return np.moveaxis(np.atleast_3d(np.asarray(found, np.float64)), 2, 0).copy()

    few = np.ascontiguousarray(sums[:, :, :4])
    one = np.ascontiguousarray(sums[:, :, 0])
    m, mx, my, mr, mxx, mxy, myy, mxr, myr = over(sums, g0, g0)
    one_x, x_x, y_x, r_x = over(few, g1, g0)
    one_y, x_y, y_y, r_y = over(few, g0, g1)
    mx += one_x
    my += one_y
    mxx += 2.0 * x_x + over(one, g2, g0)[0]
    mxy += x_y + y_x + over(one, g1, g1)[0]
    myy += 2.0 * y_y + over(one, g0, g2)[0]
    spread = PRIOR * (level.window * h) ** 2
    return _solved((m + PRIOR, mx, my, mxx + spread, mxy, myy + spread), (mr, mxr + r_x, myr + r_y))


def _solved(matrix: Sequence[F64], right: Sequence[F64]) -> F64:
    """Cramer's rule for many symmetric 3 x 3 systems at once."""
    (a, b, c, d, e, f), (p, q, r) = matrix, right
    cofactor = d * f - e * e, c * e - b * f, b * e - c * d
    determinant = a * cofactor[0] + b * cofactor[1] + c * cofactor[2]
    first = p * cofactor[0] + q * cofactor[1] + r * cofactor[2]
    second = p * cofactor[1] + q * (a * f - c * c) + r * (b * c - a * e)
    third = p * cofactor[2] + q * (b * c - a * e) + r * (a * d - b * b)
    return np.stack([first, second, third], axis=-1) / determinant[..., None]


def _summed(planes: Sequence[F64]) -> F64:
    """The planes of all grids as one on the finest, about the frame's origin."""
    fine_m = LEVELS[-1].spacing_m
    middle = _middles(fine_m)
    total = np.zeros((len(middle), len(middle), 3))
    for level, own in zip(LEVELS, planes, strict=True):
        times = round(level.spacing_m / fine_m)
        off = middle - np.repeat(_middles(level.spacing_m), times)
        each = own.repeat(times, axis=0).repeat(times, axis=1)
        total += each
        total[:, :, 0] += each[:, :, 1] * off[:, None] + each[:, :, 2] * off
    total[:, :, 0] -= total[:, :, 1] * middle[:, None] + total[:, :, 2] * middle
    return total


def _at(planes: F64, x: F32, y: F32, cell: Index) -> F32:
    """The surface's z at points in these cells."""
    times = round(LEVELS[-1].spacing_m / CELL_M)
    by_cell = planes.astype(np.float32).repeat(times, axis=0).repeat(times, axis=1).reshape(-1, 3)
    a, b, c = by_cell.take(cell, axis=0).T
    return np.asarray(a + b * x + c * y)


# ---------------------------------------------------------------------------------- the grids


def _count(spacing_m: float) -> int:
    return round(2 * HALF_M / spacing_m)


def _middles(spacing_m: float) -> F64:
    return (np.arange(_count(spacing_m), dtype=np.float64) + 0.5) * spacing_m - HALF_M


def _cells(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], spacing_m: float) -> Index:
    """The cell of each point, x major; the outermost take what lies beyond."""
    count = _count(spacing_m)
    column, row = (
        np.clip((v + HALF_M) * (1.0 / spacing_m), 0.0, count - 1.0).astype(np.int32) for v in (x, y)
    )
    column *= count
    column += row
    return column.astype(np.intp)  # what numpy looks up without converting it every time
