"""The tracker that 3D tracking is usually compared with, as a peer: AB3DMOT's recipe.

Weng, Wang, Held and Kitani, 3D Multi-Object Tracking: A Baseline and New Evaluation Metrics, IROS
2020, with the settings that its authors publish for KITTI: one Kalman filter a track over place,
heading, size and velocity in steps of a frame, boxes matched by generalized overlap, tracks shown
from their third detection on and kept for two frames without. Its boxes are put into the odometry
frame first, so that the robot's own motion is no burden to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import NS_PER_S, Detection, Track

F64 = npt.NDArray[np.float64]


class Rule(NamedTuple):
    """How a class is matched: the nearest first, or the best assignment; the least overlap, or,
    ``apart_m``, the longest distance; detections until a track is shown, frames it is kept."""

    greedy: bool
    least: float
    apart_m: float
    hits: int
    age: int


RULES = {
    "car": Rule(False, -0.2, 0.0, 3, 2),
    "pedestrian": Rule(True, -0.4, 0.0, 1, 4),
    "cyclist": Rule(False, -2.0, 2.0, 3, 4),
}
# The state: x, y, z, heading, length, width, height, and the change of x, y, z a frame.
SIZE, MEASURED = 10, 7
FIRST_VARIANCE, FIRST_VELOCITY_VARIANCE = 10.0, 10_000.0
VELOCITY_NOISE = 0.01


class _One:
    """One track."""

    def __init__(self, number: int, box: F64, score: float) -> None:
        self.number, self.score = number, score
        self.state = np.concatenate([box, np.zeros(SIZE - MEASURED)])
        self.covariance = FIRST_VARIANCE * np.eye(SIZE)
        self.covariance[MEASURED:, MEASURED:] = FIRST_VELOCITY_VARIANCE * np.eye(3)
        self.hits, self.unseen = 1, 0

    def predict(self) -> None:
        f = np.eye(SIZE)
        f[:3, MEASURED:] = np.eye(3)
        noise = np.eye(SIZE)
        noise[MEASURED:, MEASURED:] *= VELOCITY_NOISE
        self.state = f @ self.state
        self.covariance = f @ self.covariance @ f.T + noise
        self.unseen += 1

    def correct(self, box: F64, score: float) -> None:
        off = box - self.state[:MEASURED]
        turn = (off[3] + np.pi) % (2 * np.pi) - np.pi
        # Of a box and the same one back to front, the one that is nearer to the track's heading.
        off[3] = (turn + np.pi / 2) % np.pi - np.pi / 2 if abs(turn) > np.pi / 2 else turn
        spread = self.covariance[:MEASURED, :MEASURED] + np.eye(MEASURED)
        gain = self.covariance[:, :MEASURED] @ np.linalg.inv(spread)
        self.state = self.state + gain @ off
        self.covariance = self.covariance - gain @ self.covariance[:MEASURED]
        self.hits, self.unseen, self.score = self.hits + 1, 0, score


class Ab3dmotTracker:
    """``update`` as Tracker's."""

    def __init__(self) -> None:
        self._tracks: dict[str, list[_One]] = {label: [] for label in RULES}
        self._last = 0
        self._frames = 0
        self._stamp_ns = 0
        self._period_s = 0.1

    def update(
        self, stamp_ns: int, detections: Sequence[Detection], odom_from_base: RigidTransform
    ) -> tuple[Track, ...]:
        """The tracks after the detections of one instant, in the odometry frame."""
        if self._frames:
            self._period_s = (stamp_ns - self._stamp_ns) / NS_PER_S
        self._stamp_ns = stamp_ns
        self._frames += 1
        turned = odom_from_base.yaw_rad()
        out: list[Track] = []
        for label, rule in RULES.items():
            chosen = [d for d in detections if d.label == label]
            boxes = [
                np.array([*odom_from_base.apply(d.center), d.yaw + turned, *d.size]) for d in chosen
            ]
            self._follow(label, rule, boxes, [d.score for d in chosen])
            for t in self._tracks[label]:
                if t.unseen < rule.age and (t.hits >= rule.hits or self._frames <= rule.hits):
                    out.append(self._track(t, label))
            self._tracks[label] = [t for t in self._tracks[label] if t.unseen < rule.age]
        return tuple(out)

    def _follow(self, label: str, rule: Rule, boxes: list[F64], scores: list[float]) -> None:
        tracks = self._tracks[label]
        for t in tracks:
            t.predict()
        free = set(range(len(boxes)))
        for n, k in _matched(rule, [t.state[:MEASURED] for t in tracks], boxes):
            tracks[n].correct(boxes[k], scores[k])
            free.discard(k)
        for k in sorted(free):
            self._last += 1
            tracks.append(_One(self._last, boxes[k], scores[k]))

    def _track(self, t: _One, label: str) -> Track:
        x = t.state
        velocity = x[MEASURED : MEASURED + 2] / self._period_s
        size, age_s = x[4:MEASURED].copy(), t.unseen * self._period_s
        box = (t.number, label, t.score, x[:3].copy(), size, float(x[3]), velocity)
        return Track(*box, np.eye(4), t.hits, age_s)


def _matched(rule: Rule, tracks: list[F64], boxes: list[F64]) -> list[tuple[int, int]]:
    if not tracks or not boxes:
        return []
    if rule.apart_m > 0.0:
        value = np.array([[-np.linalg.norm((t - b)[:3]) for b in boxes] for t in tracks])
        least = -rule.apart_m
    else:
        value = np.array([[overlap(t, b) for b in boxes] for t in tracks])
        least = rule.least
    if not rule.greedy:
        pairs = list(zip(*linear_sum_assignment(-value), strict=True))
        return [(int(n), int(k)) for n, k in pairs if value[n, k] >= least]
    out: list[tuple[int, int]] = []
    for flat in np.argsort(-value, axis=None).tolist():
        n, k = divmod(flat, len(boxes))
        if value[n, k] < least:
            break
        if all(n != i and k != j for i, j in out):
            out.append((n, k))
    return out


def overlap(a: F64, b: F64) -> float:
    """Generalized intersection over union, -1 to 1, of two upright boxes [7] (centre, heading,
    length, width, height): Rezatofighi et al., 2019; the hull is that of both footprints, as high
    as both together."""
    if np.hypot(*(a - b)[:2]) > 15.0:
        return -1.0
    foot = [
        ((float(x[0]), float(x[1])), (float(x[4]), float(x[5])), np.rad2deg(x[3])) for x in (a, b)
    ]
    _, common = cv2.rotatedRectangleIntersection(foot[0], foot[1])
    shared = 0.0 if common is None else float(cv2.contourArea(cv2.convexHull(common)))
    top = [x[2] + x[6] / 2 for x in (a, b)]
    low = [x[2] - x[6] / 2 for x in (a, b)]
    both = shared * max(min(top) - max(low), 0.0)
    union = float(np.prod(a[4:7]) + np.prod(b[4:7])) - both
    corners = np.concatenate([cv2.boxPoints(f) for f in foot])
    hull = float(cv2.contourArea(cv2.convexHull(corners))) * (max(top) - min(low))
    return both / union - (hull - union) / hull
