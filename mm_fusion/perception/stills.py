"""Pictures that show nothing of the world as it is are withheld: old ones, and black ones.

Black pictures come from a camera that is covered or does not expose. They say that nothing is
there, which is not so.

A frozen camera shows the world from where the vehicle was. Projected from where it is now, its
picture says that objects are where none are, which is worse than no picture. Real cameras never
give the same bytes twice; a simulated one without noise does where nothing moves, and then the
picture is as good as new: so what decides is whether the vehicle has moved.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from mm_fusion.geometry import RigidTransform
from mm_fusion.health.pictures import look_at
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.samples import NS_PER_S, CameraFrame, Reason, Rejection, SyncedSet

MOVED_M, TURNED_RAD = 0.2, 0.01  # some pixels, at ten metres
UNKNOWN_MOTION_NS = NS_PER_S  # no longer without knowing whether the vehicle moved


class _First(NamedTuple):
    """When a camera's present picture was first seen, where the vehicle was (found once it comes
    again), whether it has moved since then."""

    mark: int
    exposure_ns: int
    odom_from_base: RigidTransform | None = None
    moved: bool = False


class StillPictures:
    """Remembers the last picture of every camera. Sets in their order; a set that is not newer than
    the one before begins anew."""

    def __init__(self) -> None:
        self._first: dict[str, _First] = {}
        self._last_ns = 0

    def withdrawn(
        self, synced: SyncedSet, motion: MotionBuffer
    ) -> tuple[SyncedSet, list[Rejection]]:
        """The set without pictures that are black, or stand still although the vehicle moved."""
        if synced.stamp_ns <= self._last_ns:
            self._first.clear()
        self._last_ns = synced.stamp_ns
        refused = {}
        for slot, frame in enumerate(synced.cameras):
            if frame is not None:
                offset_ns = synced.dt_ns.get(frame.sensor, frame.stamp_ns - synced.stamp_ns)
                look, reason = look_at(frame), Reason.STALE
                why = self._why_not(frame, look.mark, synced.stamp_ns + offset_ns, motion)
                if look.black:
                    why, reason = "a black picture: covered, or not exposed", Reason.BLANK
                if why:
                    refused[slot] = Rejection(frame.sensor, frame.stamp_ns, reason, why)
        if not refused:
            return synced, []
        left = tuple(None if n in refused else f for n, f in enumerate(synced.cameras))
        return replace(synced, cameras=left), list(refused.values())

    def _why_not(
        self, frame: CameraFrame, mark: int, exposure_ns: int, motion: MotionBuffer
    ) -> str:
        """Why a picture is not to be used for its age, "" where it is."""
        first = self._first.get(frame.sensor)
        if first is None or first.mark != mark:
            self._first[frame.sensor] = _First(mark, exposure_ns)
            return ""
        age_ns = exposure_ns - first.exposure_ns
        if age_ns <= 0:  # the very picture: two sets may share one
            return ""
        said = f"the same picture as {age_ns / NS_PER_S:.1f} s before, and"
        if not first.moved:
            then, now = first.odom_from_base, motion.odom_from_base(exposure_ns)
            if then is None:
                then = motion.odom_from_base(first.exposure_ns)
                self._first[frame.sensor] = first = first._replace(odom_from_base=then)
            if then is None or now is None:
                return f"{said} no ego motion known" if age_ns > UNKNOWN_MOTION_NS else ""
            if not _has_moved(then, now):
                return ""
            self._first[frame.sensor] = first._replace(moved=True)
        return f"{said} the vehicle moved"


def _has_moved(then: RigidTransform, now: RigidTransform) -> bool:
    way = then.inverse() @ now
    turned_rad = Rotation.from_matrix(way.rotation).magnitude()
    return bool(np.linalg.norm(way.translation) > MOVED_M or turned_rad > TURNED_RAD)
