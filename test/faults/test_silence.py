"""The look-out for the silence of all sensors, and what a node counts of its inputs."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from mm_fusion.config import Config, SyncConfig
from mm_fusion.nodes import intake
from mm_fusion.nodes.diagnostics import ERROR, OK, WARN, Report
from mm_fusion.nodes.intake import Intake
from mm_fusion.nodes.silence import Silence

S = 10**9
T0 = 1_700_000_000 * S
SENSORS = ("camera", "lidar")


class Host:
    """A steady clock that the test turns; ROS time runs ``speed`` times as fast."""

    def __init__(self) -> None:
        self.now_s, self.speed, self.ros_ns = 100.0, 1.0, T0

    def monotonic(self) -> float:
        return self.now_s

    def turn(self, seconds: float) -> None:
        self.now_s += seconds
        self.ros_ns += round(seconds * self.speed * S)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(intake.time, "monotonic", made.monotonic)
    return made


def counting(host: Host) -> Intake:
    return Intake(SENSORS, Config(), lambda: host.ros_ns)


def run(host: Host, inputs: Intake, watch: Silence, seconds: float, period_s: float = 0.1) -> None:
    """Both sensors speak; the look-out looks twenty times a second."""
    for k in range(round(seconds * 20)):
        if k % round(period_s * 20) == 0:
            for sensor in SENSORS:
                arrival_ns = inputs.arrived(sensor)
                inputs.stamped(sensor, arrival_ns - S // 100, arrival_ns)
                watch.heard(arrival_ns - S // 100)
        host.turn(0.05)
        watch.look(idle=True)


def look(host: Host, watch: Silence, seconds: float, idle: bool = True) -> list[str]:
    """What is to be done while nothing comes."""
    todo = []
    for _ in range(round(seconds * 20)):
        host.turn(0.05)
        watch.look(idle)
        todo += ["due"] * watch.due + ["say"] * watch.to_say
    return todo


def test_sensors_that_speak_are_not_silent(host: Host) -> None:
    inputs = counting(host)
    watch = Silence(inputs, SENSORS, SyncConfig())
    run(host, inputs, watch, 5.0)
    assert not watch.is_total


def test_silence_first_lets_the_sets_go_then_is_said(host: Host) -> None:
    """WHEN nothing comes THEN sets go out after their deadline, and none is said at two periods."""
    inputs = counting(host)
    watch = Silence(inputs, SENSORS, SyncConfig())
    run(host, inputs, watch, 5.0)
    newest_ns = host.ros_ns - S // 10 - S // 100
    assert look(host, watch, 0.1) == ["due"]
    assert watch.deadline_ns == newest_ns + S // 10
    assert look(host, watch, 0.05) == ["say"]
    assert watch.is_total
    assert abs(watch.now_ns - (newest_ns + S // 4)) < S // 50
    # It is said again now and then, and the sets are let go once.
    assert look(host, watch, 1.1) == ["say", "say"]
    run(host, inputs, watch, 0.1)
    assert not watch.is_total


def test_a_set_on_its_way_is_waited_for(host: Host) -> None:
    inputs = counting(host)
    watch = Silence(inputs, SENSORS, SyncConfig())
    run(host, inputs, watch, 5.0)
    assert look(host, watch, 1.0, idle=False) == ["due"]
    assert look(host, watch, 0.05) == ["say"]


def test_a_thread_that_was_held_up_is_no_silence(host: Host) -> None:
    """WHEN the looking thread sleeps for a second and its messages wait behind it THEN one look
    decides nothing."""
    inputs = counting(host)
    watch = Silence(inputs, SENSORS, SyncConfig())
    run(host, inputs, watch, 5.0)
    host.turn(1.0)
    watch.look(idle=True)
    assert (watch.due, watch.to_say, watch.is_total) == (False, False, False)
    run(host, inputs, watch, 1.0)
    assert not watch.is_total


def test_slow_sensors_get_two_of_their_periods(host: Host) -> None:
    inputs = counting(host)
    watch = Silence(inputs, SENSORS, SyncConfig())
    run(host, inputs, watch, 10.0, period_s=0.4)
    assert inputs.lost_after_s(SENSORS) == pytest.approx(0.8)
    assert "say" not in look(host, watch, 0.3)


def test_before_the_first_message_there_is_no_time_to_tell(host: Host) -> None:
    watch = Silence(counting(host), SENSORS, SyncConfig())
    assert look(host, watch, 5.0) == []


def test_speed_of_a_playback_is_told(host: Host) -> None:
    inputs = counting(host)
    host.speed = 8.0
    for _ in range(5):
        rate = inputs.speed()
        host.turn(1.0)
    assert rate == pytest.approx(8.0)
    host.ros_ns = T0
    assert inputs.speed() == 1.0


def test_a_clock_that_is_off_is_a_warning_with_its_numbers(host: Host) -> None:
    inputs = counting(host)
    for k in range(200):
        host.turn(0.05)
        for sensor, behind_ns in (("camera", 5 * S), ("lidar", S // 100)):
            arrival_ns = inputs.arrived(sensor)
            inputs.stamped(sensor, arrival_ns - behind_ns, arrival_ns)
        if k == 10:
            inputs.report_to(Report("early"))
    report = Report("test")
    inputs.report_to(report)
    level, message = report.verdict()
    assert level == WARN != OK != ERROR
    assert message == (
        "camera: stamps lie 5000 ms behind the others': its clock is off, or its messages come late"
    )
    assert report.values["camera.offset_ms"] == "5000.000"
    assert report.values["lidar.offset_ms"] == "10.000"
    assert report.values["lidar.drift_ppm"] == "0.0"
    assert report.values["lidar.jumps"] == "0"
    assert float(report.values["lidar.rate_hz"]) == pytest.approx(20.0, rel=0.02)
