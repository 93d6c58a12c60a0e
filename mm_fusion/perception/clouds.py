"""A sweep's raw points as columns in the base frame, every point corrected for its own instant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.deskew import DEGREE, MotionBuffer, MotionPolynomial
from mm_fusion.samples import LidarSweep

F32 = npt.NDArray[np.float32]

MAX_AGE_S = 1.0  # no sweep is longer; a point further from the stamp has a broken time


@dataclass(frozen=True, slots=True, eq=False)
class PlacedCloud:
    """Points in base axes at one instant; views that the next sweep overwrites.

    ``xyz`` float32 [3,N] in the order of the sweep, NaN and all. ``seconds`` float32 [N] is each
    point's instant relative to the stamp, None where the sweep does not say. ``deskewed`` tells
    whether the motion during the sweep is taken out.
    """

    xyz: F32
    seconds: F32 | None
    deskewed: bool


class CloudPlacer:
    """From raw sweeps to placed clouds; keeps its working memory between sweeps."""

    def __init__(self) -> None:
        self._rows = np.empty(0, np.float32)
        self._xyz = np.empty(0, np.float32)

    def place(
        self,
        sweep: LidarSweep,
        base_from_lidar: RigidTransform,
        stamp_ns: int,
        motion: MotionBuffer | None,
    ) -> PlacedCloud:
        """The sweep in base axes as they are at ``stamp_ns``.

        Without ``motion``, without times or where the motion is not known, the sweep is placed as
        if the sensor had stood still. One matrix product in either case.
        """
        # Broken coordinates stay broken and are sorted out by whoever looks at them.
        with np.errstate(invalid="ignore", over="ignore"):
            seconds = _seconds(sweep, stamp_ns) if sweep.time_field else None
            course = None
            if motion is not None and seconds is not None:
                course = _course(motion, seconds, stamp_ns)
            rows, xyz = self._memory(len(sweep.points), 4 * (DEGREE + 1) if course else 4)
            for row, axis in zip(rows, "xyz", strict=False):
                np.copyto(row, sweep.points[axis], casting="same_kind")
            rows[3] = 1.0
            if course is None or seconds is None:
                np.matmul(base_from_lidar.matrix()[:3].astype(np.float32), rows, out=xyz)
            else:
                course.features(rows, seconds)
                np.matmul(course.stacked(base_from_lidar), rows, out=xyz)
        return PlacedCloud(xyz, seconds, course is not None)

    def _memory(self, count: int, features: int) -> tuple[F32, F32]:
        if self._xyz.size < 3 * count:
            self._rows = np.empty(4 * (DEGREE + 1) * count, np.float32)
            self._xyz = np.empty(3 * count, np.float32)
        rows = self._rows[: features * count].reshape(features, count)
        return rows, self._xyz[: 3 * count].reshape(3, count)


def _seconds(sweep: LidarSweep, stamp_ns: int) -> F32:
    # Absolute times need all digits of float64 until the stamp is taken off.
    seconds = sweep.points[sweep.time_field].astype(np.float64)
    seconds *= sweep.time_unit_ns
    seconds += float(sweep.stamp_ns - stamp_ns + sweep.time_offset_ns)
    seconds *= 1e-9
    return seconds.astype(np.float32)


def _course(motion: MotionBuffer, seconds: F32, stamp_ns: int) -> MotionPolynomial | None:
    first_s, last_s = float(seconds.min()), float(seconds.max())
    if not (first_s >= -MAX_AGE_S and last_s <= MAX_AGE_S):  # NaN comes here too
        seconds[~(np.abs(seconds) <= MAX_AGE_S)] = np.nan
        if np.isnan(seconds).all():
            return None
        first_s, last_s = float(np.nanmin(seconds)), float(np.nanmax(seconds))
    return motion.polynomial(stamp_ns, first_s, last_s)
