"""The bench of ground removal counts what the simulator knows."""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
import pytest

from mm_fusion.bench import ground
from mm_fusion.errors import StageError


def test_a_town_on_slopes_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """GIVEN a town with slopes to 15 % THEN its ground is removed and what stands on it kept."""
    monkeypatch.setattr(ground, "TOWNS", ((0.15, "os1-64"),))
    monkeypatch.setattr(ground, "ROUNDS", 1)
    (frame,) = ground._frames(3, 1)
    assert not (frame.ground & frame.tall).any()
    # What the rays met says the same as the heights above the town's ground: the sensor's noise,
    # and the error of the odometry that the sweep is put together with.
    assert np.abs(frame.above_m[frame.ground]).max() < 0.35
    assert np.percentile(np.abs(frame.above_m[frame.ground]), 99) < 0.12, "within a kerb"
    assert np.ptp(frame.xyz[2][frame.ground]) > 2.0, "slopes"
    monkeypatch.setattr(ground, "_frames", lambda *_: [frame])
    out = ground.run(
        argparse.Namespace(frames=1, seed=3, peer=False, bag=None, config=None, assignments=[])
    )
    assert json.loads(json.dumps(out)) == out
    assert out["ours"]["ground_removed"]["share"] >= 0.95
    assert out["ours"]["kept_above_0.1m"]["share"] >= 0.99


def test_finding_nothing_and_everything_score_as_they_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GIVEN a finder that calls everything ground THEN all ground is removed, and nothing kept."""
    monkeypatch.setattr(ground, "ROUNDS", 1)
    mask = np.array([True, True, False, False])
    above = np.array([0.0, 0.0, 0.15, 0.9])
    frame = ground.Frame(
        "x", np.zeros((3, 4), np.float32), np.zeros(4, np.float32), 1.8, mask, ~mask, above
    )
    everything = ground._scores(frame, lambda *_: np.ones(4, bool))
    assert (everything["ground_removed"], everything["kept"]) == ((2, 2), (0, 2))
    truth = ground._scores(frame, lambda *_: mask)
    assert (truth["kept_above_0.1m"], truth["kept_above_0.2m"]) == ((2, 2), (1, 1))


def test_a_missing_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypatchworkpp", None)
    with pytest.raises(StageError, match="pip install pypatchworkpp"):
        ground._peer()
