"""Detection scores as nuScenes defines them: average precision by distance of the centres.

Caesar et al., "nuScenes: A multimodal dataset for autonomous driving" (CVPR 2020), section 3.2.
A detection matches the nearest free object of its class in the ground plane if it is closer than
a threshold; the more confident choose first. AP is the area of the precision-recall curve above
10 % of both, normalised, and the mean over classes and thresholds is mAP. The true-positive
errors are taken at 2 m and averaged over recall from 10 % up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.evaluation.truth import TruthBox
from mm_fusion.geometry import wrap_angle_rad
from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

THRESHOLDS_M = (0.5, 1.0, 2.0, 4.0)
ERROR_THRESHOLD_M = 2.0
MIN_RECALL = 0.1
MIN_PRECISION = 0.1
RECALLS = np.linspace(0.0, 1.0, 101)
ERRORS = ("ate_m", "ase", "aoe_rad", "ave_mps")
CLASSES = ("car", "pedestrian", "cyclist")

Region = tuple[float, float, float, float]  # x min, x max, y min, y max in the base frame, m


# ------------------------------------------------------------------------- from one curve


def average_precision(scores: npt.ArrayLike, hits: npt.ArrayLike, positives: int) -> float:
    """AP of detections [N], of which ``hits`` bool [N] matched one of ``positives`` objects.

    NaN where there is nothing to find.
    """
    hit = np.asarray(hits, dtype=bool)[_order(scores)]
    return weighted_precision(hit, np.ones(len(hit)), positives)


def weighted_precision(hit: Bools, weight: F64, positives: float) -> float:
    """AP of detections [N], most confident first, each counted ``weight`` times. NaN where there
    is nothing to find."""
    if positives == 0:
        return math.nan
    # what is not counted must not leave points on the curve either
    hit, weight = hit[weight > 0], weight[weight > 0]
    if not hit.any():
        return 0.0
    true, all_so_far = np.cumsum(hit * weight), np.cumsum(weight)
    precision, recall = true / np.maximum(all_so_far, 1e-9), true / positives
    clipped = np.interp(RECALLS, recall, precision, right=0.0)[_first_recall() :] - MIN_PRECISION
    return float(np.mean(np.clip(clipped, 0.0, None))) / (1.0 - MIN_PRECISION)


def true_positive_error(
    scores: npt.ArrayLike, hits: npt.ArrayLike, errors: npt.ArrayLike, positives: int
) -> float:
    """Mean error of the matched, averaged over the recalls reached above 10 %.

    ``errors`` [N] belongs to the matched ones, NaN elsewhere (and where unknown). NaN where 10 %
    recall is not reached, or no error is known.
    """
    order = _order(scores)
    hit = np.asarray(hits, dtype=bool)[order]
    values = np.asarray(errors, dtype=np.float64)[order][hit]
    known = np.isfinite(values)
    if positives == 0 or not known.any():
        return math.nan
    _, recall = _curve(hit, positives)
    confidence = np.interp(RECALLS, recall, np.asarray(scores, np.float64)[order], right=0.0)
    reached = np.nonzero(confidence)[0]
    if len(reached) == 0 or reached[-1] < _first_recall():
        return math.nan
    running = np.cumsum(np.where(known, values, 0.0)) / np.maximum(np.cumsum(known), 1)
    matched = np.asarray(scores, np.float64)[order][hit]
    curve = np.interp(confidence[::-1], matched[::-1], running[::-1])[::-1]
    return float(np.mean(curve[_first_recall() : reached[-1] + 1]))


def _order(scores: npt.ArrayLike) -> npt.NDArray[np.intp]:
    return np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")


def _curve(hit: Bools, positives: int) -> tuple[F64, F64]:
    true = np.cumsum(hit)
    return true / np.arange(1, len(hit) + 1), true / positives


def _first_recall() -> int:
    return round(100 * MIN_RECALL) + 1


# --------------------------------------------------------------------------- from one set


@dataclass(frozen=True, slots=True, eq=False)
class FrameMatch:
    """How the detections of one class in one set met the truth, most confident first.

    ``hits`` and ``ignored`` are bool [thresholds, N], ``errors`` [N, 4] in the order of ERRORS at
    the 2 m threshold, NaN where unmatched. ``positives`` counts the objects to be found.
    """

    scores: F64
    hits: Bools
    ignored: Bools
    errors: F64
    positives: int


def match_frame(
    detections: Sequence[Mapping[str, Any]],
    truth: Sequence[TruthBox],
    thresholds_m: Sequence[float] = THRESHOLDS_M,
) -> FrameMatch:
    """Match detections (as in ``detections.jsonl``) and objects of one class in one set.

    An object that is not to be found (invisible, or outside the region) hides the detections
    near it: they count neither way.
    """
    found = sorted(detections, key=lambda d: -d["score"])
    centers = np.array([d["center"][:2] for d in found], dtype=np.float64).reshape(-1, 2)
    objects = np.array([t.center[:2] for t in truth], dtype=np.float64).reshape(-1, 2)
    wanted = np.array([t.counted for t in truth], dtype=bool)
    gap = np.linalg.norm(centers[:, None] - objects[None], axis=2)
    shape = (len(thresholds_m), len(found))
    hits, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    errors = np.full((len(found), len(ERRORS)), np.nan)
    for row, threshold in enumerate(thresholds_m):
        free = wanted.copy()
        for i in range(len(found)):
            candidates = np.where(free, gap[i], np.inf)
            nearest = int(np.argmin(candidates)) if len(truth) else -1
            if nearest >= 0 and candidates[nearest] < threshold:
                free[nearest] = False
                hits[row, i] = True
                if threshold == ERROR_THRESHOLD_M:
                    errors[i] = _errors(found[i], truth[nearest])
            else:
                ignored[row, i] = bool((gap[i][~wanted] < threshold).any())
    scores = np.array([d["score"] for d in found], dtype=np.float64)
    return FrameMatch(scores, hits, ignored, errors, int(wanted.sum()))


def _errors(detection: Mapping[str, Any], truth: TruthBox) -> list[float]:
    """Errors of a matched detection in the order of ERRORS."""
    size = np.asarray(detection["size"], dtype=np.float64)
    # Intersection over union of the two boxes laid onto each other, as ASE is defined.
    common = float(np.prod(np.minimum(size, truth.size)))
    union = float(np.prod(size) + np.prod(truth.size)) - common
    speed = math.nan
    if truth.velocity is not None:
        speed = float(np.linalg.norm(np.asarray(detection["velocity"]) - truth.velocity))
    return [
        float(np.linalg.norm(np.asarray(detection["center"][:2]) - truth.center[:2])),
        1.0 - common / union if union > 0 else math.nan,
        abs(wrap_angle_rad(float(detection["yaw"]) - truth.yaw)),
        speed,
    ]


# --------------------------------------------------------------------------- from one run


@dataclass(slots=True)
class Pairing:
    """Which line belongs to which truth: stamps with both, and those with only one."""

    stamps_ns: list[int] = field(default_factory=list)
    lines: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    unanswered: list[int] = field(default_factory=list)
    unscored: int = 0


def pair(
    lines: Iterable[Mapping[str, Any]], stamps_ns: Iterable[int], tolerance_ns: int = 1_000_000
) -> Pairing:
    """Bring lines and truth together by stamp; the last line of a stamp counts."""
    truth = np.array(sorted(stamps_ns), dtype=np.int64)
    out = Pairing()
    for line in lines:
        index = int(np.argmin(np.abs(truth - line["stamp_ns"]))) if len(truth) else -1
        if index < 0 or abs(int(truth[index]) - line["stamp_ns"]) > tolerance_ns:
            out.unscored += 1
        else:
            out.lines[int(truth[index])] = line
    out.stamps_ns = sorted(out.lines)
    out.unanswered = [int(s) for s in truth if int(s) not in out.lines]
    return out


def evaluate_detections(
    lines: Sequence[Mapping[str, Any]],
    truth: Mapping[int, Sequence[TruthBox]],
    region: Region | None = None,
    only_ns: Iterable[int] | None = None,
    resamples: int = 200,
) -> dict[str, Any]:
    """Scores of one run against the truth, by stamp.

    Sets without an answer are left out of ``mean_ap`` and are misses in
    ``mean_ap_with_unanswered``. ``region`` makes objects outside it uncounted and drops
    detections outside it. ``only_ns`` limits the comparison to these stamps. The confidence
    interval comes from ``resamples`` draws of two-second stretches of the run.
    """
    pairing = pair(lines, truth)
    stamps = pairing.stamps_ns
    if only_ns is not None:
        allowed = set(only_ns)
        stamps = [s for s in stamps if s in allowed]
    answered = {s: pairing.lines[s]["detections"] for s in stamps}
    matches = _match_all(answered, truth, region)
    missed = _match_all({s: [] for s in pairing.unanswered}, truth, region)
    classes = {name: _class_scores(frames) for name, frames in matches.items()}
    mean = _mean([c["mean_ap"] for c in classes.values()])
    everything = {name: matches[name] + missed[name] for name in matches}
    return {
        "mean_ap": mean,
        "mean_ap_ci95": _interval(matches, stamps, resamples),
        "mean_ap_with_unanswered": _mean_ap(everything),
        "frames": len(stamps),
        "unanswered_frames": len(pairing.unanswered),
        "unscored_lines": pairing.unscored,
        "thresholds_m": list(THRESHOLDS_M),
        "classes": classes,
        **{e: _mean([c[e] for c in classes.values()]) for e in ERRORS},
    }


def common_stamps(
    runs: Sequence[Sequence[Mapping[str, Any]]], truth: Mapping[int, Sequence[TruthBox]]
) -> list[int]:
    """The truth's stamps that every run answered: the frames on which runs can be compared."""
    answered = [set(pair(lines, truth).stamps_ns) for lines in runs]
    return sorted(set.intersection(*answered)) if answered else []


