"""What it costs to receive an image or a cloud: CPU of the whole subscriber process, per message.

A publisher and, for each way of receiving, a subscriber: processes of their own, one machine, real
DDS, our transport profile for all of them. One subscriber at a time gets --messages messages, in
turn, --rounds times. Images are 1080p rgb8, clouds have 120 000 points of 24 bytes.

``ours``: bytes, viewed by ``wire.decode``, our executor and memory. ``peer``: messages of rclpy
under rclpy's default executor, converted by cv_bridge or sensor_msgs_py where they can be imported
(``used`` says so), else by what these do, in plain numpy. ``peer_tuned``: the same with glibc's
MALLOC_* variables set as ours. ``raw``: bytes, not looked at: what transport and rclpy cost.

``decode``: the same without DDS, in one process: finding the arrays in a serialized message beside
rclpy's deserialization. ``ratio`` is the peer's cost over ours, medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mm_fusion.cli.domains import free_domain
from mm_fusion.cli.processes import Child, Family, environment
from mm_fusion.errors import ConfigError, StageError

HELP = "what receiving and viewing a message costs, across processes"
START_S = 60.0
SENDER, RECEIVER, DECODE = "bench_ingest_sender", "bench_ingest_receiver", "bench_ingest_decode"
KINDS = ("image", "cloud")
# As in nodes/process.py, which needs rclpy.
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
USUAL = ("--way", "usual", "--plain", "--executor", "single")
WAYS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "ours": (("--way", "ours"), {}),
    "peer": (USUAL, {}),
    "peer_tuned": (USUAL, TUNED),
    "raw": (("--way", "raw"), {}),
}
CAMERAS = 6
# A participant as Fast DDS makes it where nobody asks for anything.
DEFAULTS = """<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"><profiles>
<participant profile_name="defaults" is_default_profile="true">
<rtps><useBuiltinTransports>true</useBuiltinTransports></rtps>
</participant></profiles></dds>
"""
EXECUTORS: dict[str, tuple[str, ...]] = {
    "ours": (),
    "ours_switch_1ms": ("--switch-interval-s", "0.001"),
    "single": ("--executor", "single"),
    "multi": ("--executor", "multi"),
}
IMU_HZ = 200.0

Stream = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--messages", type=int, default=25, help="in a row (25)")
    parser.add_argument("--rounds", type=int, default=3, help="of all ways (3)")
    parser.add_argument("--rate", type=float, default=20.0, metavar="HZ", help="of messages (20)")
    parser.add_argument(
        "--load",
        action="store_true",
        help=f"instead: {CAMERAS} x 1080p and a cloud at once, with our profile and without",
    )
    parser.add_argument(
        "--executors",
        action="store_true",
        help="instead: image, cloud and IMU while the network runs, under several executors",
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of --load and --executors, each time (5)"
    )
    parser.add_argument(
        "--load-rate", type=float, default=10.0, metavar="HZ", help="of each sensor in --load (10)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    for name, low, high in (
        ("messages", 2, 1000),
        ("rounds", 1, 100),
        ("rate", 0.1, 200.0),
        ("seconds", 1.0, 120.0),
        ("load_rate", 0.1, 60.0),
    ):
        value = getattr(args, name)
        if not low <= value <= high:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option}: must be within {low:g} .. {high:g}, got {value:g}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if args.load:
            return {"load": _load(args, folder)}
        if args.executors:
            return {"executors": _executors(args, folder)}
        found = {f"{kind}_cpu_ms_per_message": _cpu(args, folder / kind, kind) for kind in KINDS}
        return {**found, "decode_us": _decode(folder / "decode")}


# ------------------------------------------------------------------------------ the processes


def stream(kind: str, topic: str, count: int, rate_hz: float) -> Stream:
    """What a sender shall publish: ``count`` messages of KINDS (or imu) on a topic."""
    return {"kind": kind, "topic": topic, "count": count, "rate_hz": rate_hz}


def _send(family: Family, plan: list[list[Stream]], name: str = "") -> Child:
    sender = family.start(SENDER, "--plan", json.dumps(plan), name=name)
    sender.may_end = True
    return sender


def _family(logs: Path) -> Family:
    logs.mkdir(parents=True, exist_ok=True)
    return Family(environment(free_domain(), logs), logs)


def _finish(family: Family, senders: list[Child], receivers: Iterable[Child]) -> None:
    """Let the senders end, then the receivers say what they got."""
    family.wait(lambda: all(s.ended for s in senders), "the end of the sending", 600.0)
    for receiver in receivers:
        receiver.stop()
        if "turns" not in receiver.said:
            raise StageError(f"{receiver.name} has no account: {receiver.last_words()}")


# ------------------------------------------------------------------------------ CPU by message


def _cpu(args: argparse.Namespace, logs: Path, kind: str) -> dict[str, Any]:
    plan = [
        [stream(kind, f"{kind}_{way}", args.messages, args.rate)]
        for _ in range(args.rounds)
        for way in WAYS
    ]
    with _family(logs) as family:
        receivers = {
            way: family.start(
                RECEIVER, *options, "--stream", f"{kind}={kind}_{way}", name=way, extra=extra
            )
            for way, (options, extra) in WAYS.items()
        }
        _finish(family, [_send(family, plan)], receivers.values())
        accounts = {way: r.said for way, r in receivers.items()}
    costs = {way: _cost(way, account) for way, account in accounts.items()}
    return {
        **{way: round(statistics.median(c), 3) for way, c in costs.items()},
        "ratio": _ratio(costs, "peer"),
        "ratio_tuned": _ratio(costs, "peer_tuned"),
        "lowest": {way: round(min(c), 3) for way, c in costs.items()},
        "median_age_ms": {way: _median_age_ms(a["turns"]) for way, a in accounts.items()},
        "arrived": {way: _arrived(a["turns"]) for way, a in accounts.items()},
        "sent": args.messages * args.rounds,
        "used": {way: a["used"] for way, a in accounts.items()},
    }


def _cost(way: str, account: Mapping[str, Any]) -> list[float]:
    """CPU per message of each turn."""
    whole = [t for t in account["turns"].values() if t["arrived"] > 1]
    if not whole:
        raise StageError(f"{way}: nothing came")
    return [t["cpu_ms"] / (t["arrived"] - 1) for t in whole]


def _ratio(costs: Mapping[str, list[float]], peer: str) -> float:
    return round(statistics.median(costs[peer]) / statistics.median(costs["ours"]), 2)


def _median_age_ms(turns: Mapping[str, Any]) -> float:
    return round(statistics.median(a for t in turns.values() for a in t["age_ms"]), 2)


def _arrived(turns: Mapping[str, Any]) -> int:
    return sum(t["arrived"] for t in turns.values())


def _decode(logs: Path) -> dict[str, Any]:
    with _family(logs) as family:
        child = family.start(DECODE)
        child.may_end = True
        family.wait(lambda: child.ended, "the decoding", START_S)
        child.stop()
        return child.said


# ------------------------------------------------------------------------------ many at once


def write_defaults(folder: Path) -> Path:
    """A profile that changes nothing."""
    path = folder / "defaults.xml"
    path.write_text(DEFAULTS, encoding="utf-8")
    return path


def _load(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Six cameras and a LIDAR, triggered together, each a process of its own as drivers are."""
    defaults = write_defaults(folder)
    count = math.ceil(args.seconds * args.load_rate)
    streams = [stream("image", f"camera_{n}", count, args.load_rate) for n in range(CAMERAS)]
    streams.append(stream("cloud", "lidar", count, args.load_rate))
    ours = loaded(folder / "ours", streams, None)
    peer = loaded(folder / "peer", streams, defaults)
    return {
        "what": f"{CAMERAS} x 1080p + 120 000 points, each at {args.load_rate:g} Hz",
        "sent": count * len(streams),
        "arrived_share": {"ours": ours["arrived_share"], "peer": peer["arrived_share"]},
        "ours": ours,
        "peer": peer,
        "peer_is": "the same subscriber and publishers with Fast DDS' defaults",
    }


