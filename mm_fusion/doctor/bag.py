"""Observations from a bag: every message of its inputs, and how they were recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rosbags.interfaces import Qos as RecordedQos
from rosbags.interfaces import QosDurability, QosLiveliness, QosReliability, QosTime

from mm_fusion.config import Config
from mm_fusion.doctor.collect import Collector
from mm_fusion.doctor.inputs import assign, wanted_inputs
from mm_fusion.doctor.observations import FOREVER_NS, Endpoint, Observations, Qos, TopicSeen
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.topics import TF_MESSAGE

FOREVER_S = 2_000_000_000  # ROS and DDS write "forever" as slightly different large numbers
Show = Callable[[float, str], None]


def observe_bag(
    path: Path, config: Config, seconds: float | None, show: Show = lambda *_: None
) -> Observations:
    """Read a bag, or its first ``seconds``. Raises BagError where it cannot be read."""
    with Bag(path) as bag:
        start_ns, end_ns = bag.start_ns, bag.end_ns
        if seconds is not None:
            end_ns = min(end_ns, start_ns + round(seconds * 1e9))
        topics = topics_seen(bag)
        inputs = assign(topics, wanted_inputs(config, live=False))
        collector = Collector(config, end_ns - start_ns)
        collector.expect(inputs)
        tf = [t.name for t in topics if t.msgtypes == (TF_MESSAGE,)]
        names = {*collector.streams, *tf}
        for message in bag.messages(names, end_ns if seconds is not None else None):
            known = collector.streams.get(message.topic)
            if known is not None and message.msgtype != known.msgtype:
                continue  # another type on the same topic: said by the check of inputs
            collector.add(message.topic, message.msgtype, message.raw, message.log_ns)
            show((message.log_ns - start_ns) / max(end_ns - start_ns, 1) * 0.99, "read the bag")
        collector.finish()
    show(1.0, "read the bag")
    return Observations(
        source=str(path),
        live=False,
        start_ns=start_ns,
        end_ns=end_ns,
        topics=topics,
        inputs=inputs,
        streams=collector.streams,
        links=collector.links,
        bad_links=collector.bad_links,
    )


def topics_seen(bag: Bag) -> tuple[TopicSeen, ...]:
    """Every topic of a bag with what its publishers offered."""
    counts = bag.counts
    return tuple(
        TopicSeen(
            name,
            tuple(dict.fromkeys(msgtype for msgtype, _ in offers)),
            counts[name],
            tuple(
                Endpoint("", msgtype, recorded_qos(q)) for msgtype, found in offers for q in found
            ),
        )
        for name, offers in sorted(bag.offers.items())
    )


def recorded_qos(given: RecordedQos) -> Qos:
    """A profile as the recorder wrote it down."""
    return Qos(
        reliable=given.reliability == QosReliability.RELIABLE,
        transient_local=given.durability == QosDurability.TRANSIENT_LOCAL,
        deadline_ns=_ns(given.deadline),
        liveliness_manual=given.liveliness == QosLiveliness.MANUAL_BY_TOPIC,
        lease_ns=_ns(given.liveliness_lease_duration),
        depth=given.depth,
    )


def _ns(time: QosTime) -> int:
    """A duration; zero and very long ones mean that there is no limit."""
    ns = time.sec * 1_000_000_000 + time.nsec
    return FOREVER_NS if ns == 0 or time.sec >= FOREVER_S else ns
