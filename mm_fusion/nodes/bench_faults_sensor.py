"""One sensor of the faults bench, a process of its own, so that it can die of its own.

``python -m mm_fusion.nodes.bench_faults_sensor --tape DIR --start-ns NS --topics TOPIC ...`` plays
these streams of a tape on the grid of times that begins at NS of the system's clock, from now on,
for ever. With every message of the last topic it prints ``{"first_ns", "stamp_ns", "sent"}``: the
first and the newest stamp, and how many there were.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher

from mm_fusion.bench.tape import Stream, Tape, stamped
from mm_fusion.nodes import process, qos
from mm_fusion.nodes.dynamic import message_class
from mm_fusion.nodes.managed import Stop
from mm_fusion.samples import NS_PER_S

POLL_S = 0.02
SETTLE_S = 0.2  # a subscription counts before data reaches it


def message_at(tape: Tape, stream: Stream, k: int) -> memoryview:
    """The k-th message of a stream that begins again at its end."""
    place = stream.item(k if stream.swings else k % len(stream.items))
    assert place is not None
    return tape.message(place)


def play(tape: Tape, out: list[tuple[Stream, Publisher]], start_ns: int, stop: Stop) -> None:
    """Publish on the grid until a signal comes; messages whose time has passed are left out."""
    moving = [(s, p) for s, p in out if not s.latched]
    due = {
        n: max(0, -(-(time.time_ns() - start_ns - s.first_ns) // s.period_ns))
        for n, (s, _) in enumerate(moving)
    }
    first_ns = sent = 0
    while not stop.asked:
        n = min(due, key=lambda i: _sent_ns(moving[i][0], due[i]))
        stream, publisher = moving[n]
        k = due[n]
        due[n] += 1
        stamp_ns = start_ns + stream.first_ns + k * stream.period_ns
        message = stamped(message_at(tape, stream, k), stamp_ns)
        wait_s = (start_ns + _sent_ns(stream, k) - time.time_ns()) / NS_PER_S
        if wait_s > 0:
            time.sleep(wait_s)
        publisher.publish(message)
        if n == len(moving) - 1:
            first_ns = first_ns or stamp_ns
            sent += 1
            line = {"first_ns": first_ns, "stamp_ns": stamp_ns, "sent": sent}
            print(json.dumps(line), flush=True)


def _sent_ns(stream: Stream, k: int) -> int:
    return stream.first_ns + k * stream.period_ns + stream.delay_ns


def main() -> None:
    """Play until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tape", type=Path, required=True)
    parser.add_argument("--start-ns", type=int, required=True)
    parser.add_argument("--topics", nargs="+", required=True)
    args = parser.parse_args()
    tape = Tape(args.tape)
    by_topic = {s.topic: s for s in tape.streams}
    process.begin(sys.argv[:1])
    stop = Stop()
    node = Node("bench_sensor_" + "".join(c if c.isalnum() else "_" for c in args.topics[-1]))
    try:
        out = []
        for topic in args.topics:
            stream = by_topic[topic]
            profile = qos.latched() if stream.latched else qos.sensor()
            kind = message_class(stream.type_name)
            publisher = node.create_publisher(kind, topic, profile)
            out.append((stream, publisher))
            if stream.latched:
                publisher.publish(bytes(message_at(tape, stream, 0)))
        while not stop.asked and any(p.get_subscription_count() == 0 for _, p in out):
            time.sleep(POLL_S)
        time.sleep(SETTLE_S)
        play(tape, out, args.start_ns, stop)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
