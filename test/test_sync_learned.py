"""What the synchronizer learns from the messages, told as stories.

Sweeps come every 100 ms, frames every 100/3 ms, and a fine clock tells the time, as odometry does.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.sync_robot import EPOCH_NS, MS, THIRD, Robot, at, dts, every, reasons, sets, waits

from mm_fusion.samples import Rejection

# ------------------------------------------------------------- going out as soon as possible


def test_a_partner_before_the_sweep_is_taken_at_once_when_the_next_would_be_farther() -> None:
    # GIVEN frames 10 ms before every sweep, the next one 23 ms after it
    frames, sweeps = every("front", THIRD, phase=-10 + THIRD), every("lidar", 100.0)
    robot = Robot()
    first = robot.play(frames, sweeps, end=300)
    robot.play(frames, sweeps, start=300, end=5000)
    later = robot.play(frames, sweeps, start=5000, end=6000)
    # THEN at first, when the rate is not known, the set waits for the next frame
    assert waits(first)[1] == pytest.approx(25.3, abs=0.1)
    # AND later it goes out with the sweep itself
    assert set(waits(later)) == {2.0}
    assert set(dts(later, "front")) == {-10.0}


def test_the_next_frame_is_still_waited_for_when_it_may_be_nearer() -> None:
    # GIVEN frames 20 ms before every sweep, the next one 13 ms after it
    robot = Robot()
    later = robot.play(every("front", THIRD, phase=13.0), every("lidar", 100.0), end=6000)[50:]
    assert set(dts(later, "front")) == {13.0}
    assert max(waits(later)) == pytest.approx(15.0, abs=0.1)


def test_a_sweep_never_waits_longer_than_one_camera_period() -> None:
    # GIVEN a camera that drifts through all phases against the LIDAR, and ways of 2 to 12 ms
    rng = np.random.default_rng(1)
    frames = [(s + rng.uniform(2, 12), "front", s) for s in np.arange(0.0, 40_000, 33.2)]
    sweeps = [(s + rng.uniform(2, 12), "lidar", s) for s in np.arange(0.0, 40_000, 100.0)]
    answers = Robot().play(frames, sweeps, end=40_000)
    came = {s: come for come, _, s in sweeps}
    waited = [come - came[at(found)] for come, found in sets(answers)]
    # THEN from its coming on, no sweep waits longer than one period of the camera
    assert len(waited) > 390
    assert max(waited) <= 33.2


def test_a_lost_frame_is_waited_for_only_as_long_as_frames_take() -> None:
    # GIVEN a camera known for long, whose nearest frame, 7 ms after the sweep of 20 s, is lost
    def lost(stamp: float) -> bool:
        return abs(stamp - 20_007) < 1

    frames = every("front", 50.0, phase=7.0, without=lost)
    robot = Robot(deadline_s=0.2)
    sweeps = every("lidar", 100.0)
    robot.play(frames, sweeps, end=19_950)
    answers = robot.play(frames, sweeps, start=19_950, end=20_250)
    # THEN the set goes out with the one before, long before its deadline and before the next
    (wait,) = [come - at(s) for come, s in sets(answers) if at(s) == 20_000]
    assert [s.dt_ns["front"] for _, s in sets(answers) if at(s) == 20_000] == [-43 * MS]
    assert wait == pytest.approx(15.0, abs=5.0)


def test_before_it_is_known_how_late_frames_come_a_lost_one_is_waited_for() -> None:
    # GIVEN the same, lost in the third second
    def lost(stamp: float) -> bool:
        return abs(stamp - 3007) < 1

    answers = Robot(deadline_s=0.2).play(
        every("front", 50.0, phase=7.0, without=lost), every("lidar", 100.0), end=3300
    )
    # THEN the next frame, farther away, tells that nothing better comes: not before, not later
    (wait,) = [come - at(s) for come, s in sets(answers) if at(s) == 3000]
    assert wait >= 59.0


def test_a_frame_that_others_have_overtaken_is_waited_for() -> None:
    # GIVEN a camera that gives every 20th frame 45 ms late
    frames = [
        (s + (45.0 if n % 20 == 9 else 2.0), "front", s)
        for n, s in enumerate(np.arange(1.0, 60_000, THIRD))
    ]
    robot = Robot()
    answers = robot.play(frames, every("lidar", 100.0), end=60_000)
    # THEN from the start to the end of a minute no sweep loses its partner 1 ms away
    assert set(dts(answers[20:], "front")) <= {1.0, None}
    assert None not in dts(answers, "front")
    # AND where nothing is missing no set waits
    ordinary = [w for w in waits(answers[-400:]) if w < 10]
    assert len(ordinary) > 0.8 * len(sets(answers[-400:]))


def test_a_camera_whose_frames_come_after_the_deadline_is_not_waited_for() -> None:
    # GIVEN a second camera whose way is longer than the deadline
    streams = (
        every("lidar", 100.0),
        every("front", THIRD),
        every("slow", THIRD, late=300.0),
    )
    answers = Robot(cameras=("front", "slow")).play(*streams, end=30_000)
    # THEN at first sets wait for it, and later no longer
    assert waits(answers)[10] == pytest.approx(100.0, abs=5)
    assert max(waits(answers)[-20:]) <= 2.0


def test_a_dead_camera_costs_waiting_for_a_few_of_its_periods_only() -> None:
    # GIVEN two cameras, one of which dies for good after 20 s
    alive = every("front", THIRD)
    dying = every("left", THIRD, without=lambda s: s > 20_000)
    robot = Robot(cameras=("front", "left"), camera_timeout_s=1.0)
    sweeps = every("lidar", 100.0)
    robot.play(alive, dying, sweeps, end=20_001)
    after = robot.play(alive, dying, sweeps, start=20_001, end=21_000)
    # THEN at most three sets wait for it, though the timeout is a second
    assert len(sets(after)) >= 9
    assert sum(w > 5 for w in waits(after)) <= 3
    assert set(dts(after[6:], "left")) == {None}


# --------------------------------------------------------------------------- who leads


def test_a_reference_of_any_kind_leads() -> None:
    # GIVEN a camera as reference, two LIDARs and another camera
    robot = Robot(("top", "rear"), ("front", "left"), reference="front")
    streams = (
        every("front", 50.0),
        every("left", 50.0, phase=4.0),
        every("top", 100.0, phase=10.0),
        every("rear", 100.0, phase=-30.0 + 100),
    )
    answers = robot.play(*streams, end=5000)[30:]
    # THEN every frame of it makes a set, LIDARs being shared by two
    found = [s for _, s in sets(answers)]
    assert np.diff([at(s) for s in found]) == pytest.approx(50.0)
    assert {tuple(sorted(s.dt_ns.items())) for s in found} == {
        (("front", 0), ("left", 4 * MS), ("rear", -30 * MS), ("top", 10 * MS)),
        (("front", 0), ("left", 4 * MS), ("rear", 20 * MS), ("top", -40 * MS)),
    }
    assert all([m and m.sensor for m in s.lidars] == ["top", "rear"] for s in found)


def test_each_sensor_has_its_own_offset() -> None:
    # GIVEN clocks that are wrong by a known amount
    robot = Robot(
        ("top", "rear"),
        ("front", "left"),
        lidar_offsets_s=(0.01, -0.02),
        camera_offsets_s=(0.03, 0.0),
    )
    answers = robot.play(
        every("top", 100.0, clock_error=-10.0),
        every("rear", 100.0, phase=1.0, clock_error=20.0),
        every("front", 100.0, phase=2.0, clock_error=-30.0),
        every("left", 100.0, phase=3.0),
        end=3000,
    )
    # THEN the sets are on the true time, and so is what they say
    found = [s for _, s in sets(answers)][3:]
    assert {tuple(s.dt_ns.items()) for s in found} == {
        (("top", 0), ("rear", MS), ("front", 2 * MS), ("left", 3 * MS))
    }
    assert {at(s) % 100 for s in found} == {0.0}


@pytest.mark.parametrize("death", [8000.0, 8003.0, 8050.0, 8099.0])
def test_cameras_lead_within_two_periods_of_a_lidars_death_and_hold_its_rate(death: float) -> None:
    # GIVEN a LIDAR at 10 Hz that dies, and a camera at 30 Hz
    sweeps = every("lidar", 100.0, without=lambda s: death < s < 12_000)
    robot = Robot(("lidar",), ("front",))
    frames = every("front", THIRD, phase=12.0)
    robot.play(frames, sweeps, end=death)
    quiet = robot.play(frames, sweeps, start=death, end=12_000)
    # THEN the first set without it comes within two periods
    led = [(come, s) for come, s in sets(quiet) if not s.sweeps]
    assert led[0][0] - death < 200.0
    assert led[0][1].missing == ("lidar",)
    # AND the rate of the sets holds: no gap of more than two periods, 10 sets per second
    stamps = [at(s) for _, s in led]
    assert len(stamps) == pytest.approx((12_000 - death) / 100, abs=2)
    assert np.diff(stamps) == pytest.approx(100.0)
    # WHEN it returns THEN its first sweep makes a full set, and the cameras lead no more
    back = robot.play(frames, sweeps, start=12_000, end=13_000)
    full = [at(s) for _, s in sets(back) if s.sweeps]
    assert full[:3] == [12_000, 12_100, 12_200]
    assert all(s.sweeps or at(s) < 12_000 for _, s in sets(back))
    assert all(s.missing == () for _, s in sets(back) if s.sweeps)
    # AND no sweep at all was lost
    assert reasons(robot.answers, "lidar") == []


def test_one_lost_sweep_is_stood_in_for_and_costs_the_next_one_nothing() -> None:
    sweeps = every("lidar", 100.0, without=lambda s: s == 8000)
    robot = Robot()
    answers = robot.play(every("front", THIRD, phase=5.0), sweeps, end=9000)
    near = [(at(s), bool(s.sweeps)) for _, s in sets(answers) if 7850 < at(s) < 8250]
    assert near == [(7900, True), (pytest.approx(8005, abs=1), False), (8100, True), (8200, True)]


def test_another_lidar_leads_before_a_camera_does() -> None:
    # GIVEN two LIDARs, of which the reference dies, and then the other one as well
    robot = Robot(("top", "rear"), ("front",))
    streams = (
        every("top", 100.0, without=lambda s: s > 8000),
        every("rear", 100.0, phase=40.0, without=lambda s: s > 10_000),
        every("front", THIRD, phase=3.0),
    )
    robot.play(*streams, end=8050)
    second = robot.play(*streams, start=8050, end=10_000)
    third = robot.play(*streams, start=10_200, end=12_000)
    # THEN the other one leads in between, every sweep of it
    assert {s.missing for _, s in sets(second)} == {("top",)}
    assert np.diff([at(s) for _, s in sets(second)]) == pytest.approx(100.0)
    assert set(dts(second, "rear")) == {0.0}
    # AND then the camera, at the same rate
    assert {s.missing for _, s in sets(third)} == {("top", "rear")}
    assert len(sets(third)) == pytest.approx(18, abs=1)


@pytest.mark.parametrize("rate_hz", [2.0, 3.0, 5.0])
def test_a_slow_lidar_is_not_taken_for_silent(rate_hz: float) -> None:
    # GIVEN a LIDAR slower than sync.lidar_timeout_s
    robot = Robot(lidar_timeout_s=0.15)
    sweeps = every("lidar", 1000.0 / rate_hz, phase=100.0, late=20.0)
    answers = robot.play(every("front", THIRD), sweeps, end=10_000)
    # THEN from its second sweep on, which cannot be foreseen, every set is its own
    second = 100.0 + 1000.0 / rate_hz
    late = [s for _, s in sets(answers) if at(s) > second]
    assert all(s.sweeps for s in late)
    assert len(late) >= 9.0 * rate_hz - 2
    late_ones = [a.stamp_ns for _, a in answers if isinstance(a, Rejection) and a.sensor == "lidar"]
    assert late_ones in ([], [EPOCH_NS + round(second * MS)])


def test_cameras_alone_use_every_frame() -> None:
    robot = Robot(lidars=(), cameras=("front", "left"))
    answers = robot.play(every("front", THIRD), every("left", THIRD, phase=5.0), end=3000)
    assert len(sets(answers)) == pytest.approx(90, abs=2)
    assert dts(answers[10:], "left").count(5.0) > 75


def test_a_sweep_that_the_next_one_has_overtaken_is_not_lost() -> None:
    # GIVEN a LIDAR that gives every 20th sweep after the next one, and frames that wait for none
    sweeps = [
        (s + (110.0 if n % 20 == 9 else 2.0), "lidar", s)
        for n, s in enumerate(np.arange(100.0, 60_000, 100.0))
    ]
    robot = Robot(deadline_s=0.3, lidar_timeout_s=1.0)
    answers = robot.play(every("front", 50.0), sweeps, end=60_000)
    # THEN but for the first that was so late no sweep is lost, and the sets are in order
    assert len(reasons(answers, "lidar")) <= 1
    own = [at(s) for _, s in sets(answers) if s.sweeps]
    assert own == sorted(own)
    assert len(own) >= 597
