"""Subscribes to the pose node's inputs as rclpy does by default, and does nothing with them.

The yardstick of ``mm_fusion bench pose_node``: says on SIGINT, as JSON, how many messages came.
"""

from __future__ import annotations

import json
import sys

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from mm_fusion.nodes import qos
from mm_fusion.nodes.bench_pose_source import TOPICS
from mm_fusion.nodes.managed import Stop


class Idle(Node):
    """``came`` counts messages."""

    def __init__(self) -> None:
        super().__init__("bench_pose_idle")
        self.came = 0
        for topic, kind in TOPICS.items():
            self.create_subscription(kind, topic, self._on_message, qos.fast_sensor())

    def _on_message(self, _: object) -> None:
        self.came += 1


def main() -> None:
    """Spin until a signal comes."""
    rclpy.init(args=sys.argv[:1])
    node = Idle()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stop = Stop()  # after rclpy's own handlers, in their place
    try:
        while not stop.asked:
            executor.spin_once(timeout_sec=0.5)
    finally:
        print(json.dumps({"came": node.came}), flush=True)
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
