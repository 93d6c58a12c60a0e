"""All sweeps of a set as one cloud in the base frame, for detectors that want every point."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.clouds import CloudPlacer, Mounted, PlacedCloud, mounted
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.staging import Staged
from mm_fusion.samples import LidarSweep, Reason, Rejection, SyncedSet

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class WholeCloud:
    """The finite points of a set in base axes at its stamp, N of them.

    ``xyz`` float32 [3,N]; ``intensity`` float32 [N] 0..1 and ``age_s`` float32 [N] seconds before
    the stamp, where they were asked for. ``sensor`` [2] is where the LIDARs stand, on average.
    ``complete`` tells that no point was left out.
    """

    xyz: F32 = field(default_factory=lambda: np.zeros((3, 0), np.float32))
    intensity: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    age_s: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    sensor: F64 = field(default_factory=lambda: np.zeros(2))
    complete: bool = False


class CloudJoiner:
    """Places sweeps and joins them; keeps its working memory from set to set."""

    def __init__(self, calibration: Calibration, features: bool = False) -> None:
        self._calibration = calibration
        self._features = features
        self._placer = CloudPlacer()

    def join(self, synced: SyncedSet, motion: MotionBuffer | None, staged: Staged) -> WholeCloud:
        """The cloud of a set; a bad sweep costs only itself and is among the rejections.

        Views on memory that the next call overwrites.
        """
        sweeps, unknown = mounted(synced, self._calibration)
        staged.rejections += unknown
        parts: list[tuple[F32, F32, F32]] = []
        places = []
        placed = self._placer.place(sweeps, synced.stamp_ns, motion)
        for m, cloud in zip(sweeps, placed, strict=True):
            with np.errstate(invalid="ignore", over="ignore"):
                finite = np.isfinite(cloud.xyz.sum(axis=0))
            if not finite.any():
                staged.rejections.append(_nothing_of(m.sweep))
                continue
            parts.append(self._part(m, cloud, finite))
            places.append(m.base_from_lidar.translation[:2])
            if motion is not None:
                staged.remarks += _undeskewed(m.sweep, cloud)
        if not parts:
            return WholeCloud()
        columns = parts[0] if len(parts) == 1 else map(_joined, zip(*parts, strict=True))
        xyz, intensity, age_s = columns
        staged.points_used = xyz.shape[1]
        complete = staged.points_used == sum(len(m.sweep.points) for m in sweeps)
        return WholeCloud(xyz, intensity, age_s, np.mean(places, axis=0), complete)

    def _part(
        self, m: Mounted, cloud: PlacedCloud, finite: npt.NDArray[np.bool_]
    ) -> tuple[F32, F32, F32]:
        whole = bool(finite.all())
        xyz = cloud.xyz if whole else cloud.xyz[:, finite]
        nothing = np.zeros(0, np.float32)
        if not self._features:
            return xyz, nothing, nothing
        intensity = np.zeros(len(finite), np.float32)
        if m.sweep.intensity_field:
            with np.errstate(invalid="ignore", over="ignore"):
                raw = m.sweep.points[m.sweep.intensity_field] * m.sweep.intensity_scale
                intensity = np.fmin(np.fmax(raw, 0.0), 1.0).astype(np.float32)
        age_s = np.full(len(finite), max(-cloud.since_s, 0.0), np.float32)
        if cloud.seconds is not None:
            age_s = np.fmax(-cloud.seconds, np.float32(0.0))
        return xyz, intensity[finite], age_s[finite]


def _joined(columns: tuple[F32, ...]) -> F32:
    return np.concatenate(columns, axis=-1)


def _nothing_of(sweep: LidarSweep) -> Rejection:
    reason = Reason.NON_FINITE if len(sweep.points) else Reason.EMPTY_CLOUD
    detail = f"{len(sweep.points)} points, none finite"
    return Rejection(sweep.sensor, sweep.stamp_ns, reason, detail)


def _undeskewed(sweep: LidarSweep, cloud: PlacedCloud) -> list[str]:
    """What was not corrected although it should have been, and why."""
    if cloud.deskewed:
        return []
    why = "no ego motion" if sweep.time_field else (sweep.remark or "no time per point")
    return [f"{sweep.sensor}: not deskewed: {why}"]
