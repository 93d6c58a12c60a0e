"""Sweeps' raw points as columns in the base frame, every point corrected for its own instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import DEGREE, MotionBuffer, MotionPiece
from mm_fusion.samples import NS_PER_S, LidarSweep, Reason, Rejection, SyncedSet

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Points at a time: their features stay in a core's own cache, and are too few for the library of
# linear algebra to wake its threads.
BLOCK = 8192
MAX_AGE_S = 1.0  # no sweep is longer; a point further from the stamp has a broken time


class Mounted(NamedTuple):
    """A sweep with its LIDAR's place, and its stamp on the clock that the set is on."""

    sweep: LidarSweep
    base_from_lidar: RigidTransform
    stamp_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class PlacedCloud:
    """Points in base axes at one instant; views that the next placing overwrites.

    ``xyz`` float32 [3,N] in the order of the sweep, NaN and all. ``seconds`` float32 [N] is each
    point's instant relative to that instant, None where the sweep does not say; ``since_s`` is the
    sweep's stamp relative to it. ``deskewed`` tells whether the motion during the sweep is taken
    out, ``moved`` whether at least that between the sweep's stamp and the instant is.
    """

    xyz: F32
    seconds: F32 | None
    since_s: float
    deskewed: bool
    moved: bool


def mounted(synced: SyncedSet, calibration: Calibration) -> tuple[list[Mounted], list[Rejection]]:
    """The sweeps of a set whose LIDAR has a known place, and a rejection for each of the others."""
    found, unknown = [], []
    for sweep in synced.sweeps:
        base_from_lidar = calibration.base_from(sweep.frame_id)
        if base_from_lidar is None:
            detail = f"nothing connects frame '{sweep.frame_id}' with the base frame"
            unknown.append(Rejection(sweep.sensor, sweep.stamp_ns, Reason.NO_EXTRINSICS, detail))
            continue
        # A sensor's clock may be corrected; the set knows by how much.
        after_ns = synced.dt_ns.get(sweep.sensor, sweep.stamp_ns - synced.stamp_ns)
        found.append(Mounted(sweep, base_from_lidar, synced.stamp_ns + after_ns))
    return found, unknown


