"""Tracks keep their identity through crossings, gaps and the robot's own motion."""

from __future__ import annotations

import dataclasses

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


PERSON = {"label": "pedestrian", "size": (0.5, 0.5, 1.7)}
STILL = RigidTransform.identity()


def noise_m2(config, length_m):
    """Variance of a detected centre: more of a long box is not seen."""
    return config.position_sigma_m**2 + (0.03 * length_m) ** 2


def test_the_filter_is_the_textbooks():
    # GIVEN a plain Kalman filter of four states, written out with matrices
    config = TrackerConfig(confirm_hits=1, gate_m=20.0)
    dt, q = 0.1, config.person_acceleration_mps2**2
    f = np.eye(4) + dt * np.eye(4, k=2)
    g = np.array([[dt**2 / 2, 0], [0, dt**2 / 2], [dt, 0], [0, dt]])
    h = np.eye(2, 4)
    r = noise_m2(config, 0.5) * np.eye(2)
    rng = np.random.default_rng(2)
    measured = np.cumsum(rng.normal(0.12, 0.1, (20, 2)), axis=0)
    x = np.array([*measured[0], 1.0, -2.0])
    p = np.diag([*np.diag(r), config.velocity_sigma_mps**2, config.velocity_sigma_mps**2])
    tracker = Tracker(config)
    first = detection(measured[0], velocity=(1.0, -2.0), **PERSON)
    tracks = tracker.update(T0, [first], STILL)
    # WHEN both see the same detections THEN they say the same
    for n, z in enumerate(measured[1:], start=1):
        x, p = f @ x, f @ p @ f.T + q * g @ g.T
        gain = p @ h.T @ np.linalg.inv(h @ p @ h.T + r)
        x, p = x + gain @ (z - h @ x), (np.eye(4) - gain @ h) @ p
        tracks = tracker.update(T0 + n * STEP_NS, [detection(z, **PERSON)], STILL)
        np.testing.assert_allclose(tracks[0].center[:2], x[:2], atol=1e-9)
        np.testing.assert_allclose(tracks[0].velocity, x[2:], atol=1e-9)
        np.testing.assert_allclose(tracks[0].covariance, p, atol=1e-9)


def test_the_filters_covariance_is_honest():
    # GIVEN people with the acceleration and the detector with the noise that the filter assumes
    config = TrackerConfig(confirm_hits=1, gate_m=20.0)
    rng = np.random.default_rng(11)
    errors = []
    for _ in range(60):
        tracker = Tracker(config)
        velocity = rng.normal(0.0, config.velocity_sigma_mps, 2)
        position = np.zeros(2)
        for n in range(25):
            if n:
                push = rng.normal(0.0, config.person_acceleration_mps2, 2)
                position = position + velocity * 0.1 + push * 0.005
                velocity = velocity + push * 0.1
            seen = position + rng.normal(0.0, np.sqrt(noise_m2(config, 0.5)), 2)
            track = tracker.update(T0 + n * STEP_NS, [detection(seen, **PERSON)], STILL)[0]
            if n >= 5 and n % 5 == 0:
                error = np.concatenate([track.center[:2] - position, track.velocity - velocity])
                errors.append(error @ np.linalg.solve(track.covariance, error))
    # THEN the normalised error squared is 4 on average (NEES; 240 values, 4 sigma)
    assert np.mean(errors) == pytest.approx(4.0, abs=4 * np.sqrt(8 / len(errors)))


def turning_car(n, speed=8.0, rate=0.4, dt=0.1):
    """Position and heading of a car on a circle after n steps."""
    yaw = rate * dt * n
    radius = speed / rate
    return np.array([20.0 + radius * np.sin(yaw), radius * (1.0 - np.cos(yaw))]), yaw


