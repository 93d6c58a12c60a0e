"""What detectors of any kind tell the tracker: weak scores, logits, speeds nobody explains."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scenes

from mm_fusion.config import TrackerConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.tracker import Tracker
from mm_fusion.samples import Detection, Track

T0 = scenes.T0
STEP_NS = 100_000_000
STILL = RigidTransform.identity()


def detection(xy: tuple[float, float], label: str = "car", score: float = 0.8) -> Detection:
    center, size = np.array([*xy, 0.8]), np.array([4.0, 2.0, 1.5])
    return Detection(label, score, center, size, 0.0, np.zeros(2))


def run(
    tracker: Tracker, frames: list[list[Detection]], where: RigidTransform | None = STILL
) -> list[tuple[Track, ...]]:
    """Every frame's tracks; one frame per 100 ms."""
    return [tracker.update(T0 + n * STEP_NS, seen, where) for n, seen in enumerate(frames)]


def test_weak_tracks_are_published_with_their_score_where_all_are_asked_for() -> None:
    """GIVEN a thing that is seen 60 times at a score of 0.25, which says that it rather is not
    WHEN tracks of any existence are to be published, as for a sweep over recalls
    THEN it has one number throughout, and the score of its detections; by default it has none."""
    frames = [[detection((10.0 + 0.5 * n, 2.0), score=0.25)] for n in range(60)]
    config = TrackerConfig(min_score=0.0, min_existence=0.0)
    found = run(Tracker(config), frames)
    assert [t.track_id for tracks in found[1:] for t in tracks] == [1] * 59
    assert found[-1][0].score == pytest.approx(0.25)
    assert found[-1][0].existence < 0.1
    assert not any(run(Tracker(TrackerConfig()), frames))


def test_a_track_says_who_saw_it_last() -> None:
    seen = [[dataclasses.replace(detection((9.0, 0.0)), source=s)] for s in ("fusion", "camera2d")]
    found = run(Tracker(TrackerConfig(confirm_hits=1)), [*seen, []])
    assert [t.source for tracks in found for t in tracks] == ["fusion", "camera2d", "camera2d"]


def test_scores_may_be_logits() -> None:
    """GIVEN a detector that gives logits: 6 on a car that drives, -2 on a shadow that stays
    WHEN all of them are tracked
    THEN both have their own number and mean logit, and the car is sure to exist."""
    frames = [
        [detection((10.0 + n, 2.0), score=6.0), detection((20.0, -9.0), score=-2.0)]
        for n in range(20)
    ]
    config = TrackerConfig(min_score=-100.0, min_existence=0.0)
    car, shadow = run(Tracker(config), frames)[-1]
    assert (car.score, shadow.score) == (pytest.approx(6.0), pytest.approx(-2.0))
    assert car.existence > 0.99
    assert shadow.existence < 0.5
    assert np.linalg.norm(car.velocity - [10.0, 0.0]) < 0.3
    (car,) = run(Tracker(TrackerConfig()), frames)[-1]
    assert car.track_id == 1


@pytest.mark.parametrize("label", ["car", "cyclist", "pedestrian"])
def test_oncoming_things_are_followed_without_ego_motion(label: str) -> None:
    """GIVEN a robot that drives at 12 m/s and nobody says so
    WHEN things that stand and that come towards it at 8 m/s are seen
    THEN each keeps its number from the second sweep on."""
    frames = [
        [detection((60.0 - 1.2 * n, 4.0), label), detection((70.0 - 2.0 * n, -3.0), label)]
        for n in range(25)
    ]
    found = run(Tracker(TrackerConfig()), frames, None)
    assert all([t.track_id for t in tracks] == [1, 2] for tracks in found[1:])


def test_cars_that_brake_are_followed_and_steady_ones_are_not_shaken() -> None:
    """GIVEN a car at 12 m/s that brakes at 4 m/s² after 4 s, seen with 0.2 m of noise
    WHEN it is followed
    THEN its speed is off by less than 0.25 m/s RMS while steady, for which a constant noise would
    take twice the lag, and by less than 1.5 m/s while it brakes."""
    rng = np.random.default_rng(4)
    steady, braking = [], []
    for _ in range(12):
        tracker, place, speed = Tracker(TrackerConfig()), -30.0, 12.0
        for n in range(65):
            place += speed * 0.1
            speed -= 0.4 if n >= 40 else 0.0
            noise = rng.normal(0.0, 0.2, 2)
            tracks = tracker.update(
                T0 + n * STEP_NS, [detection((place + noise[0], 3.0 + noise[1]))], STILL
            )
            if n >= 15:
                (track,) = tracks
                (braking if n >= 40 else steady).append(track.velocity[0] - speed)
    assert np.sqrt(np.mean(np.square(steady))) < 0.25
    assert np.sqrt(np.mean(np.square(braking))) < 1.5
