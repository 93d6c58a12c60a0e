"""The tracker that anybody would write first, as a baseline: each detection goes to the nearest
track within reach, the nearest pairs first; velocities are differences of places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import NS_PER_S, Detection, Track

F64 = npt.NDArray[np.float64]

REACH_M = 2.0
HITS = 2
COAST_S = 0.3
SMOOTHING = 0.3  # of the velocity


@dataclass(slots=True)
class _One:
    number: int
    box: Detection
    center: F64
    yaw: float
    velocity: F64
    seen_ns: int
    hits: int = 1


class NearestTracker:
    """``update`` as Tracker's; every detection is as good as any other."""

    def __init__(self) -> None:
        self._tracks: list[_One] = []
        self._last = 0

    def update(
        self, stamp_ns: int, detections: Sequence[Detection], odom_from_base: RigidTransform
    ) -> tuple[Track, ...]:
        """The tracks after the detections of one instant, in the odometry frame."""
        centers = [odom_from_base.apply(d.center) for d in detections]
        turned = odom_from_base.yaw_rad()
        pairs = sorted(
            (float(np.hypot(*(c - t.center)[:2])), n, k)
            for n, t in enumerate(self._tracks)
            for k, c in enumerate(centers)
            if t.box.label == detections[k].label
        )
        tracks, found = set(), set()
        for distance, n, k in pairs:
            if distance < REACH_M and n not in tracks and k not in found:
                tracks.add(n)
                found.add(k)
                self._take(self._tracks[n], detections[k], centers[k], turned, stamp_ns)
        for k, box in enumerate(detections):
            if k not in found:
                self._last += 1
                start = (self._last, box, centers[k], box.yaw + turned, np.zeros(2), stamp_ns)
                self._tracks.append(_One(*start))
        longest_ns = COAST_S * NS_PER_S
        self._tracks = [t for t in self._tracks if stamp_ns - t.seen_ns <= longest_ns]
        return tuple(_track(t, stamp_ns) for t in self._tracks if t.hits >= HITS)

    def _take(self, t: _One, box: Detection, center: F64, turned: float, stamp_ns: int) -> None:
        elapsed_s = (stamp_ns - t.seen_ns) / NS_PER_S
        if elapsed_s > 0.0:
            t.velocity = t.velocity + SMOOTHING * ((center - t.center)[:2] / elapsed_s - t.velocity)
        t.box, t.center, t.yaw, t.seen_ns = box, center, box.yaw + turned, stamp_ns
        t.hits += 1


def _track(t: _One, stamp_ns: int) -> Track:
    age_s = (stamp_ns - t.seen_ns) / NS_PER_S
    box = (t.box.label, t.box.score, t.center, t.box.size, t.yaw, t.velocity)
    return Track(t.number, *box, np.eye(4), t.hits, age_s)
