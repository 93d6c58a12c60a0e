"""Writes down every result's mode, what is missing and when that was said, for the faults bench.

``python -m mm_fusion.nodes.bench_faults_listener --out FILE`` appends one line of JSON per message
on fusion/status to FILE: ``{"stamp_ns", "came_ns", "mode", "missing", "since_ns"}``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from mm_fusion.nodes import process, qos
from mm_fusion.nodes.managed import Stop, spin
from mm_fusion.nodes.messages import stamp_ns

SINCE = ".missing_since_ns"


def as_line(message: DiagnosticArray, came_ns: int) -> dict[str, Any]:
    """What one status says."""
    values = {v.key: v.value for status in message.status for v in status.values}
    since = {k.removesuffix(SINCE): int(v) for k, v in values.items() if k.endswith(SINCE)}
    return {
        "stamp_ns": stamp_ns(message.header.stamp),
        "came_ns": came_ns,
        "mode": values.get("mode", ""),
        "missing": values.get("missing", "").split(),
        "since_ns": since,
    }


def listen(node: Node, out: TextIO) -> None:
    """Subscribe."""

    def note(message: DiagnosticArray) -> None:
        out.write(json.dumps(as_line(message, time.time_ns())) + "\n")
        out.flush()

    node.create_subscription(DiagnosticArray, "fusion/status", note, qos.transforms())


def main() -> None:
    """Listen until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    process.begin(sys.argv[:1])
    stop = Stop()
    node = Node("bench_faults_listener")
    try:
        with args.out.open("a") as out:
            listen(node, out)
            spin(node, stop)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
