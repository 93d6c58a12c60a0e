"""Notes when messages come and does nothing with them: who measures in the latency bench.

``python -m mm_fusion.nodes.bench_latency_listener --out FILE --topic NAME:TYPE ... [--sensors]``
writes, on SIGINT, the stamps and the times of arrival by topic. With ``--sensors`` it subscribes
as a node does to sensors: what it then costs and how late it is, the transport costs and is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node

from mm_fusion.bench.tape import stamp_of
from mm_fusion.nodes import process, qos
from mm_fusion.nodes.dynamic import message_class
from mm_fusion.nodes.managed import Stop, spin


class Listener(Node):
    """Raw subscriptions; ``came`` holds (stamp, arrival) in ns by topic."""

    def __init__(self, topics: dict[str, str], sensors: bool, name: str) -> None:
        super().__init__(name)
        self.came: dict[str, list[tuple[int, int]]] = {topic: [] for topic in topics}
        for topic, type_name in topics.items():
            kind = message_class(type_name)
            profile = qos.transforms()
            if sensors:
                large = type_name.endswith(("Image", "PointCloud2"))
                profile = qos.sensor() if large else qos.fast_sensor()
            self.create_subscription(kind, topic, self._noting(topic), profile, raw=True)

    def _noting(self, topic: str) -> Any:
        came = self.came[topic]
        return lambda raw: came.append((stamp_of(raw), time.time_ns()))


def main() -> None:
    """Listen until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--topic", action="append", default=[], metavar="NAME:TYPE")
    parser.add_argument("--sensors", action="store_true")
    args = parser.parse_args()
    topics = dict(t.partition(":")[::2] for t in args.topic)
    process.begin(sys.argv[:1])
    stop = Stop()
    node = Listener(topics, args.sensors, args.out.stem)
    try:
        spin(node, stop)
        args.out.write_text(json.dumps(node.came))
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
