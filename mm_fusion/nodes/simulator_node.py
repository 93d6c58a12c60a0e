"""Plays a bag, or a drive simulated for it, as if the sensors were there.

Messages go out as the bytes that stand in the bag, at the distance in time at which they were
recorded, with /clock beside them. With the parameter ``progress`` it prints a line of JSON to
stdout twice a second ({"played_s", "duration_s", "messages"}), for the program that started it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock

from mm_fusion.config import SimulatorConfig
from mm_fusion.errors import BagError, ConfigError, MmFusionError, StageError
from mm_fusion.evaluation.bags import Bag, BagMessage, Topic
from mm_fusion.nodes import messages, process, qos
from mm_fusion.nodes.declared import DeclaredParameters
from mm_fusion.nodes.dynamic import message_class
from mm_fusion.nodes.managed import LAST_WORDS, Stop, spin
from mm_fusion.nodes.playback import Playback
from mm_fusion.samples import NS_PER_S

# Said once and kept for those who come later.
LATCHED_TOPICS = ("tf_static", "truth/datum")
PROGRESS_EVERY_S = 0.5
ANY = "any"  # in ``wait_for``: whichever topic it is
SETTLE_S = 0.5


class SimulatorNode(Node):
    """Publishes the topics of a bag."""

    def __init__(self, **options: Any) -> None:
        super().__init__("simulator_node", **options)
        self._declared = DeclaredParameters(self, SimulatorConfig)
        self._clock_publisher = self.create_publisher(Clock, "/clock", qos.sensor())
        self._named: dict[str, Publisher] = {}
        self._sent: dict[str, int] = {}
        self._playback: Playback | None = None
        self._said_s = 0.0
        self.failure = ""
        self.done = threading.Event()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the playback early."""
        self._stopped.set()
        if self._playback is not None:
            self._playback.stop()

    def play(self) -> None:
        """The whole job, in a thread of its own; a user's mistake ends in ``failure``."""
        try:
            self._play(self._declared.build())
        except MmFusionError as error:
            self.failure = " ".join(str(error).split())
            self.get_logger().error(self.failure)
        except BaseException as error:
            self.failure = repr(error)
            raise
        finally:
            self.done.set()

    def _play(self, config: SimulatorConfig) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(config.bag) if config.bag else self._simulate(config, Path(scratch))
            self._advertise(path, config)
            self._publish_latched(path)
            self._wait(config)
            while not self._stopped.is_set():
                self._play_once(path, config)
                if not config.loop:
                    break
            for publisher in self._named.values():
                publisher.wait_for_all_acked(LAST_WORDS)
        if not any(self._sent.values()) and not self._stopped.is_set():
            raise StageError(f"{path}: nothing was played")

    def _simulate(self, config: SimulatorConfig, scratch: Path) -> Path:
        from mm_fusion.sim.drive import simulate

        self.get_logger().info(f"simulating {config.duration_s:g} s of {config.scenario}")
        out = scratch / "drive"
        simulate(config.seed, config.duration_s, config.scenario, out)
        return out

    def _advertise(self, path: Path, config: SimulatorConfig) -> None:
        with Bag(path) as bag:
            found = bag.topics
        wanted = {t.lstrip("/") for t in config.topics if t}
        absent = wanted - {t.name.lstrip("/") for t in found}
        if absent:
            raise BagError(f"{path}: no topic {', '.join(sorted(absent))} (parameter topics)")
        for topic in found:
            if topic.count and (not wanted or topic.name.lstrip("/") in wanted):
                self._advertise_one(topic, bool(wanted))

    def _advertise_one(self, topic: Topic, asked_for: bool) -> None:
        try:
            kind = message_class(topic.msgtype)
        except ConfigError as error:
            if asked_for:
                raise
            self.get_logger().warning(f"{topic.name} is not played: {error}")
            return
        profile = qos.latched() if _is_latched(topic.name) else qos.result()
        self._named[topic.name] = self.create_publisher(
            kind, _published_name(topic.name), profile, qos_overriding_options=qos.overridable()
        )
        self._sent[topic.name] = 0

    def _publish_latched(self, path: Path) -> None:
        latched = [name for name in self._named if _is_latched(name)]
        with Bag(path) as bag:
            for message in bag.messages(latched):
                self._send(message)

    def _wait(self, config: SimulatorConfig) -> None:
        """Wait until every topic of ``wait_for`` has a subscriber; ``any``: until one has."""
        wanted = [t.lstrip("/") for t in config.wait_for if t]
        named = {name.lstrip("/"): publisher for name, publisher in self._named.items()}
        if wanted == [ANY]:
            played = [p for name, p in self._named.items() if not _is_latched(name)]
            named[ANY] = _Together(played)
        for topic in wanted:
            if topic not in named:
                raise ConfigError(f"wait_for: {topic} is not played")
        deadline_s = time.monotonic() + config.wait_s
        while not self._stopped.wait(0.02):
            alone = [t for t in wanted if named[t].get_subscription_count() == 0]
            if not alone:
                # A subscriber known here may yet have to hear of this publisher.
                self._stopped.wait(SETTLE_S if wanted else 0.0)
                return
            if time.monotonic() > deadline_s:
                raise StageError(f"nobody subscribed to {', '.join(alone)} in {config.wait_s:g} s")

    def _play_once(self, path: Path, config: SimulatorConfig) -> None:
        names = [n for n in self._named if not _is_latched(n)]
        self._playback = Playback(
            path, names, self._send, self._send_clock, config.rate, config.clock_hz
        )
        self._playback.run()
        self._say_progress(force=True)
        self.get_logger().info(
            f"played {sum(self._sent.values())} messages,"
            f" at worst {1e3 * self._playback.worst_delay_s:.0f} ms late"
        )

    def _send(self, message: BagMessage) -> None:
        self._named[message.topic].publish(bytes(message.raw))
        self._sent[message.topic] += 1
        self._say_progress()

    def _send_clock(self, bag_ns: int) -> None:
        self._clock_publisher.publish(Clock(clock=messages.stamp(bag_ns)))

    def _say_progress(self, force: bool = False) -> None:
        now_s = time.monotonic()
        due = force or now_s - self._said_s >= PROGRESS_EVERY_S
        if self._playback is None or not due or not self.get_parameter("progress").value:
            return
        self._said_s = now_s
        playback = self._playback
        line = {
            "played_s": round((playback.now_ns - playback.start_ns) / NS_PER_S, 3),
            "duration_s": round((playback.end_ns - playback.start_ns) / NS_PER_S, 3),
            "messages": sum(self._sent.values()),
        }
        print(json.dumps(line), flush=True)


class _Together:
    """Several publishers, asked as one who listens."""

    def __init__(self, publishers: Sequence[Publisher]) -> None:
        self._publishers = publishers

    def get_subscription_count(self) -> int:
        """Subscriptions of all of them."""
        return sum(p.get_subscription_count() for p in self._publishers)


def _is_latched(topic: str) -> bool:
    return topic.lstrip("/").endswith(LATCHED_TOPICS)


def _published_name(topic: str) -> str:
    """TF is global; everything else is relative, so that a namespace moves it."""
    return topic if topic in ("/tf", "/tf_static") else topic.lstrip("/")


def main() -> None:
    """The simulator_node executable."""
    process.begin(sys.argv)
    stop = Stop()
    node = SimulatorNode()
    player = threading.Thread(target=node.play, name="player")
    player.start()
    try:
        spin(node, stop, until=node.done.is_set)
    finally:
        node.stop()
        player.join()
        node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(1 if node.failure else 0)


if __name__ == "__main__":
    main()
