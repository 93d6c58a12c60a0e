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

from functools import cache
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
    height = z - _at(_surface(xyz, cell), x, y, cell)
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


def _surface(xyz: F32, cell: Index) -> F32:
    """Planes (offset at the frame's origin, slope along x, slope along y) [n*n,3] on the finest
    grid."""
    low = np.full(_count(CELL_M) ** 2, NOTHING)
    np.minimum.at(low, cell, xyz[2])
    above = xyz[2] - low.take(cell)
    wall = np.zeros(len(low), np.bool_)
    wall[cell[above > WALL_M]] = True
    chosen = np.flatnonzero(above == 0.0)
    seen = _Lowest(xyz.take(chosen, axis=1), wall.take(cell.take(chosen)))
    fine = _count(LEVELS[-1].spacing_m)
    total = np.zeros((fine, fine, 3))
    for level in LEVELS:
        planes = seen.explain(level)
        times = fine // len(planes)
        total += planes.repeat(times, axis=0).repeat(times, axis=1)
    return total.astype(np.float32).reshape(-1, 3)


class _Lowest:
    """The lowest points of the cells, and the surface that explains them so far."""

    def __init__(self, xyz: F32, wall: Bools) -> None:
        x, y, z = self._xyz = xyz.astype(np.float64)
        self._weight = np.where(wall, WALL_WEIGHT, 1.0)
        self._surface = np.zeros(len(z))
        self._shapes: F64 = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y, x, x, x], axis=1)

    def explain(self, level: Level) -> F64:
        """The planes [n,n,3] of one grid: what they add to the surface."""
        x, y, z = self._xyz
        before, left = self._surface, z - self._surface
        for n, column in enumerate((left, x * left, y * left)):
            self._shapes[:, 6 + n] = column
        # Point by point, the node that it counts for: summing by node is a product with this.
        count = _count(level.spacing_m)
        node = _cells(x, y, level.spacing_m)
        by_node = csc_array((left, node, np.arange(len(z) + 1)), shape=(count**2, len(z)))
        planes = np.zeros((count, count, 3))
        for _ in range(level.passes):
            by_node.data = self._weights(level)
            planes = _planes((by_node @ self._shapes).reshape(count, count, -1), level)
            a, b, c = planes.reshape(-1, 3).take(node, axis=0).T
            self._surface = before + a + b * x + c * y
        return planes

    def _weights(self, level: Level) -> F64:
        """What is off the surface so far weighs less, above it more so than below: by the fourth
        power, and by the second."""
        off = (self._xyz[2] - self._surface) / level.above_m
        below = off < 0.0
        off = np.where(below, off / -BELOW, off * off)
        weight = np.where(below, 1.0, self._weight)
        return np.asarray(weight / np.square(np.maximum(off, 1.0)))


def _planes(sums: F64, level: Level) -> F64:
    """Planes [n,n,3] from each node's own sums [n,n,9] of w (1, x, y, xx, xy, yy, r, xr, yr): the
    window's weighted least squares about every node, with a prior of zero."""
    window, prior = _window(level)
    near = cv2.sepFilter2D(sums, cv2.CV_64F, window, window, borderType=cv2.BORDER_CONSTANT)
    w, x, y, xx, xy, yy, r, xr, yr = np.moveaxis(np.asarray(near, np.float64) + prior, 2, 0)
    middle_x, middle_y = x / w, y / w
    xx, xy, yy = xx - middle_x * x, xy - middle_x * y, yy - middle_y * y
    xr, yr = xr - middle_x * r, yr - middle_y * r
    determinant = xx * yy - xy * xy
    b = (xr * yy - yr * xy) / determinant
    c = (yr * xx - xr * xy) / determinant
    return np.stack([r / w - b * middle_x - c * middle_y, b, c], axis=-1)


@cache
def _window(level: Level) -> tuple[F64, F64]:
    """A level's Gaussian window over nodes; and the sums [n,n,9] of the prior, some cells without a
    rest, spread about each node."""
    reach = int(np.ceil(2.5 * level.window))
    window: F64 = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / level.window))
    x, y = np.meshgrid(_middles(level.spacing_m), _middles(level.spacing_m), indexing="ij")
    spread = (level.window * level.spacing_m) ** 2
    zero = np.zeros_like(x)
    sums = [zero + 1.0, x, y, x * x + spread, x * y, y * y + spread, zero, zero, zero]
    return window, PRIOR * np.stack(sums, axis=-1)


def _at(planes: F32, x: F32, y: F32, cell: Index) -> F32:
    """The surface's z at points in these cells."""
    node = _node_of_cell().take(cell)
    a, b, c = (column.take(node) for column in planes.T.copy())
    b *= x
    c *= y
    a += b
    a += c
    return a


# ---------------------------------------------------------------------------------- the grids


def _count(spacing_m: float) -> int:
    return round(2 * HALF_M / spacing_m)


@cache
def _node_of_cell() -> Index:
    """The node of the finest grid that each cell belongs to."""
    times = round(LEVELS[-1].spacing_m / CELL_M)
    node = np.arange(_count(CELL_M)) // times
    return np.add.outer(node * _count(LEVELS[-1].spacing_m), node).reshape(-1)


def _middles(spacing_m: float) -> F64:
    return (np.arange(_count(spacing_m), dtype=np.float64) + 0.5) * spacing_m - HALF_M


def _cells(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], spacing_m: float) -> Index:
    """The cell of each point, x major; the outermost take what lies beyond."""
    count = _count(spacing_m)
    column, row = v = np.stack([x, y])
    v += HALF_M
    v *= 1.0 / spacing_m
    np.clip(v, 0.0, count - 1.0, out=v)
    cell = column.astype(np.intp)  # what numpy looks up without converting it every time
    cell *= count
    cell += row.astype(np.intp)
    return cell