class CloudPlacer:
    """From raw sweeps to placed clouds; keeps its working memory from set to set."""

    def __init__(self) -> None:
        self._rows = np.empty((4 * (DEGREE + 1), BLOCK), np.float32)
        self._exact_s = np.empty(BLOCK, np.float64)
        self._xyz = np.empty(0, np.float32)
        self._seconds = np.empty(0, np.float32)

    def place(
        self, sweeps: Sequence[Mounted], stamp_ns: int, motion: MotionBuffer | None
    ) -> list[PlacedCloud]:
        """The sweeps in base axes as they are at ``stamp_ns``, side by side in one buffer.

        Without times, or where the motion is not known for all of a sweep, it is moved as one
        piece from its stamp; without ``motion``, or where that is not known either, it is placed
        as if the base had stood still. One matrix product in each case.
        """
        counts = [len(m.sweep.points) for m in sweeps]
        self._reserve(sum(counts))
        clouds, start = [], 0
        # Broken coordinates stay broken and are sorted out by whoever looks at them.
        with np.errstate(invalid="ignore", over="ignore"):
            for sweep, count in zip(sweeps, counts, strict=True):
                clouds.append(self._place(sweep, stamp_ns, motion, start, count))
                start += count
        return clouds

    def _place(
        self, mounted: Mounted, stamp_ns: int, motion: MotionBuffer | None, start: int, count: int
    ) -> PlacedCloud:
        sweep, base_from_lidar, sweep_ns = mounted
        seconds = pieces = moved = None
        if sweep.time_field:
            seconds = self._seconds[start : start + count]
            self._fill_seconds(seconds, sweep, sweep_ns - stamp_ns)
            if motion is not None:
                pieces = _pieces(motion, seconds, stamp_ns, base_from_lidar)
        if motion is not None and pieces is None:
            moved = motion.base_from_base(stamp_ns, sweep_ns)
        xyz = self._xyz[3 * start : 3 * (start + count)].reshape(3, count)
        placed = base_from_lidar if moved is None else moved @ base_from_lidar
        matrix = placed.matrix()[:3].astype(np.float32)
        columns = [sweep.points[axis] for axis in "xyz"]
        for n, first in enumerate(range(0, count, BLOCK)):
            part = slice(first, min(first + BLOCK, count))
            if pieces is not None:
                matrix = pieces[n].matrix
            rows = self._rows[: matrix.shape[1], : part.stop - first]
            for row, column in zip(rows, columns, strict=False):
                np.copyto(row, column[part], casting="same_kind")
            rows[3] = 1.0
            if pieces is not None and seconds is not None:
                pieces[n].features(rows, seconds[part])
            np.matmul(matrix, rows, out=xyz[:, part])
        known = pieces is not None or moved is not None or sweep_ns == stamp_ns
        return PlacedCloud(xyz, seconds, (sweep_ns - stamp_ns) * 1e-9, pieces is not None, known)

    def _reserve(self, together: int) -> None:
        if len(self._seconds) < together:
            self._xyz = np.empty(3 * together, np.float32)
            self._seconds = np.empty(together, np.float32)

    def _fill_seconds(self, out: F32, sweep: LidarSweep, after_ns: int) -> None:
        values = sweep.points[sweep.time_field]
        offset_ns = float(after_ns + sweep.time_offset_ns)
        if values.dtype == np.float32 and abs(offset_ns) < MAX_AGE_S * NS_PER_S:
            # No more than float32 says is in them: its digits are enough for what they are near.
            np.multiply(values, np.float32(sweep.time_unit_ns * 1e-9), out=out)
            out += np.float32(offset_ns * 1e-9)
            return
        # Absolute times need all digits of float64 until the stamp is taken off.
        for first in range(0, len(out), BLOCK):
            part = slice(first, min(first + BLOCK, len(out)))
            exact = self._exact_s[: part.stop - first]
            np.multiply(values[part], sweep.time_unit_ns, out=exact)
            exact += offset_ns
            np.multiply(exact, 1e-9, out=out[part], casting="same_kind")


def span_ns(sweep: LidarSweep) -> tuple[int, int]:
    """The instants of a sweep's oldest and newest point; its stamp lies between them, and neither
    is more than MAX_AGE_S from it."""
    if not sweep.time_field or not len(sweep.points):
        return sweep.stamp_ns, sweep.stamp_ns
    offset_ns = sweep.points[sweep.time_field].astype(np.float64) * sweep.time_unit_ns
    finite = offset_ns[np.isfinite(offset_ns)]
    if not len(finite):
        return sweep.stamp_ns, sweep.stamp_ns
    most_ns = MAX_AGE_S * NS_PER_S
    before_ns = max(min(sweep.time_offset_ns + float(finite.min()), 0.0), -most_ns)
    after_ns = min(max(sweep.time_offset_ns + float(finite.max()), 0.0), most_ns)
    return sweep.stamp_ns + round(before_ns), sweep.stamp_ns + round(after_ns)


def _pieces(
    motion: MotionBuffer, seconds: F32, stamp_ns: int, base_from_lidar: RigidTransform
) -> list[MotionPiece] | None:
    """The motion during each block of points; None where it is not known for all of them. Times
    that cannot be become NaN."""
    if not len(seconds):
        return None
    starts = np.arange(0, len(seconds), BLOCK)
    lows, highs = np.minimum.reduceat(seconds, starts), np.maximum.reduceat(seconds, starts)
    if not (lows.min() >= -MAX_AGE_S and highs.max() <= MAX_AGE_S):  # NaN comes here too
        seconds[~(np.abs(seconds) <= MAX_AGE_S)] = np.nan
        lows, highs = np.fmin.reduceat(seconds, starts), np.fmax.reduceat(seconds, starts)
        known = np.flatnonzero(np.isfinite(lows))
        if not len(known):
            return None
        without = np.isnan(lows)
        lows[without], highs[without] = lows[known[0]], highs[known[0]]
    course = motion.polynomial(stamp_ns, float(lows.min()), float(highs.max()))
    return None if course is None else course.pieces(lows, highs, base_from_lidar)
