"""pose_node as a robot sees it: a process, its topics, its transitions."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Imu, NavSatFix, NavSatStatus
from std_srvs.srv import Trigger
from support import live_drive as drive
from support.live import PATIENCE_S, Bench, NodeProcess, wait_for
from tf2_msgs.msg import TFMessage

from mm_fusion.nodes.messages import stamp, stamp_ns

SENSORS = ("imu/data", "wheel/odometry", "gps/fix")


def events(duration_s: float, begin_ns: int = drive.START_NS) -> list[drive.Event]:
    return [e for e in drive.events(duration_s, begin_ns) if e.topic in SENSORS]


def advertise(bench: Bench) -> None:
    bench.advertise(Imu, "imu/data")
    bench.advertise(Odometry, "wheel/odometry")
    bench.advertise(NavSatFix, "gps/fix")
    bench.advertise(TFMessage, "/tf_static", latched=True).publish(drive.static_transforms())


def test_drive_gives_odometry_and_transforms(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN an active node WHEN a robot drives 16 m east THEN both poses and TF say so."""
    bench.listen(Odometry, "odometry/local", "odometry/global")
    bench.listen(NavSatFix, "gps/filtered")
    bench.listen(TFMessage, "/tf")
    bench.listen(DiagnosticArray, "/diagnostics")
    advertise(bench)
    with NodeProcess("pose_node", domain, tmp_path, **{"nodes.autostart": "true"}) as node:
        bench.wait_matched(*SENSORS)
        heard = ("odometry/local", "odometry/global", "gps/filtered", "/tf")
        begin_ns = bench.play_until(
            lambda: all(bench.received[topic] for topic in heard),
            "pose of a robot that stands",
            drive.standing(*SENSORS),
        )
        bench.play(events(8.0, begin_ns), rate=2.0)
        last_ns = begin_ns + 7_900_000_000
        for topic in ("odometry/local", "odometry/global"):
            wait_for(
                lambda t=topic: (
                    bench.received[t] and stamp_ns(bench.received[t][-1].header.stamp) >= last_ns
                ),
                f"the end of the drive on {topic}",
            )
        _check_odometry(bench, begin_ns)
        _check_transforms(bench)
        _check_fix(bench, begin_ns)
        wait_for(lambda: _levels(bench), "diagnostics")
        assert node.stop() == 0


