"""``mm_fusion doctor`` on a running graph, as a user runs it, against publishers over DDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rclpy.qos import QoSProfile
from support import bags, doctor_bags
from support.doctor_bags import CAMERA, GPS, IMU, INFO, LIDAR, TF_STATIC, WHEELS
from support.live import ROOT, Bench, environment, wait_for

from mm_fusion.doctor import graph
from mm_fusion.nodes import qos
from mm_fusion.nodes.doctor_live import live_qos
from mm_fusion.nodes.dynamic import message_class

KINDS = {
    CAMERA: "sensor_msgs/msg/Image",
    INFO: "sensor_msgs/msg/CameraInfo",
    LIDAR: "sensor_msgs/msg/PointCloud2",
    GPS: "sensor_msgs/msg/NavSatFix",
    IMU: "sensor_msgs/msg/Imu",
    WHEELS: "nav_msgs/msg/Odometry",
    TF_STATIC: "tf2_msgs/msg/TFMessage",
}
PERIODS_S = {CAMERA: 0.1, INFO: 0.1, LIDAR: 0.1, GPS: 0.2, IMU: 0.02, WHEELS: 0.05}
DURATION_S = 3.0


class Robot:
    """Publishes every sensor at its rate, stamped when it is due (and ``late_s`` before)."""

    def __init__(self, bench: Bench, profiles: dict[str, QoSProfile], late_s: dict[str, float]):
        self._late_s = late_s
        self._publishers = {
            topic: bench.node.create_publisher(message_class(KINDS[topic]), topic, profile)
            for topic, profile in profiles.items()
        }
        if TF_STATIC in self._publishers:
            self._publish(TF_STATIC, bags.car_mounting(time.time_ns()))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Robot:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _publish(self, topic: str, message: Any) -> None:
        raw = bags.STORE.serialize_cdr(message, message.__msgtype__)
        self._publishers[topic].publish(bytes(raw))

    def _run(self) -> None:
        # Stamped by plan, however late a busy machine lets this thread run: a stall of the test
        # must look like a delay of every sensor, not like one that skips.
        begun_ns = time.time_ns()
        due_ns = {t: begun_ns for t in self._publishers if t in PERIODS_S}
        while not self._ended.wait(0.005):
            for topic, at_ns in due_ns.items():
                next_ns = at_ns
                while next_ns <= time.time_ns():
                    late_ns = round(self._late_s.get(topic, 0.0) * 1e9)
                    t_s = (next_ns - begun_ns) / 1e9
                    self._publish(topic, self._message(topic, next_ns - late_ns, t_s))
                    next_ns += round(PERIODS_S[topic] * 1e9)
                due_ns[topic] = next_ns

    @staticmethod
    def _message(topic: str, ns: int, t_s: float) -> Any:
        turn = doctor_bags.yaw_rate_radps(t_s)
        noise = 1e-3 * (ns % 7)
        make: dict[str, Callable[[], Any]] = {
            CAMERA: lambda: bags.image(ns),
            INFO: lambda: bags.camera_info(ns),
            LIDAR: lambda: doctor_bags.cloud(ns),
            GPS: lambda: bags.fix(ns),
            IMU: lambda: bags.imu(ns, (0, 0, turn), (noise, 5.0 * turn, 9.81)),
            WHEELS: lambda: bags.odometry(ns, (5.0, 0.0, 0.0), (0.0, 0.0, turn)),
        }
        return make[topic]()


def doctor(domain: int, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command; its exit code and its report."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "mm_fusion.cli.main", "doctor", "--json", "--no-network"),
            *("--duration", str(DURATION_S), *arguments),
        ],
        capture_output=True,
        text=True,
        env=environment(domain),
        cwd=ROOT,
        check=False,
        timeout=120,
    )
    assert ended.returncode in (0, 1), ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def found(report: dict[str, Any], code: str, subject: str) -> list[dict[str, str]]:
    return [f for f in report["findings"] if (f["code"], f["subject"]) == (code, subject)]


def all_profiles() -> dict[str, QoSProfile]:
    profiles = {topic: qos.result() for topic in PERIODS_S}
    return {**profiles, TF_STATIC: qos.latched()}


def test_a_robot_in_order_has_no_errors(bench: Bench, domain: int) -> None:
    """GIVEN all sensors with QoS, TF and clocks as they should be, THEN the doctor ends with 0."""
    with Robot(bench, all_profiles(), {}):
        code, report = doctor(domain)
    errors = [f for f in report["findings"] if f["severity"] == "error"]
    assert errors == []
    assert code == 0
    rows = {s["topic"]: s for s in report["sensors"]}
    assert set(rows) == {CAMERA, LIDAR, GPS, IMU, WHEELS}
    assert all(s["messages"] >= 5 for s in rows.values())
    assert rows[LIDAR]["rate_hz"] == pytest.approx(10.0, abs=0.01)
    assert rows[IMU]["rate_hz"] == pytest.approx(50.0, abs=0.05)
    assert rows[IMU]["latency_ms"] > 0.0


def test_mismatched_qos_a_missing_transform_and_a_skewed_clock_are_named(
    bench: Bench, domain: int
) -> None:
    """GIVEN a GPS driver that a reliable listener cannot hear, a volatile /tf_static, no link to
    the LIDAR, an IMU whose clock is 3 s slow, two wheel drivers, and a cloud where an image should
    be, THEN each is named, and the rest is not blamed."""
    profiles = all_profiles()
    profiles[GPS] = qos.sensor()
    profiles[TF_STATIC] = qos.result()
    del profiles[CAMERA]
    bench.listen(message_class(KINDS[GPS]), GPS)
    second = bench.node.create_publisher(message_class(KINDS[WHEELS]), WHEELS, qos.result())
    bench.node.create_publisher(message_class(KINDS[LIDAR]), CAMERA, qos.result())
    wait_for(lambda: bench.node.count_subscribers(GPS), "the listener")
    with Robot(bench, profiles, {IMU: 3.0}):
        code, report = doctor(domain)
    assert second.handle is not None
    assert code == 1
    (to_us,) = found(report, "qos-mismatch", TF_STATIC)
    assert "offers volatile, asked for transient local" in to_us["seen"]
    (to_other,) = found(report, "qos-mismatch", GPS)
    assert "/bench and /bench never meet: reliability" in to_other["seen"]
    assert found(report, "no-transform", "lidar")[0]["severity"] == "error"
    (skew,) = found(report, "clock-skew", IMU)
    assert skew["severity"] == "error"
    assert "s behind the other sensors" in skew["seen"]
    assert 2.9 < float(skew["seen"].split(" s behind")[0].split()[-1]) < 3.5
    assert found(report, "clock-skew", WHEELS) == []
    assert "2 publishers" in found(report, "several-publishers", WHEELS)[0]["seen"]
    assert "PointCloud2" in found(report, "wrong-type", CAMERA)[0]["seen"]


def test_names_that_do_not_fit_and_silence_are_named(bench: Bench, domain: int) -> None:
    """GIVEN a LIDAR under another name and an IMU driver that says nothing."""
    velodyne = bench.node.create_publisher(
        message_class(KINDS[LIDAR]), "/velodyne_points", qos.sensor()
    )
    silent = bench.node.create_publisher(message_class(KINDS[IMU]), IMU, qos.sensor())
    code, report = doctor(domain)
    assert velodyne.topic_name
    assert silent.topic_name
    assert code == 1
    (named,) = found(report, "topic-name", LIDAR)
    assert "--set 'topics.lidars=[/velodyne_points]'" in named["remedy"]
    (quiet,) = found(report, "silent-topic", IMU)
    assert "nothing came" in quiet["seen"]


def test_an_empty_graph_is_an_error(domain: int) -> None:
    code, report = doctor(domain)
    assert code == 1
    assert "ROS_DOMAIN_ID" in found(report, "no-inputs", "graph")[0]["remedy"]


def test_what_is_asked_for_is_what_the_nodes_ask_for() -> None:
    """The doctor judges bags without ROS: its table of requests must be that of the nodes."""
    for ours, theirs in (
        (graph.SENSOR, qos.sensor()),
        (graph.FAST_SENSOR, qos.fast_sensor()),
        (graph.TF, qos.transforms()),
        (graph.TF_STATIC, qos.latched()),
    ):
        assert live_qos(theirs) == ours


def test_the_command_without_ros_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "rclpy.py").write_text("raise ModuleNotFoundError('no rclpy', name='rclpy')\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ended = subprocess.run(
        [sys.executable, "-m", "mm_fusion.cli.main", "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert ended.returncode == 2
    assert "needs rclpy" in ended.stderr
    assert "Traceback" not in ended.stderr
