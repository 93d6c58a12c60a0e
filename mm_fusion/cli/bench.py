"""Measure how fast mm_fusion is on this machine, beside the usual way of doing the same.

Medians and CPU time decide; wall-clock percentiles of a busy machine say little.
"""

from __future__ import annotations

import argparse
import importlib
import json
from types import ModuleType

from mm_fusion.cli.options import add_json_argument

NAME = "bench"
HELP = "measure speed, pose filter, LIDAR odometry, ground, tracks, or what sensor faults do"
EXAMPLES = """examples:
  mm_fusion bench sync --json
  mm_fusion bench latency --cameras 6
"""

BENCHES = (
    *("ingest", "sync", "deskew", "latency", "faults", "pose", "pose_node", "lidar_odometry"),
    *("ground", "late_fusion", "street", "tracker"),
)


def bench_module(name: str) -> ModuleType:
    """The module of a bench: HELP, ``add_arguments(parser)``, ``run(args) -> dict``."""
    return importlib.import_module(f"mm_fusion.bench.{name}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per bench."""
    benches = parser.add_subparsers(dest="bench", metavar="BENCH", required=True)
    for name in BENCHES:
        module = bench_module(name)
        sub = benches.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_arguments(sub)
        add_json_argument(sub)


def run(args: argparse.Namespace) -> int:
    """Run one bench and print its result."""
    result = bench_module(args.bench).run(args)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        _print_lines("", result)
    return 0


def _print_lines(path: str, value: object) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _print_lines(f"{path}.{key}" if path else str(key), inner)
    else:
        print(f"{path}: {value}")
