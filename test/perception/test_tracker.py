"""Tracks keep their identity through crossings, gaps and the robot's own motion."""

from __future__ import annotations

import numpy as np
import pytest
import scenes

from mm_fusion.config import TrackerConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.tracker import Tracker
from mm_fusion.samples import Detection

T0 = scenes.T0
STEP_NS = 100_000_000


def detection(xy, label="car", score=0.8, yaw=0.0, velocity=(0.0, 0.0), z=0.8, size=(4, 2, 1.5)):
    return Detection(
        label, score, np.array([*xy, z], float), np.array(size, float), yaw, np.array(velocity)
    )


def run(tracker, frames, poses=None):
    """Every frame's tracks; one frame per 100 ms."""
    out = []
    for n, detections in enumerate(frames):
        where = None if poses is None else poses[n]
        out.append(tracker.update(T0 + n * STEP_NS, detections, where))
    return out


def nearest(tracks, xy):
    return min(tracks, key=lambda t: np.hypot(*(t.center[:2] - xy)))


def test_a_track_is_published_after_enough_hits_and_ids_start_at_one():
    frames = [[detection((10.0 + 0.5 * n, 2.0))] for n in range(6)]
    counts = [len(tracks) for tracks in run(Tracker(TrackerConfig(confirm_hits=3)), frames)]
    assert counts == [0, 0, 1, 1, 1, 1]
    last = run(Tracker(TrackerConfig()), frames)[-1][0]
    assert (last.track_id, last.label, last.hits) == (1, "car", 6)
    assert last.time_since_update_s == 0.0


def test_the_filter_is_the_textbooks():
    # GIVEN a plain Kalman filter of four states, written out with matrices
    config = TrackerConfig(confirm_hits=1, gate_m=20.0)
    dt, q = 0.1, config.acceleration_mps2**2
    f = np.eye(4) + dt * np.eye(4, k=2)
    g = np.array([[dt**2 / 2, 0], [0, dt**2 / 2], [dt, 0], [0, dt]])
    h = np.eye(2, 4)
    r = config.position_sigma_m**2 * np.eye(2)
    rng = np.random.default_rng(2)
    measured = np.cumsum(rng.normal(0.4, 0.3, (20, 2)), axis=0)
    x = np.array([*measured[0], 1.0, -2.0])
    p = np.diag([*np.diag(r), config.velocity_sigma_mps**2, config.velocity_sigma_mps**2])
    tracker = Tracker(config)
    tracks = tracker.update(T0, [detection(measured[0], velocity=(1.0, -2.0))], None)
    # WHEN both see the same detections THEN they say the same
    for n, z in enumerate(measured[1:], start=1):
        x, p = f @ x, f @ p @ f.T + q * g @ g.T
        gain = p @ h.T @ np.linalg.inv(h @ p @ h.T + r)
        x, p = x + gain @ (z - h @ x), (np.eye(4) - gain @ h) @ p
        tracks = tracker.update(T0 + n * STEP_NS, [detection(z)], None)
        np.testing.assert_allclose(tracks[0].center[:2], x[:2], atol=1e-9)
        np.testing.assert_allclose(tracks[0].velocity, x[2:], atol=1e-9)
        np.testing.assert_allclose(tracks[0].covariance, p, atol=1e-9)


def test_the_filters_covariance_is_honest():
    # GIVEN objects with the acceleration and the detector with the noise that the filter assumes
    config = TrackerConfig(confirm_hits=1, gate_m=20.0)
    rng = np.random.default_rng(11)
    errors = []
    for _ in range(60):
        tracker = Tracker(config)
        velocity = rng.normal(0.0, config.velocity_sigma_mps, 2)
        position = np.zeros(2)
        for n in range(25):
            if n:
                push = rng.normal(0.0, config.acceleration_mps2, 2)
                position = position + velocity * 0.1 + push * 0.005
                velocity = velocity + push * 0.1
            seen = position + rng.normal(0.0, config.position_sigma_m, 2)
            track = tracker.update(T0 + n * STEP_NS, [detection(seen)], None)[0]
            if n >= 5 and n % 5 == 0:
                error = np.concatenate([track.center[:2] - position, track.velocity - velocity])
                errors.append(error @ np.linalg.solve(track.covariance, error))
    # THEN the normalised error squared is 4 on average (NEES; 240 values, 4 sigma)
    assert np.mean(errors) == pytest.approx(4.0, abs=4 * np.sqrt(8 / len(errors)))


