"""What becomes of the results when a sensor fails in one of the ways in which sensors fail.

GIVEN in all of them: a camera and a LIDAR of 10 Hz, a real network, the objects of the node.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faults.rig import MS, PERIOD_NS, T0, Message, Rig, S, dead, messages, only, seconds
from perception import scenes

from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import CameraFrame, LidarSweep, Mode, Reason, SyncedSet

BOTH, LIDAR, CAMERA, NONE = Mode.CAMERA_LIDAR, Mode.LIDAR, Mode.CAMERA, Mode.NONE
LONG = 1e9


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def sweeps_of(coming: list[Message]) -> list[int]:
    return [m.stamp_ns for m in coming if isinstance(m, LidarSweep)]


def test_without_a_fault_nothing_is_said(rig: Rig) -> None:
    coming = messages(20.0)
    rig.play(coming)
    rig.answer(rig.road.flush(), 0)
    assert [t.result.stamp_ns for t in rig.told] == sweeps_of(coming)
    assert {t.result.mode for t in rig.told} == {BOTH}
    assert all(t.ladder.whole for t in rig.told)
    assert rig.complaints == set()
    assert not rig.drops


# ------------------------------------------------------------------------------ who is not there


def test_a_camera_that_never_comes(rig: Rig) -> None:
    """WHEN there is no camera THEN every sweep has its answer, which says so since the first."""
    coming = messages(5.0)
    rig.play(coming, only("camera", 0.0, LONG, dead))
    rig.answer(rig.road.flush(), 0)
    assert [t.result.stamp_ns for t in rig.told] == sweeps_of(coming)
    assert {t.result.mode for t in rig.told} == {LIDAR}
    (absent,) = rig.told[-1].ladder.absent
    assert (absent.sensor, absent.since_ns) == ("camera", rig.told[0].result.stamp_ns)
    assert absent.for_s == pytest.approx(rig.told[-1].at_s - rig.told[0].at_s)


def test_a_lidar_that_never_comes(rig: Rig) -> None:
    """WHEN there is no LIDAR THEN pictures are answered as soon as it is known to be silent."""
    rig.play(messages(5.0), only("lidar", 0.0, LONG, dead))
    assert {t.result.mode for t in rig.told} == {CAMERA}
    assert rig.told[0].at_s < 0.6  # sync.lidar_timeout_s, and a period
    assert rig.longest_gap_s() < 0.15
    assert rig.told[-1].ladder.absent[0].sensor == "lidar"


@pytest.mark.parametrize(("sensor", "mode"), [("camera", LIDAR), ("lidar", CAMERA)])
def test_a_sensor_that_dies_and_returns(rig: Rig, sensor: str, mode: Mode) -> None:
    """WHEN it is dead from 3 s to 6 s THEN results go on, the mode changes within two periods and
    back within one, and what is missing is said with the stamp of the first result without it."""
    rig.play(messages(9.0), only(sensor, 3.0, 6.0, dead))
    first = rig.first(mode, 2.8)
    assert seconds(first.result.stamp_ns) <= 3.0 + 0.2
    assert seconds(first.at_ns) <= 3.0 + 0.35
    assert rig.longest_gap_s() <= 0.2
    assert rig.modes_between(0.0, 2.9) == {BOTH}
    assert rig.modes_between(3.3, 5.9) == {mode}
    assert rig.first(BOTH, 3.3).at_s <= 6.0 + 0.2
    assert rig.modes_between(6.3, 9.0) == {BOTH}
    during = [t.ladder for t in rig.told if t.result.mode is mode]
    assert {a.sensor for ladder in during for a in ladder.absent} == {sensor}
    assert {a.since_ns for ladder in during for a in ladder.absent} == {first.result.stamp_ns}
    assert during[-1].absent[0].for_s == pytest.approx(2.9, abs=0.2)
    assert rig.told[-1].ladder.whole


# ------------------------------------------------------------------------ cameras that see nothing


def test_a_camera_whose_stamp_stands_still(rig: Rig) -> None:
    """WHEN the driver repeats one message THEN its repetitions are refused, and it is missing."""
    frozen: list[CameraFrame] = []

    def repeat(message: Message) -> Message:
        assert isinstance(message, CameraFrame)
        frozen.append(message)
        return replace(frozen[0], arrival_ns=message.arrival_ns)

    rig.play(messages(6.0), only("camera", 3.0, LONG, repeat))
    assert rig.drops["camera", Reason.DUPLICATE] == len(frozen) - 1
    assert rig.modes_between(3.5, 6.0) == {LIDAR}
    assert rig.longest_gap_s() < 0.15
    assert "stamp stands still" in rig.said("camera")


def test_a_camera_that_repeats_its_picture_under_new_stamps(rig: Rig) -> None:
    """WHEN stamps go on and the picture does not THEN that is said within a second."""
    pictures: list[np.ndarray] = []

    def same(message: Message) -> Message:
        assert isinstance(message, CameraFrame)
        pictures.append(message.data)
        return replace(message, data=pictures[0])

    rig.play(messages(3.9), only("camera", 3.0, LONG, same))
    assert "stood still" in rig.said("camera")
    assert rig.pictures.frozen == len(pictures) - 1


def test_a_covered_camera(rig: Rig) -> None:
    """WHEN pictures show nothing THEN that is said."""

    def cover(message: Message) -> Message:
        return replace(message, data=(message.data - 40) // 8)  # 0, 1 or 2

    rig.play(messages(4.0), only("camera", 3.0, LONG, cover))
    assert "blank" in rig.said("camera")
    assert rig.pictures.blank >= 9


# ------------------------------------------------------------------------------------------ clocks


@pytest.mark.parametrize("ahead_s", [0.5, -0.25])
@pytest.mark.parametrize("sensor", ["camera", "lidar"])
def test_a_clock_that_jumps(rig: Rig, sensor: str, ahead_s: float) -> None:
    """WHEN one sensor's clock jumps THEN results go on without wrong partners, that sensor is
    named with the size of the jump, and its return is a jump again."""

    def shift(message: Message) -> Message:
        return replace(message, stamp_ns=message.stamp_ns + round(ahead_s * S))

    rig.play(messages(12.0), only(sensor, 4.0, 8.0, shift))
    assert rig.clocks.estimates()[sensor].jumps == 2
    assert f"jumped by {ahead_s:+.2f}" in rig.said(sensor)
    others = {name for name, _ in rig.complaints} - {sensor}
    assert others == set()
    assert rig.modes_between(0.0, 3.9) == {BOTH}
    assert rig.modes_between(9.5, 12.0) == {BOTH}
    gaps = rig.longest_gap_s()
    # A LIDAR that leads takes the sets along: there is a gap as wide as its jump.
    assert gaps <= 0.35 + abs(ahead_s)
    for told in rig.told:
        assert all(abs(dt_ns) <= 60 * MS for dt_ns in told.result.dt_ns.values())


def test_a_burst_after_a_stall(rig: Rig) -> None:
    """WHEN the transport holds everything up for 0.6 s and delivers it at once THEN every sweep
    has exactly one answer, with its own picture, and the burst is said."""
    coming = messages(10.0)

    def hold(message: Message) -> Message:
        late_ns = max(message.arrival_ns, T0 + 5 * S + 600 * MS)
        late_ns += (message.stamp_ns - T0) // 1000  # one behind the other, in their order
        return replace(message, arrival_ns=late_ns)

    stalled = [hold(m) if 5.0 <= seconds(m.arrival_ns) < 5.6 else m for m in coming]
    rig.play(stalled)
    rig.answer(rig.road.flush(), 0)
    assert [t.result.stamp_ns for t in rig.told] == sweeps_of(coming)
    assert {t.result.mode for t in rig.told} == {BOTH}
    assert not rig.drops
    states = rig.clocks.estimates()
    assert {s.bursts for s in states.values()} == {1}
    assert {s.jumps for s in states.values()} == {0}
    assert "come at once" in rig.said("lidar")


# ------------------------------------------------------------------------- what calibration lacks


def test_camera_info_that_comes_late(tmp_path: Path) -> None:
    """WHEN CameraInfo comes after 3 s THEN until then the LIDAR answers alone, counted."""
    rig = Rig(tmp_path, intrinsics=False)
    coming = messages(6.0)
    rig.play([m for m in coming if seconds(m.arrival_ns) < 3.0])
    assert {t.result.mode for t in rig.told} == {LIDAR}
    assert rig.drops["camera", Reason.NO_INTRINSICS] == len(rig.told)
    (absent,) = rig.told[-1].ladder.absent
    assert (absent.sensor, absent.since_ns) == ("camera", rig.told[0].result.stamp_ns)
    rig.calibration.set_camera(scenes.camera_model(192, 96))
    rig.play([m for m in coming if seconds(m.arrival_ns) >= 3.0])
    assert rig.modes_between(3.1, 6.0) == {BOTH}
    assert rig.told[-1].ladder.whole
    assert rig.longest_gap_s() < 0.15


def test_transforms_that_come_late(tmp_path: Path) -> None:
    """WHEN TF comes after 3 s THEN until then results are empty and of mode none, never guessed."""
    rig = Rig(tmp_path, calibration__extrinsics=[""])
    coming = messages(6.0)
    rig.play([m for m in coming if seconds(m.arrival_ns) < 3.0])
    assert {t.result.mode for t in rig.told} == {NONE}
    assert not any(t.result.detections for t in rig.told)
    assert rig.drops["lidar", Reason.NO_EXTRINSICS] > 25
    assert rig.drops["camera", Reason.NO_EXTRINSICS] > 25
    for frame, place in (("lidar", scenes.LIDAR_AT), ("camera", scenes.CAMERA_AT)):
        pose = RigidTransform.from_rpy(place[:3], place[3:])
        rig.calibration.set_transform("base_link", frame, pose)
    rig.play([m for m in coming if seconds(m.arrival_ns) >= 3.0])
    assert rig.modes_between(3.1, 6.0) == {BOTH}
    assert rig.told[-1].result.detections


# --------------------------------------------------------------------------------- a slow network


def test_a_network_slower_than_the_sensors(rig: Rig) -> None:
    """WHEN the network needs three periods for a set THEN the newest sets are answered in their
    order, and each of the others is handed back to be counted."""
    from mm_fusion.nodes.handover import NewestWins

    sets = [
        answer
        for message in sorted(messages(5.0), key=lambda m: m.arrival_ns)
        for answer in rig.road.synchronizer.add(message)
        if isinstance(answer, SyncedSet)
    ]
    queue: NewestWins[None, SyncedSet] = NewestWins(2)
    free, taken = threading.Semaphore(0), threading.Semaphore(0)
    answered: list[int] = []

    def work(synced: SyncedSet) -> None:
        taken.release()
        free.acquire()  # the network is at it until the sensors have gone on three periods
        answered.append(rig.road.process(synced).stamp_ns)

    worker = threading.Thread(target=queue.run, args=(lambda _: None, work))
    worker.start()
    superseded: list[int] = []
    for n, synced in enumerate(sets):
        superseded += [given_up.stamp_ns for given_up in queue.put(synced)]
        if n == 0:
            assert taken.acquire(timeout=30.0)
        elif n % 3 == 0:
            free.release()
            assert taken.acquire(timeout=30.0)
    queue.close()
    for _ in sets:
        free.release()
    worker.join(30.0)
    assert not worker.is_alive()
    assert answered == sorted(answered)
    assert sorted(answered + superseded) == [s.stamp_ns for s in sets]
    assert len(answered) == pytest.approx(len(sets) / 3, abs=3)
    assert answered[-1] == sets[-1].stamp_ns


def test_periods_are_those_of_the_rig() -> None:
    """The stories above count in them."""
    stamps = sweeps_of(messages(2.0))
    assert set(np.diff(stamps)) == {PERIOD_NS}
