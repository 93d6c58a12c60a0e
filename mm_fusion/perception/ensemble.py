"""Two detectors at work on the same sets: what both see is one box, and says that both saw it; what
the first alone sees, the second's pictures are asked about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mm_fusion.perception.contract import Range
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.staging import Staged
from mm_fusion.perception.witness import doubted, weighed
from mm_fusion.samples import Detection, SyncedSet

SAME_M = 2.0  # centres of cars nearer to each other than that are one car's
SAME_SMALL_M = 1.0  # of people
LARGE_M = 2.5  # whose longer side is less than that is small
WEAK = 0.1  # the least score of a box that another detector may confirm
GUESSED_M = 6.0  # a box whose range is guessed may be that far off along its ray
BEARING_RAD = 0.05


class EnsembleNetwork:
    """Networks loaded side by side; the first one's boxes win where both see a thing."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second
        self.provider, self.reason = first.provider, first.reason
        self.model_path = f"{first.model_path} + {second.model_path}"

    def facts(self) -> dict[str, Any]:
        """What a summary says: the first one's, with the second one's beside it."""
        return {**self.first.facts(), "with": self.second.facts()}


class EnsembleDetector:
    """The fusion network and a camera detector; see Detector. Both stage and detect, in turn.

    The first one is asked for weak boxes as well (WEAK); ``threshold`` is for what nobody else
    confirms, ``range_m`` where the first one looks. What the second one does not box in 3D itself,
    its pictures are asked about; see witness.
    """

    def __init__(self, first: Any, second: Any, threshold: float, range_m: Range) -> None:
        self._first, self._second = first, second
        self._threshold, self._range = threshold, range_m
        self._staged: Staged | None = None

    def stage(self, synced: SyncedSet, motion: MotionBuffer) -> Staged:
        """Make the set ready for both. What one refused and the other could use is not refused."""
        one, other = self._first.stage(synced, motion), self._second.stage(synced, motion)
        self._staged = other
        count = max(len(one.has_image), len(other.has_image))
        seen = [_flag(one, n) or _flag(other, n) for n in range(count)]
        refused = {(r.sensor, r.reason): r for r in (*one.rejections, *other.rejections)}
        both = {r.sensor for r in one.rejections} & {r.sensor for r in other.rejections}
        staged = Staged(
            has_points=one.has_points or other.has_points,
            has_image=tuple(seen),
            rejections=[r for r in refused.values() if r.sensor in both],
            remarks=list(dict.fromkeys((*one.remarks, *other.remarks))),
            points_used=max(one.points_used, other.points_used),
        )
        self._one = one
        return staged

    def detect(self, staged: Staged, stamp_ns: int) -> tuple[Detection, ...]:
        """The boxes of both, each thing once."""
        assert self._staged is not None
        one, other = self._one, self._staged
        marks = len(one.rejections), len(other.rejections), len(one.remarks), len(other.remarks)
        first = self._first.detect(one, stamp_ns)
        second = self._second.detect(other, stamp_ns)
        staged.ground = one.ground or other.ground
        staged.rejections += one.rejections[marks[0] :] + other.rejections[marks[1] :]
        staged.remarks += one.remarks[marks[2] :] + other.remarks[marks[3] :]
        found = self._weighed(first, second, one.has_points and any(one.has_image))
        return tuple(sorted(found, key=lambda d: -d.score))

    def _weighed(
        self, first: Sequence[Detection], second: Sequence[Detection], all_there: bool
    ) -> Iterator[Detection]:
        """The boxes of both, each thing once, with what each detector says about the other's."""
        told = weighed(first, self._second.glances, self._second.labels)
        # whose box is joined has its second witness in that; only silence tells before
        before = [b if b.score < a.score else a for a, b in zip(first, told, strict=True)]
        after = {id(b): t for b, t in zip(before, told, strict=True)}
        for box in merged(before, second):
            found = after.get(id(box), box)
            by = found.source.split("+")
            if "camera2d" in by and "fusion" not in by and all_there and self._reaches(found):
                yield doubted(found)
                continue
            alone = "fusion" in by and not {"camera2d", "bearing"} & {*by}
            if not alone or found.score >= self._threshold:
                yield found

    def _reaches(self, found: Detection) -> bool:
        bounds = (self._range.x_m, self._range.y_m)
        return all(low <= at <= high for (low, high), at in zip(bounds, found.center, strict=False))


def _flag(staged: Staged, n: int) -> bool:
    return n < len(staged.has_image) and staged.has_image[n]


def merged(first: Sequence[Detection], second: Sequence[Detection]) -> tuple[Detection, ...]:
    """Boxes of two detectors, each thing once, best first.

    Best scores choose first. Two boxes are one thing's where their centres are near and their
    classes agree, or one of them is unknown. The box is the first detector's unless its range is
    guessed and the second's is not, or it has no name; the score says that two saw it:
    1 - (1 - a)(1 - b), and ``source`` names both.
    """
    left = sorted(second, key=lambda d: -d.score)
    out = []
    for one in sorted(first, key=lambda d: -d.score):
        near = [(_apart(one, other), n) for n, other in enumerate(left) if _agree(one, other)]
        best = min(near, default=(np.inf, -1))
        if best[0] <= 1.0:
            out.append(_joined(one, left.pop(best[1])))
        else:
            out.append(one)
    return tuple(sorted((*out, *left), key=lambda d: -d.score))


def _agree(a: Detection, b: Detection) -> bool:
    if "unknown" in (a.label, b.label):
        return a.label != b.label
    return a.label == b.label


def _apart(a: Detection, b: Detection) -> float:
    """Distance over that at which two boxes would just be one thing's."""
    off = float(np.linalg.norm(a.center[:2] - b.center[:2]))
    size = max(float(a.size[0]), float(b.size[0]))
    if "bearing" in (a.source, b.source):
        turn = np.arctan2(a.center[1], a.center[0]) - np.arctan2(b.center[1], b.center[0])
        turn = abs(float(np.arctan2(np.sin(turn), np.cos(turn))))
        return max(off / GUESSED_M, turn / BEARING_RAD)
    return off / (SAME_M if size > LARGE_M else SAME_SMALL_M)


def _joined(a: Detection, b: Detection) -> Detection:
    weak = a.source == "bearing" or a.label == "unknown"
    kept, other = (b, a) if weak and b.source != "bearing" else (a, b)
    score = 1.0 - (1.0 - a.score) * (1.0 - b.score)
    if "unknown" in (a.label, b.label):
        score = kept.score  # a cluster under a box is no second witness of its name
    label = other.label if kept.label == "unknown" else kept.label
    return Detection(
        label,
        float(score),
        kept.center,
        kept.size,
        kept.yaw,
        kept.velocity,
        "+".join(sorted({*a.source.split("+"), *b.source.split("+")})),
        kept.covariance if kept.covariance is not None else other.covariance,
    )