def loaded(logs: Path, streams: list[Stream], profile: Path | None) -> dict[str, Any]:
    """One subscriber of all streams, a sender for each of them, Fast DDS by ``profile`` (None:
    ours): what arrived, by kind and as a share, how old, and the subscriber's share of a core."""
    logs.mkdir(parents=True, exist_ok=True)
    environ = environment(free_domain(), logs)
    if profile is not None:
        environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)
    with Family(environ, logs) as family:
        wanted = [w for s in streams for w in ("--stream", f"{s['kind']}={s['topic']}")]
        receiver = family.start(RECEIVER, "--way", "ours", *wanted)
        senders = [_send(family, [[s]], name=str(s["topic"])) for s in streams]
        _finish(family, senders, [receiver])
        turns = receiver.said["turns"]
    sent = {kind: sum(s["count"] for s in streams if s["kind"] == kind) for kind in KINDS}
    came = {k: _arrived({n: t for n, t in turns.items() if n.endswith(k)}) for k in KINDS}
    return {
        "arrived": came,
        "sent": sent,
        "arrived_share": round(sum(came.values()) / sum(sent.values()), 4),
        "age_ms": {
            n.partition(" ")[2]: _ages(t["age_ms"]) for n, t in turns.items() if t["age_ms"]
        },
        "core_share": round(_core_share(next(iter(turns.values()), {})), 3),
    }


def _core_share(turn: dict[str, Any]) -> float:
    """Of the first stream's span, in which all others ran, too; 0 where nearly all was lost."""
    return float(turn["cpu_ms"] / turn["wall_ms"]) if turn.get("wall_ms") else 0.0


def _ages(age_ms: list[float]) -> dict[str, float]:
    """Percentiles from stamp to callback."""
    ordered = sorted(age_ms)
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99}
    return {name: ordered[int(s * (len(ordered) - 1))] for name, s in shares.items()}


# ------------------------------------------------------------------------------ executors


def _executors(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """How old messages are when their callback runs, with the network busy in the worker."""
    rates = {"image": 10.0, "cloud": 10.0, "imu": IMU_HZ}
    turn = [stream(k, k, math.ceil(args.seconds * hz), hz) for k, hz in rates.items()]
    wanted = [w for k in rates for w in ("--stream", f"{k}={k}")]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in EXECUTORS}
    for number in range(args.rounds):
        for name, options in EXECUTORS.items():
            with _family(folder / f"{name}_{number}") as family:
                receiver = family.start(RECEIVER, "--way", "ours", "--network", *options, *wanted)
                _finish(family, [_send(family, [turn])], [receiver])
                found[name].append(receiver.said)
    sent = {s["kind"]: s["count"] * args.rounds for s in turn}
    return {"sent": sent, **{name: _together(said) for name, said in found.items()}}


def _together(said: list[dict[str, Any]]) -> dict[str, Any]:
    """The rounds of one executor as one."""
    ages: dict[str, list[float]] = {}
    for key, turn in [item for s in said for item in s["turns"].items()]:
        ages.setdefault(key.partition(" ")[2], []).extend(turn["age_ms"])
    return {
        "age_ms": {kind: _ages(a) for kind, a in ages.items()},
        "arrived": {kind: len(a) for kind, a in ages.items()},
        "sets": sum(s["sets"] for s in said),
    }
