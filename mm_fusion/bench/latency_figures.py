"""From what the processes of the latency bench noted to the figures it reports.

Plain accounting on plain values, so that it can be tested on made ones. Times in ns on one clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

MS = 1e-6  # of a nanosecond
RESULTS = ("detections", "tracks")
# A thread: its name, and the CPU time it has used.
Threads = Mapping[int, tuple[str, int]]


class CallbackNote(NamedTuple):
    """One callback of the receiving thread."""

    topic: str
    entered_ns: int
    cpu_ns: int


class NetworkNote(NamedTuple):
    """One run of the network, in the working thread; its own threads' CPU is not in it."""

    stamp_ns: int
    start_ns: int
    wall_ns: int
    cpu_ns: int


class PublishNote(NamedTuple):
    """One message given to the transport while a set was in progress."""

    stamp_ns: int
    topic: str
    end_ns: int
    cpu_ns: int


@dataclass(slots=True)
class SetNote:
    """One set's way. ``last_ns`` is when its last member came, ``released_ns`` when the message
    came that let it go (which may be no member of it); 0 where there is no such thing."""

    stamp_ns: int
    sweep_ns: int
    last_ns: int
    released_ns: int
    missing: int = 0
    started_ns: int = 0
    processed_ns: int = 0
    process_cpu_ns: int = 0
    detections: int = 0
    tracks: int = 0
    stages_ns: dict[str, int] = field(default_factory=dict)

    def as_row(self) -> list[Any]:
        """As plain values, for a file."""
        return [getattr(self, name) for name in self.__slots__]


@dataclass(slots=True)
class Notes:
    """All that the timed node noted within a window of time."""

    callbacks: list[CallbackNote]
    sets: list[SetNote]  # released and processed
    given_up: int  # released, and never processed: a newer set took the place in the queue
    networks: dict[int, NetworkNote]
    published: list[PublishNote]
    threads: dict[str, list[int]]

    @staticmethod
    def read(values: Mapping[str, Any], since_ns: int, until_ns: int) -> Notes:
        """The notes of a file, those within a window on the system's clock."""
        low = since_ns + values["perf_from_wall_ns"]
        high = until_ns + values["perf_from_wall_ns"]
        sets = [SetNote(*row) for row in values["sets"]]
        networks = [NetworkNote(*row) for row in values["networks"]]
        published = [PublishNote(*row) for row in values["published"]]
        callbacks = [CallbackNote(*row) for row in values["callbacks"]]
        kept = [s for s in sets if low <= s.released_ns and 0 < s.processed_ns <= high]
        given_up = sum(low <= s.released_ns <= high and not s.processed_ns for s in sets)
        return Notes(
            [c for c in callbacks if low <= c.entered_ns <= high],
            kept,
            given_up,
            {n.stamp_ns: n for n in networks if low <= n.start_ns <= high},
            [p for p in published if low <= p.end_ns <= high],
            values["threads"],
        )


