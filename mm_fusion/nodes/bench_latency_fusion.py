"""fusion_node with stopwatches around its callbacks, its network and its publishers.

``python -m mm_fusion.nodes.bench_latency_fusion --out FILE --ros-args ...`` runs the very node;
nothing of it is replaced. What it notes, per set and per callback, it writes when it ends.

Times are ``time.perf_counter_ns``, CPU is that of the thread (``time.thread_time_ns``), which
leaves out what other threads do meanwhile, and what the machine does with its other guests.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mm_fusion.bench.latency_figures import CallbackNote, NetworkNote, PublishNote, SetNote
from mm_fusion.config import Config
from mm_fusion.nodes.fusion_node import FusionNode
from mm_fusion.nodes.managed import run_managed
from mm_fusion.samples import SyncedSet

TASKS = Path("/proc/self/task")


def thread_ids() -> set[int]:
    """The threads of this process but those of DDS."""
    found = set()
    for task in TASKS.iterdir() if TASKS.is_dir() else ():
        try:
            if not (task / "comm").read_text().startswith("dds."):
                found.add(int(task.name))
        except OSError:
            continue  # a thread that has just ended
    return found


class Notes:
    """What was measured. Callbacks are the receiving thread's, the rest the working thread's."""

    def __init__(self) -> None:
        self.callbacks: list[CallbackNote] = []
        self.sets: dict[int, SetNote] = {}
        self.networks: list[NetworkNote] = []
        self.published: list[PublishNote] = []
        self.threads: dict[str, list[int]] = {"network": [], "receiving": [], "working": []}
        self.in_progress = 0  # stamp of the set that the working thread has
        self._entered_ns = 0  # when the present callback was entered
        self._arrivals: dict[tuple[str, int], int] = {}

    # ------------------------------------------------------------------ the receiving thread

    def callback(self, topic: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A subscription's callback, timed."""

        @functools.wraps(call)
        def timed(*args: Any) -> Any:
            entered_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
            self._entered_ns = entered_ns
            try:
                return call(*args)
            finally:
                spent_ns = time.thread_time_ns() - cpu_ns
                self.callbacks.append(CallbackNote(topic, entered_ns, spent_ns))

        return timed

    def matching(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the synchronizer that answers sets: they were released by its caller."""

        def noted(*args: Any) -> Any:
            sample = args[0] if args else None
            if hasattr(sample, "sensor"):
                self._arrivals[sample.sensor, sample.stamp_ns] = self._entered_ns
            answers = call(*args)
            for answer in answers:
                if isinstance(answer, SyncedSet):
                    self._released(answer)
            return answers

        return noted

    def _released(self, synced: SyncedSet) -> None:
        members = [*synced.sweeps, *(c for c in synced.cameras if c is not None)]
        arrived = [self._arrivals.get((m.sensor, m.stamp_ns), 0) for m in members]
        sweep_ns = arrived[0] if synced.sweeps else 0
        note = SetNote(synced.stamp_ns, sweep_ns, max(arrived, default=0), self._entered_ns)
        note.missing = len(synced.missing)
        self.sets[synced.stamp_ns] = note
        while len(self._arrivals) > 1000:
            del self._arrivals[next(iter(self._arrivals))]

    # -------------------------------------------------------------------- the working thread

    def processing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The pipeline's ``process``."""

        def timed(synced: SyncedSet) -> Any:
            if not self.threads["working"]:
                self.threads["working"] = [threading.get_native_id()]
            self.in_progress = synced.stamp_ns
            note = self.sets[synced.stamp_ns]
            note.started_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
            result = call(synced)
            note.process_cpu_ns = time.thread_time_ns() - cpu_ns
            note.processed_ns = time.perf_counter_ns()
            note.stages_ns = dict(result.stage_ns)
            note.tracks, note.detections = len(result.tracks), len(result.detections)
            return result

        return timed

    def running(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The network's ``run``."""

        def timed(inputs: Any) -> Any:
            start_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
            answer = call(inputs)
            spent_ns = time.thread_time_ns() - cpu_ns
            wall_ns = time.perf_counter_ns() - start_ns
            self.networks.append(NetworkNote(self.in_progress, start_ns, wall_ns, spent_ns))
            return answer

        return timed

    def publishing(self, topic: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A publisher's ``publish``: the way of a message into the transport."""

        def timed(message: Any) -> Any:
            cpu_ns = time.thread_time_ns()
            answer = call(message)
            spent_ns = time.thread_time_ns() - cpu_ns
            end_ns = time.perf_counter_ns()
            self.published.append(PublishNote(self.in_progress, topic, end_ns, spent_ns))
            return answer

        return timed

    def as_json(self) -> dict[str, Any]:
        """All notes; ``perf_from_wall_ns`` leads from the system's clock to the notes'."""
        return {
            "perf_from_wall_ns": time.perf_counter_ns() - time.time_ns(),
            "threads": self.threads,
            "callbacks": self.callbacks,
            "sets": [note.as_row() for note in self.sets.values()],
            "networks": self.networks,
            "published": self.published,
        }


class TimedFusionNode(FusionNode):
    """The node under measurement."""

    def __init__(self, **options: Any) -> None:
        self.notes = Notes()
        super().__init__(**options)

    def build(self, config: Config) -> None:
        """As the node does; the threads that come with it are the network's."""
        before = thread_ids()
        super().build(config)
        notes = self.notes
        notes.threads["network"] = sorted(thread_ids() - before)
        notes.threads["receiving"] = [threading.get_native_id()]
        pipeline, network = self._pipeline, self._network
        pipeline.process = notes.processing(pipeline.process)  # type: ignore[method-assign]
        network.run = notes.running(network.run)  # type: ignore[method-assign]
        matcher: Any = pipeline.synchronizer
        for name in ("add", "advance"):
            setattr(matcher, name, notes.matching(getattr(matcher, name)))

    def create_subscription(self, kind: Any, topic: Any, callback: Any, *a: Any, **k: Any) -> Any:
        """As rclpy does, the callback timed."""
        timed = self.notes.callback(str(topic), callback)
        return super().create_subscription(kind, topic, timed, *a, **k)

    def create_lifecycle_publisher(self, kind: Any, topic: Any, *a: Any, **k: Any) -> Any:
        """As rclpy does, ``publish`` timed."""
        publisher: Any = super().create_lifecycle_publisher(kind, topic, *a, **k)
        publisher.publish = self.notes.publishing(str(topic), publisher.publish)
        return publisher


def main() -> None:
    """Run the node, then write the notes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args, ros_args = parser.parse_known_args()
    made: list[TimedFusionNode] = []

    def make() -> TimedFusionNode:
        made.append(TimedFusionNode())
        return made[0]

    code = run_managed(make, [sys.argv[0], *ros_args])
    if made:
        args.out.write_text(json.dumps(made[0].notes.as_json()))

    sys.exit(code)


if __name__ == "__main__":
    main()
