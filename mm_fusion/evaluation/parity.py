"""Two networks that should say the same, on the same labelled frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mm_fusion.datasets.frame import read_frame
from mm_fusion.evaluation.ablation_runs import Answers
from mm_fusion.evaluation.ablation_scores import Curves, number
from mm_fusion.evaluation.frame_faults import sensed_of
from mm_fusion.evaluation.frame_sets import FrameRunner, Setting, matches, truth_of
from mm_fusion.samples import Detection

COMPARED_SCORE = 0.05  # below, the order is decided by noise
SAME_M = 1.0  # further apart, two boxes are not the same one


@dataclass(slots=True)
class Differences:
    """The largest differences between answers, and how many boxes have no counterpart."""

    score: float = 0.0
    center_m: float = 0.0
    size_m: float = 0.0
    yaw_rad: float = 0.0
    compared: int = 0
    unmatched: int = 0
    scores: list[float] = field(default_factory=list)

    def add(self, ours: Sequence[Detection], theirs: Sequence[Detection]) -> None:
        """Compare one frame's boxes, each with the nearest free one of its class."""
        free = list(theirs)
        for box in ours:
            if box.score < COMPARED_SCORE:
                continue
            near = [d for d in free if d.label == box.label]
            near.sort(key=lambda d: float(np.abs(d.center - box.center).max()))
            if not near or float(np.abs(near[0].center - box.center).max()) > SAME_M:
                self.unmatched += 1
                continue
            other = near[0]
            free = [d for d in free if d is not other]
            turn = (box.yaw - other.yaw + np.pi) % (2 * np.pi) - np.pi
            self.compared += 1
            self.scores.append(abs(box.score - other.score))
            self.score = max(self.score, abs(box.score - other.score))
            self.center_m = max(self.center_m, float(np.abs(box.center - other.center).max()))
            self.size_m = max(self.size_m, float(np.abs(box.size - other.size).max()))
            self.yaw_rad = max(self.yaw_rad, abs(float(turn)))


def compare_networks(
    first: Path,
    second: Path,
    frames: Sequence[Path],
    providers: tuple[str, str] = ("cpu", "cpu"),
) -> dict[str, Any]:
    """Largest differences of the boxes with a score of 0.05 or more, and both networks' mAP over
    all that they look at (in points: a hundredth of mAP is one)."""
    runners = [
        FrameRunner(Setting(path, provider=provider, threads=0))
        for path, provider in zip((first, second), providers, strict=True)
    ]
    found: list[list[Any]] = [[], []]
    differences = Differences()
    for path in frames:
        frame = read_frame(path)
        answers = [runner.run(sensed_of(frame)) for runner in runners]
        differences.add(*answers)
        truth = truth_of(frame, runners[0].contract)
        for kept, answer in zip(found, answers, strict=True):
            kept.append(matches(answer, truth, frame, runners[0].contract))
    drive = np.full(len(frames), -1, np.int64)
    times = np.ones(len(frames))
    means = [Curves(Answers.of(f, drive), "grid").mean(times) for f in found]
    return {
        "frames": len(frames),
        "providers": [runner.provider for runner in runners],
        "boxes": differences.compared,
        "boxes_without_counterpart": differences.unmatched,
        "score_max": number(differences.score),
        "score_mean": number(float(np.mean(differences.scores or [0.0]))),
        "center_max_m": number(differences.center_m),
        "size_max_m": number(differences.size_m),
        "yaw_max_rad": number(differences.yaw_rad),
        "map": [number(m) for m in means],
        "map_points_lost": number(100.0 * (means[0] - means[1])),
    }
