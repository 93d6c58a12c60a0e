"""Required sensors, wrong clocks, jumps and memory of the synchronizer, told as stories."""

from __future__ import annotations

import pytest
from support.sync_robot import EPOCH_NS, MS, THIRD, Robot, at, dts, every, reasons, sets

from mm_fusion.errors import ConfigError
from mm_fusion.samples import Reason, Rejection
from mm_fusion.sync.clock import SensorTime

# ------------------------------------------------------------------------------- required


def test_a_set_without_a_required_sensor_is_answered_and_not_given_out() -> None:
    # GIVEN a camera that must be there, and is gone for a second
    robot = Robot(cameras=("front", "left"), required=("left",))
    gone = every("left", 100.0, phase=2.0, without=lambda s: 3000 < s < 4000)
    answers = robot.play(every("lidar", 100.0), every("front", 100.0, phase=1.0), gone, end=6000)
    answers += [(6000.0, a) for a in robot.sync.flush()]
    # THEN its sets are rejections of their sweeps, naming it
    refused = [
        a for _, a in answers if isinstance(a, Rejection) and a.reason is Reason.REQUIRED_MISSING
    ]
    assert [(a.stamp_ns - EPOCH_NS) // MS for a in refused] == list(range(3000, 4000, 100))
    assert {a.sensor for a in refused} == {"lidar"}
    assert "left" in refused[0].detail
    # AND the frames of the other camera that were there are accounted for
    assert reasons(answers, "front") == [Reason.UNMATCHED] * len(refused)
    # AND all others have the camera
    assert all(s.missing == () for _, s in sets(answers))
    assert len(sets(answers)) + len(refused) == 60


def test_a_required_lidar_that_dies_leaves_no_set_and_no_message_unanswered() -> None:
    robot = Robot(required=("lidar",))
    dying = every("lidar", 100.0, without=lambda s: s > 3000)
    frames = every("front", 50.0, phase=2.0)
    answers = robot.play(dying, frames, end=5000)
    answers += [(5000.0, a) for a in robot.sync.flush()]
    assert all(s.sweeps for _, s in sets(answers))
    assert Reason.REQUIRED_MISSING in reasons(answers, "front")
    used = {f.stamp_ns for _, s in sets(answers) for f in s.cameras if f}
    lost = [a.stamp_ns for _, a in answers if isinstance(a, Rejection) and a.sensor == "front"]
    assert len(lost) == len(set(lost))
    assert len(used) + len(lost) == sum(come < 5000 for come, _, _ in frames)


def test_a_required_sensor_must_be_there_to_be_required() -> None:
    with pytest.raises(ConfigError, match=r"sync\.required: .*front.* got roof"):
        Robot(required=("roof",))


# ------------------------------------------------------------------------------ whose time


@pytest.mark.parametrize("ahead", ["left", "clock"])
def test_one_clock_that_runs_ahead_does_not_drag_time_along(ahead: str) -> None:
    # GIVEN a sensor whose clock is 5 s ahead, and a camera whose frames come 60 ms late
    robot = Robot(cameras=("front", "left"), arrivals=True, clock=False, camera_timeout_s=0.3)
    error = {ahead: 5000.0}
    streams = (
        every("lidar", 100.0, late=4.0),
        every("front", 100.0, phase=1.0, late=60.0),
        every("left", THIRD, late=3.0, clock_error=error.get("left", 0.0)),
        every("clock", 10.0, late=1.0, clock_error=error.get("clock", 0.0)),
    )
    answers = robot.play(*streams, end=5000)[40:]
    # THEN sets still wait for the frame that is under way
    assert set(dts(answers, "front")) == {1.0}
    # AND the one ahead has no part in them
    assert set(dts(answers, "left")) == ({None} if ahead == "left" else {0.0})


@pytest.mark.parametrize("arrivals", [True, False])
def test_a_lidar_that_starts_after_a_camera_whose_clock_is_ahead_is_not_late(
    arrivals: bool,
) -> None:
    # GIVEN a camera 5 s ahead that leads until the LIDAR starts
    robot = Robot(arrivals=arrivals, clock=False)
    streams = (
        every("front", THIRD, late=3.0, clock_error=5000.0),
        every("lidar", 100.0, phase=2000.0, late=4.0),
    )
    answers = robot.play(*streams, end=4000)
    # THEN its first sweep says that time went back, and all others make sets
    assert reasons(answers, "lidar") == [Reason.TIME_JUMP]
    assert sum(bool(s.sweeps) for _, s in sets(answers)) >= 18


def test_a_clock_that_nobody_can_compare_with_any_more_is_believed() -> None:
    # GIVEN stamps that run ten times as fast as the receiver's clock, as of a bag played fast
    time = SensorTime(2, [0, 1], 300 * MS)
    for n in range(100):
        time.tell(0, 10 * n * MS, 10**12 + n * MS)
        told = time.tell(1, 10 * n * MS, 10**12 + n * MS)
    assert told == 990 * MS
    # WHEN the first sensor is silent THEN the second seems to run ahead of it, for a second
    assert time.tell(1, 5000 * MS, 10**12 + 500 * MS) < 2000 * MS
    assert time.tell(1, 15_000 * MS, 10**12 + 1500 * MS) == 15_000 * MS


# ----------------------------------------------------------------- jumps, stamps and memory


def test_a_jump_forward_answers_what_waits_and_goes_on() -> None:
    # GIVEN all clocks set forward by a minute
    robot = Robot(cameras=("front", "left"))
    streams = [every(n, 100.0, phase=p) for n, p in (("lidar", 0), ("front", 1), ("left", 2))]
    robot.play(*streams, end=2003)
    robot.give("lidar", 62_100.0, 2102.0)
    (waiting,) = [s for _, s in sets(robot.answers) if at(s) == 2000] or [None]
    jumped = [[(c, n, s + 60_000) for c, n, s in stream] for stream in streams]
    robot.clock = False
    answers = robot.play(*jumped, start=2103, end=4000)
    # THEN the waiting set went out, and the next ones are whole
    assert waiting is not None
    assert [s.missing for _, s in sets(answers)].count(()) >= 17
    assert Reason.TIME_JUMP not in {r for n in ("lidar", "front") for r in reasons(answers, n)}


def test_a_jump_back_begins_anew_also_with_what_was_learned() -> None:
    # GIVEN a LIDAR of 10 Hz and then a bag from its beginning, with one of 2 Hz
    robot = Robot()
    robot.play(every("lidar", 100.0), every("front", THIRD), end=20_000)
    robot.clock = False
    answers = robot.play(
        every("lidar", 500.0, phase=100.0), every("front", THIRD), start=0, end=5000
    )
    # THEN one message tells of the jump, and the slow LIDAR is soon known
    jumps = [r for n in ("lidar", "front") for r in reasons(answers, n) if r is Reason.TIME_JUMP]
    assert len(jumps) == 1
    assert all(s.sweeps for _, s in sets(answers) if at(s) > 700)


def test_memory_holds_no_more_than_queue_size_messages_of_a_sensor() -> None:
    # GIVEN a long drive in which the reference dies, a camera's clock is wrong, and sweeps wait
    robot = Robot(
        ("lidar", "rear"), ("front", "left"), queue_size=10, deadline_s=1.0, camera_timeout_s=1.0
    )
    given = dict.fromkeys(("lidar", "rear", "front", "left"), 0)
    streams = (
        every("lidar", 100.0, without=lambda s: 10_000 < s < 20_000),
        every("rear", 100.0, phase=30.0),
        every("front", THIRD, phase=3.0),
        every("left", THIRD, clock_error=5000.0),
    )
    answered: dict[str, set[int]] = {name: set() for name in given}
    for begin in range(0, 30_000, 100):
        for _, answer in robot.play(*streams, start=begin, end=begin + 100):
            members = (
                [answer]
                if isinstance(answer, Rejection)
                else [m for m in (*answer.lidars, *answer.cameras) if m]
            )
            for member in members:
                answered[member.sensor].add(member.stamp_ns)
        for stream in streams:
            given[stream[0][1]] += sum(begin <= come < begin + 100 for come, _, _ in stream)
        # THEN at any time no more than that many have had no answer
        for name, count in given.items():
            assert count - len(answered[name]) <= 11


def test_the_same_messages_give_the_same_answers() -> None:
    streams = (every("lidar", 100.0), every("front", THIRD, late=7.0), every("left", 50.0))
    runs = [Robot(cameras=("front", "left"), arrivals=True) for _ in range(2)]
    said = [
        [
            (come, type(a).__name__, a.stamp_ns, getattr(a, "dt_ns", None))
            for come, a in robot.play(*streams, end=5000)
        ]
        for robot in runs
    ]
    assert said[0] == said[1]
    assert len(said[0]) > 50
