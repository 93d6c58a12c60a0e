"""Scores of tracks, against small dramas whose scores can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.tracking import (
    TrackBox,
    TrackedFrame,
    evaluate_tracks,
    frames_of,
    table,
)
from mm_fusion.evaluation.truth import TruthBox
from mm_fusion.geometry import RigidTransform

STEP_NS = 100_000_000
SIZE = np.array([4.0, 2.0, 1.5])


def box(name, x, counted=True, velocity=(10.0, 0.0)):
    return TruthBox(name, "car", np.array([x, 0.0, 0.8]), SIZE, 0.0, np.array(velocity), counted)


def track(number, x, score=0.8, velocity=(10.0, 0.0), yaw=0.0):
    return TrackBox(number, "car", score, np.array([x, 0.1, 0.8]), yaw, np.array(velocity))


def drama(*frames):
    return [TrackedFrame(n * STEP_NS, *frame) for n, frame in enumerate(frames)]


def test_a_perfect_tracker_has_perfect_scores():
    scores = evaluate_tracks(drama(*(([track(7, n)], [box("a", n)]) for n in range(30))))
    car = scores["classes"]["car"]
    assert (car["mota"], car["idf1"], car["amota"]) == (1.0, 1.0, 1.0)
    assert car["motp_m"] == pytest.approx(0.1)
    assert (car["velocity_rmse_mps"], car["judged"]) == (0.0, 20)  # from 1 s of age on
    assert scores["all"]["mota"] == 1.0


def test_misses_false_alarms_and_switches_are_counted():
    """GIVEN ten frames: one missed, two with a track on nothing, one change of number half way."""
    frames = []
    for n in range(10):
        tracks = [] if n == 2 else [track(1 if n < 5 else 2, n)]
        frames.append((tracks + [track(9, n + 30.0)] * (n in (3, 4)), [box("a", n)]))
    car = evaluate_tracks(drama(*frames))["classes"]["car"]
    assert (car["misses"], car["false_positives"], car["id_switches"]) == (1, 2, 1)
    assert car["mota"] == pytest.approx(1.0 - 4 / 10)
    # The best single number for the object is 2, right in 5 frames; 10 true boxes, 11 tracked.
    assert car["idf1"] == pytest.approx(2 * 5 / (10 + 11), abs=1e-4)
    assert car["fragmentations"] == 1


def test_amota_is_the_mean_over_what_recalls_ask_for():
    """GIVEN two objects, one tracked well and surely, one not at all, and an unsure false track."""
    frames = [
        ([track(1, n, 0.9), track(5, n + 60.0, 0.1)], [box("a", n), box("b", n - 30.0)])
        for n in range(20)
    ]
    scores = evaluate_tracks(drama(*frames))
    # Recalls up to a half are reached by the sure track alone, without an error: MOTAR 1; 18 of
    # the 40 recalls from 0.1 to 1 are no larger than a half. The rest is never reached: 0.
    assert scores["classes"]["car"]["amota"] == pytest.approx(18 / 40)
    assert scores["classes"]["car"]["recall"] == 0.5
    assert scores["classes"]["car"]["mota"] == pytest.approx(1 - 40 / 40)


def test_what_nobody_could_see_counts_neither_way():
    hidden = [([track(1, n)], [box("a", n, counted=False)]) for n in range(5)]
    seen = [([track(1, n)], [box("a", n)]) for n in range(5, 10)]
    missed = [([], [box("a", n, counted=False)]) for n in range(10, 12)]
    car = evaluate_tracks(drama(*hidden, *seen, *missed))["classes"]["car"]
    assert (car["objects"], car["false_positives"], car["misses"]) == (5, 0, 0)


def test_speed_and_heading_are_judged_once_a_track_has_settled():
    wrong = {"velocity": (13.0, 4.0), "yaw": 3.0}
    frames = [([track(1, n, **({} if n < 10 else wrong))], [box("a", n)]) for n in range(20)]
    car = evaluate_tracks(drama(*frames))["classes"]["car"]
    assert car["velocity_rmse_mps"] == pytest.approx(5.0)
    assert car["velocity_rmse_moving_mps"] == pytest.approx(5.0)
    assert car["heading_median_rad"] == pytest.approx(3.0)
    assert car["heading_reversed"] == 1.0


def test_classes_are_scored_apart():
    frames = [([track(1, n)], [box("a", n), _person(n)]) for n in range(4)]
    scores = evaluate_tracks(drama(*frames))
    assert scores["classes"]["pedestrian"]["mota"] == 0.0
    assert scores["classes"]["car"]["mota"] == 1.0
    assert scores["all"]["mota"] == 0.5
    assert "pedestrian" in table(scores)


def _person(x):
    return TruthBox("p", "pedestrian", np.array([x, 0.0, 0.8]), SIZE, 0.0, None, True)


def test_nothing_to_score_is_no_score():
    scores = evaluate_tracks([])
    assert scores["all"]["mota"] is None
    assert table(scores)


def test_tracks_of_the_odometry_frame_are_brought_to_the_truth():
    """GIVEN a robot at (100, 50) in odom, turned left, and a car 10 m before it that drives on."""
    where = RigidTransform.from_rpy((100.0, 50.0, 0.0), (0.0, 0.0, np.pi / 2))
    local = Trajectory.of([(s, where.translation, where.quaternion_xyzw()) for s in (0, STEP_NS)])
    there = {
        "id": 3,
        "class": "car",
        "score": 0.7,
        "center": [100.0, 60.0, 0.8],
        "size": [4, 2, 1.5],
        "yaw": np.pi / 2,
        "velocity": [0.0, 6.0],
    }
    far = {**there, "id": 4, "center": [100.0, 150.0, 0.8]}
    line = {"stamp_ns": 0, "frame_id": "odom", "tracks": [there, far]}
    truth = {0: [box("a", 10.0), box("b", 99.0)]}
    region = (-20.0, 50.0, -20.0, 20.0)
    lost = {**line, "stamp_ns": 5}
    frames, unused = frames_of([line, lost], truth, local, "base_link", region)
    assert unused == 1
    ((found,), (near, away)) = frames[0].tracks, frames[0].truth
    np.testing.assert_allclose(found.center, [10.0, 0.0, 0.8], atol=1e-9)
    np.testing.assert_allclose(found.velocity, [6.0, 0.0], atol=1e-9)
    assert found.yaw == pytest.approx(0.0)
    assert (near.counted, away.counted) == (True, False)
    # In the base frame velocities are relative and cannot be held against those over ground.
    (plain,), _ = frames_of(
        [{**line, "frame_id": "base_link", "tracks": [there]}], truth, None, "base_link"
    )
    assert plain.tracks[0].velocity is None
