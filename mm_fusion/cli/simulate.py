"""Write a simulated drive as a rosbag2 (MCAP), with the truth beside the sensors."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from mm_fusion.cli.options import Progress, add_json_argument, print_result
from mm_fusion.errors import ConfigError

NAME = "simulate"
HELP = "write a simulated drive as a bag, with the truth beside it"
EXAMPLES = """examples:
  mm_fusion simulate --out out/drive
  mm_fusion simulate --seed 7 --duration 60 --out out/long_drive
  mm_fusion replay out/drive --out out/replay
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion simulate``."""
    parser.add_argument("--seed", type=int, default=1, help="another seed is another drive (1)")
    parser.add_argument(
        "--duration", type=float, default=30.0, metavar="S", help="length in seconds (30)"
    )
    parser.add_argument(
        "--scenario", default="town", metavar="NAME", help="what is simulated (town)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="BAG",
        help="the bag's directory; a bag that is there already is replaced",
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Simulate and say what was written."""
    if not math.isfinite(args.duration) or args.duration <= 0:
        raise ConfigError(f"--duration: must be more than 0 s, got {args.duration:g}")
    from mm_fusion.sim.drive import simulate

    show = Progress()
    result = simulate(
        args.seed, args.duration, args.scenario, args.out, lambda share: show(share, "simulate")
    )
    lines = [f"{args.out}: {args.duration:g} s, seed {args.seed}"]
    lines += [f"  {key}: {value}" for key, value in result.items()]
    print_result(result, args.json, "\n".join(lines))
    return 0
