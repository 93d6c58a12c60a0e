"""What stands by its class is not set in motion by noise."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.config import TrackerConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.tracker import Tracker
from mm_fusion.samples import Detection, Track

STEP_NS = 100_000_000


def tracked(label: str, in_odom: bool, seed: int = 3) -> list[tuple[Track, ...]]:
    """A thing 15 m beside the way of a robot that drives 10 m/s, seen to 0.2 m."""
    rng = np.random.default_rng(seed)
    tracker, out = Tracker(TrackerConfig()), []
    for n in range(30):
        robot = RigidTransform.from_rpy((1.0 * n, 0.0, 0.0), (0.0, 0.0, 0.0))
        center = np.array([30.0 - 1.0 * n, 15.0, 0.5])
        center[:2] += rng.normal(0.0, 0.2, 2)
        size = np.array([0.4, 0.4, 1.0])
        thing = Detection(label, 0.8, center, size, 0.0, np.zeros(2))
        out.append(tracker.update((n + 1) * STEP_NS, [thing], robot if in_odom else None))
    return out


@pytest.mark.parametrize("label", ["traffic_cone", "barrier", "stop sign"])
def test_noise_makes_no_speed_of_what_stands(label: str) -> None:
    """GIVEN a cone seen with an error of 0.2 m
    WHEN it is tracked for three seconds, beside a thing of a class that may move
    THEN the cone has next to no speed and one place, the other one's wanders."""
    stands, may_move = tracked(label, True), tracked("pedestrian", True)
    fastest = [
        max(float(np.hypot(*t.velocity)) for tracks in run for t in tracks)
        for run in (stands, may_move)
    ]
    assert fastest[0] < 0.1 < fastest[1]
    ((last,),) = stands[-1:]
    assert np.hypot(*(last.center[:2] - (30.0, 15.0))) < 0.12
    assert {t.track_id for tracks in stands for t in tracks} == {1}


def test_without_ego_motion_even_what_stands_comes_nearer() -> None:
    """As seen from a robot of which nobody knows that it drives."""
    found = tracked("traffic_cone", False)
    ((last,),) = found[-1:]
    assert last.velocity == pytest.approx([-10.0, 0.0], abs=1.5)
    assert {t.track_id for tracks in found for t in tracks} == {1}
