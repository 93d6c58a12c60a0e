"""Score a run against the ground truth of a bag, or networks on a folder of labelled frames.

Detection: average precision by centre distance at 0.5, 1, 2 and 4 m per class and in the mean, as
nuScenes defines it. Pose: absolute and relative trajectory errors. The scores go to
DIR/evaluation.json and, in short, into DIR/summary.json. With --tracks also CLEAR-MOT, IDF1, AMOTA,
speed and heading of the tracks.

With --ablation DIR holds frames as `mm_fusion dataset` writes them. Fused, camera only and LIDAR
only are compared on them, with --faults also under what may go wrong with a sensor. The table goes
to OUT/ablation.json and OUT/ablation.png; a run broken off goes on where it stopped.

With --pose, the pose alone and in full, with or without a truth: relative errors by distance, how
honest the covariance is, what dead reckoning loses without GPS, the agreement with the fixes; to
DIR/pose_evaluation.json, with a picture in DIR/pose.png.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm_fusion.cli.options import Progress, add_json_argument, print_result
from mm_fusion.errors import ConfigError

NAME = "evaluate"
HELP = "score a run, or a network under faults, against ground truth"
EXAMPLES = """examples:
  mm_fusion evaluate out/replay --truth out/drive
  mm_fusion evaluate out/replay --truth out/drive --tracks
  mm_fusion evaluate out/demo --truth out/demo/drive --json > scores.json
  mm_fusion evaluate data/val --ablation --faults --model models/fusion.onnx \\
      --camera-model out/camera/fusion.onnx --lidar-model out/lidar/fusion.onnx --out out/ablation
  mm_fusion evaluate --pose out/replay
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion evaluate``."""
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="output of replay or demo, or frames"
    )
    parser.add_argument("--truth", type=Path, metavar="BAG", help="bag with truth, for a run")
    parser.add_argument("--tracks", action="store_true", help="score a run's tracks, too")
    parser.add_argument(
        "--pose", action="store_true", help="the pose of a run alone, in full; needs no truth"
    )
    group = parser.add_argument_group("networks on labelled frames")
    group.add_argument("--ablation", action="store_true", help="fused, camera only, LIDAR only")
    group.add_argument("--faults", action="store_true", help="and all that under faults")
    group.add_argument("--model", type=Path, help="the fused network (the packaged one)")
    group.add_argument(
        "--camera-model",
        type=Path,
        help="one for the camera alone (without --model: the packaged one)",
    )
    group.add_argument(
        "--lidar-model",
        type=Path,
        help="one for the LIDAR alone (without --model: the packaged one)",
    )
    group.add_argument(
        "--stand-ins",
        action=argparse.BooleanOptionalAction,
        help="these answer for the fused one where their sense is all there is, as in the node"
        " (without --model: yes)",
    )
    group.add_argument("--out", type=Path, default=Path("out/ablation"), help="(out/ablation)")
    group.add_argument("--frames", type=int, default=0, metavar="N", help="the first N (all)")
    group.add_argument(
        "--fault-frames", type=int, default=0, metavar="N", help="the first N under faults (all)"
    )
    group.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    group.add_argument("--resamples", type=int, default=200, help="of the intervals (200)")
    group.add_argument("--provider", choices=("auto", "tensorrt", "cuda", "cpu"), default="auto")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the scores."""
    if args.ablation:
        return _ablation(args)
    from mm_fusion.evaluation.evaluate import evaluate_pose, evaluate_run

    if args.pose:
        scores = evaluate_pose(args.directory, args.truth)
        print_result(scores, args.json, pose_text(scores))
        return 0
    if args.truth is None or args.faults:
        raise ConfigError(
            "evaluate: give --truth BAG for a run, or --ablation for frames"
            " (a run's --pose needs neither)"
        )
    scores = evaluate_run(args.directory, args.truth, args.tracks)
    print_result(scores, args.json, text(scores))
    return 0


def _ablation(args: argparse.Namespace) -> int:
    """Compare networks on frames."""
    from mm_fusion import resources
    from mm_fusion.evaluation import ablation, ablation_table
    from mm_fusion.perception.network import PACKAGED_MODEL, PACKAGED_STAND_INS

    if args.truth is not None:
        raise ConfigError("--truth: frames carry their own truth")
    if args.resamples < 1:
        raise ConfigError(f"--resamples: must be 1 or more, got {args.resamples}")
    for name in ("frames", "fault_frames"):
        if getattr(args, name) < 0:
            raise ConfigError(f"--{name.replace('_', '-')}: must be 0 or more")
    packaged = args.model is None
    singles = {"camera": args.camera_model, "lidar": args.lidar_model}
    for sense, model in singles.items():
        if packaged and model is None:
            singles[sense] = resources.share_path(PACKAGED_STAND_INS[sense])
    options = ablation.Options(
        args.directory,
        args.out,
        args.model or resources.share_path(PACKAGED_MODEL),
        singles["camera"],
        singles["lidar"],
        args.faults,
        args.frames,
        args.fault_frames,
        args.workers,
        args.provider,
        args.resamples,
        packaged if args.stand_ins is None else args.stand_ins,
    )
    result = ablation.evaluate_ablation(options, Progress())
    ablation_table.picture(result, args.out / "ablation.png")
    print_result(result, args.json, ablation_table.text(result))
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
    if scores.get("tracking"):
        from mm_fusion.evaluation.tracking import table

        lines.append(table(scores["tracking"]))
    return "\n".join(lines)


def pose_text(scores: Mapping[str, Any]) -> str:
    """The scores of ``--pose`` as lines."""
    lines = []
    found = scores["global"]
    if found and found["ate_m"]:
        lines.append(
            f"global pose RMSE {found['ate_m']['rmse']:.3f} m, horizontally"
            f" {found['ate_horizontal_m']['rmse']:.3f} m;"
            f" heading {found['heading_rmse_rad']:.4f} rad"
        )
    for name in ("global", "local"):
        for distance, error in ((scores[name] or {}).get("rpe_by_distance_m") or {}).items():
            if error:
                lines.append(f"{name} over {distance} m: {error['rmse']:.3f} m RMSE")
    for name, value in (scores.get("nees") or {}).items():
        lines.append(
            f"NEES {name}: {value['mean']:.2f} (1 is honest),"
            f" {100 * value['within_95_percent']:.0f} % within the 95 % region"
        )
    fixes = scores["fixes"]
    if fixes["agreement_m"]:
        refused = "unknown" if fixes["refused"] is None else sum(fixes["refused"].values())
        lines.append(
            f"{fixes['count']} fixes, {refused} refused; track off the used ones by"
            f" {fixes['agreement_m']['rmse']:.2f} m RMS, {fixes['agreement_m']['median']:.2f} m"
            " in the median"
        )
    reckoning = scores["dead_reckoning"] or {"after": {}}
    for span, row in reckoning["after"].items():
        lines.append(
            f"after {span.replace('_', ' ')} without GPS: {row['error_m']['median']:.2f} m in the"
            f" median, {row['error_m']['max']:.2f} m at most, against {reckoning['reference']}"
        )
    if scores["odom"]:
        lines.append(f"largest step of odom {scores['odom']['largest_step_m']:.3f} m")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