def _match_all(
    detections: Mapping[int, Sequence[Mapping[str, Any]]],
    truth: Mapping[int, Sequence[TruthBox]],
    region: Region | None,
) -> dict[str, list[FrameMatch]]:
    """Matches by class, one per stamp in the order of ``detections``."""
    out: dict[str, list[FrameMatch]] = {name: [] for name in CLASSES}
    for stamp, found in detections.items():
        inside = [d for d in found if _inside(d["center"], region)]
        objects = [t if _inside(t.center, region) else t.uncounted() for t in truth[stamp]]
        for name in CLASSES:
            out[name].append(
                match_frame(
                    [d for d in inside if d["class"] == name],
                    [t for t in objects if t.label == name],
                )
            )
    return out


def _inside(center: Sequence[float] | F64, region: Region | None) -> bool:
    if region is None:
        return True
    x_low, x_high, y_low, y_high = region
    return bool(x_low <= center[0] <= x_high and y_low <= center[1] <= y_high)


def _pool(frames: Sequence[FrameMatch], row: int) -> tuple[F64, Bools, F64, int]:
    """All detections of the frames that count at one threshold."""
    if not frames:
        return np.zeros(0), np.zeros(0, bool), np.zeros((0, len(ERRORS))), 0
    kept = [~f.ignored[row] for f in frames]
    scores = np.concatenate([f.scores[k] for f, k in zip(frames, kept, strict=True)])
    hits = np.concatenate([f.hits[row][k] for f, k in zip(frames, kept, strict=True)])
    errors = np.concatenate([f.errors[k] for f, k in zip(frames, kept, strict=True)])
    return scores, hits, errors, sum(f.positives for f in frames)