def test_a_car_in_a_turn_is_followed_with_its_yaw_rate():
    """GIVEN a car on a circle seen with noise THEN speed, heading and yaw rate are found, and the
    doubt that comes with them is honest."""
    rng = np.random.default_rng(5)
    squares, off = [], []
    for _ in range(30):
        tracker = Tracker(TrackerConfig())
        for n in range(30):
            place, yaw = turning_car(n)
            seen = detection(place + rng.normal(0, 0.25, 2), yaw=yaw + rng.normal(0, 0.15))
            tracks = tracker.update(T0 + n * STEP_NS, [seen], STILL)
        (track,) = tracks
        velocity = 8.0 * np.array([np.cos(yaw), np.sin(yaw)])
        off.append(np.hypot(*(track.velocity - velocity)))
        squares.append((track.yaw_rate - 0.4) ** 2 / track.yaw_rate_variance)
        assert abs(np.angle(np.exp(1j * (track.yaw - yaw)))) < 0.25
        assert track.yaw_rate == pytest.approx(0.4, abs=0.3)
    assert np.sqrt(np.mean(np.square(off))) < 0.8
    assert np.mean(squares) < 2.0


def test_a_car_drives_on_around_the_bend_while_nobody_sees_it():
    frames = [turning_car(n, rate=0.6) for n in range(26)]
    seen = [[detection(p, yaw=y)] if n < 21 else [] for n, (p, y) in enumerate(frames)]
    config = TrackerConfig(shown_coast_s=0.5, detection_probability=0.5)
    last = run(Tracker(config), seen, [STILL] * 26)[-1][0]
    assert np.hypot(*(last.center[:2] - frames[-1][0])) < 0.3
    place, yaw = frames[20]
    straight = place + 0.5 * 8.0 * np.array([np.cos(yaw), np.sin(yaw)])
    assert np.hypot(*(straight - frames[-1][0])) > 0.45, "straight on, it would be elsewhere"


def test_a_detector_without_headings_and_velocities_is_enough():
    frames = [
        [detection((10 + 0.7 * n, 2.0), yaw=np.nan, velocity=(np.nan,) * 2)] for n in range(20)
    ]
    track = run(Tracker(TrackerConfig()), frames, [STILL] * 20)[-1][0]
    np.testing.assert_allclose(track.velocity, [7.0, 0.0], atol=0.1)
    assert np.isfinite([track.yaw, track.yaw_variance, *track.covariance.ravel()]).all()


def test_a_box_that_is_no_box_is_refused_by_name():
    with pytest.raises(ValueError, match=r"detections\[1\]: centre, size and score must be finite"):
        Tracker(TrackerConfig()).update(T0, [detection((1, 1)), detection((np.nan, 1))], None)


def test_a_detector_that_knows_its_error_is_believed_so_far():
    """GIVEN a camera that guesses the range THEN a track follows its bearing and not its range."""
    tracker, wide = Tracker(TrackerConfig(confirm_hits=1)), np.diag([4.0**2, 0.1**2, 1.0, 1.0])
    tracker.update(T0, [detection((20.0, 0.0), **PERSON)], STILL)
    guess = dataclasses.replace(detection((23.0, 0.3), **PERSON), covariance=wide)
    (track,) = tracker.update(T0 + 1, [guess], STILL)
    assert track.center[0] == pytest.approx(20.0, abs=0.1)
    assert track.center[1] > 0.2


# -------------------------------------------------------------------------- existence


def test_what_is_hidden_by_another_is_waited_for():
    """GIVEN a person behind a van for 1.5 s WHEN they come out THEN they are who they were."""

    def frame(n):
        van = detection((10.0, 0.0), "truck", size=(6, 2.5, 3), yaw=np.pi / 2)
        person = detection((15.0, 5.5 - 0.15 * n), **PERSON)
        behind = abs(person.center[1]) < 1.2
        return [van] if behind else [van, person]

    frames = [frame(n) for n in range(60)]
    gap = [n for n in range(60) if len(frames[n]) == 1]
    assert len(gap) >= 15
    results = run(Tracker(TrackerConfig()), frames, [STILL] * 60)
    people = [[t.track_id for t in tracks if t.label == "pedestrian"] for tracks in results]
    assert people[gap[0] - 1] == people[gap[-1] + 2] == [2]
    # and where nothing hides them they are given up
    alone = [[d for d in f if d.label == "pedestrian"] for f in frames]
    results = run(Tracker(TrackerConfig()), alone, [STILL] * 60)
    assert [t.track_id for t in results[-1]] == [2]
    assert not results[gap[-1]]


