"""What the pose node costs, beside an rclpy subscriber that does nothing with the same messages.

IMU at 200 Hz, wheels at 50 Hz, GPS at 10 Hz from a process of its own; the node answers with both
odometries and TF at its default rate. Both processes hear the same messages at the same time;
``ratio`` is the node's CPU over the subscriber's, from /proc, after a warm-up in which the node has
found its heading.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from mm_fusion.cli.domains import free_domain
from mm_fusion.cli.processes import Child, Family, cpu_s, environment
from mm_fusion.errors import ConfigError

HELP = "what the pose node costs beside a subscriber that does nothing"
RATES_HZ = {"imu": 200, "wheels": 50, "gps": 10}
WARM_S = 12.0
PATIENCE_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--seconds", type=float, default=20.0, help="measured (20)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    if not 1.0 <= args.seconds <= 600.0:
        raise ConfigError(f"--seconds: must be within 1 .. 600, got {args.seconds:g}")
    with tempfile.TemporaryDirectory() as scratch:
        logs = Path(scratch)
        with Family(environment(free_domain(), logs), logs) as family:
            return _measure(family, args.seconds)


def _measure(family: Family, seconds: float) -> dict[str, Any]:
    ours = family.start("pose_node", "--ros-args", "-p", "nodes.autostart:=true")
    idle = family.start("bench_pose_idle")
    source = family.start("bench_pose_source", "--seconds", f"{seconds}", "--warm", f"{WARM_S}")
    source.may_end = True

    def reached(phase: str) -> tuple[float, float]:
        family.wait(lambda: source.said.get("phase") == phase, phase, PATIENCE_S + seconds, 0.01)
        return cpu_s(ours.pid), cpu_s(idle.pid)

    before = reached("measure")
    after = reached("end")
    spent = [b - a for a, b in zip(before, after, strict=True)]
    family.wait(lambda: source.ended, "the source's end", PATIENCE_S)
    _end((source, ours, idle))
    messages = seconds * sum(RATES_HZ.values())
    return {
        "seconds": seconds,
        "rates_hz": RATES_HZ,
        "pose_node_core_percent": round(100.0 * spent[0] / seconds, 2),
        "idle_subscriber_core_percent": round(100.0 * spent[1] / seconds, 2),
        "pose_node_ms_per_message": round(1e3 * spent[0] / messages, 3),
        "idle_subscriber_ms_per_message": round(1e3 * spent[1] / messages, 3),
        "ratio": round(spent[0] / max(spent[1], 1e-9), 2),
        "idle_heard": idle.said.get("came"),
        "sent": round((seconds + WARM_S) * sum(RATES_HZ.values())),
    }


def _end(children: tuple[Child, ...]) -> None:
    for child in children:
        child.stop()
