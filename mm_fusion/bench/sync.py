"""What matching costs, whether it is optimal, and how long sets wait.

All recordings are synthetic and seeded. ``cost``: one LIDAR at 10 Hz and cameras at 30 Hz with
jitter, 5 % drops and disorder; microseconds of CPU per message, the median over pieces of 100
messages, and the mean over all. The peer is message_filters' Python ApproximateTimeSynchronizer
(every combination of what is in the queues is tried until one fits), where it can be imported; it
gets the same messages, and is stopped after ``--peer-seconds`` of CPU for each case. ``oracle``:
sets against those of brute force that knows all that came by each deadline. ``waits``: 30 Hz
camera, 10 Hz LIDAR, time told at 100 Hz: sensor time from a sweep's coming to its set.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mm_fusion.bench.sync_streams import (
    CLOCK,
    Faults,
    Recording,
    best_possible,
    differences,
    record,
    sample_of,
    synchronize,
)
from mm_fusion.config_sync import SyncConfig
from mm_fusion.samples import NS_PER_S, SyncedSet
from mm_fusion.sync import Synchronizer

HELP = "What matching costs, whether it is optimal, and how long sets wait"

TOPICS = (3, 6, 10)
QUEUES = (10, 50, 100)
PIECE = 100
US = 1e-3
MS = 1e-6
MAX_DT_S = 0.06
PATIENT = SyncConfig(queue_size=100, lidar_timeout_s=2.0, camera_timeout_s=2.0)
# Robots of the comparison with brute force: LIDARs, cameras, reference, seconds for 1e5 messages.
ROBOTS = {
    "3_topics": (1, 2, "lidar0", 780.0),
    "10_topics": (1, 9, "lidar0", 380.0),
    "2_lidars": (2, 1, "lidar0", 840.0),
    "camera_reference": (1, 2, "camera0", 780.0),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--seed", type=int, default=1, help="seed of the recordings (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="length of those of the cost (default 60)"
    )
    parser.add_argument(
        "--peer-seconds",
        type=float,
        default=3.0,
        help="CPU seconds after which the peer is stopped in each case (default 3)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    return {
        "cost": _cost(args),
        "oracle": {name: _oracle(args.seed, *robot) for name, robot in ROBOTS.items()},
        "waits": _waits(args.seed),
    }


# ------------------------------------------------------------------------------------- cost


def _cost(args: argparse.Namespace) -> dict[str, Any]:
    peer = _peer_class()
    found: dict[str, Any] = {
        "unit": "us of CPU per message",
        "peer": "message_filters.ApproximateTimeSynchronizer (Python)",
    }
    if peer is None:
        found["skipped"] = (
            "the comparison: message_filters cannot be imported here. Its algorithm: at every"
            " message, all combinations of the queued messages within the slop are tried, nearest"
            " first, until one is narrower than the slop"
        )
    for topics in TOPICS:
        recording = record(args.seed, args.seconds, 1, topics - 1, camera_hz=(30.0,), clock_hz=0.0)
        for queue in QUEUES:
            case: dict[str, Any] = {"ours": _ours(recording, queue)}
            if peer is not None:
                case["peer"] = _peers(peer, recording, queue, args.peer_seconds)
                ours_us, peer_us = case["ours"]["median_us"], case["peer"]["median_us"]
                case["ratio"] = round(ours_us / peer_us, 4)
            found[f"{topics}_topics_queue_{queue}"] = case
    return found


def _peer_class() -> Any:
    """The peer, None where it or ROS cannot be imported."""
    try:
        from mm_fusion.nodes import bench_sync_peer
    except ImportError:
        return None
    return bench_sync_peer.Peer if bench_sync_peer.available() else None


def _ours(recording: Recording, queue: int) -> dict[str, Any]:
    sync = Synchronizer(SyncConfig(queue_size=queue), recording.lidars, recording.cameras)
    samples = [sample_of(name, stamp) for name, stamp in recording.events]
    sets: list[SyncedSet] = []

    def give(n: int) -> None:
        sets.extend(a for a in sync.add(samples[n]) if isinstance(a, SyncedSet))

    cost = _timed(len(samples), give)
    whole = [s for s in sets if not s.missing]
    spread = [max(s.dt_ns.values()) - min(s.dt_ns.values()) for s in whole]
    dts = [abs(dt) for s in sets for dt in s.dt_ns.values() if dt]
    return {**cost, **_quality(len(sets), len(whole), dts, spread)}


def _peers(peer: Any, recording: Recording, queue: int, limit_s: float) -> dict[str, Any]:
    names = (*recording.lidars, *recording.cameras)
    sync = peer(names, queue, MAX_DT_S)
    messages = [(name, sync.message(stamp)) for name, stamp in recording.events]
    cost = _timed(len(messages), lambda n: sync.add(*messages[n]), limit_s)
    dts = [abs(s - stamps[0]) for stamps in sync.sets for s in stamps[1:]]
    spread = [max(stamps) - min(stamps) for stamps in sync.sets]
    return {**cost, **_quality(len(sync.sets), len(sync.sets), dts, spread)}


def _quality(sets: int, whole: int, dts: list[int], spread: list[int]) -> dict[str, Any]:
    return {
        "sets": sets,
        "whole_sets": whole,
        "median_dt_ms": round(statistics.median(dts) * MS, 3) if dts else None,
        "median_spread_ms": round(statistics.median(spread) * MS, 3) if spread else None,
    }


def _timed(count: int, give: Callable[[int], None], limit_s: float = 1e9) -> dict[str, Any]:
    """CPU per message over pieces, and the slowest single call, which is wall time."""
    pieces: list[float] = []
    slowest_ns = 0
    done = 0
    started_ns = time.process_time_ns()
    for piece in _pieces(count):
        before_ns = time.process_time_ns()
        for n in piece:
            call_ns = time.perf_counter_ns()
            give(n)
            slowest_ns = max(slowest_ns, time.perf_counter_ns() - call_ns)
        after_ns = time.process_time_ns()
        pieces.append((after_ns - before_ns) / len(piece))
        done += len(piece)
        if after_ns - started_ns > limit_s * NS_PER_S:
            break
    return {
        "messages": done,
        "median_us": round(statistics.median(pieces) * US, 3),
        "mean_us": round(statistics.fmean(pieces) * US, 3),
        "slowest_call_ms": round(slowest_ns * MS, 3),
    }


def _pieces(count: int) -> Iterator[range]:
    for start in range(0, count, PIECE):
        yield range(start, min(start + PIECE, count))


# ----------------------------------------------------------------------------- oracle, waits


def _oracle(seed: int, lidars: int, cameras: int, reference: str, seconds: float) -> dict[str, Any]:
    config = SyncConfig(
        reference=reference,
        queue_size=PATIENT.queue_size,
        lidar_timeout_s=PATIENT.lidar_timeout_s,
        camera_timeout_s=PATIENT.camera_timeout_s,
    )
    recording = record(seed, seconds, lidars, cameras)
    ours = synchronize(recording, reference, config)
    best = best_possible(recording, reference, config)
    given = sum(name == reference for name, _ in recording.events)
    different = differences(ours, best)
    return {
        "messages": len(recording.events),
        "references": given,
        "answered": ours.answers,
        "sets": len(ours.matched),
        "equal_to_oracle": given - len(different),
        "different": len(different),
        "after_deadline": sum(ours.answered_at[s] > end for s, end in best.answered_at.items()),
        "led_by_others": ours.led,
        "median_wait_ms": round(statistics.median(ours.waits_ns.values()) * MS, 2),
    }


def _waits(seed: int) -> dict[str, Any]:
    """A camera and a LIDAR whose phases drift, with usual ways and nothing lost."""
    faults = Faults(drops=0.0, jitter=0.01, latency_s=0.01, delayed=0.0)
    recording = record(seed, 300.0, 1, 1, faults, camera_hz=(29.97,))
    ours = synchronize(recording, "lidar0", SyncConfig())
    begun_ns = recording.events[0][1] + 5 * NS_PER_S
    before: list[float] = []
    after: list[float] = []
    for stamp, wait_ns in ours.waits_ns.items():
        partner = ours.matched[stamp][0]
        if stamp > begun_ns and partner is not None:
            (before if partner < stamp else after).append(wait_ns * MS)
    every = np.array(before + after)
    frames = sum(name not in (CLOCK, "lidar0") for name, _ in recording.events)
    return {
        "camera_period_ms": round(300_000.0 / frames, 2),
        "sweeps": len(every),
        "mean_ms": round(float(every.mean()), 2),
        "median_ms": round(float(np.median(every)), 2),
        "max_ms": round(float(every.max()), 2),
        "mean_ms_partner_before": round(statistics.fmean(before), 2) if before else None,
        "mean_ms_partner_after": round(statistics.fmean(after), 2) if after else None,
    }