def percentiles(values_ns: Iterable[int]) -> dict[str, float]:
    """Median, p90, p99 (linear interpolation) and maximum in ms; zeros where there is nothing."""
    values = np.fromiter(values_ns, np.float64) * MS
    if not len(values):
        return {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return {
        "p50": round(float(p50), 3),
        "p90": round(float(p90), 3),
        "p99": round(float(p99), 3),
        "max": round(float(values.max()), 3),
    }


def latency(notes: Notes) -> dict[str, Any]:
    """Where the time of a set goes, from the arrival of what released it to its published result.

    ``ours`` is all of it, until detections and tracks are out, without the set's own network run.
    ``ours_to_detections`` ends when the detections are out, ``ours_to_last_message`` with the last
    message: the status, and what costs more to make. ``behind_another_set`` is the part of ``ours``
    in which the network still worked for the set before. The other parts add up to ``ours``, set by
    set.
    """
    rows: dict[str, list[int]] = {}
    outs: dict[int, list[PublishNote]] = {}
    for message in notes.published:
        outs.setdefault(message.stamp_ns, []).append(message)
    before: NetworkNote | None = None
    for note in sorted(notes.sets, key=lambda s: s.started_ns):
        run, sent = notes.networks.get(note.stamp_ns), outs.get(note.stamp_ns)
        if run is None or not sent:
            continue
        found = [p.end_ns for p in sent if p.topic == "detections"]
        last_ns = max(p.end_ns for p in sent)
        result_ns = max((p.end_ns for p in sent if p.topic in RESULTS), default=last_ns)
        busy_until_ns = before.start_ns + before.wall_ns if before is not None else 0
        stage_ns = note.stages_ns.get("stage", 0)
        values = {
            "ours": result_ns - note.released_ns - run.wall_ns,
            "receive_and_hand_over": note.started_ns - note.released_ns,
            "stage": stage_ns,
            "boxes_and_tracks": note.processed_ns - note.started_ns - stage_ns - run.wall_ns,
            "publish": result_ns - note.processed_ns,
            "behind_another_set": max(0, busy_until_ns - note.released_ns),
            "network": run.wall_ns,
        }
        values["ours_to_last_message"] = last_ns - note.released_ns - run.wall_ns
        if found:
            values["ours_to_detections"] = min(found) - note.released_ns - run.wall_ns
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
        before = run
    return {name: percentiles(values) for name, values in rows.items()}


def sweep_waits_ns(notes: Notes) -> list[int]:
    """How long each sweep waited for its set, from its own arrival to what released the set."""
    return [s.released_ns - s.sweep_ns for s in notes.sets if s.sweep_ns]


def spent(before: Threads, after: Threads) -> dict[int, tuple[str, int]]:
    """CPU time by thread between two looks."""
    return {tid: (name, ns - before.get(tid, (name, 0))[1]) for tid, (name, ns) in after.items()}


def cpu(notes: Notes, threads: Threads, idle_ns: int) -> dict[str, Any]:
    """CPU per set in ms: whose threads, and what in them.

    ``threads`` is what the node's threads spent in the window, ``idle_ns`` what the subscriber
    that does nothing spent on the same messages. ``ours`` is: all callbacks; the working thread
    without the network's run, with publishing; and helper threads (of OpenCV, for one). Transport
    is: what the receiving thread does outside of callbacks (rclpy taking messages), and the
    threads of DDS. ``ours_by_difference`` is the whole process without the network and without as
    much as the subscriber needed: a second opinion, which takes the first one's word only for the
    network.
    """
    count = max(len(notes.sets), 1)
    of = {
        role: [threads[t][1] for t in tids if t in threads] for role, tids in notes.threads.items()
    }
    known = {t for tids in notes.threads.values() for t in tids}
    dds = sum(ns for name, ns in threads.values() if name.startswith("dds."))
    helpers = sum(
        ns for t, (name, ns) in threads.items() if t not in known and not name.startswith("dds.")
    )
    total = sum(ns for _, ns in threads.values())
    runs = sum(n.cpu_ns for n in notes.networks.values())
    publishing = sum(p.cpu_ns for p in notes.published)
    callbacks = sum(c.cpu_ns for c in notes.callbacks)
    receiving, working = sum(of.get("receiving", ())), sum(of.get("working", ()))
    network = runs + sum(of.get("network", ()))
    processing = sum(s.process_cpu_ns for s in notes.sets)
    values = {
        "ours": callbacks + working - runs + helpers,
        "callbacks": callbacks,
        "stage_and_track": processing - runs,
        "messages_and_rest": working - processing - publishing,
        "publishing": publishing,
        "helper_threads": helpers,
        "network": network,
        "taking_messages": receiving - callbacks,
        "dds_threads": dds,
        "process": total,
        "do_nothing_subscriber": idle_ns,
        "ours_by_difference": total - network - idle_ns,
    }
    return {name: round(value * MS / count, 3) for name, value in values.items()}


def callback_costs(notes: Notes) -> dict[str, dict[str, float]]:
    """By topic: messages, and the median CPU of a callback in ms."""
    by_topic: dict[str, list[int]] = {}
    for note in notes.callbacks:
        by_topic.setdefault(note.topic, []).append(note.cpu_ns)
    return {
        topic: {"messages": len(v), "cpu_ms": round(float(np.median(v)) * MS, 4)}
        for topic, v in sorted(by_topic.items())
    }


def answered(
    sent: Sequence[Sequence[int]], came: Sequence[Sequence[int]], since_ns: int, until_ns: int
) -> dict[str, Any]:
    """Which of the sweeps sent within a window came back as detections, and how late.

    ``sent`` holds (stamp, time of sending), ``came`` (stamp, time of arrival at the listener).
    """
    arrivals = {row[0]: row[1] for row in came}
    wanted = [(stamp, at) for stamp, at in sent if since_ns <= at <= until_ns]
    back = [(stamp, at, arrivals[stamp]) for stamp, at in wanted if stamp in arrivals]
    return {
        "sent": len(wanted),
        "answered": len(back),
        "unanswered": len(wanted) - len(back),
        "from_stamp_ms": percentiles(there - stamp for stamp, _, there in back),
        "from_sending_ms": percentiles(there - at for _, at, there in back),
    }