def _class_scores(frames: Sequence[FrameMatch]) -> dict[str, Any]:
    pools = [_pool(frames, row) for row in range(len(THRESHOLDS_M))]
    precisions = [average_precision(s, h, n) for s, h, _, n in pools]
    scores, hits, errors, positives = pools[THRESHOLDS_M.index(ERROR_THRESHOLD_M)]
    known = [true_positive_error(scores, hits, errors[:, i], positives) for i in range(len(ERRORS))]
    return {
        "mean_ap": _mean(precisions),
        "ap": {f"{t:g}": _number(p) for t, p in zip(THRESHOLDS_M, precisions, strict=True)},
        "objects": positives,
        "detections": len(scores),
        **{name: _number(e) for name, e in zip(ERRORS, known, strict=True)},
    }


def _mean_ap(matches: Mapping[str, Sequence[FrameMatch]]) -> float | None:
    by_class = []
    for frames in matches.values():
        pools = [_pool(frames, row) for row in range(len(THRESHOLDS_M))]
        by_class.append(_mean([average_precision(s, h, n) for s, h, _, n in pools]))
    return _mean(by_class)


@dataclass(frozen=True, slots=True, eq=False)
class _Pooled:
    """All detections of a class at a threshold, most confident first, with their sets."""

    hit: Bools
    frame: npt.NDArray[np.intp]
    positives: F64  # by set

    @staticmethod
    def of(frames: Sequence[FrameMatch], row: int) -> _Pooled:
        scores, hits, _, _ = _pool(frames, row)
        sizes = [int((~f.ignored[row]).sum()) for f in frames]
        order = _order(scores)
        positives = np.array([f.positives for f in frames], dtype=np.float64)
        return _Pooled(hits[order], np.repeat(np.arange(len(frames)), sizes)[order], positives)

    def precision(self, times: F64) -> float:
        """AP where set number i is counted ``times[i]`` times."""
        return weighted_precision(self.hit, times[self.frame], float(self.positives @ times))


def _interval(
    matches: Mapping[str, Sequence[FrameMatch]], stamps_ns: Sequence[int], resamples: int
) -> list[float] | None:
    """95 % interval of mAP; neighbouring sets look alike, so stretches are drawn, not sets."""
    if len(stamps_ns) < 2 or resamples <= 0:
        return None
    elapsed = (np.array(stamps_ns) - stamps_ns[0]) // (2 * NS_PER_S)
    _, stretch = np.unique(elapsed, return_inverse=True)
    count = int(stretch.max()) + 1
    if count < 3:
        return None
    rows = range(len(THRESHOLDS_M))
    pooled = [[_Pooled.of(frames, row) for row in rows] for frames in matches.values()]
    random = np.random.default_rng(0)
    values = []
    for _ in range(resamples):
        drawn = np.bincount(random.integers(0, count, count), minlength=count)
        times = drawn[stretch].astype(np.float64)
        by_class = [_mean([p.precision(times) for p in row]) for row in pooled]
        value = _mean(by_class)
        if value is not None:
            values.append(value)
    low, high = np.percentile(values, [2.5, 97.5])
    return [round(float(low), 5), round(float(high), 5)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None and math.isfinite(v)]
    return round(float(np.mean(known)), 5) if known else None


def _number(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
