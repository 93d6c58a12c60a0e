"""The synchronizer, told as stories. Times are milliseconds after an arbitrary epoch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from mm_fusion.config_sync import SyncConfig
from mm_fusion.errors import ConfigError
from mm_fusion.samples import CameraFrame, LidarSweep, Reason, Rejection, SyncedSet
from mm_fusion.sync import Synchronizer

EPOCH_NS = 1_700_000_000_000_000_000
MS = 1_000_000

POINT = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")])


def frame(ms: float, sensor: str = "front") -> CameraFrame:
    stamp_ns = EPOCH_NS + round(ms * MS)
    return CameraFrame(sensor, stamp_ns, sensor, "mono8", 1, 1, 1, np.zeros((1, 1), np.uint8))


def sweep(ms: float, sensor: str = "lidar") -> LidarSweep:
    return LidarSweep(sensor, EPOCH_NS + round(ms * MS), sensor, np.zeros(1, POINT))


def make(*cameras: str, lidar: str = "lidar", **settings: float) -> Synchronizer:
    lidars = (lidar,) if lidar else ()
    return Synchronizer(SyncConfig(**settings), lidars, cameras or ("front",))  # type: ignore[arg-type]


def sets(answers: Iterable[SyncedSet | Rejection]) -> list[SyncedSet]:
    return [a for a in answers if isinstance(a, SyncedSet)]


def reasons(answers: Iterable[SyncedSet | Rejection]) -> list[tuple[str, float, Reason]]:
    return [
        (a.sensor, (a.stamp_ns - EPOCH_NS) / MS, a.reason)
        for a in answers
        if isinstance(a, Rejection)
    ]


def at(answer: SyncedSet) -> float:
    return (answer.stamp_ns - EPOCH_NS) / MS


def dts(answer: SyncedSet) -> dict[str, float]:
    return {sensor: dt / MS for sensor, dt in answer.dt_ns.items()}


def run(sync: Synchronizer, *samples: CameraFrame | LidarSweep) -> list[SyncedSet | Rejection]:
    return [answer for sample in samples for answer in sync.add(sample)]


def tell(sync: Synchronizer, ms: float) -> list[SyncedSet | Rejection]:
    return sync.advance(EPOCH_NS + round(ms * MS))


# ------------------------------------------------------------------------- the best partner


def test_a_set_goes_out_with_the_first_frame_at_or_after_the_sweep() -> None:
    # GIVEN a frame before the sweep
    sync = make()
    before, after, lidar = frame(80), frame(113), sweep(100)
    assert run(sync, before, lidar) == []
    # WHEN the next frame comes, after the sweep and nearer to it
    answers = sync.add(after)
    # THEN the set goes out at once, with that frame
    assert [type(a) for a in answers] == [SyncedSet, Rejection]
    assert answers[0].lidars == (lidar,)
    assert answers[0].cameras == (after,)
    assert answers[0].missing == ()
    assert dts(answers[0]) == {"lidar": 0.0, "front": 13.0}
    # AND the other frame is answered too
    assert reasons(answers) == [("front", 80.0, Reason.UNMATCHED)]


def test_the_frame_before_wins_when_it_is_nearer() -> None:
    sync = make()
    answers = run(sync, frame(95), sweep(100), frame(128))
    assert dts(sets(answers)[0])["front"] == -5.0


def test_the_earlier_of_two_equally_near_frames_is_taken() -> None:
    sync = make()
    answers = run(sync, frame(90), sweep(100), frame(110))
    assert dts(sets(answers)[0])["front"] == -10.0


def test_a_frame_of_the_same_stamp_needs_no_waiting() -> None:
    for order in ((frame(100), sweep(100)), (sweep(100), frame(100))):
        answers = run(make(), *order)
        assert [dts(s) for s in sets(answers)] == [{"lidar": 0.0, "front": 0.0}]


def test_a_better_partner_that_comes_next_is_waited_for() -> None:
    # GIVEN a partner 15 ms away that a greedy matcher would take
    sync = make()
    assert run(sync, frame(85), sweep(100)) == []
    # WHEN one 1 ms away comes next THEN it is the one
    assert dts(sets(sync.add(frame(101)))[0])["front"] == 1.0


def test_every_camera_is_waited_for_and_gets_its_own_best() -> None:
    sync = make("front", "left", "right")
    assert run(sync, sweep(100), frame(97, "left"), frame(101, "front"), frame(104, "left")) == []
    answers = sync.add(frame(111, "right"))
    assert [f.sensor for f in sets(answers)[0].cameras if f] == ["front", "left", "right"]
    assert dts(sets(answers)[0]) == {"lidar": 0.0, "front": 1.0, "left": -3.0, "right": 11.0}


def test_a_camera_offset_moves_frames_before_matching() -> None:
    # GIVEN a camera whose clock is 40 ms behind
    sync = make(camera_offsets_s=(0.04,))
    # WHEN its stamps are 60 and 93 THEN they are instants 100 and 133
    answers = run(sync, frame(60), sweep(100))
    assert [dts(s)["front"] for s in sets(answers)] == [0.0]
    # AND the frame itself keeps its own stamp
    assert sets(answers)[0].cameras[0].stamp_ns == EPOCH_NS + 60 * MS


def test_a_slow_camera_serves_several_sweeps_with_one_frame() -> None:
    # GIVEN a LIDAR at 20 Hz and a camera at 10 Hz
    sync = make()
    answers = run(sync, frame(0), sweep(2), sweep(50), sweep(99), frame(100), sweep(150))
    answers += sync.add(frame(200))
    # THEN frame 100 (and not 0, its equal in distance only for 50) is shared
    assert [(at(s), dts(s)["front"]) for s in sets(answers)] == [
        (2.0, -2.0),
        (50.0, -50.0),
        (99.0, 1.0),
        (150.0, -50.0),
    ]
    assert reasons(answers + sync.flush()) == [("front", 200.0, Reason.UNMATCHED)]


def test_frames_out_of_order_are_sorted_in() -> None:
    sync = make()
    answers = run(sync, frame(60), sweep(100), frame(99), frame(80), frame(127))
    assert [dts(s)["front"] for s in sets(answers)] == [-1.0]


def test_sweeps_out_of_order_go_out_in_order() -> None:
    sync = make()
    answers = run(sync, sweep(200), sweep(100), frame(103), frame(203))
    assert [at(s) for s in sets(answers)] == [100.0, 200.0]


# ------------------------------------------------------------------- deadlines and absence


def test_at_the_deadline_the_set_goes_out_without_the_camera() -> None:
    # GIVEN a sweep, and a camera that gave one frame too far away
    sync = make(deadline_s=0.06, max_dt_s=0.03)
    assert run(sync, frame(0), sweep(100)) == []
    # WHEN other sensors move time to just before the deadline THEN it waits
    assert tell(sync, 159.9) == []
    # WHEN they reach it THEN it goes out and says what is missing
    answers = tell(sync, 160)
    assert [(at(s), s.cameras, s.missing) for s in sets(answers)] == [(100.0, (None,), ("front",))]


def test_at_the_deadline_the_best_so_far_is_taken() -> None:
    sync = make()
    run(sync, frame(80), sweep(100))
    assert [dts(s)["front"] for s in sets(tell(sync, 200))] == [-20.0]


def test_the_next_sweep_moves_time_too() -> None:
    sync = make(deadline_s=0.1)
    assert sets(run(sync, sweep(0))) == []
    assert [at(s) for s in sets(sync.add(sweep(100)))] == [0.0]


def test_a_frame_after_its_set_went_out_is_late_and_says_which_parameter_helps() -> None:
    # GIVEN a camera whose frames take 150 ms to come, and a deadline of 100 ms
    sync = make(deadline_s=0.1)
    run(sync, sweep(0))
    assert len(sets(tell(sync, 100))) == 1
    run(sync, frame(1))
    # WHEN the next sweep has gone out too THEN the frame is answered as late, not as unmatched
    run(sync, sweep(100))
    answers = tell(sync, 200)
    assert reasons(answers) == [("front", 1.0, Reason.LATE)]
    assert "deadline_s" in next(a for a in answers if isinstance(a, Rejection)).detail


def test_a_frame_far_behind_is_late_at_once() -> None:
    sync = make()
    run(sync, sweep(500), frame(510))
    assert reasons(sync.add(frame(300))) == [("front", 300.0, Reason.LATE)]


def test_a_late_sweep_is_answered_as_late() -> None:
    sync = make()
    run(sync, sweep(100), frame(101))
    assert reasons(sync.add(sweep(50))) == [("lidar", 50.0, Reason.LATE)]


def test_a_sweep_that_comes_after_its_deadline_still_gets_its_best_frame() -> None:
    # GIVEN a LIDAR whose driver takes 300 ms, longer than deadline and LIDAR timeout
    sync = make(deadline_s=0.05, lidar_timeout_s=0.25)
    stream = []
    for i in range(60):
        stream += sync.add(frame(i * 100))
        if i >= 3:
            stream += sync.add(sweep((i - 3) * 100 + 4))
    # THEN the cameras lead but at the start, which makes three sweeps late, and from then on
    # every sweep is answered with its frame
    sweeps_lost = [r for r in reasons(stream) if r[0] == "lidar"]
    assert sweeps_lost == [("lidar", 4.0 + 100.0 * i, Reason.LATE) for i in range(3)]
    led_by_lidar = [s for s in sets(stream) if s.sweeps]
    assert len(led_by_lidar) == 54
    assert {dts(s)["front"] for s in led_by_lidar} == {-4.0}


def test_a_dead_camera_is_not_waited_for_and_a_revived_one_is() -> None:
    # GIVEN two cameras, one of which dies after 100 ms
    sync = make("front", "left", camera_timeout_s=0.5)
    run(sync, frame(100, "front"), frame(100, "left"))
    waited = []
    for i in range(1, 10):
        answers = run(sync, sweep(100 * i + 5), frame(100 * i + 6, "front"))
        waited.append(at(sets(answers)[-1]) != 100 * i + 5 if sets(answers) else True)
    # THEN sets wait for it until it is known to be dead, and then no longer
    assert waited[:4] == [True] * 4
    assert waited[-3:] == [False] * 3
    # WHEN it comes back THEN the next set has it again
    run(sync, frame(1000, "left"), sweep(1005), frame(1006, "front"))
    answers = run(sync, frame(1007, "left"))
    assert sets(answers)[0].missing == ()


def test_a_robot_without_cameras_gets_every_sweep_at_once() -> None:
    sync = Synchronizer(SyncConfig(), ("lidar",), ())
    answers = run(sync, *(sweep(100 * i) for i in range(5)))
    assert [at(s) for s in sets(answers)] == [0.0, 100.0, 200.0, 300.0, 400.0]
    assert all(s.cameras == () and s.missing == () for s in sets(answers))


# ---------------------------------------------------------------------- the LIDAR is silent


def test_cameras_lead_when_the_lidar_falls_silent_and_hand_back() -> None:
    # GIVEN camera and LIDAR at 10 Hz
    sync = make(lidar_timeout_s=0.25)
    stream = run(sync, sweep(0), frame(5), sweep(100), frame(105))
    assert [bool(s.sweeps) for s in sets(stream)] == [True, True]
    # WHEN the LIDAR dies THEN from 250 ms on every frame makes a set
    quiet = run(sync, *(frame(100 * i + 5) for i in range(2, 8)))
    assert [at(s) for s in sets(quiet)] == [405.0, 505.0, 605.0, 705.0]
    assert all(not s.sweeps and s.missing == ("lidar",) for s in sets(quiet))
    assert all(dts(s) == {"front": 0.0} for s in sets(quiet))
    # WHEN it returns THEN its first sweep already makes a full set, and cameras lead no more
    back = run(sync, sweep(800), frame(805), sweep(900), frame(905), frame(938))
    assert [(at(s), s.missing) for s in sets(back)] == [(800.0, ()), (900.0, ())]


def test_a_robot_with_cameras_alone_runs_on_the_first_live_one() -> None:
    # GIVEN no LIDAR at all and two cameras
    sync = make("front", "left", lidar="")
    answers = run(sync, frame(0, "left"), frame(10, "front"), frame(33, "left"), frame(43, "front"))
    # THEN the left one leads until the front one has come, then the front one
    assert [(at(s), dts(s)) for s in sets(answers)] == [
        (0.0, {"left": 0.0}),
        (10.0, {"front": 0.0, "left": -10.0}),
    ]
    answers += run(sync, frame(66, "left"), frame(76, "front")) + sync.flush()
    assert [(at(s), s.missing) for s in sets(answers)][-1] == (76.0, ())


def test_another_camera_leads_when_the_leading_one_dies() -> None:
    sync = make("front", "left", lidar="", camera_timeout_s=0.3)
    run(sync, frame(0, "front"), frame(1, "left"))
    answers = run(sync, *(frame(100 * i + 1, "left") for i in range(1, 8)))
    assert [at(s) for s in sets(answers)][-3:] == [501.0, 601.0, 701.0]
    assert sets(answers)[-1].missing == ("front",)


def test_a_sweep_that_never_comes_is_not_waited_for_at_the_start() -> None:
    # GIVEN a configured LIDAR that never says anything
    sync = make(lidar_timeout_s=0.25)
    answers = run(sync, *(frame(100 * i) for i in range(8)))
    # THEN after the timeout every frame makes a set
    assert [at(s) for s in sets(answers)] == [300.0, 400.0, 500.0, 600.0, 700.0]
    assert reasons(answers) == [("front", 100.0 * i, Reason.UNMATCHED) for i in range(3)]


def test_a_returning_sweep_takes_the_place_of_camera_sets_that_wait() -> None:
    # GIVEN cameras that lead, the front frame of 400 waiting for the left one
    sync = make("front", "left", lidar_timeout_s=0.25)
    run(sync, frame(0, "front"), frame(1, "left"), frame(395, "left"))
    assert sets(run(sync, frame(400, "front"))) == []
    # WHEN a sweep comes beside it THEN there is one set, and it is the sweep's
    answers = run(sync, sweep(402), frame(410, "left"), frame(433, "front"))
    assert [(at(s), dts(s)) for s in sets(answers)] == [
        (402.0, {"lidar": 0.0, "front": -2.0, "left": -7.0})
    ]


# --------------------------------------------------------------------------- bad input


def test_duplicates_are_rejected_and_answered_once() -> None:
    sync = make()
    answers = run(sync, frame(90), frame(90), sweep(100), sweep(100), frame(110), frame(110))
    assert len(sets(answers)) == 1
    assert reasons(answers) == [
        ("front", 90.0, Reason.DUPLICATE),
        ("lidar", 100.0, Reason.DUPLICATE),
        ("front", 110.0, Reason.DUPLICATE),
    ]


def test_a_duplicate_that_is_not_the_last_message_is_found() -> None:
    sync = make()
    answers = run(sync, frame(90), frame(95), frame(90), sweep(100), sweep(120), sweep(100))
    assert reasons(answers) == [
        ("front", 90.0, Reason.DUPLICATE),
        ("lidar", 100.0, Reason.DUPLICATE),
    ]


def test_a_bag_that_loops_begins_anew() -> None:
    # GIVEN a recording of ten sweeps, played twice
    sync = make()
    loop = [s for i in range(10) for s in (sweep(100 * i), frame(100 * i + 3))]
    first = run(sync, *loop)
    second = run(sync, *loop)
    # THEN the first message of the second round is told as a jump
    assert [sensor for sensor, _, why in reasons(second) if why is Reason.TIME_JUMP] == ["lidar"]
    # AND all the others match as they did
    assert [at(s) for s in sets(first)] == [100.0 * i for i in range(10)]
    assert [at(s) for s in sets(second)] == [100.0 * i for i in range(1, 10)]
    assert all(s.missing == () for s in sets(second))


def test_a_jump_answers_the_sweep_that_waits() -> None:
    sync = make()
    run(sync, frame(4990), sweep(5000))
    answers = sync.add(frame(0))
    assert [(at(s), dts(s)["front"]) for s in sets(answers)] == [(5000.0, -10.0)]
    assert reasons(answers) == [("front", 0.0, Reason.TIME_JUMP)]


def test_a_straggler_of_the_last_loop_does_not_spoil_the_next() -> None:
    # GIVEN a loop, after whose start an old message of another sensor still comes
    sync = make()
    run(sync, sweep(30_000), frame(30_001))
    tell(sync, 30_002)
    run(sync, sweep(0))
    tell(sync, 30_003)
    # WHEN that sensor goes on in the new round
    tell(sync, 101)
    # THEN sweeps wait for their frames again
    assert sets(run(sync, sweep(105))) == []
    assert [dts(s)["front"] for s in sets(run(sync, frame(110)))] == [5.0]


def test_a_stamp_of_zero_is_rejected() -> None:
    sync = make()
    nothing = CameraFrame("front", 0, "front", "mono8", 1, 1, 1, np.zeros((1, 1), np.uint8))
    [answer] = sync.add(nothing)
    assert isinstance(answer, Rejection)
    assert answer.reason is Reason.ZERO_STAMP


@pytest.mark.parametrize("sample", [frame(0, "rear"), sweep(0, "roof"), frame(0, "lidar")])
def test_an_unknown_sensor_is_rejected(sample: CameraFrame | LidarSweep) -> None:
    [answer] = make().add(sample)
    assert isinstance(answer, Rejection)
    assert answer.reason is Reason.UNKNOWN_SENSOR
    assert answer.sensor == sample.sensor


def test_a_sweep_is_unknown_where_no_lidar_is_configured() -> None:
    [answer] = make(lidar="").add(sweep(0, ""))
    assert isinstance(answer, Rejection)
    assert answer.reason is Reason.UNKNOWN_SENSOR


@pytest.mark.parametrize(
    ("lidar", "cameras"), [("a", ("a",)), ("a", ("b", "b")), ("a", ("b", "")), ("", ("",))]
)
def test_sensor_names_must_differ(lidar: str, cameras: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="must differ"):
        Synchronizer(SyncConfig(), (lidar,), cameras)


def test_memory_is_bounded_and_the_overflow_is_told() -> None:
    # GIVEN a LIDAR that is not yet silent and a camera at 1 kHz
    sync = make(queue_size=10, lidar_timeout_s=10.0)
    answers = run(sync, *(frame(i) for i in range(100)))
    # THEN the oldest frames are given up, each with its reason
    assert reasons(answers) == [("front", float(i), Reason.OVERFLOW) for i in range(90)]
    # AND the newest ones still match
    assert dts(sets(run(sync, sweep(98)))[0])["front"] == 0.0


def test_too_many_waiting_sweeps_are_answered_early_rather_than_lost() -> None:
    sync = make(queue_size=5, deadline_s=1.0)
    answers = run(sync, *(sweep(i) for i in range(20)))
    assert [at(s) for s in sets(answers)] == [float(i) for i in range(15)]


def test_the_end_of_the_data_answers_what_waits() -> None:
    sync = make()
    assert run(sync, frame(80), frame(90), sweep(100), sweep(120)) == []
    answers = sync.flush()
    assert [(at(s), dts(s)["front"]) for s in sets(answers)] == [(100.0, -10.0), (120.0, -30.0)]
    assert reasons(answers) == [("front", 80.0, Reason.UNMATCHED)]
    # AND nothing is left, so that old stamps are welcome again
    assert sync.flush() == []
    assert len(sets(run(sync, sweep(0), frame(1)))) == 1


def test_a_frame_older_than_the_last_set_leads_no_set_of_its_own() -> None:
    # GIVEN a sweep that went out alone, and a LIDAR silent since
    sync = make(deadline_s=0.0, lidar_timeout_s=0.25)
    assert [at(s) for s in sets(run(sync, sweep(100)))] == [100.0]
    assert tell(sync, 400) == []
    # WHEN a frame from before that sweep comes at last
    # THEN it makes no set behind the one that has gone out, and is answered as late in the end
    assert run(sync, frame(95)) == []
    assert reasons(sync.flush()) == [("front", 95.0, Reason.LATE)]


def test_the_set_of_a_message_is_foreseen_where_rates_tell_it() -> None:
    """GIVEN a LIDAR of 10 Hz and a camera of 30 Hz THEN a sweep's set has its stamp; of the
    pictures the one nearest to the next sweep is foreseen to be in that sweep's set, no other."""
    sync = make("front", camera_offsets_s=[0.002], lidar_offsets_s=[0.001])  # type: ignore[arg-type]
    assert sync.foreseen_ns(sweep(0)) == EPOCH_NS + 1 * MS
    assert sync.foreseen_ns(frame(0)) is None
    assert sync.foreseen_ns(frame(0, "unknown")) is None
    for n in range(60):
        if n % 3 == 0:
            sync.add(sweep(n * 100 / 3))
        sync.add(frame(n * 100 / 3 + 10.0))
    # The newest sweep came at 1900 ms, the next is due at 2000 + 1; pictures are due at 10 + 2
    # behind every third of 100 ms.
    assert sync.foreseen_ns(frame(1943.4)) is None
    assert sync.foreseen_ns(frame(1976.7)) is None
    due_ns = sync.foreseen_ns(frame(2010.0))
    assert due_ns is not None
    assert abs(due_ns - EPOCH_NS - 2001 * MS) < MS
    assert sync.foreseen_ns(frame(1910.0)) is None
