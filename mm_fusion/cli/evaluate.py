"""Score a run against the ground truth of a bag.

Detection: average precision by centre distance at 0.5, 1, 2 and 4 m per class and in the mean, as
nuScenes defines it. Pose: absolute and relative trajectory errors. The scores go to
DIR/evaluation.json and, in short, into DIR/summary.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm_fusion.cli.options import add_json_argument, print_result

NAME = "evaluate"
HELP = "score a run against the ground truth of a bag"
EXAMPLES = """examples:
  mm_fusion evaluate out/replay --truth out/drive
  mm_fusion evaluate out/demo --truth out/demo/drive --json > scores.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion evaluate``."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="output of replay or demo")
    parser.add_argument("--truth", type=Path, required=True, metavar="BAG", help="bag with truth")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the scores."""
    from mm_fusion.evaluation.evaluate import evaluate_run

    scores = evaluate_run(args.directory, args.truth)
    print_result(scores, args.json, text(scores))
    return 0


def text(scores: Mapping[str, Any]) -> str:
    """The scores as a small table."""
    lines = []
    detection = scores["detection"]
    if detection:
        classes = list(detection["fused"]["classes"])
        lines.append(f"{'average precision':<20}{'mean':>8}" + "".join(f"{c:>12}" for c in classes))
        for run_name, s in detection.items():
            each = "".join(f"{_number(s['classes'][c]['mean_ap']):>12}" for c in classes)
            lines.append(f"{run_name:<20}{_number(s['mean_ap']):>8}{each}")
        fused = detection["fused"]
        lines.append(f"{fused['frames']} sets scored, {fused['unanswered_frames']} unanswered")
    pose = (scores["pose"] or {}).get("global")
    if pose and pose["ate_m"]:
        aligned = _number((pose["ate_aligned_m"] or {}).get("rmse"))
        lines.append(f"global pose RMSE {pose['ate_m']['rmse']:.3f} m (aligned {aligned} m)")
    if scores["gps"]:
        lines.append(f"raw GPS RMSE {scores['gps']['ate_m']['rmse']:.3f} m")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
