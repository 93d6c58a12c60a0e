"""Scores as chances: the curve, the threshold, and what they do to a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from mm_fusion.errors import StageError
from mm_fusion.training.calibrate import best_threshold, calibrate, curve
from mm_fusion.training.frames import list_frames
from mm_fusion.training.network_torch import FusionNet


def test_the_curve_undoes_what_made_scores_wrong() -> None:
    """GIVEN boxes that are right with a known chance, and scores whose logits are 1 + half of it,
    THEN the curve finds the chance."""
    rng = np.random.default_rng(4)
    chance = rng.uniform(0.02, 0.98, 20_000)
    hit = rng.random(20_000) < chance
    scale, shift = curve(expit(1.0 + 0.5 * logit(chance)), hit)
    got = expit(scale * (1.0 + 0.5 * logit(chance)) + shift)
    assert np.abs(got - chance).max() < 0.03


def test_the_threshold_is_where_f1_is_largest_in_a_street() -> None:
    """GIVEN boxes of which some are false, WHEN each false one stands for two, as in a street,
    THEN the threshold is where F1 is largest then."""
    # of 5 objects: F1 is 2/6, 4/7, 4/9, 4/11, 6/12, 6/14 as boxes are added from the best on,
    # where 6/10, that of the fifth, would be the largest if a false one were one
    chance = np.array([0.5, 0.9, 0.8, 0.6, 0.55, 0.2])
    hit = np.array([True, True, True, False, False, False])
    assert best_threshold(chance, hit, 5) == 0.8
    # one more that is right makes it worth while: 8/13
    assert best_threshold(np.append(chance, 0.45), np.append(hit, True), 5) == 0.45


def test_a_network_that_finds_nothing_cannot_be_calibrated(
    write_frames: Callable[[int], Path],
) -> None:
    torch.manual_seed(0)
    with pytest.raises(StageError, match="of class car are right"):
        calibrate(FusionNet().eval(), list_frames(write_frames(2)), "fused")


def test_the_curve_is_part_of_the_network() -> None:
    net = FusionNet()
    assert {"score_scale", "score_shift"} <= set(net.state_dict())
