"""Writes what the nodes publish into a rosbag2 (MCAP), as the bytes that came.

A process of its own: ``python -m mm_fusion.nodes.recorder --out BAG``. Twice a second it prints a
line of JSON to stdout ({"publishers": {topic: n}, "received": {topic: n}}). SIGINT or SIGTERM
closes the bag.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer

from mm_fusion.evaluation.bags import typestore
from mm_fusion.nodes import process, qos
from mm_fusion.nodes.dynamic import message_class
from mm_fusion.nodes.managed import Stop, spin

# The results of both nodes but the heavy pictures, which cost more to make than the rest.
DEFAULT_TOPICS = {
    "detections": "vision_msgs/msg/Detection3DArray",
    "tracks": "vision_msgs/msg/Detection3DArray",
    "fusion/status": "diagnostic_msgs/msg/DiagnosticArray",
    "odometry/local": "nav_msgs/msg/Odometry",
    "odometry/global": "nav_msgs/msg/Odometry",
    "gps/filtered": "sensor_msgs/msg/NavSatFix",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
SAY_EVERY_S = 0.5


class Recorder(Node):
    """Subscribes to topics and writes every message when it comes."""

    def __init__(self, writer: Writer, topics: Mapping[str, str], **options: Any) -> None:
        super().__init__("recorder", **options)
        self._writer = writer
        self._names = {t: self.resolve_topic_name(t) for t in topics}
        self._received = dict.fromkeys(topics, 0)
        self._last_ns = 0
        for topic, type_name in topics.items():
            connection = writer.add_connection(self._names[topic], type_name, typestore=typestore())
            self.create_subscription(
                message_class(type_name),
                topic,
                lambda raw, t=topic, c=connection: self._on_raw(raw, t, c),
                qos.transforms(),
                raw=True,
            )
        # Steady time: the counts must also come while no /clock runs.
        self.create_timer(SAY_EVERY_S, self.say, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_raw(self, raw: bytes, topic: str, connection: Connection) -> None:
        # A bag's times never go back, whatever the clock does.
        now_ns = self.get_clock().now().nanoseconds or time.time_ns()
        self._last_ns = max(self._last_ns, now_ns)
        self._writer.write(connection, self._last_ns, raw)
        self._received[topic] += 1

    def say(self) -> None:
        """Print the counts."""
        publishers = {t: self.count_publishers(n) for t, n in self._names.items()}
        print(json.dumps({"publishers": publishers, "received": self._received}), flush=True)


def main() -> None:
    """Record until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the bag to write")
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="NAME:TYPE",
        help="record this topic too; may be given again",
    )
    args, ros_args = parser.parse_known_args()
    extra = dict(t.partition(":")[::2] for t in args.topic)
    process.begin([sys.argv[0], *ros_args])
    stop = Stop()
    with Writer(args.out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        node = Recorder(writer, {**DEFAULT_TOPICS, **extra})
        try:
            spin(node, stop)
            node.say()
        finally:
            node.destroy_node()
            rclpy.try_shutdown()


if __name__ == "__main__":
    main()
