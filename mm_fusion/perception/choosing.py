"""Which points of sweeps the network gets, told before any of them is corrected for its instant.

A sweep may have several times the points that the network takes. To tell which are inside its
volume, and how far they are, they are moved in a few pieces; only those that are chosen need be
placed exactly. By how much the pieces may be off, the volume is looked at as larger, and the exact
places decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.perception.clouds import MAX_AGE_S, Mounted
from mm_fusion.perception.contract import Range
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.thinning import thinned
from mm_fusion.samples import NS_PER_S, LidarSweep

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BLOCK = 16384  # points at a time: what is made of them stays in a core's own cache
TIMES = 8  # points of a part that tell from when to when it lasts


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A sweep's points in rough places: squares of their horizontal distances from the base
    float32 [N] (m^2), which are inside, and how many; views that the next looking overwrites."""

    range2_m2: F32
    inside: Bools
    count: int


class Chooser:
    """Chooses at most ``budget`` points of the sweeps of a set; keeps its working memory."""

    def __init__(self, volume: Range, budget: int) -> None:
        self._volume, self._budget = volume, budget
        self._rows = np.ones((4, BLOCK), np.float32)
        self._base = np.empty((3, BLOCK), np.float32)
        self._part = np.empty(BLOCK, np.bool_)
        self._range2_m2 = np.empty(0, np.float32)
        self._inside = np.empty(0, np.bool_)

    def chosen(
        self, sweeps: Sequence[Mounted], stamp_ns: int, motion: MotionBuffer | None
    ) -> tuple[list[Mounted], bool]:
        """The sweeps with those of their points that may be of use, in their order, and whether
        some had to go that would have been.

        Every sweep gets its share of the budget. Where all points fit into it, all of them stay,
        those outside of the volume, too.
        """
        together = sum(len(m.sweep.points) for m in sweeps)
        if together <= self._budget:
            return list(sweeps), False
        if len(self._inside) < together:
            self._range2_m2 = np.empty(together, np.float32)
            self._inside = np.empty(together, np.bool_)
        looks, start = [], 0
        for mounted in sweeps:
            looks.append(self._look(mounted, stamp_ns, motion, start))
            start += len(mounted.sweep.points)
        total = sum(look.count for look in looks)
        out = []
        for mounted, look in zip(sweeps, looks, strict=True):
            share = min(look.count, self._budget * look.count // max(total, self._budget))
            kept = thinned(look.range2_m2, share, among=look.inside)
            few = replace(mounted.sweep, points=_rows(mounted.sweep.points, kept))
            out.append(mounted._replace(sweep=few))
        return out, total > self._budget

    def _look(
        self, mounted: Mounted, stamp_ns: int, motion: MotionBuffer | None, start: int
    ) -> _Look:
        points = mounted.sweep.points
        count = len(points)
        parts = [slice(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK)]
        matrices, limits = self._roughly(mounted, stamp_ns, motion, parts)
        range2_m2 = self._range2_m2[start : start + count]
        inside = self._inside[start : start + count]
        columns = [points[axis] for axis in "xyz"]
        # Broken coordinates stay broken: comparisons with NaN are false.
        with np.errstate(invalid="ignore", over="ignore"):
            for part, matrix, limit in zip(parts, matrices, limits, strict=True):
                length = part.stop - part.start
                rows, base = self._rows[:, :length], self._base[:, :length]
                for row, column in zip(rows, columns, strict=False):
                    np.copyto(row, column[part], casting="same_kind")
                np.matmul(matrix, rows, out=base)
                self._enter(base, limit, inside[part])
                np.multiply(base[0], base[0], out=range2_m2[part])
                range2_m2[part] += np.multiply(base[1], base[1], out=base[2])
        return _Look(range2_m2, inside, int(np.count_nonzero(inside)))

    def _enter(self, base: F32, limits: F32, inside: Bools) -> None:
        """Which points [3,N] are within ``limits`` float32 [2,3], low and high."""
        part = self._part[: len(inside)]
        np.greater_equal(base[0], limits[0, 0], out=inside)
        for row, low in zip(base[1:], limits[0, 1:], strict=True):
            inside &= np.greater_equal(row, low, out=part)
        for row, high in zip(base, limits[1], strict=True):
            inside &= np.less(row, high, out=part)

    def _roughly(
        self,
        mounted: Mounted,
        stamp_ns: int,
        motion: MotionBuffer | None,
        parts: Sequence[slice],
    ) -> tuple[F32, F32]:
        """``base_from_lidar`` float32 [M,3,4] in the middle of the time of each part of a sweep,
        and the volume's limits float32 [M,2,3], wider by as much as a point at its end may be off.
        """
        sweep, base_from_lidar, sweep_ns = mounted
        v = self._volume
        limits = np.array([v.x_m, v.y_m, v.z_m]).T
        moves = None
        if motion is not None:
            ends = (_ends_of_parts_ns(sweep) + sweep_ns).reshape(-1).tolist()
            moves = motion.bases(stamp_ns, ends)
            if moves is None:
                moves = motion.bases(stamp_ns, [sweep_ns] * len(ends))
        if moves is None:
            moves = np.broadcast_to(np.eye(3, 4), (2 * len(parts), 3, 4))
        first, last = moves[::2], moves[1::2]
        matrices = (first + last) / 2.0 @ base_from_lidar.matrix()
        off_m = np.abs(last - first) / 2.0 @ np.append(np.abs(limits).max(axis=0), 1.0)
        wider = limits + off_m[:, None] * np.array([[-1.0], [1.0]])
        return matrices.astype(np.float32), wider.astype(np.float32)


def ends_ns(sweep: LidarSweep) -> tuple[int, int]:
    """When the first and the last of a sweep's points were seen, relative to its stamp, as far as
    some of them can tell; 0 and 0 where none does."""
    if not sweep.time_field or not len(sweep.points):
        return 0, 0
    column = sweep.points[sweep.time_field]
    some = np.append(column[:: max(len(column) // TIMES, 1)], column[-1])
    able = _able_ns(sweep, some)
    able = able[np.isfinite(able)].tolist()
    return (round(min(able)), round(max(able))) if able else (0, 0)


def _ends_of_parts_ns(sweep: LidarSweep) -> npt.NDArray[np.int64]:
    """The same for each part of BLOCK points [M,2]; that of the whole for a part that does not tell
    and for a short one at the end."""
    first_ns, last_ns = ends_ns(sweep)
    count = -(-len(sweep.points) // BLOCK)
    out = np.empty((count, 2))
    out[:] = first_ns, last_ns
    if sweep.time_field:
        some = _able_ns(sweep, sweep.points[sweep.time_field][:: BLOCK // TIMES])
        starts = np.arange(0, len(some), TIMES)
        low, high = np.fmin.reduceat(some, starts), np.fmax.reduceat(some, starts)
        told = np.isfinite(low) & (np.diff(starts, append=len(some)) == TIMES)
        # A part goes on for a step behind the last point that was looked at.
        out[told, 0], out[told, 1] = low[told], (high + (high - low) / (TIMES - 1))[told]
    return out.round().astype(np.int64)


def _able_ns(sweep: LidarSweep, times: npt.NDArray[Any]) -> F64:
    """Values of a time field in ns after the stamp; NaN where that cannot be."""
    after_ns = times.astype(np.float64) * sweep.time_unit_ns + sweep.time_offset_ns
    after_ns[~(np.abs(after_ns) <= MAX_AGE_S * NS_PER_S)] = np.nan
    return after_ns


def _rows(points: npt.NDArray[np.void], kept: npt.NDArray[np.intp]) -> npt.NDArray[np.void]:
    """Some of the points. Taken as so many bytes each: field by field takes longer."""
    if not points.flags.c_contiguous:
        return points[kept]
    whole = points.view(np.dtype((np.void, points.dtype.itemsize)))
    return whole.take(kept).view(points.dtype)
