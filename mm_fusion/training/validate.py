"""How good a trained network is on frames it has not seen: fused, and with either sense withheld.

nuScenes detection metrics (Caesar et al., 2020): average precision over centre distances of
0.5, 1, 2 and 4 m, and the velocity error of the matches within 2 m.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mm_fusion.training.dataset import POINT_BUDGET, Frame, collate, limit_points, load_frame
from mm_fusion.training.network_torch import CLASSES, FusionNet

DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
VELOCITY_DISTANCE_M = 2.0
MIN_RECALL = 0.1
MIN_PRECISION = 0.1
MIN_POINTS = 5
MIN_PIXELS = 40
MODES = {"fused": (1.0, 1.0), "camera": (0.0, 1.0), "lidar": (1.0, 0.0)}
BATCH = 4
F64 = npt.NDArray[np.float64]


@dataclass
class Answers:
    """Predictions and truth of one mode over all frames, ready to be scored."""

    boxes: list[F64] = field(default_factory=list)  # per frame [K,9]
    scores: list[F64] = field(default_factory=list)
    labels: list[npt.NDArray[np.int64]] = field(default_factory=list)
    truths: list[Frame] = field(default_factory=list)


def visible(frame: Frame) -> npt.NDArray[np.bool_]:
    """Which of a frame's objects some sensor sees well enough to be asked for."""
    return (frame.num_points >= MIN_POINTS) | (frame.num_pixels >= MIN_PIXELS)


def inside(frame: Frame, net: FusionNet) -> npt.NDArray[np.bool_]:
    """Which of a frame's objects have their centre in the grid."""
    g, x, y = net.grid, frame.boxes[:, 0], frame.boxes[:, 1]
    return (x >= g.x_min_m) & (x < g.x_max_m) & (y >= g.y_min_m) & (y < g.y_max_m)


def predict(net: FusionNet, paths: list[Path], mode: str) -> Answers:
    """Run the network over frames in one of MODES."""
    answers = Answers()
    rng = np.random.default_rng(0)
    for first in range(0, len(paths), BATCH):
        frames = [load_frame(path) for path in paths[first : first + BATCH]]
        limited = [
            Frame(**{**vars(f), "points": limit_points(f.points, POINT_BUDGET, rng)})
            for f in frames
        ]
        batch = collate(limited, [MODES[mode]] * len(frames), net.grid)
        with torch.no_grad():
            maps = net(
                batch.points, batch.images, batch.pixel_from_base, batch.has_points, batch.has_image
            )
            boxes, scores, labels = net.decode(maps)
        answers.boxes += [b.numpy().astype(np.float64) for b in boxes]
        answers.scores += [s.numpy().astype(np.float64) for s in scores]
        answers.labels += [v.numpy() for v in labels]
        answers.truths += frames
    return answers


def match(
    answers: Answers, net: FusionNet, label: int, distance_m: float
) -> tuple[F64, int, list[float]]:
    """Greedy matching by falling score: hits (1, 0; NaN = ignored), truths, velocity errors."""
    rows = []
    for number, (scores, labels) in enumerate(zip(answers.scores, answers.labels, strict=True)):
        rows += [(s, number, k) for k, s in enumerate(scores) if labels[k] == label and s > 0.01]
    rows.sort(key=lambda row: -row[0])
    wanted = [visible(f) & inside(f, net) & (f.labels == label) for f in answers.truths]
    free = [(f.labels == label).copy() for f in answers.truths]
    hits, errors = np.zeros(len(rows)), []
    for n, (_, number, k) in enumerate(rows):
        truth, box = answers.truths[number], answers.boxes[number][k]
        distance = np.hypot(*(truth.boxes[:, :2] - box[:2]).T)
        distance[~free[number]] = np.inf
        if len(distance) == 0 or distance.min() >= distance_m:
            continue
        best = int(distance.argmin())
        free[number][best] = False
        if not wanted[number][best]:
            hits[n] = np.nan
            continue
        hits[n] = 1.0
        errors.append(float(np.hypot(*(truth.boxes[best, 7:9] - box[7:9]))))
    return hits, int(sum(w.sum() for w in wanted)), errors


def average_precision(hits: F64, truths: int) -> float:
    """Area under the precision-recall curve above 10 % of either, scaled to 0..1."""
    hits = hits[~np.isnan(hits)]
    if truths == 0 or len(hits) == 0:
        return 0.0
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    recall = found / truths
    wanted = np.linspace(0.0, 1.0, 101)
    curve = np.interp(wanted, recall, precision, right=0.0)
    curve = np.clip(curve[round(100 * MIN_RECALL) + 1 :] - MIN_PRECISION, 0.0, None)
    return float(curve.mean() / (1.0 - MIN_PRECISION))


def score(answers: Answers, net: FusionNet) -> dict[str, Any]:
    """AP per class and distance, their means, and the velocity error."""
    per_class: dict[str, float] = {}
    at: dict[str, list[float]] = {}
    errors: list[float] = []
    for label, name in enumerate(CLASSES):
        values = []
        for distance_m in DISTANCES_M:
            hits, truths, velocity = match(answers, net, label, distance_m)
            values.append(average_precision(hits, truths))
            if distance_m == VELOCITY_DISTANCE_M:
                errors += velocity
        at[name] = [round(v, 4) for v in values]
        per_class[name] = round(float(np.mean(values)), 4)
    return {
        "map": round(float(np.mean(list(per_class.values()))), 4),
        "ap": per_class,
        "ap_at_distances": at,
        "velocity_error_mps": round(float(np.mean(errors)), 3) if errors else None,
    }


def validate(net: FusionNet, paths: list[Path]) -> dict[str, Any]:
    """Scores of every mode over the same truth."""
    net.eval()
    return {mode: score(predict(net, paths, mode), net) for mode in MODES}
