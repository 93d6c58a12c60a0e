"""How good a trained network is on frames it has not seen: fused, and with either sense withheld.

The metrics are those of ``mm_fusion.evaluation.detection``, over the same objects in every mode:
those inside the grid that some sensor sees well enough to be asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mm_fusion.evaluation.detection import evaluate_detections
from mm_fusion.evaluation.truth import TruthBox
from mm_fusion.training.dataset import POINT_BUDGET, collate, limit_points
from mm_fusion.training.frames import CLASSES, Frame, load_frame
from mm_fusion.training.grid import Grid
from mm_fusion.training.network_torch import FusionNet, Maps

MIN_POINTS = 5
MIN_PIXELS = 40
MIN_SCORE = 0.05  # below, a detection only lengthens the tail of the curve
MODES = {"fused": (1.0, 1.0), "camera": (0.0, 1.0), "lidar": (1.0, 0.0)}
BATCH = 4
FRAME_SPACING_NS = 100_000_000
Lines = list[dict[str, Any]]
Truths = dict[int, list[TruthBox]]


def truth_of(frame: Frame, grid: Grid) -> list[TruthBox]:
    """A frame's objects; those hardly seen or outside the grid are not asked for."""
    out = []
    for n, box in enumerate(frame.boxes.astype(np.float64)):
        if frame.labels[n] < 0:
            continue
        seen = frame.num_points[n] >= MIN_POINTS or frame.num_pixels[n] >= MIN_PIXELS
        inside = grid.x_min_m <= box[0] < grid.x_max_m and grid.y_min_m <= box[1] < grid.y_max_m
        label = CLASSES[frame.labels[n]]
        velocity = box[7:9] if np.isfinite(box[7:9]).all() else None
        counted = bool(seen and inside)
        out.append(TruthBox(str(n), label, box[:3], box[3:6], box[6], velocity, counted))
    return out


def predict(net: FusionNet, frames: list[Frame], mode: str) -> Iterator[Lines]:
    """The network's answers in one of MODES, frame by frame, as in ``detections.jsonl``."""
    batch = collate(frames, [MODES[mode]] * len(frames), net.grid)
    with torch.no_grad():
        maps = net(*batch.inputs())
    yield from lines_of(net, maps, MIN_SCORE)


def lines_of(net: FusionNet, maps: Maps, least: float) -> Iterator[Lines]:
    """What a network's maps say of each frame, as in ``detections.jsonl``, from this score on."""
    answers = [value.double().numpy() for value in net.decode(maps)]
    for boxes, scores, labels, _ in zip(*answers, strict=True):
        yield [
            {
                "class": CLASSES[int(label)],
                "score": float(score),
                "center": box[:3].tolist(),
                "size": box[3:6].tolist(),
                "yaw": float(box[6]),
                "velocity": box[7:9].tolist(),
            }
            for box, score, label in zip(boxes, scores, labels, strict=True)
            if score >= least
        ]


def batches(paths: list[Path]) -> Iterator[tuple[int, list[Frame]]]:
    """The frames, BATCH at a time, thinned as the nodes thin them, with the number of the first."""
    for first in range(0, len(paths), BATCH):
        frames = [load_frame(path) for path in paths[first : first + BATCH]]
        yield first, [replace(f, points=limit_points(f.points, POINT_BUDGET)) for f in frames]


def validate(
    net: FusionNet, paths: list[Path], modes: Sequence[str] = tuple(MODES)
) -> dict[str, Any]:
    """Scores of some of MODES: mAP, AP per class, and the errors of what was found."""
    net.eval()
    lines: dict[str, Lines] = {mode: [] for mode in modes}
    truths: Truths = {}
    for first, frames in batches(paths):
        stamps = [(first + n) * FRAME_SPACING_NS for n in range(len(frames))]
        truths.update((s, truth_of(f, net.grid)) for s, f in zip(stamps, frames, strict=True))
        for mode, found in lines.items():
            for stamp, detections in zip(stamps, predict(net, frames, mode), strict=True):
                found.append({"stamp_ns": stamp, "detections": detections})
    return {
        mode: summary(evaluate_detections(lines[mode], truths, None, None, 0)) for mode in modes
    }


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """What the contract tells of one mode's evaluation."""
    classes = result["classes"]
    return {
        "map": result["mean_ap"],
        "ap": {name: values["mean_ap"] for name, values in classes.items()},
        "ap_at_m": {name: values["ap"] for name, values in classes.items()},
        "objects": {name: values["objects"] for name, values in classes.items()},
        "centre_error_m": result["ate_m"],
        "yaw_error_rad": result["aoe_rad"],
        "velocity_error_mps": result["ave_mps"],
    }
