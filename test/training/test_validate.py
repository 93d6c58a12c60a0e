"""The scores of a network on frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mm_fusion.training.frames import Frame, list_frames, load_frame
from mm_fusion.training.grid import Grid
from mm_fusion.training.network_torch import FusionNet, Maps
from mm_fusion.training.targets import make_targets
from mm_fusion.training.validate import MODES, truth_of, validate


class Oracle(FusionNet):
    """Says the truth of the frames in turn when it may see points, and nothing without them."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, *inputs: torch.Tensor) -> Maps:
        heat, boxes = [], []
        for frame, has_points in zip(self.frames, inputs[3][:, 0], strict=True):
            targets = make_targets(
                frame.boxes, frame.labels, frame.num_points, frame.num_pixels, self.grid
            )
            said = (targets.heat == 1.0) & (has_points > 0.5)
            heat.append(torch.where(said, 5.0, -15.0))
            boxes.append(targets.boxes)
        return Maps(
            torch.stack(heat),
            torch.stack(boxes),
            torch.zeros(len(boxes), 5, self.grid.nx, self.grid.ny),
            None,
            None,
        )


def test_the_truth_scores_one_and_silence_nothing(write_frames: Callable[[int], Path]) -> None:
    paths = list_frames(write_frames(3))
    scores = validate(Oracle([load_frame(path) for path in paths]), paths)
    assert set(scores) == set(MODES)
    for mode in ("fused", "lidar"):
        assert scores[mode]["map"] == pytest.approx(1.0)
        assert scores[mode]["centre_error_m"] == pytest.approx(0.0, abs=1e-4)
        assert scores[mode]["velocity_error_mps"] == pytest.approx(0.0, abs=1e-4)
    assert scores["camera"]["map"] == 0.0
    assert sum(scores["fused"]["objects"].values()) == 18


def test_only_what_is_seen_and_near_is_asked_for(frame: Frame) -> None:
    boxes = frame.boxes[:4].copy()
    boxes[3, 0] = 60.0
    counts = {
        "num_points": np.array([5, 4, 0, 90], np.int32),
        "num_pixels": np.array([0, 39, 40, 900], np.int32),
    }
    seen = replace(frame, boxes=boxes, labels=frame.labels[:4], **counts)
    assert [t.counted for t in truth_of(seen, Grid())] == [True, False, True, False]