def test_existence_follows_the_evidence():
    frames = [[detection((8.0, 0.0), score=0.5)] if n < 6 else [] for n in range(9)]
    config = TrackerConfig(shown_coast_s=0.5)
    seen = [r[0].existence if r else 0.0 for r in run(Tracker(config), frames)]
    assert seen[1:6] == sorted(seen[1:6])
    assert seen[5] > 0.9
    assert seen[5:] == sorted(seen[5:], reverse=True)
    # What a detector takes for nothing three times out of four is nothing, however often seen.
    counts = {}
    for score in (0.25, 0.45):
        weak = [[detection((8.0, 0.0), score=score)]] * 12
        counts[score] = [len(r) for r in run(Tracker(TrackerConfig()), weak)]
    assert counts[0.25] == [0] * 12
    assert counts[0.45][:2] == [0, 0]
    assert counts[0.45][-1] == 1


def test_a_source_that_does_not_look_everywhere_ends_nothing():
    tracker = Tracker(TrackerConfig(shown_coast_s=0.5))
    for n in range(5):
        before = tracker.update(T0 + n * STEP_NS, [detection((8, 0))], STILL)
    for n in range(5, 9):
        after = tracker.update(T0 + n * STEP_NS, [], STILL, complete=False)
    assert after[0].existence == before[0].existence


def test_what_has_no_name_keeps_a_track_and_does_not_rename_it():
    frames = [[detection((8.0, 0.0), "car" if n < 5 else "unknown")] for n in range(20)]
    track = run(Tracker(TrackerConfig()), frames)[-1][0]
    assert (track.track_id, track.label, track.hits) == (1, "car", 20)
    np.testing.assert_allclose(track.size, (4, 2, 1.5))


# ------------------------------------------------------------------- many sources


def test_late_detections_are_put_in_where_they_belong():
    """GIVEN two sources in turn, one of which comes 0.15 s late THEN all is as if it had not."""
    cars = {n: detection((10.0 + 0.3 * n, 1.0)) for n in range(40)}
    order = sorted(cars, key=lambda n: n + 3.5 if n % 2 else n)
    assert order != sorted(cars)
    tracker, punctual = Tracker(TrackerConfig()), Tracker(TrackerConfig())
    for n in order:
        late = tracker.update(T0 + n * 50_000_000, [cars[n]], STILL)
    for n, car in cars.items():
        expected = punctual.update(T0 + n * 50_000_000, [car], STILL)
    assert [t.track_id for t in late] == [t.track_id for t in expected] == [1]
    np.testing.assert_allclose(late[0].center, expected[0].center, atol=1e-9)
    np.testing.assert_allclose(late[0].covariance, expected[0].covariance, atol=1e-9)
    assert late[0].hits == 40


