"""Observations from a running ROS graph, for the doctor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.topic_endpoint_info import TopicEndpointInfo

from mm_fusion.config import Config
from mm_fusion.doctor.collect import Collector
from mm_fusion.doctor.host import read_host
from mm_fusion.doctor.inputs import SENSORS, assign, wanted_inputs
from mm_fusion.doctor.observations import (
    FOREVER_NS,
    Endpoint,
    Input,
    Observations,
    Qos,
    TopicSeen,
)
from mm_fusion.doctor.timing import lacking
from mm_fusion.errors import ConfigError
from mm_fusion.evaluation.topics import TF_MESSAGE
from mm_fusion.nodes import process, qos
from mm_fusion.nodes.dynamic import message_class

Show = Callable[[float, str], None]

QUIET_S, LONGEST_DISCOVERY_S = 1.0, 5.0  # discovery is over when nothing new came for this long
PARAMETERS_S = 2.0
# Who has publishers and gave fewer messages than this is waited for, this many times as long.
ENOUGH, PATIENCE = 5, 4.0
LOOK_AGAIN_S = 0.5
NOBODYS = ("/rosout", "/parameter_events")
CLOCK = "/clock"
FOREVER_FROM_NS = 1 << 60


def observe_graph(config: Config, seconds: float, show: Show = lambda *_: None) -> Observations:
    """Look at the graph, then listen to the inputs for ``seconds``, and up to PATIENCE times as
    long while a sensor that has a publisher has not given ENOUGH messages.

    ROS_DOMAIN_ID and the rest of the environment say which graph. The doctor publishes nothing.
    """
    # Before this process gets our profile: what counts is what the drivers would have.
    host = read_host(os.environ, rclpy.get_rmw_implementation_identifier())
    process.begin([])
    try:
        watch = _Watch(config, seconds)
        try:
            return watch.observe(show, host)
        finally:
            watch.close()
    finally:
        rclpy.try_shutdown()


class _Watch:
    """The doctor's node and what it hears."""

    def __init__(self, config: Config, seconds: float) -> None:
        self._config = config
        self._seconds = seconds
        self._node: Node = rclpy.create_node(
            f"mm_fusion_doctor_{os.getpid()}", enable_rosout=False, start_parameter_services=False
        )
        # EventsExecutor cannot take the middleware's time of arrival (rclpy 7.1.6).
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._collector = Collector(config, round(seconds * 1e9))
        self._listening: set[str] = set()
        self._sequences: dict[str, list[int]] = {}
        self._events: dict[str, int] = {}
        self._clock_ns = 0

    def close(self) -> None:
        """End the node."""
        self._executor.shutdown()
        self._node.destroy_node()

    def observe(self, show: Show, host: Any) -> Observations:
        """Discover, listen, and put together what was seen."""
        self._discover(show)
        inputs = self._listen()
        sim_time = self._ask_sim_time(inputs)
        start_ns = time.time_ns()
        begun_s = time.monotonic()
        again_s = begun_s + LOOK_AGAIN_S
        while self._goes_on(passed := (time.monotonic() - begun_s) / self._seconds, inputs):
            self._executor.spin_once(timeout_sec=min(self._seconds, 0.1))
            show(min(passed, 1.0) * 0.99, "listen")
            if time.monotonic() > again_s:
                inputs = self._listen()
                again_s = time.monotonic() + LOOK_AGAIN_S
        end_ns = time.time_ns()
        show(1.0, "listen")
        topics = self._topics()
        inputs = assign(topics, wanted_inputs(self._config, live=True))
        return self._put_together(start_ns, end_ns, topics, inputs, sim_time, host)

    def _goes_on(self, passed: float, inputs: tuple[Input, ...]) -> bool:
        """Whether to listen on, after ``passed`` times the asked duration."""
        if passed < 1.0:
            return True
        speaking = (i.topic.name for i in inputs if i.topic and i.wanted.role in SENSORS)
        few = any(self._collector.streams[n].messages < ENOUGH for n in speaking)
        return few and passed < PATIENCE

    def _put_together(
        self,
        start_ns: int,
        end_ns: int,
        topics: tuple[TopicSeen, ...],
        inputs: tuple[Input, ...],
        sim_time: dict[str, bool],
        host: Any,
    ) -> Observations:
        serving = {i.topic.name for i in inputs if i.topic is not None}
        streams = {n: s for n, s in self._collector.streams.items() if n in serving}
        self._collector.finish()
        publishers = {t.name: len(t.publishers) for t in topics}
        for name, stream in streams.items():
            stream.lost_events = self._lost(name, publishers.get(name, 0))
        return Observations(
            source=f"ROS graph of domain {os.environ.get('ROS_DOMAIN_ID', '0') or '0'}",
            live=True,
            start_ns=start_ns,
            end_ns=end_ns,
            topics=topics,
            inputs=inputs,
            streams=streams,
            links=self._collector.links,
            bad_links=self._collector.bad_links,
            clock_publishers=publishers.get(CLOCK, 0),
            sim_time=sim_time,
            host=host,
        )

    def _lost(self, name: str, publishers: int) -> int:
        """What the middleware says was lost, or what the numbers of one publisher lack."""
        missed = lacking(self._sequences.get(name, [])) if publishers == 1 else 0
        return max(self._events.get(name, 0), missed)

    # ------------------------------------------------------------------------ the graph

    def _discover(self, show: Show) -> None:
        """Spin until the graph stands still."""
        begun_s = quiet_since_s = time.monotonic()
        last: Any = None
        while (now_s := time.monotonic()) - begun_s < LONGEST_DISCOVERY_S:
            self._executor.spin_once(timeout_sec=0.05)
            graph = sorted((n, tuple(k)) for n, k in self._node.get_topic_names_and_types())
            counts = [self._node.count_publishers(n) for n, _ in graph]
            if (graph, counts) != last:
                last, quiet_since_s = (graph, counts), now_s
            if now_s - quiet_since_s > QUIET_S and any(counts):
                break
            show(min((now_s - begun_s) / LONGEST_DISCOVERY_S, 0.99), "look at the graph")
        show(1.0, "look at the graph")

    def _topics(self) -> tuple[TopicSeen, ...]:
        found = []
        for name, kinds in sorted(self._node.get_topic_names_and_types()):
            if name in NOBODYS:
                continue
            publishers = self._endpoints(self._node.get_publishers_info_by_topic(name))
            subscribers = self._endpoints(self._node.get_subscriptions_info_by_topic(name))
            if publishers or subscribers:
                # A topic on which somebody only listens has nothing to give.
                offered = tuple(dict.fromkeys(p.msgtype for p in publishers)) or tuple(kinds)
                count = -1 if publishers else 0
                found.append(TopicSeen(name, offered, count, publishers, subscribers))
        return tuple(found)

    def _endpoints(self, infos: list[TopicEndpointInfo]) -> tuple[Endpoint, ...]:
        own = self._node.get_name()
        return tuple(
            Endpoint(_full_name(i), i.topic_type, live_qos(i.qos_profile))
            for i in infos
            if i.node_name != own
        )

    def _ask_sim_time(self, inputs: tuple[Input, ...]) -> dict[str, bool]:
        """use_sim_time of our nodes and of those that publish the inputs, as far as they answer."""
        names = {p.node for i in inputs if i.topic is not None for p in i.topic.publishers}
        for name, namespace in self._node.get_node_names_and_namespaces():
            if name in ("fusion_node", "pose_node"):
                names.add(f"{namespace.rstrip('/')}/{name}")
        waiting = {}
        clients = []
        for name in sorted(n for n in names if n):
            client = self._node.create_client(GetParameters, f"{name}/get_parameters")
            clients.append(client)
            if client.service_is_ready() or client.wait_for_service(0.2):
                request = GetParameters.Request(names=["use_sim_time"])
                waiting[name] = client.call_async(request)
        end_s = time.monotonic() + PARAMETERS_S
        while time.monotonic() < end_s and not all(f.done() for f in waiting.values()):
            self._executor.spin_once(timeout_sec=0.05)
        answers = {n: f.result() for n, f in waiting.items() if f.done()}
        for client in clients:
            self._node.destroy_client(client)
        return {n: bool(a.values[0].bool_value) for n, a in answers.items() if a and a.values}

    # --------------------------------------------------------------------- what comes

    def _listen(self) -> tuple[Input, ...]:
        """Subscribe to every input that is there and not yet heard."""
        topics = self._topics()
        inputs = assign(topics, wanted_inputs(self._config, live=True))
        self._collector.expect(inputs)
        for stream in list(self._collector.streams.values()):
            self._subscribe(stream.topic, stream.msgtype, _for_role(stream.role))
        for topic in topics:
            if TF_MESSAGE in topic.msgtypes and topic.name.endswith(("/tf", "/tf_static")):
                self._subscribe_tf(topic)
            elif topic.name == CLOCK and topic.publishers and CLOCK not in self._listening:
                self._listening.add(CLOCK)
                kind = message_class("rosgraph_msgs/msg/Clock")
                self._node.create_subscription(kind, CLOCK, self._on_clock, qos.sensor())
        return inputs

    def _subscribe_tf(self, topic: TopicSeen) -> None:
        """Best effort and volatile meets everybody; what is latched must also be asked for."""
        lasting = [p for p in topic.publishers if p.qos and p.qos.transient_local]
        if lasting:
            self._subscribe(topic.name, TF_MESSAGE, qos.latched(), "latched")
        if len(lasting) < len(topic.publishers):
            profile = qos.transforms()
            profile.reliability = ReliabilityPolicy.BEST_EFFORT
            self._subscribe(topic.name, TF_MESSAGE, profile, "volatile")

    def _subscribe(self, topic: str, msgtype: str, profile: QoSProfile, kind: str = "") -> None:
        key = f"{topic} {kind}"
        if key in self._listening:
            return
        self._listening.add(key)
        try:
            message = message_class(msgtype)
        except ConfigError:
            return  # nobody here could read it: the topic stays silent, and is said to be
        # What fits nobody is said by the check of the graph.
        events = SubscriptionEventCallbacks(
            message_lost=lambda e: self._on_lost(topic, e.total_count), use_default_callbacks=False
        )
        self._node.create_subscription(
            message,
            topic,
            lambda raw, info: self._on_raw(topic, msgtype, raw, info),
            profile,
            raw=True,
            event_callbacks=events,
        )

    def _on_raw(self, topic: str, msgtype: str, raw: bytes, info: Any) -> None:
        # The middleware's own time of arrival leaves out how long a message waited for us.
        arrival_ns = info.get("received_timestamp") or time.time_ns()
        number = info.get("publication_sequence_number")
        if number is not None:
            self._sequences.setdefault(topic, []).append(number)
        self._collector.add(topic, msgtype, raw, arrival_ns, self._clock_ns)

    def _on_lost(self, topic: str, total: int) -> None:
        self._events[topic] = total

    def _on_clock(self, message: Any) -> None:
        self._clock_ns = message.clock.sec * 1_000_000_000 + message.clock.nanosec


def _for_role(role: str) -> QoSProfile:
    """As the nodes listen, but for the depth: the doctor looks longer at single messages."""
    profile = qos.sensor()
    profile.history = HistoryPolicy.KEEP_LAST
    profile.depth = 30 if role in ("camera", "lidar") else 500
    return profile


def _full_name(info: TopicEndpointInfo) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def live_qos(given: QoSProfile) -> Qos:
    """A profile as the graph tells it. It does not tell depths: they are 0 there."""
    return Qos(
        reliable=given.reliability == ReliabilityPolicy.RELIABLE,
        transient_local=given.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        deadline_ns=_limit_ns(given.deadline.nanoseconds),
        liveliness_manual=given.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC,
        lease_ns=_limit_ns(given.liveliness_lease_duration.nanoseconds),
        depth=given.depth,
    )


def _limit_ns(ns: int) -> int:
    """A duration; zero and very long ones mean that there is no limit."""
    return FOREVER_NS if ns == 0 or ns >= FOREVER_FROM_NS else ns
