"""The open files of one run, filled answer by answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TextIO

import numpy as np

from mm_fusion.errors import MmFusionError
from mm_fusion.evaluation import records
from mm_fusion.geodesy import LocalTangentPlane
from mm_fusion.samples import FusionResult, GnssFix, PoseEstimate

Datum = tuple[float, float, float]  # latitude, longitude (deg), ellipsoidal height (m)


class Files:
    """Writes ``detections.jsonl``, ``tracks.jsonl``, ``timing.jsonl`` and the trajectories.

    A context manager. Raises MmFusionError where the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name in records.LATER:
                (directory / name).unlink(missing_ok=True)  # of an earlier run
            self._detections = self._open(records.DETECTIONS)
            self._tracks = self._open(records.TRACKS)
            self._timing = self._open(records.TIMING)
            self._covariances = self._open(records.COVARIANCE)
            self._poses = {True: self._open(records.POSE), False: self._open(records.POSE_LOCAL)}
        except OSError as error:
            raise MmFusionError(f"{directory}: cannot be written: {error.strerror}") from error
        # Several estimates of one stamp (a fix is applied) count as one: the last.
        self._pending: dict[bool, PoseEstimate] = {}

    def _open(self, name: str) -> TextIO:
        return self._stack.enter_context((self._directory / name).open("w", encoding="utf-8"))

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for is_global, estimate in self._pending.items():
            self._write(is_global, estimate)
        self._pending.clear()
        self._stack.close()

    def result(self, result: FusionResult) -> None:
        """One answered set."""
        self._detections.write(records.detections_line(result))
        self._tracks.write(records.tracks_line(result))
        self._timing.write(records.timing_line(result))

    def pose(self, estimate: PoseEstimate, is_global: bool) -> None:
        """One pose, into ``pose.tum`` (global) or ``pose_local.tum``."""
        before = self._pending.get(is_global)
        if before is not None and before.stamp_ns != estimate.stamp_ns:
            self._write(is_global, before)
        self._pending[is_global] = estimate

    def _write(self, is_global: bool, estimate: PoseEstimate) -> None:
        self._poses[is_global].write(records.pose_line(estimate))
        if is_global:
            self._covariances.write(records.covariance_line(estimate))

    def gps(
        self, fixes: Sequence[GnssFix], datum: Datum | None, refused: Mapping[int, str]
    ) -> None:
        """The raw fixes in ENU about the datum as ``gps.tum``, and as ``fixes.jsonl`` with what
        became of them (``refused``: reasons by stamp); nothing without a datum.
        """
        if datum is None:
            return
        plane = LocalTangentPlane(*datum)
        upright = np.array([0.0, 0.0, 0.0, 1.0])
        with ExitStack() as stack:
            track, verdicts = (
                stack.enter_context((self._directory / name).open("w", encoding="utf-8"))
                for name in (records.GPS, records.FIXES)
            )
            for fix in fixes:
                place = plane.to_enu(fix.latitude_deg, fix.longitude_deg, fix.altitude_m)
                track.write(records.tum_line(fix.stamp_ns, place, upright))
                if not np.isfinite(place).all():
                    continue
                variance = np.nan_to_num(np.diagonal(fix.covariance), posinf=0.0, neginf=0.0)
                sigma = np.sqrt(np.maximum(variance, 0.0))
                why = refused.get(fix.stamp_ns, "")
                verdicts.write(records.fix_line(fix.stamp_ns, place, sigma, why))
