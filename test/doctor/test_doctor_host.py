"""The machine, the middleware, the environment and the network, from what was read of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from doctor.conftest import find
from support import bags, doctor_bags

from mm_fusion import config, resources, wire
from mm_fusion.doctor.collect import Collector
from mm_fusion.doctor.diagnose import diagnose
from mm_fusion.doctor.findings import Report
from mm_fusion.doctor.graph import FAST_SENSOR, SENSOR, TF, TF_STATIC, mismatches
from mm_fusion.doctor.host import read_host, read_model, read_profile
from mm_fusion.doctor.looks import look_at
from mm_fusion.doctor.observations import (
    Endpoint,
    HostFacts,
    Input,
    ModelFacts,
    Observations,
    Qos,
    Stream,
    TopicSeen,
    Wanted,
)
from mm_fusion.doctor.timing import lacking

MIB = 1 << 20
GOOD = HostFacts(
    environment={"ROS_DOMAIN_ID": "7"},
    rmem_max=8 * MIB,
    wmem_max=8 * MIB,
    shm_size=8192 * MIB,
    shm_free=8000 * MIB,
    rmw="rmw_fastrtps_cpp",
    profile="config/fastdds.xml",
    receive_wanted=4 * MIB,
    send_wanted=4 * MIB,
    segment_wanted=128 * MIB,
)
IMAGE = "sensor_msgs/msg/Image"


def report_of(host: HostFacts | None = None, largest: int = 6_000_000, **more: Any) -> Report:
    """The report on a live graph with one large message on it."""
    stream = Stream("/camera/image_raw", IMAGE, "camera", messages=1, bytes_max=largest)
    seen = Observations("graph", True, 0, 5 * 10**9, host=host, streams={stream.topic: stream})
    for name, value in more.items():
        setattr(seen, name, value)
    return diagnose(seen, config.Config())


def host_findings(**changed: Any) -> list[str]:
    known = {"profile", "rmw", "socket-buffer", "shared-memory", "stale-segments"}
    known |= {"discovery", "domain"}
    report = report_of(dataclasses.replace(GOOD, **changed))
    return [f"{f.severity.value} {f.code} {f.subject}" for f in report.findings if f.code in known]


def test_of_a_host_in_order_nothing_is_said() -> None:
    assert host_findings() == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"rmem_max": 212_992}, "warn socket-buffer net.core.rmem_max"),
        ({"wmem_max": 212_992}, "warn socket-buffer net.core.wmem_max"),
        ({"shm_size": 64 * MIB, "shm_free": 64 * MIB}, "error shared-memory /dev/shm"),
        ({"shm_size": 512 * MIB, "shm_free": 400 * MIB}, "warn shared-memory /dev/shm"),
        ({"stale_segments": 3, "stale_bytes": 400 * MIB}, "warn stale-segments /dev/shm"),
        ({"profile": ""}, "warn profile FASTRTPS_DEFAULT_PROFILES_FILE"),
        ({"profile_error": "no.xml: not found"}, "error profile Fast DDS profile"),
        ({"rmw": "rmw_cyclonedds_cpp"}, "warn rmw RMW_IMPLEMENTATION"),
        ({"environment": {"ROS_LOCALHOST_ONLY": "1"}}, "warn discovery ROS_LOCALHOST_ONLY"),
        (
            {"environment": {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}},
            "error discovery ROS_AUTOMATIC_DISCOVERY_RANGE",
        ),
        (
            {"environment": {"ROS_AUTOMATIC_DISCOVERY_RANGE": "WORLD"}},
            "warn discovery ROS_AUTOMATIC_DISCOVERY_RANGE",
        ),
        ({"environment": {"ROS_DOMAIN_ID": "150"}}, "warn domain ROS_DOMAIN_ID"),
        ({"environment": {"ROS_DOMAIN_ID": "seven"}}, "error domain ROS_DOMAIN_ID"),
    ],
)
def test_what_is_wrong_with_a_host_is_named(changed: dict[str, Any], expected: str) -> None:
    assert host_findings(**changed) == [expected]


def test_small_messages_need_no_profile() -> None:
    report = report_of(dataclasses.replace(GOOD, profile=""), largest=20_000)
    assert find(report, "profile") == []


def test_the_host_is_read_from_its_files(tmp_path: Path) -> None:
    """GIVEN a /proc of small buffers and an environment, THEN the facts are those."""
    net = tmp_path / "proc/sys/net/core"
    net.mkdir(parents=True)
    (net / "rmem_max").write_text("212992\n")
    (net / "wmem_max").write_text("4194304\n")
    (tmp_path / "dev/shm").mkdir(parents=True)
    profile = tmp_path / "my.xml"
    profile.write_text(
        "<dds xmlns='http://x'><a><segment_size>1000</segment_size></a>"
        "<b><sendBufferSize>20</sendBufferSize><receiveBufferSize>30</receiveBufferSize></b></dds>"
    )
    environment = {"FASTDDS_DEFAULT_PROFILES_FILE": str(profile), "HOME": "/root"}
    host = read_host(environment, "rmw_fastrtps_cpp", str(tmp_path))
    assert (host.rmem_max, host.wmem_max) == (212_992, 4_194_304)
    assert (host.segment_wanted, host.send_wanted, host.receive_wanted) == (1000, 20, 30)
    assert host.environment == {"FASTDDS_DEFAULT_PROFILES_FILE": str(profile)}
    assert host.profile == str(profile)
    assert host.shm_size > 0
    assert read_host({}, "", str(tmp_path / "none")).rmem_max == 0


def test_our_own_profile_asks_for_what_the_documents_say() -> None:
    wanted, problem = read_profile(str(resources.share_path("config/fastdds.xml")))
    assert problem == ""
    assert wanted["segment_wanted"] == 128 * MIB
    assert wanted["receive_wanted"] == wanted["send_wanted"] == 4 * MIB


@pytest.mark.parametrize("text", [None, "<dds><unclosed>", "<a><segment_size>x</segment_size></a>"])
def test_a_profile_that_is_none_is_said(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "p.xml"
    if text is not None:
        file.write_text(text)
    wanted, problem = read_profile(str(file))
    assert str(file) in problem
    assert wanted["segment_wanted"] == 0


# ---------------------------------------------------------------------------- the network


def test_a_network_that_fits_is_only_told() -> None:
    model = ModelFacts("fusion.onnx", "cpu", "cpu", ("cpu",), 6, 40_000)
    report = report_of(model=model)
    assert report.facts["network"]["provider"] == "cpu"
    assert [f for f in report.findings if f.code in ("network", "camera-slots", "provider")] == []


def test_more_cameras_than_slots_is_an_error() -> None:
    given = config.load(assignments=["topics.cameras=[a, b, c]"])
    seen = Observations("graph", False, model=ModelFacts("fusion.onnx", "cpu", "cpu", (), 2))
    (found,) = find(diagnose(seen, given), "camera-slots")
    assert "3 cameras are configured, fusion.onnx takes 2" in found.seen


def test_the_packaged_network_loads_and_says_where_it_runs() -> None:
    model = read_model(config.load(assignments=["network.provider=cpu"]))
    assert model.error == ""
    assert model.provider == "cpu"
    assert "cpu" in model.available
    assert model.camera_slots >= 1


def test_a_network_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    given = config.load(assignments=[f"network.model={tmp_path}/none.onnx"])
    report = report_of(model=read_model(given))
    (found,) = find(report, "network")
    assert found.severity.value == "error"
    assert "none.onnx: no such network file" in found.seen


def test_auto_that_falls_to_the_cpu_is_told() -> None:
    report = report_of(model=ModelFacts("m", "auto", "cpu", ("cpu",), 6, 1))
    (found,) = find(report, "provider")
    assert found.severity.value == "info"


# ------------------------------------------------------------------------- QoS and graph


@pytest.mark.parametrize(
    ("offered", "asked", "words"),
    [
        (Qos(), Qos(reliable=True), "reliability"),
        (Qos(reliable=True), Qos(), ""),
        (Qos(reliable=True), TF_STATIC, "durability"),
        (Qos(reliable=True, transient_local=True), TF, ""),
        (Qos(deadline_ns=20), Qos(deadline_ns=10), "deadline"),
        (Qos(), Qos(deadline_ns=10_000_000), "deadline: offers none, asked for 10 ms"),
        (Qos(deadline_ns=5), Qos(deadline_ns=10), ""),
        (Qos(), Qos(liveliness_manual=True), "liveliness"),
        (Qos(lease_ns=20), Qos(lease_ns=10), "lease"),
        (SENSOR, FAST_SENSOR, ""),
    ],
)
def test_who_meets_whom(offered: Qos, asked: Qos, words: str) -> None:
    """The table of the ROS 2 documentation on QoS compatibility."""
    found = mismatches(offered, asked)
    assert bool(found) == bool(words)
    assert words in " ".join(found)


def seen_graph(publishers: tuple[Endpoint, ...], subscribers: tuple[Endpoint, ...]) -> Report:
    topic = TopicSeen("/imu/data", ("sensor_msgs/msg/Imu",), -1, publishers, subscribers)
    want = Wanted("imu", 0, "topics.imu", "/imu/data", ("sensor_msgs/msg/Imu",), False)
    seen = Observations("graph", True, topics=(topic,), inputs=(Input(want, topic),))
    return diagnose(seen, config.Config())


def test_a_mismatch_between_others_is_named_with_both_nodes() -> None:
    """GIVEN a best effort driver and a reliable recorder on a topic of ours."""
    kind = "sensor_msgs/msg/Imu"
    report = seen_graph(
        (Endpoint("/driver", kind, Qos()),), (Endpoint("/rec", kind, Qos(reliable=True)),)
    )
    (found,) = find(report, "qos-mismatch", "/imu/data")
    assert "/driver and /rec never meet: reliability" in found.seen


def test_several_publishers_are_named() -> None:
    kind = "sensor_msgs/msg/Imu"
    report = seen_graph((Endpoint("/a", kind, Qos()), Endpoint("/b", kind, Qos())), ())
    (found,) = find(report, "several-publishers", "/imu/data")
    assert "2 publishers: /a, /b" in found.seen


def test_sim_time_without_a_clock_and_against_the_sensors() -> None:
    report = report_of(sim_time={"/fusion_node": True})
    (found,) = find(report, "sim-time", "/fusion_node")
    assert "nobody publishes /clock" in found.seen
    assert find(report_of(sim_time={"/fusion_node": False}), "sim-time") == []


def test_simulated_and_wall_time_mixed_up_is_an_error() -> None:
    """GIVEN one sensor stamped by /clock and one by the wall clock, 5 s of each."""
    wall_ns, sim_ns = 1_700_000_000 * 10**9, 100 * 10**9
    streams = {}
    for topic, role, base_ns in (("/imu", "imu", sim_ns), ("/fix", "gps", wall_ns)):
        stream = Stream(topic, "x", role, messages=100)
        for k in range(100):
            passed_ns = k * 50_000_000
            stream.stamps_ns.append(base_ns + passed_ns)
            stream.arrivals_ns.append(wall_ns + passed_ns + 2_000_000)
            stream.clocks_ns.append(sim_ns + passed_ns)
        streams[topic] = stream
    given = {"streams": streams, "clock_publishers": 1, "sim_time": {"/pose_node": False}}
    report = report_of(**given)
    (found,) = find(report, "mixed-time")
    assert found.seen == "/imu follow /clock, /fix the wall clock"
    assert find(report, "sim-time", "/pose_node")[0].severity.value == "error"
    del streams["/fix"]
    assert find(report_of(**given), "mixed-time") == []


def test_a_report_as_values_is_json() -> None:
    values = report_of(GOOD).values()
    assert json.loads(json.dumps(values)) == values
    assert values["facts"]["host"]["shm_size"] == GOOD.shm_size


# ------------------------------------------------------------- what only made streams show


def test_messages_that_the_middleware_lost_are_named() -> None:
    stream = Stream("/imu/data", "sensor_msgs/msg/Imu", "imu", messages=10, lost_events=3)
    report = report_of(streams={stream.topic: stream})
    (found,) = find(report, "lost-messages", "/imu/data")
    assert "3 messages lost" in found.seen
    stream.lost_events = 0
    assert find(report_of(streams={stream.topic: stream}), "lost-messages") == []


@pytest.mark.parametrize(
    ("numbers", "missed"),
    [([], 0), ([7, 8, 9], 0), ([7, 9, 8], 0), ([1, 2, 5, 6], 2), ([1, 1 << 40], 0)],
)
def test_numbers_that_a_sequence_lacks(numbers: list[int], missed: int) -> None:
    assert lacking(numbers) == missed


def test_messages_that_come_all_at_once_are_named() -> None:
    """GIVEN 4 s of a 20 Hz sensor whose messages of half a second come together."""
    stream = Stream("/fix", "x", "gps", messages=80)
    for k in range(80):
        due_ns = 10**18 + k * 50_000_000
        held = 40 <= k < 50
        late_ns = (50 - k) * 50_000_000 + (k - 50) * 1_000_000 if held else 0
        stream.stamps_ns.append(due_ns)
        stream.arrivals_ns.append(due_ns + 2_000_000 + late_ns)
        stream.clocks_ns.append(0)
    (found,) = find(report_of(streams={"/fix": stream}), "bursts", "/fix")
    assert "1 bursts" in found.seen


def test_a_transform_message_that_is_cut_off_is_named() -> None:
    raw = bags.STORE.serialize_cdr(bags.car_mounting(), "tf2_msgs/msg/TFMessage")
    for message, expected in ((bytes(raw), 0), (bytes(raw)[:100], 1)):
        collector = Collector(config.Config(), 10**9)
        collector.add("/tf_static", "tf2_msgs/msg/TFMessage", message, 0)
        seen = Observations("bag", False, links=collector.links, bad_links=collector.bad_links)
        assert len(find(diagnose(seen, config.Config()), "bad-tf", "/tf_static")) == expected


def test_more_points_than_the_network_takes_are_told() -> None:
    raw = bags.STORE.serialize_cdr(doctor_bags.cloud(10**18, 600), "sensor_msgs/msg/PointCloud2")
    sweep = wire.decode("sensor_msgs/msg/PointCloud2", bytes(raw), "lidar")
    stream = Stream("/lidar", "x", "lidar", messages=1, looks=[look_at(sweep)])
    for budget, expected in ((500, 1), (600, 0)):
        model = ModelFacts("m", "cpu", "cpu", ("cpu",), 6, budget)
        report = report_of(streams={"/lidar": stream}, model=model)
        assert len(find(report, "thinned", "/lidar")) == expected


@pytest.mark.parametrize(("rate_hz", "expected"), [(30, 1), (100, 0)])
def test_a_slow_imu_is_told(rate_hz: int, expected: int) -> None:
    collector = Collector(config.Config(), 10**9)
    topic = TopicSeen("/imu/data", ("sensor_msgs/msg/Imu",))
    want = Wanted("imu", 0, "topics.imu", "/imu/data", ("sensor_msgs/msg/Imu",), False)
    collector.expect([Input(want, topic)])
    for k in range(40):
        ns = 10**18 + k * 10**9 // rate_hz
        raw = bags.STORE.serialize_cdr(bags.imu(ns), "sensor_msgs/msg/Imu")
        collector.add("/imu/data", "sensor_msgs/msg/Imu", bytes(raw), ns)
    report = report_of(streams=collector.streams)
    assert len(find(report, "imu-rate", "/imu/data")) == expected
