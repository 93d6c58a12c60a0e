"""What the synchronizer learns from the messages, told as stories.

Sweeps come every 100 ms, frames every 100/3 ms, and a fine clock tells the time, as odometry does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from mm_fusion.config_sync import SyncConfig
from mm_fusion.errors import ConfigError
from mm_fusion.samples import CameraFrame, LidarSweep, Reason, Rejection, SyncedSet
from mm_fusion.sync import Synchronizer
from mm_fusion.sync.clock import SensorTime

EPOCH_NS = 1_700_000_000_000_000_000
MS = 1_000_000
POINT = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")])
THIRD = 100.0 / 3.0

Given = tuple[float, str, float]  # when it comes, who, its stamp: milliseconds
Answer = tuple[float, SyncedSet | Rejection]  # when it was given


class Robot:
    """Plays messages in the order of their coming, a clock of 5 ms between them."""

    def __init__(
        self,
        lidars: tuple[str, ...] = ("lidar",),
        cameras: tuple[str, ...] = ("front",),
        arrivals: bool = False,
        clock: bool = True,
        **settings: object,
    ) -> None:
        self.sync = Synchronizer(SyncConfig(**settings), lidars, cameras)  # type: ignore[arg-type]
        self.lidars = lidars
        self.arrivals = arrivals
        self.clock = clock
        self.answers: list[Answer] = []

    def give(self, sensor: str, stamp: float, come: float) -> list[SyncedSet | Rejection]:
        """One message."""
        stamp_ns = EPOCH_NS + round(stamp * MS)
        # The receiver's clock is an hour behind the sensors'.
        arrival_ns = EPOCH_NS - 3_600_000 * MS + round(come * MS) if self.arrivals else 0
        if sensor == "clock":
            found = self.sync.advance(stamp_ns, arrival_ns)
        elif sensor in self.lidars:
            points = np.zeros(1, POINT)
            sweep = LidarSweep(sensor, stamp_ns, sensor, points, arrival_ns=arrival_ns)
            found = self.sync.add(sweep)
        else:
            pixels = np.zeros((1, 1), np.uint8)
            found = self.sync.add(
                CameraFrame(sensor, stamp_ns, sensor, "mono8", 1, 1, 1, pixels, arrival_ns)
            )
        self.answers += [(come, a) for a in found]
        return found

    def play(self, *streams: Iterable[Given], start: float = 0.0, end: float) -> list[Answer]:
        """All messages of the streams that come in this time; what was answered then."""
        before = len(self.answers)
        clock = [(t, "clock", t) for t in np.arange(start, end, 5.0)] if self.clock else []
        given = [g for stream in (*streams, clock) for g in stream if start <= g[0] < end]
        for come, sensor, stamp in sorted(given, key=lambda g: (g[0], g[1] != "clock")):
            self.give(sensor, stamp, come)
        return self.answers[before:]


def every(
    sensor: str,
    period: float,
    phase: float = 0.0,
    late: float = 2.0,
    until: float = 60_000.0,
    without: Callable[[float], bool] | None = None,
    clock_error: float = 0.0,
) -> list[Given]:
    """A regular sensor whose messages come some milliseconds after their stamp."""
    stamps = np.arange(phase, until, period)
    return [
        (s + late, sensor, s + clock_error) for s in stamps if without is None or not without(s)
    ]


def sets(answers: Iterable[Answer]) -> list[tuple[float, SyncedSet]]:
    return [(come, a) for come, a in answers if isinstance(a, SyncedSet)]


def at(found: SyncedSet) -> float:
    return (found.stamp_ns - EPOCH_NS) / MS


def waits(answers: Iterable[Answer]) -> list[float]:
    """How long after its stamp each set went out."""
    return [round(come - at(found), 3) for come, found in sets(answers)]


def dts(answers: Iterable[Answer], sensor: str) -> list[float | None]:
    found = [s.dt_ns.get(sensor) for _, s in sets(answers)]
    return [None if dt is None else round(dt / MS, 3) for dt in found]


def reasons(answers: Iterable[Answer], sensor: str) -> list[Reason]:
    return [a.reason for _, a in answers if isinstance(a, Rejection) and a.sensor == sensor]


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