def test_tf_answers_for_the_present(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN a node that is asked to look ahead WHEN the sensors play THEN TF and odometry reach
    beyond the newest sample that was heard, where the robot will be, and end with the sensors."""
    bench.listen(Odometry, "odometry/local", "odometry/local_ahead")
    bench.listen(TFMessage, "/tf")
    advertise(bench)
    options = {
        "nodes.autostart": "true",
        "nodes.pose_ahead_hz": "40.0",
        "nodes.pose_ahead_limit_s": "0.5",
    }
    with NodeProcess("pose_node", domain, tmp_path, **options) as node:
        bench.wait_matched(*SENSORS)
        wait_for(lambda: bench.node.count_publishers("odometry/local_ahead"), "the node's outputs")
        shift_ns = time.time_ns() - drive.START_NS
        begin_ns = shift_ns + bench.play_until(
            lambda: all(
                bench.received[t] for t in ("odometry/local", "odometry/local_ahead", "/tf")
            ),
            "pose of a robot that stands",
            (list(_shifted(beat, shift_ns)) for beat in drive.standing(*SENSORS)),
        )
        coming = (e for e in drive.events(6.0, begin_ns - shift_ns) if e.topic in SENSORS)
        bench.play(_shifted(coming, shift_ns))

        def ahead() -> list[Odometry]:
            poses = bench.received["odometry/local_ahead"]
            return [m for m in poses if stamp_ns(m.header.stamp) >= begin_ns]

        wait_for(lambda: len(ahead()) > 20, "poses of the present")
        heard = [stamp_ns(m.header.stamp) for m in bench.received["odometry/local"]]
        found = ahead()
        stamps = [stamp_ns(m.header.stamp) for m in found]
        assert set(stamps).isdisjoint(heard), "they are of instants between and after the samples"
        assert stamps[-1] <= begin_ns + int(6.5e9)
        for message, at_ns in zip(found, stamps, strict=True):
            t_s = (at_ns - begin_ns) / 1e9
            assert message.pose.pose.position.x == pytest.approx(drive.travelled(t_s), abs=0.3)
        in_tf = {
            stamp_ns(t.header.stamp)
            for m in bench.received["/tf"]
            for t in m.transforms
            if t.header.frame_id == "odom"
        }
        assert set(stamps[:-1]) <= in_tf
        assert node.stop() == 0


def _shifted(found: Iterable[drive.Event], shift_ns: int) -> Iterator[drive.Event]:
    """The same drive at another time."""
    for event in found:
        event.payload.header.stamp = stamp(event.stamp_ns + shift_ns)
        yield event


def test_a_given_pose_and_a_reset(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN IMU and wheels alone WHEN a pose comes on initialpose THEN odometry/global begins
    there; WHEN reset is called THEN the node says that it begins anew."""
    bench.listen(Odometry, "odometry/local", "odometry/global")
    advertise(bench)
    bench.advertise(PoseWithCovarianceStamped, "initialpose")
    # Enough for as long as a test waits.
    motion = (e for e in drive.events(5.0 * PATIENCE_S) if e.topic in SENSORS[:2])
    with NodeProcess("pose_node", domain, tmp_path, **{"nodes.autostart": "true"}) as node:
        bench.wait_matched("imu/data", "wheel/odometry", "initialpose")
        bench.wait_published("odometry/local", "odometry/global")

        def heard(topic: str) -> bool:
            bench.play(islice(motion, 15), rate=4.0)
            return bool(bench.received[topic])

        wait_for(lambda: heard("odometry/local"), "a local pose")
        assert not bench.received["odometry/global"]
        given = PoseWithCovarianceStamped()
        given.header.frame_id = "map"
        given.pose.pose.position.x = 100.0
        given.pose.pose.orientation.w = 1.0
        bench.publishers["initialpose"].publish(given)
        wait_for(lambda: heard("odometry/global"), "a global pose")
        first = bench.received["odometry/global"][0].pose.pose.position
        assert first.x == pytest.approx(100.0, abs=5.0)
        answer = bench.call(Trigger, "pose_node/reset", Trigger.Request())
        assert answer.success
        assert "begin anew" in answer.message
        assert node.stop() == 0


def _check_odometry(bench: Bench, begin_ns: int) -> None:
    local = bench.received["odometry/local"][-1]
    assert (local.header.frame_id, local.child_frame_id) == ("odom", "base_link")
    t_s = (stamp_ns(local.header.stamp) - begin_ns) / 1e9
    assert local.twist.twist.linear.x == pytest.approx(drive.speed(t_s), abs=0.2)
    first = bench.received["odometry/local"][0].pose.pose.position
    end = local.pose.pose.position
    gone_m = ((end.x - first.x) ** 2 + (end.y - first.y) ** 2) ** 0.5
    assert gone_m == pytest.approx(drive.travelled(t_s), abs=0.5)
    world = bench.received["odometry/global"][-1]
    assert (world.header.frame_id, world.child_frame_id) == ("map", "base_link")
    t_s = (stamp_ns(world.header.stamp) - begin_ns) / 1e9
    assert world.pose.pose.position.x == pytest.approx(drive.travelled(t_s), abs=1.0)
    assert world.pose.pose.position.y == pytest.approx(0.0, abs=1.0)
    assert 0.0 < world.pose.covariance[0] < 4.0


def _check_transforms(bench: Bench) -> None:
    links = {}
    for message in bench.received["/tf"]:
        for t in message.transforms:
            links.setdefault((t.header.frame_id, t.child_frame_id), []).append(t)
    assert set(links) == {("odom", "base_link"), ("map", "odom")}
    poses = {
        stamp_ns(m.header.stamp): m.pose.pose.position for m in bench.received["odometry/local"]
    }
    last = links["odom", "base_link"][-1]
    pose = poses[stamp_ns(last.header.stamp)]
    assert last.transform.translation.x == pytest.approx(pose.x)
    assert last.transform.translation.y == pytest.approx(pose.y)


def _check_fix(bench: Bench, begin_ns: int) -> None:
    fix = bench.received["gps/filtered"][-1]
    t_s = (stamp_ns(fix.header.stamp) - begin_ns) / 1e9
    truth = drive.fix(0, t_s)
    assert fix.latitude == pytest.approx(truth.latitude, abs=2e-5)
    assert fix.longitude == pytest.approx(truth.longitude, abs=2e-5)


def _levels(bench: Bench) -> list[bytes]:
    return [s.level for m in bench.received["/diagnostics"] for s in m.status]


def test_broken_messages_are_counted_in_diagnostics(
    bench: Bench, domain: int, tmp_path: Path
) -> None:
    """GIVEN an active node WHEN fixes have no fix or NaN THEN diagnostics count them by reason."""
    bench.listen(DiagnosticArray, "/diagnostics")
    advertise(bench)
    settings = {"nodes.autostart": "true", "nodes.diagnostics_period_s": "0.2"}
    with NodeProcess("pose_node", domain, tmp_path, **settings):
        bench.wait_matched(*SENSORS)
        stamps = iter(range(drive.START_NS, 2 * drive.START_NS, 10_000_000))

        def counted() -> bool:
            lost = drive.fix(next(stamps), 0.0)
            lost.status.status = NavSatStatus.STATUS_NO_FIX
            bench.publishers["gps/fix"].publish(lost)
            strange = drive.imu(next(stamps), 0.0)
            strange.angular_velocity.z = float("nan")
            bench.publishers["imu/data"].publish(strange)
            values = {
                v.key: v.value
                for m in bench.received["/diagnostics"]
                for s in m.status
                for v in s.values
            }
            return (
                int(values.get("gps/fix.drops.no_fix", 0)) > 0
                and int(values.get("imu/data.drops.non_finite", 0)) > 0
            )

        wait_for(counted, "both rejections in the diagnostics")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_cleanly(
    bench: Bench, domain: int, tmp_path: Path, number: signal.Signals
) -> None:
    """GIVEN an active node WHEN it gets SIGINT or SIGTERM THEN it ends with 0."""
    advertise(bench)
    with NodeProcess("pose_node", domain, tmp_path, **{"nodes.autostart": "true"}) as node:
        bench.wait_matched("imu/data")
        assert node.stop(number) == 0
        assert "Traceback" not in node.log()


def test_signals_come_again_and_again(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN an active node WHEN SIGINT comes until it has ended THEN it ends with 0."""
    advertise(bench)
    with NodeProcess("pose_node", domain, tmp_path, **{"nodes.autostart": "true"}) as node:
        bench.wait_matched("imu/data")

        def ended() -> bool:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGINT)
            return node.process.poll() is not None

        wait_for(ended, "the end")
        assert node.process.returncode == 0


def test_transitions_there_and_back(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN a node without autostart WHEN a manager leads it THEN it goes there, back and again."""
    settings = {"qos_overrides./imu/data.subscription.reliability": "reliable"}
    with NodeProcess("pose_node", domain, tmp_path, **settings):
        assert bench.state("pose_node") == "unconfigured"
        for _ in range(2):
            assert bench.configure("pose_node")
            assert bench.state("pose_node") == "inactive"
            assert bench.activate("pose_node")
            assert bench.state("pose_node") == "active"
            reliability = {
                topic: wait_for(
                    lambda t=topic: bench.node.get_subscriptions_info_by_topic(t), topic
                )[0].qos_profile.reliability
                for topic in ("gps/fix", "imu/data", "wheel/odometry")
            }
            assert reliability == {
                "imu/data": ReliabilityPolicy.RELIABLE,  # overridden
                "gps/fix": ReliabilityPolicy.BEST_EFFORT,
                "wheel/odometry": ReliabilityPolicy.BEST_EFFORT,  # made after the overridden one
            }
            assert bench.change_state("pose_node", 4)  # deactivate
            assert bench.change_state("pose_node", 2)  # clean up
            assert bench.state("pose_node") == "unconfigured"


def test_wrong_parameters_are_refused_by_name(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN a value out of range and a misspelt name WHEN configured THEN both are said."""
    settings = {"nodes.pose_rate_hz": "-5.0", "nodes.pose_rate": "5.0"}
    with NodeProcess("pose_node", domain, tmp_path, **settings) as node:
        assert not bench.configure("pose_node")
        assert bench.state("pose_node") == "unconfigured"
        assert "nodes.pose_rate_hz: must be within 0 .. 1000 Hz, got -5.0" in node.log()
        assert "nodes.pose_rate: no such parameter; did you mean nodes.pose_rate_hz?" in node.log()
        assert "Traceback" not in node.log()
