"""Publishers and subscribers: who would never meet, and who speaks where another does."""

from __future__ import annotations

from collections.abc import Sequence

from mm_fusion.doctor.findings import Finding, error
from mm_fusion.doctor.inputs import SENSORS
from mm_fusion.doctor.observations import FOREVER_NS, Endpoint, Observations, Qos, TopicSeen

# What the nodes ask for: mm_fusion.nodes.qos, which a test holds against this.
SENSOR = Qos(depth=10)
FAST_SENSOR = Qos(depth=200)
TF = Qos(reliable=True, depth=100)
TF_STATIC = Qos(reliable=True, transient_local=True, depth=100)
REQUESTS = {
    **dict.fromkeys(("camera", "camera_info", "lidar", "gps", "wheels"), SENSOR),
    "imu": FAST_SENSOR,
    "motion": FAST_SENSOR,
}
OURS = "mm_fusion"


def mismatches(offered: Qos, asked: Qos) -> list[str]:
    """Why a publisher and a subscriber never meet; empty where they do.

    The rules of DDS 1.4, section 2.2.3: what is offered must be as good as what is asked for.
    """
    found = []
    if asked.reliable and not offered.reliable:
        found.append("reliability: offers best effort, asked for reliable")
    if asked.transient_local and not offered.transient_local:
        found.append("durability: offers volatile, asked for transient local")
    if offered.deadline_ns > asked.deadline_ns:
        found.append(
            f"deadline: offers {_time(offered.deadline_ns)}, asked for {_time(asked.deadline_ns)}"
        )
    if asked.liveliness_manual and not offered.liveliness_manual:
        found.append("liveliness: offers automatic, asked for manual")
    if offered.lease_ns > asked.lease_ns:
        found.append(f"lease: offers {_time(offered.lease_ns)}, asked for {_time(asked.lease_ns)}")
    return found


def _time(ns: int) -> str:
    return "none" if ns >= FOREVER_NS else f"{ns / 1e6:g} ms"


def check_graph(seen: Observations) -> list[Finding]:
    """QoS of every pair on every topic; several publishers on a sensor's topic."""
    asked = _requests(seen)
    findings: list[Finding] = []
    for topic in seen.topics:
        findings += _check_pairs(topic, asked.get(topic.name))
    serving = {i.topic.name: i.wanted for i in seen.inputs if i.topic is not None}
    for topic in seen.topics:
        if topic.name in serving and serving[topic.name].role in (*SENSORS, "camera_info"):
            findings += _check_publishers(topic)
    return findings


def _requests(seen: Observations) -> dict[str, Qos]:
    """What this program asks for, by topic."""
    asked = {i.topic.name: REQUESTS[i.wanted.role] for i in seen.inputs if i.topic is not None}
    return {**asked, "/tf": TF, "/tf_static": TF_STATIC}


def _check_pairs(topic: TopicSeen, asked: Qos | None) -> list[Finding]:
    subscribers = list(topic.subscribers)
    if asked is not None:
        # What runs may have been told otherwise; what would run is asked for as well.
        subscribers.insert(0, Endpoint(OURS, "", asked))
    findings = {}
    for publisher in topic.publishers:
        for subscriber in subscribers:
            if publisher.qos is None or subscriber.qos is None:
                continue
            why = mismatches(publisher.qos, subscriber.qos)
            if why:
                finding = _mismatch(topic.name, publisher, subscriber, why)
                findings[finding.seen] = finding
    return list(findings.values())


def _mismatch(topic: str, publisher: Endpoint, subscriber: Endpoint, why: Sequence[str]) -> Finding:
    listener = "the nodes of mm_fusion" if subscriber.node == OURS else subscriber.node
    seen = f"{publisher.node or 'the publisher'} and {listener} never meet: {'; '.join(why)}"
    remedy = (
        "Have the publisher offer it, or let the subscriber ask for less"
        f" (qos_overrides.{topic}.subscription.<policy>)."
    )
    if subscriber.node == OURS and topic == "/tf_static":
        remedy = "Publish /tf_static transient local, as static_transform_publisher does."
    elif subscriber.node == OURS and topic == "/tf":
        remedy = "Publish /tf reliable, as tf2_ros' broadcaster does."
    return error("qos-mismatch", topic, seen, remedy)


def _check_publishers(topic: TopicSeen) -> list[Finding]:
    count = len(topic.publishers)
    if count < 2:
        return []
    names = sorted({p.node for p in topic.publishers if p.node})
    seen = f"{count} publishers" + (f": {', '.join(names)}" if names else "")
    remedy = "Stop all but one, or give each a topic of its own: their samples would be mixed."
    return [error("several-publishers", topic.name, seen, remedy)]