def test_crossing_targets_keep_their_ids():
    # GIVEN two cars whose paths cross at right angles at the same moment, seen with noise
    rng = np.random.default_rng(0)

    def at(n):
        t = 0.1 * n - 2.0
        return np.array([8.0 * t, 0.3]), np.array([0.4, 8.0 * t])

    frames = []
    for n in range(41):
        frames.append([detection(p + rng.normal(0, 0.15, 2)) for p in at(n)])
        if n % 2:
            frames[-1].reverse()  # the order of detections must not matter
    results = run(Tracker(TrackerConfig()), frames)
    first, last = results[5], results[-1]
    for a, b in zip(at(5), at(40), strict=True):
        assert nearest(first, a).track_id == nearest(last, b).track_id
    assert {t.track_id for tracks in results for t in tracks} == {1, 2}


def test_people_who_pass_each_other_closely_keep_their_ids():
    rng = np.random.default_rng(1)

    def at(n):
        t = 0.1 * n - 2.0
        return np.array([1.4 * t, 0.35]), np.array([-1.4 * t, -0.35])

    frames = [
        [detection(p + rng.normal(0, 0.08, 2), "pedestrian") for p in at(n)] for n in range(41)
    ]
    config = TrackerConfig(position_sigma_m=0.15, acceleration_mps2=1.5)
    results = run(Tracker(config), frames)
    for a, b in zip(at(5), at(40), strict=True):
        assert nearest(results[5], a).track_id == nearest(results[-1], b).track_id


def test_a_short_occlusion_is_bridged_and_a_long_one_is_not():
    def frames(gap):
        return [[] if 10 <= n < 10 + gap else [detection((5.0 + 0.8 * n, 1.0))] for n in range(30)]

    results = run(Tracker(TrackerConfig(max_coast_s=0.5)), frames(4))
    assert [len(tracks) for tracks in results[10:14]] == [1, 1, 1, 1]  # it coasts
    assert results[12][0].time_since_update_s == pytest.approx(0.3)
    assert results[12][0].center[0] == pytest.approx(5.0 + 0.8 * 12, abs=0.2)
    assert results[-1][0].track_id == 1
    results = run(Tracker(TrackerConfig(max_coast_s=0.5)), frames(8))
    assert [len(tracks) for tracks in results[10:18]] == [1, 1, 1, 1, 1, 0, 0, 0]
    assert results[-1][0].track_id == 2


def test_a_stray_detection_is_never_published():
    frames = [[detection((10.0, 0.0))] if n == 3 else [] for n in range(12)]
    assert all(not tracks for tracks in run(Tracker(TrackerConfig()), frames))


def test_classes_are_not_mixed():
    frames = [[detection((10.0, 0.0), "car" if n < 10 else "pedestrian")] for n in range(20)]
    results = run(Tracker(TrackerConfig()), frames)
    assert {(t.track_id, t.label) for t in results[-1]} == {(2, "pedestrian")}


def test_weak_detections_feed_tracks_and_never_start_them():
    config = TrackerConfig(min_score=0.5)
    assert not run(Tracker(config), [[detection((5, 0), score=0.4)]] * 10)[-1]
    frames = [[detection((5, 0), score=0.9 if n < 3 else 0.4)] for n in range(12)]
    track = run(Tracker(config), frames)[-1][0]
    assert track.hits == 12
    assert 0.4 < track.score < 0.9


def test_the_assignment_is_the_best_of_all_not_the_first_that_fits():
    # Taking the nearest pair first would leave the other pair 2.9 m apart, or unmatched.
    config = TrackerConfig(gate_m=3.0, confirm_hits=1)
    tracker = Tracker(config)
    before = tracker.update(T0, [detection((0.0, 0)), detection((2.0, 0))], None)
    after = tracker.update(T0 + 1, [detection((1.1, 0)), detection((3.1, 0))], None)
    assert [t.track_id for t in after] == [t.track_id for t in before] == [1, 2]
    assert [t.hits for t in after] == [2, 2]
    assert after[0].center[0] < 1.2 < after[1].center[0]


