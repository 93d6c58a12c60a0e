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

from mm_fusion.geometry import areas, box_corners, overlaps, project, shared_areas
from mm_fusion.perception.camera2d.associate import Seen
from mm_fusion.perception.camera2d.bodies import Glance
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
    """Boxes [M] in one picture: who is large and whole enough [M], who is boxed there [M], who
    perhaps is, faintly [M], and who is behind whom [M,M]."""

    plain: Mask
    boxed: Mask
    perhaps: Mask
    behind: Mask


def weighed(
    found: Sequence[Detection], glances: Sequence[Glance], labels: Set[str]
) -> tuple[Detection, ...]:
    """``found`` with scores that allow for what the pictures show, in the given order.

    What ``glances`` hold but faintly is neither for nor against. ``labels`` are the classes that
    the witness knows.

    With r the chance that the witness boxes a true object in plain view and f that it boxes a false
    one, the odds of a box are multiplied by r / f where it is boxed and by (1 - r) / (1 - f) where
    it is not (Bayes' rule). r is RECALL, corrected by how many of the certain ones it boxes.
    """
    if not found or not glances:
        return tuple(found)
    views = [_view(found, glance) for glance in glances]
    boxed = np.any([v.boxed for v in views], axis=0)
    judged = boxed | ~np.any([v.perhaps for v in views], axis=0)
    judged &= np.array([d.label in labels for d in found])
    score = np.array([d.score for d in found])
    after, told = score, np.zeros(len(found))
    for _ in range(2):  # who is refuted hides nobody
        hides = after >= HIDES
        seen = np.any([v.plain & ~(v.behind & hides).any(1) for v in views], axis=0)
        told = _told(boxed, seen & judged, score)
        after = _after(score, told)
    # who is told nothing about keeps the score to the bit
    return tuple(
        d if told[n] == 0.0 else replace(d, score=float(after[n])) for n, d in enumerate(found)
    )


def doubted(one: Detection) -> Detection:
    """A camera's box where a network that had the points and the picture found nothing."""
    return replace(one, score=float(_after(one.score, _silence(RECALL))))


def _after(score: F64 | float, told: F64 | float) -> F64:
    """The chance ``score`` after a message that adds ``told`` to the logarithm of its odds."""
    return np.asarray(expit(logit(np.clip(score, KEPT, 1.0 - KEPT)) + told))


def _silence(recall: float) -> float:
    """What a witness tells that boxes nothing."""
    return float(np.log((1.0 - recall) / (1.0 - FALSE_ALARM)))


def _told(boxed: Mask, plain: Mask, score: F64) -> F64:
    """What is added to the logit of every score."""
    certain = plain & (score >= CERTAIN)
    right = RECALL * RECALL_WEIGHT + np.count_nonzero(boxed & certain)
    recall = right / (RECALL_WEIGHT + np.count_nonzero(certain))
    gain, loss = max(float(np.log(recall / FALSE_ALARM)), 0.0), min(_silence(recall), 0.0)
    return np.where(boxed, gain, np.where(plain, loss, 0.0))


def _view(found: Sequence[Detection], glance: Glance) -> _View:
    look = glance.look
    width, height = look.size
    rect = np.full((len(found), 4), np.nan)
    for n, one in enumerate(found):
        pixels, front = project(look.pixel_from_base, box_corners(one.center, one.size, one.yaw))
        if front.all():
            rect[n] = *pixels.min(axis=0), *pixels.max(axis=0)
    whole = areas(rect)
    rect = np.clip(rect, 0.0, [width, height, width, height])
    within = areas(rect)
    plain = (within >= PLAIN_SHARE * whole) & (rect[:, 3] - rect[:, 1] >= PLAIN_HEIGHT_PX)
    away = np.array([float(np.hypot(*d.center[:2])) for d in found])
    covered = shared_areas(rect, rect) / np.maximum(within, 1e-9)[:, None]
    behind = (away[None, :] < away[:, None] - 1.0) & (covered > HIDDEN_SHARE)
    kinds = [_kind(d.label) for d in found]
    return _View(plain, _boxed(rect, kinds, look.seen), _boxed(rect, kinds, glance.faint), behind)


def _boxed(rect: F64, kinds: Sequence[str], seen: Sequence[Seen]) -> Mask:
    """Which of the rectangles [M,4] overlap with a box of their kind."""
    if not seen:
        return np.zeros(len(rect), np.bool_)
    same = np.array(kinds)[:, None] == np.array([_kind(s.label) for s in seen])
    return np.asarray((same & (overlaps(rect, np.stack([s.box for s in seen])) >= SAME_BOX)).any(1))


def _kind(label: str) -> str:
    """A cyclist without a bicycle is a person to many detectors, and the other way round."""
    return "person" if label in ("pedestrian", "cyclist") else label
