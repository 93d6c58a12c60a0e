"""Scores of the ablation: average precision with paired intervals, calibration, ratios.

The interval of a ratio comes from drawing whole drives anew: numerator and denominator see the
same draw, so what makes a drive hard for both does not widen it (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 8).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.evaluation.ablation_runs import Answers
from mm_fusion.evaluation.detection import (
    CLASSES,
    ERROR_THRESHOLD_M,
    THRESHOLDS_M,
    weighted_precision,
)
from mm_fusion.evaluation.frame_sets import SCOPES

F64 = npt.NDArray[np.float64]

RESAMPLES = 200
ECE_BINS = 15
ECE_MIN_SCORE = 0.05  # below are thousands of boxes that nobody would publish
MATCH = THRESHOLDS_M.index(ERROR_THRESHOLD_M)


class Curves:
    """The detections of one mode under one condition in one scope, sorted for scoring."""

    def __init__(self, answers: Answers, scope: str) -> None:
        s = SCOPES.index(scope)
        self.took = answers.took
        self._positives = answers.positives[:, s].astype(np.float64)
        self._curves = {}
        for c in range(len(CLASSES)):
            mine = np.flatnonzero((answers.scope == s) & (answers.label == c))
            mine = mine[np.argsort(-answers.score[mine], kind="stable")]
            for t in range(len(THRESHOLDS_M)):
                kept = mine[~answers.ignored[mine, t]]
                values = (answers.score[kept], answers.hit[kept, t], answers.frame[kept])
                self._curves[c, t] = values

    def average_precision(self, times: F64) -> F64:
        """AP [classes, thresholds] where frame n counts ``times[n]`` times; NaN without objects."""
        out = np.full((len(CLASSES), len(THRESHOLDS_M)), np.nan)
        for (c, t), (_, hit, frame) in self._curves.items():
            positives = float(self._positives[:, c] @ times)
            out[c, t] = weighted_precision(hit, times[frame], positives)
        return out

    def by_class(self, times: F64) -> dict[str, float | None]:
        """AP of each class, the mean over thresholds; None without objects."""
        values = self.average_precision(times).mean(axis=1)
        return {name: number(value) for name, value in zip(CLASSES, values, strict=True)}

    def mean(self, times: F64) -> float:
        """mAP: the mean over thresholds and then over the classes that have objects."""
        by_class = self.average_precision(times).mean(axis=1)
        known = by_class[np.isfinite(by_class)]
        return float(known.mean()) if len(known) else math.nan

    def found(self, times: F64) -> list[tuple[F64, npt.NDArray[np.bool_], float]]:
        """By class, of the frames that count: scores, who hit at 2 m, how many objects."""
        out = []
        for c in range(len(CLASSES)):
            score, hit, frame = self._curves[c, MATCH]
            kept = times[frame] > 0
            out.append((score[kept], hit[kept], float(self._positives[:, c] @ times)))
        return out


def calibration_error(score: F64, hit: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error over equal bins of the score (Guo et al., 2017): the mean gap of
    score and hit rate, weighted by the bins' counts. NaN without detections."""
    if not len(score):
        return math.nan
    bins = np.minimum((score * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=score - hit, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(score))


def published(curves: Curves, times: F64, threshold: float) -> dict[str, Any]:
    """Precision, recall and F1 of what has the threshold's score or more, at 2 m; calibration."""
    by_class = {}
    scores, hits, positives = [], [], 0.0
    for name, (score, hit, objects) in zip(CLASSES, curves.found(times), strict=True):
        by_class[name] = _at_threshold(score, hit, objects, threshold)
        scores.append(score)
        hits.append(hit)
        positives += objects
    score, hit = np.concatenate(scores), np.concatenate(hits)
    kept = score >= ECE_MIN_SCORE
    return {
        "ece": number(calibration_error(score[kept], hit[kept])),
        "ece_published": number(
            calibration_error(score[score >= threshold], hit[score >= threshold])
        ),
        "threshold": threshold,
        **_at_threshold(score, hit, positives, threshold),
        "classes": by_class,
    }


def _at_threshold(
    score: F64, hit: npt.NDArray[np.bool_], objects: float, threshold: float
) -> dict[str, Any]:
    kept = score >= threshold
    true, all_of_them = int(hit[kept].sum()), int(kept.sum())
    both = all_of_them + objects
    return {
        "precision": number(true / all_of_them if all_of_them else math.nan),
        "recall": number(true / objects if objects else math.nan),
        "f1": number(2 * true / both if both else math.nan),
        "objects": int(objects),
    }


class Draws:
    """Which frames count how often in each resample: row 0 is the frames as they are.

    Frames of a drive are drawn together; those without a drive one by one, and so are all where
    there are fewer than three drives.
    """

    def __init__(self, drive: npt.NDArray[np.int64], resamples: int = RESAMPLES) -> None:
        count = len(drive)
        own = np.where(drive < 0, drive.max(initial=0) + 1 + np.arange(count), drive)
        groups, member = np.unique(own, return_inverse=True)
        if len(groups) < 3:
            groups, member = np.arange(count), np.arange(count)
        random = np.random.default_rng(0)
        size = len(groups)
        drawn = [np.bincount(random.integers(0, size, size), minlength=size)[member]]
        drawn += [
            np.bincount(random.integers(0, size, size), minlength=size)[member]
            for _ in range(resamples - 1)
        ]
        self.groups = size
        self.times = np.vstack([np.ones(count), *drawn]).astype(np.float64)


def means(curves: Curves, draws: Draws, mask: npt.NDArray[np.bool_]) -> F64:
    """mAP [1 + resamples] over the frames of ``mask``, the first one of the frames as they are."""
    full = np.zeros(len(draws.times[0]), bool)
    full[: len(mask)] = mask
    rows = draws.times[:, : len(curves.took)] * full[: len(curves.took)]
    return np.array([curves.mean(times) for times in rows])


def interval(values: F64) -> list[float] | None:
    """The middle 95 % of the resamples, which follow the value itself."""
    known = values[1:][np.isfinite(values[1:])]
    if not len(known) or not np.isfinite(values[0]):
        return None
    return [round(float(v), 4) for v in np.percentile(known, [2.5, 97.5])]


def ratio(above: F64, below: F64) -> dict[str, Any]:
    """A ratio with its paired interval; None where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = above / below
    if not np.isfinite(values[0]):
        return {"value": None, "ci95": None}
    return {"value": number(float(values[0])), "ci95": interval(values)}


def number(value: float) -> float | None:
    """For JSON: rounded, None where it is no number."""
    return round(float(value), 4) if math.isfinite(value) else None


def mean_relative(rows: Sequence[Mapping[str, Any]], leave_out: Sequence[str] = ()) -> float | None:
    """Mean over faults of the mean over severities of mAP relative to clean (Beemelmanns et al.,
    MultiCorrupt, 2024)."""
    by_fault: dict[str, list[float]] = {}
    for row in rows:
        value = row["fused"]["relative"]["value"] if row["fused"] else None
        if value is not None and row["fault"] not in leave_out:
            by_fault.setdefault(row["fault"], []).append(value)
    if not by_fault:
        return None
    return number(float(np.mean([np.mean(values) for values in by_fault.values()])))
