"""Plays a tape as drivers would: the source of the latency bench, a process of its own.

``python -m mm_fusion.nodes.bench_latency_source --tape DIR --seconds S --listeners TOPIC=N ...
--out FILE`` waits until every topic has that many subscribers, says ``{"playing": true}`` on
stdout, plays, and writes when which sweep was sent.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import time
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher

from mm_fusion.bench.tape import CLOUD, Stream, Tape, stamped
from mm_fusion.nodes import process, qos
from mm_fusion.nodes.dynamic import message_class
from mm_fusion.nodes.managed import Stop
from mm_fusion.samples import NS_PER_S

POLL_S = 0.05
SETTLE_S = 0.5  # a subscription counts before data reaches it


class Source(Node):
    """The publishers of a tape."""

    def __init__(self, tape: Tape) -> None:
        super().__init__("bench_latency_source")
        self._tape = tape
        self._out: list[tuple[Stream, Publisher]] = []
        self.sweeps: list[tuple[int, int]] = []  # stamp and time of sending, ns
        self.lateness_ns: list[int] = []
        for stream in tape.streams:
            profile = qos.latched() if stream.latched else qos.sensor()
            kind = message_class(stream.type_name)
            self._out.append((stream, self.create_publisher(kind, stream.topic, profile)))

    def wait_for(self, listeners: dict[str, int], stop: Stop) -> None:
        """Until every topic has its number of subscribers."""
        wanted = [(p, listeners.get(s.topic, 0)) for s, p in self._out]
        while not stop.asked and any(p.get_subscription_count() < n for p, n in wanted):
            time.sleep(POLL_S)
        time.sleep(SETTLE_S)

    def play(self, seconds: float, stop: Stop) -> None:
        """Everything in real time, stamped with the system's clock."""
        due: list[tuple[int, int, int]] = []
        for n, (stream, publisher) in enumerate(self._out):
            if stream.latched:
                publisher.publish(bytes(self._tape.message(stream.items[0])))
            else:
                heapq.heappush(due, (stream.first_ns + stream.delay_ns, n, 0))
        start_ns = time.time_ns() + NS_PER_S // 10
        while due and not stop.asked:
            at_ns, n, k = heapq.heappop(due)
            stream, publisher = self._out[n]
            place = stream.item(k)
            if place is None or at_ns > seconds * NS_PER_S:
                continue
            stamp_ns = start_ns + stream.first_ns + k * stream.period_ns
            message = stamped(self._tape.message(place), stamp_ns)  # made before it is due
            wait_s = (start_ns + at_ns - time.time_ns()) / NS_PER_S
            if wait_s > 0:
                time.sleep(wait_s)
            sent_ns = time.time_ns()
            publisher.publish(message)
            self.lateness_ns.append(sent_ns - start_ns - at_ns)
            if stream.type_name == CLOUD:
                self.sweeps.append((stamp_ns, sent_ns))
            heapq.heappush(due, (at_ns + stream.period_ns, n, k + 1))


def main() -> None:
    """Play once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tape", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--listeners", nargs="*", default=[], metavar="TOPIC=N")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    wanted = dict(entry.split("=") for entry in args.listeners)
    process.begin(sys.argv[:1])
    stop = Stop()
    node = Source(Tape(args.tape))
    try:
        node.wait_for({topic: int(n) for topic, n in wanted.items()}, stop)
        print(json.dumps({"playing": True}), flush=True)
        node.play(args.seconds, stop)
        args.out.write_text(json.dumps({"sweeps": node.sweeps, "lateness_ns": node.lateness_ns}))
        print(json.dumps({"played": True}), flush=True)
        # The publishers stay until all is taken: a process that ends takes its messages along.
        while not stop.asked:
            time.sleep(POLL_S)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
