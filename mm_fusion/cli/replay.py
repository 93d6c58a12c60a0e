"""Run both roads over a bag without ROS, in the order of the stamps.

Writes detections.jsonl, tracks.jsonl, pose.tum (global), pose_local.tum, gps.tum, timing.jsonl and
summary.json. Topics are found by their types where there is one of a type.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm_fusion.cli.options import (
    Progress,
    add_config_arguments,
    add_json_argument,
    load_config,
    print_result,
)

NAME = "replay"
HELP = "run both roads over a bag, without ROS"
EXAMPLES = """examples:
  mm_fusion replay BAG --out out/replay
  mm_fusion replay BAG --out out/replay --config my.yaml --set network.provider=cpu
  mm_fusion replay BAG --out out/replay --set topics.imu=/my_imu --set 'topics.lidars=[/velodyne]'
  mm_fusion replay BAG --out out/replay --overlays 5
  mm_fusion replay BAG --out out/replay --set detector=camera2d --set model=yolo11n.onnx

  a bag without base_link, its LIDAR 1.73 m above the ground:
  mm_fusion replay BAG --out out/replay --overlays 5 \\
    --set 'calibration.extrinsics=["velodyne 0 0 1.73 0 0 0"]'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion replay``."""
    parser.add_argument("bag", type=Path, help="rosbag2 directory, .mcap, .db3 or ROS 1 .bag")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    add_config_arguments(parser)
    parser.add_argument(
        "--overlays",
        type=int,
        default=0,
        metavar="N",
        help="also write overlay pictures of N sets, spread over the drive, to DIR/overlays",
    )
    parser.add_argument(
        "--fused-only",
        action="store_true",
        help="where the bag carries true objects: do not run each single modality as well",
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Replay and print the summary."""
    config = load_config(args)
    from mm_fusion.evaluation.overlays import write_overlays
    from mm_fusion.evaluation.replay import replay

    summary = replay(args.bag, args.out, config, Progress(), not args.fused_only)
    pictures = write_overlays(args.out, args.bag, args.overlays) if args.overlays > 0 else []
    print_result(summary, args.json, _text(args.out, summary, len(pictures)))
    return 0


def _text(out: Path, summary: Mapping[str, Any], pictures: int) -> str:
    lines = [f"{out}: {summary['timing']['bag_s']:g} s of bag in {summary['timing']['wall_s']:g} s"]
    for name, topic in summary["source"]["topics"].items():
        lines.append(f"  {name}: {topic}")
    if summary["sweeps"] or summary["sets"]:
        lines.append(f"  answered {summary['answered']} of {summary['sweeps']} sweeps")
        modes = ", ".join(f"{mode} {count}" for mode, count in summary["modes"].items())
        lines.append(f"  modes: {modes or 'none'}; network on {summary['provider']}")
    total = summary["latency_ms"].get("total")
    if total:
        lines.append(f"  per set: median {total['p50']:.1f} ms, p99 {total['p99']:.1f} ms")
    for sensor, reasons in summary["drops"].items():
        for reason, count in reasons.items():
            detail = summary["drop_details"][sensor][reason]
            lines.append(f"  dropped from {sensor}: {reason} {count} ({detail})")
    lines += [f"  warning: {w}" for w in summary["warnings"]]
    for name in ("map", "pose_rmse_m", "gps_rmse_m"):
        if name in summary:
            lines.append(f"  {name}: {summary[name]}")
    if pictures:
        lines.append(f"  {pictures} pictures in {out / 'overlays'}")
    return "\n".join(lines)
