"""Say what is wrong with a robot's sensor data, live or in a bag, and what to do about it.

Without BAG the ROS graph is observed for --duration seconds. Exit code 0: no error was found; 1:
something is wrong; 2: the command was given wrongly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mm_fusion.cli.options import (
    Progress,
    add_config_arguments,
    add_json_argument,
    load_config,
    print_result,
)
from mm_fusion.config import Config
from mm_fusion.errors import ConfigError, MmFusionError

NAME = "doctor"
HELP = "say what is wrong with sensor data, live or in a bag"
EXAMPLES = """examples:
  mm_fusion doctor                                  the running robot, for 5 s
  mm_fusion doctor --duration 20 --config my.yaml
  mm_fusion doctor BAG --json
  mm_fusion doctor BAG --set 'topics.lidars=[/velodyne_points]' --strict
"""

LIVE_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion doctor``."""
    parser.add_argument(
        "bag", nargs="?", type=Path, help="rosbag2 directory, .mcap, .db3 or ROS 1 .bag"
    )
    parser.add_argument(
        "--duration",
        type=float,
        metavar="S",
        help=f"how long to observe ({LIVE_S:g} s live; the whole of a bag)",
    )
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument(
        "--no-network", action="store_true", help="do not load the network to look at it"
    )
    add_config_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Observe, check, print."""
    if args.duration is not None and not 0.0 < args.duration <= 86_400.0:
        raise ConfigError(f"--duration: must be within 0 .. 86400 s, got {args.duration:g}")
    config = load_config(args)
    from mm_fusion.doctor.diagnose import diagnose
    from mm_fusion.doctor.findings import Severity
    from mm_fusion.doctor.host import read_model
    from mm_fusion.doctor.text import render

    if args.bag is not None:
        from mm_fusion.doctor.bag import observe_bag

        seen = observe_bag(args.bag, config, args.duration, Progress())
    else:
        seen = _live(args.duration or LIVE_S, config)
    looks = any(i.topic for i in seen.inputs if i.wanted.role in ("camera", "lidar"))
    if looks and not args.no_network:
        seen.model = read_model(config)
    report = diagnose(seen, config)
    print_result(report.values(), args.json, render(report))
    wrong = report.count(Severity.ERROR) + (report.count(Severity.WARN) if args.strict else 0)
    return 1 if wrong else 0


def _live(seconds: float, config: Config):  # type: ignore[no-untyped-def]
    try:
        from mm_fusion.nodes.doctor_live import observe_graph
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "mm_fusion":
            raise
        raise MmFusionError(
            f"doctor: needs {error.name} to look at a running robot: source ROS 2, or name a BAG"
        ) from error
    return observe_graph(config, seconds, Progress())
