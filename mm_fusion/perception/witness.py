"""What pictures say about boxes that another network found: a detector that looks at the same place
is a witness for a box where it boxes something of its class, and against it where it does not.

Only who could see it is asked: an object in plain view, large enough, not behind another box. How
much silence weighs depends on how reliable the witness is in this very set: a camera in the dark,
which misses what is certain as well, proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from mm_fusion.geometry import box_corners, project
from mm_fusion.perception.camera2d.bodies import Look
from mm_fusion.samples import Detection

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SAME_BOX = 0.3  # overlap (intersection over union) of two boxes that show one thing
PLAIN_HEIGHT_PX = 25.0  # smaller ones are missed by chance
PLAIN_SHARE = 0.7  # of a box that lies within the picture
HIDDEN_SHARE = 0.5  # of a box behind a nearer one: then it may well not be seen
HIDES = 0.5  # the least score of a box that hides others
CERTAIN = 0.9  # boxes with that score tell how many a witness misses
RECALL = 0.85  # of what is in plain view, before anything is known about this picture
RECALL_WEIGHT = 6.0  # in objects
FALSE_ALARM = 0.1  # how often a witness boxes a false box by chance
KEPT = 1e-3  # no score goes nearer to 0 or 1 than that by witnesses


class _View(NamedTuple):
    """Boxes [M] in one picture: who is large and whole enough [M], who is boxed there [M], and who
    is behind whom [M,M]."""

    plain: Mask
    boxed: Mask
    behind: Mask


def weighed(
    found: Sequence[Detection], looks: Sequence[Look], faint: Sequence[Look], labels: Set[str]
) -> tuple[Detection, ...]:
    """``found`` with scores that allow for what the pictures show, in the given order.

    ``looks`` are boxes that the witness stands by, ``faint`` those and what it may have seen:
    neither for nor against. ``labels`` are the classes that it knows.

    With r the chance that the witness boxes a true object in plain view and f that it boxes a false
    one, the odds of a box are multiplied by r / f where it is boxed and by (1 - r) / (1 - f) where
    it is not (Bayes' rule). r is RECALL, corrected by how many of the certain ones it boxes.
    """
    if not found or not looks:
        return tuple(found)
    views = [_view(found, look) for look in looks]
    boxed = np.any([v.boxed for v in views], axis=0)
    perhaps = np.any([_view(found, look).boxed for look in faint], axis=0)
    known = np.array([d.label in labels for d in found])
    score = np.array([d.score for d in found])
    after, told = score, np.zeros(len(found))
    for _ in range(2):  # who is refuted hides nobody
        hides = after >= HIDES
        plain = known & np.any([v.plain & ~(v.behind & hides).any(1) for v in views], axis=0)
        told = _told(boxed, plain & ~(perhaps & ~boxed), score)
        after = expit(logit(np.clip(score, KEPT, 1.0 - KEPT)) + told)
    # who is told nothing about keeps the score to the bit
    return tuple(
        d if told[n] == 0.0 else replace(d, score=float(after[n])) for n, d in enumerate(found)
    )


def doubted(one: Detection) -> Detection:
    """A camera's box where a network that had the points and the picture found nothing."""
    odds = logit(np.clip(one.score, KEPT, 1.0 - KEPT))
    return replace(one, score=float(expit(odds + np.log((1.0 - RECALL) / (1.0 - FALSE_ALARM)))))


def _told(boxed: Mask, plain: Mask, score: F64) -> F64:
    """What is added to the logit of every score."""
    certain = plain & (score >= CERTAIN)
    right = RECALL * RECALL_WEIGHT + np.count_nonzero(boxed & certain)
    recall = right / (RECALL_WEIGHT + np.count_nonzero(certain))
    gain = max(float(np.log(recall / FALSE_ALARM)), 0.0)
    loss = min(float(np.log((1.0 - recall) / (1.0 - FALSE_ALARM))), 0.0)
    return np.where(boxed, gain, np.where(plain, loss, 0.0))


def _view(found: Sequence[Detection], look: Look) -> _View:
    width, height = look.size
    rect = np.full((len(found), 4), np.nan)
    for n, one in enumerate(found):
        pixels, front = project(look.pixel_from_base, box_corners(one.center, one.size, one.yaw))
        if front.all():
            rect[n] = *pixels.min(axis=0), *pixels.max(axis=0)
    whole = _area(rect)
    rect = np.clip(rect, 0.0, [width, height, width, height])
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = (_area(rect) >= PLAIN_SHARE * whole) & (rect[:, 3] - rect[:, 1] >= PLAIN_HEIGHT_PX)
    away = np.array([float(np.hypot(*d.center[:2])) for d in found])
    covered = _shared(rect, rect) / np.maximum(_area(rect), 1e-9)[:, None]
    behind = (away[None, :] < away[:, None] - 1.0) & (covered > HIDDEN_SHARE)
    boxed = np.zeros(len(found), bool)
    kinds = [_kind(d.label) for d in found]
    for kind in set(kinds):
        mine = np.array([k == kind for k in kinds])
        boxes = np.array([s.box for s in look.seen if _kind(s.label) == kind]).reshape(-1, 4)
        shared = _shared(rect[mine], boxes)
        union = _area(rect[mine])[:, None] + _area(boxes)[None, :] - shared
        boxed[mine] = (shared >= SAME_BOX * np.maximum(union, 1e-9)).any(axis=1)
    return _View(plain, boxed, behind)


def _kind(label: str) -> str:
    """A cyclist without a bicycle is a person to many detectors, and the other way round."""
    return "person" if label in ("pedestrian", "cyclist") else label


def _area(rect: F64) -> F64:
    return np.asarray((rect[:, 2] - rect[:, 0]) * (rect[:, 3] - rect[:, 1]))


def _shared(a: F64, b: F64) -> F64:
    """Areas [M,N] that rectangles [M,4] and [N,4] have in common; 0 where one is not known."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.prod(np.maximum(high - low, 0.0), axis=-1))