def test_ids_stay_when_the_past_is_told_anew():
    """GIVEN a track that began after the stamp of what comes late THEN it keeps its number."""
    tracker = Tracker(TrackerConfig(confirm_hits=1))
    tracker.update(T0, [detection((5, 0))], STILL)
    (_, other) = tracker.update(T0 + STEP_NS, [detection((5, 0)), detection((9, 9))], STILL)
    late = [detection((5, 0)), detection((-9, -9))]
    tracker.update(T0 + STEP_NS // 2, late, STILL)
    everybody = [detection(xy) for xy in ((5, 0), (9, 9), (-9, -9))]
    tracks = tracker.update(T0 + 2 * STEP_NS, everybody, STILL)
    assert {(round(t.center[0]), t.track_id) for t in tracks} == {(5, 1), (9, 2), (-9, 3)}
    assert other.track_id == 2


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
    config = TrackerConfig(position_sigma_m=0.15)
    results = run(Tracker(config), frames)
    for a, b in zip(at(5), at(40), strict=True):
        assert nearest(results[5], a).track_id == nearest(results[-1], b).track_id


def test_a_short_gap_is_bridged_and_a_long_one_is_not():
    def frames(gap):
        return [[] if 10 <= n < 10 + gap else [detection((5.0 + 0.8 * n, 1.0))] for n in range(30)]

    config = TrackerConfig(shown_coast_s=0.35)
    results = run(Tracker(config), frames(4))
    assert [len(tracks) for tracks in results[10:14]] == [1, 1, 1, 0]  # it coasts
    assert results[12][0].time_since_update_s == pytest.approx(0.3)
    assert results[12][0].center[0] == pytest.approx(5.0 + 0.8 * 12, abs=0.2)
    assert results[-1][0].track_id == 1
    results = run(Tracker(config), frames(9))
    assert [len(tracks) for tracks in results[13:19]] == [0] * 6
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


def test_a_robot_that_drives_nobody_knows_how_keeps_its_tracks():
    """GIVEN 20 m/s and a bend, without ego motion, past a row of parked cars and one that comes
    towards it WHEN they come into view one by one THEN each is one track, from its second sight."""
    parked = np.array([[x, y] for x in np.arange(20.0, 260.0, 12.0) for y in (-5.0, 5.0)])
    tracker, seen = Tracker(TrackerConfig()), {}
    for n in range(60):
        heading, at = 0.05 * n / 10.0, np.array([2.0 * n, 0.0])
        c, s = np.cos(heading), np.sin(heading)
        oncoming = np.array([150.0 - 1.5 * n, 1.5])
        local = (np.vstack([parked, oncoming]) - at) @ np.array([[c, -s], [s, c]])
        inside = np.flatnonzero((local[:, 0] > 2.0) & (local[:, 0] < 60.0))
        found = [detection(local[k], yaw=-heading) for k in inside]
        tracks = tracker.update(T0 + n * STEP_NS, found, None)
        for k in inside:
            best = nearest(tracks, local[k]) if tracks else None
            near = best is not None and np.hypot(*(best.center[:2] - local[k])) < 0.7
            seen.setdefault(k, []).append(best.track_id if near else None)
    for k, ids in seen.items():
        assert None not in ids[1:], k
        assert len(set(ids[1:])) <= 1, k


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
    tracks = [results[0].yaw for results in run(Tracker(TrackerConfig()), frames)[8:]]
    # the first was back to front; two of three are not, and have been believed since
    np.testing.assert_allclose(tracks, 0.3, atol=1e-9)


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


def test_people_face_where_they_walk_and_where_the_detector_says():
    """GIVEN a person who walks, and one who stands, both seen back to front at first."""
    walking = [
        [detection((5.0 + 0.13 * n, 0.0), yaw=np.pi if n < 2 else 0.0, **PERSON)] for n in range(25)
    ]
    standing = [[detection((5.0, 3.0), yaw=np.pi if n < 2 else 0.0, **PERSON)] for n in range(25)]
    for frames in (walking, standing):
        yaw = run(Tracker(TrackerConfig()), frames, [STILL] * 25)[-1][0].yaw
        assert abs(yaw) < 0.2


@pytest.mark.parametrize("seed", [4, 5])
def test_tracks_foreseen_are_those_not_foreseen(seed):
    """GIVEN a tracker that is told, at times wrongly, which stamp comes next THEN it says what
    another says that was not, through late detections and lost ego motion."""
    rng = np.random.default_rng(seed)
    told, plain = Tracker(TrackerConfig()), Tracker(TrackerConfig())
    used = 0
    for n in range(60):
        stamp_ns = T0 + n * STEP_NS - (120_000_000 if n % 9 == 5 else 0)
        places = np.array([[5 + 0.4 * n, 8 * c] for c in range(5)])
        cars = [detection(p) for p in places + rng.normal(0, 0.1, (5, 2))]
        seen = [c for c in cars if rng.random() < 0.8]
        where = None if 20 <= n < 26 else STILL
        for other_ns in (stamp_ns + 7, stamp_ns)[: rng.integers(0, 3)]:
            told.foresee(other_ns)
        predicted = told._predicted
        ready = told._foreseen is not None and told._foreseen[1] == stamp_ns and n % 9 not in (5, 6)
        ready &= (where is None) is not told._in_odom
        used += ready
        if ready:
            told._predicted = lambda _: pytest.fail("predicted again")
        found = told.update(stamp_ns, seen, where)
        told._predicted = predicted
        expected = plain.update(stamp_ns, seen, where)
        for one, other in zip(found, expected, strict=True):
            for name in ("track_id", "score", "yaw", "existence", "hits"):
                assert getattr(one, name) == getattr(other, name)
            for name in ("center", "velocity", "covariance"):
                assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert used > 5
    assert len(found) >= 4