def test_standing_objects_stand_still_in_the_odometry_frame():
    # GIVEN a robot on a curve past a parked car
    car = np.array([30.0, 5.0, 0.8])
    poses = [RigidTransform.from_rpy((0.8 * n, 0.1 * n, 0.2), (0, 0, 0.03 * n)) for n in range(30)]
    frames = [
        [detection(w.inverse().apply(car)[:2], yaw=0.7 - w.yaw_rad(), z=w.inverse().apply(car)[2])]
        for w in poses
    ]
    results = run(Tracker(TrackerConfig()), frames, poses)
    track = results[-1][0]
    np.testing.assert_allclose(track.center, car, atol=1e-6)
    np.testing.assert_allclose(track.velocity, 0.0, atol=1e-6)
    assert track.yaw == pytest.approx(0.7, abs=1e-6)
    assert track.track_id == 1


def test_velocities_are_found_in_the_odometry_frame():
    poses = [RigidTransform.from_rpy((1.0 * n, 0, 0), (0, 0, np.pi / 2)) for n in range(30)]
    frames = []
    for n, where in enumerate(poses):
        car = np.array([5.0, -3.0 + 0.6 * n, 0.8])  # 6 m/s along y of odom
        frames.append([detection(where.inverse().apply(car)[:2])])
    track = run(Tracker(TrackerConfig()), frames, poses)[-1][0]
    np.testing.assert_allclose(track.velocity, [0.0, 6.0], atol=0.1)


def test_ids_live_on_when_ego_motion_comes_and_goes():
    # GIVEN a robot at rest far from the origin of odom, whose motion is known only now and then
    where = RigidTransform.from_rpy((500.0, -300.0, 2.0), (0, 0, 1.0))
    poses = [None if n // 10 % 2 else where for n in range(40)]
    results = run(Tracker(TrackerConfig()), [[detection((8.0, 2.0))]] * 40, poses)
    assert {t.track_id for tracks in results for t in tracks} == {1}
    np.testing.assert_allclose(results[-1][0].center[:2], [8.0, 2.0], atol=1e-6)
    expected = where.apply(np.array([8.0, 2.0, 0.8]))
    np.testing.assert_allclose(results[25][0].center, expected, atol=1e-6)


def test_a_heading_that_flips_front_to_back_does_not_turn_the_track():
    frames = [[detection((5.0, 0.0), yaw=0.3 if n % 3 else 0.3 - np.pi)] for n in range(20)]
    tracks = [results[0].yaw for results in run(Tracker(TrackerConfig()), frames)[3:]]
    assert np.ptp(tracks) < 1e-9
    assert np.cos(2 * (tracks[0] - 0.3)) == pytest.approx(1.0)


def test_a_moving_object_faces_where_it_goes():
    frames = [[detection((5.0 + 0.8 * n, 0.0), yaw=np.pi)] for n in range(15)]
    yaw = run(Tracker(TrackerConfig()), frames)[-1][0].yaw
    assert abs(yaw) < 0.05


def test_time_that_goes_back_ends_the_tracks_and_never_reuses_an_id():
    tracker = Tracker(TrackerConfig(confirm_hits=1))
    tracker.update(T0, [detection((5, 0))], None)
    tracks = tracker.update(T0 - 10 * STEP_NS, [detection((5, 0))], None)
    assert [t.track_id for t in tracks] == [2]


def test_equal_input_gives_equal_tracks():
    rng = np.random.default_rng(7)
    frames = [
        [
            detection(rng.uniform(-20, 20, 2), ["car", "pedestrian"][n % 2], rng.uniform(0.1, 1))
            for n in range(20)
        ]
        for _ in range(30)
    ]
    one, two = (run(Tracker(TrackerConfig()), frames) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert [t.track_id for t in a] == [t.track_id for t in b]
        assert [t.center.tobytes() for t in a] == [t.center.tobytes() for t in b]


def test_answers_are_not_changed_by_later_updates():
    tracker = Tracker(TrackerConfig(confirm_hits=1))
    first = tracker.update(T0, [detection((5.0, 0.0))], None)[0]
    kept = (first.center.copy(), first.velocity.copy(), first.covariance.copy())
    for n in range(1, 5):
        tracker.update(T0 + n * STEP_NS, [detection((5.0 + n, 0.0))], None)
    for before, now in zip(kept, (first.center, first.velocity, first.covariance), strict=True):
        assert (before == now).all()
