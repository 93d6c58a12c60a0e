"""The whole road: simulate a drive (or take a bag), fuse it live over DDS, show how it went.

The bag is played in real time; fusion_node and pose_node run in processes of their own; what they
publish is recorded, scored against the truth where the bag has it, and shown in DIR/report.html.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_fusion.cli.options import (
    Progress,
    add_config_arguments,
    add_json_argument,
    load_config,
    print_result,
)
from mm_fusion.config import Config, SimulatorConfig
from mm_fusion.errors import MmFusionError, StageError

if TYPE_CHECKING:
    from mm_fusion.evaluation.topics import Inputs

NAME = "demo"
HELP = "simulate a drive, fuse it live over DDS, and report"
EXAMPLES = """examples:
  mm_fusion demo
  mm_fusion demo --seed 7 --duration 60
  mm_fusion demo --bag my_bag --out out/mine --set topics.imu=/my_imu
"""

DRIVE, OUTPUT, LOGS = "drive", "output", "logs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion demo``."""
    default = SimulatorConfig()
    parser.add_argument("--bag", type=Path, help="play this bag instead of simulating a drive")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/demo"),
        metavar="DIR",
        help="where to write (out/demo)",
    )
    parser.add_argument(
        "--seed", type=int, default=default.seed, help=f"of the simulated drive ({default.seed})"
    )
    parser.add_argument(
        "--duration",
        type=float,
        default=default.duration_s,
        metavar="S",
        help=f"of the simulated drive, in seconds ({default.duration_s:g})",
    )
    parser.add_argument(
        "--scenario", default=default.scenario, help=f"what is simulated ({default.scenario})"
    )
    parser.add_argument(
        "--rate", type=float, default=1.0, help="speed of the playback against real time (1)"
    )
    add_config_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """The job from end to end."""
    if not 0.01 <= args.rate <= 100.0:
        raise MmFusionError(f"--rate: must be within 0.01 .. 100, got {args.rate:g}")
    config, show = load_config(args), Progress()
    _clear(args.out)
    bag = args.bag or _simulate(args, show)
    summary = _drive(bag, args, config, show)
    print_result(summary, args.json, _text(args.out, summary))
    return 0


def _clear(out: Path) -> None:
    """Remove what an earlier demo left under the names that are written again."""
    for folder in (DRIVE, OUTPUT, LOGS):
        shutil.rmtree(out / folder, ignore_errors=True)
    try:
        (out / LOGS).mkdir(parents=True)
    except OSError as error:
        raise MmFusionError(f"{out}: cannot be written: {error.strerror}") from error


def _simulate(args: argparse.Namespace, show: Progress) -> Path:
    from mm_fusion.sim.drive import simulate

    bag: Path = args.out / DRIVE
    simulate(
        args.seed, args.duration, args.scenario, bag, lambda share: show(share, "simulate a drive")
    )
    return bag


def _drive(bag: Path, args: argparse.Namespace, config: Config, show: Progress) -> dict[str, Any]:
    """Live run, files, single modalities, report."""
    from mm_fusion.cli.live import LiveRun, live_config, run_live
    from mm_fusion.evaluation import records
    from mm_fusion.evaluation.bags import Bag
    from mm_fusion.evaluation.recording import write_run
    from mm_fusion.evaluation.report import write_report
    from mm_fusion.evaluation.topics import find_inputs
    from mm_fusion.evaluation.truth import known_truth

    with Bag(bag) as opened:
        inputs = find_inputs(opened.topics, config, str(bag))
        named = live_config(inputs, config)
        duration_s = (opened.end_ns - opened.start_ns) / 1e9
        live = LiveRun(
            bag, duration_s, inputs, named, args.out / OUTPUT, args.out / LOGS, args.rate
        )
        timing = run_live(live, show)
        summary = write_run(args.out, live.out, opened, inputs, named, timing)
        known = known_truth(opened)
    check_products(summary, args.out, inputs, bool(known.objects))
    if known.objects and any(inputs.lidars) and any(inputs.cameras):
        _single_modalities(bag, args.out, named, show)
    show(0.0, "report")
    report = write_report(args.out, bag=bag)
    show(1.0, "report")
    if not report.is_file() or not report.stat().st_size:
        raise StageError(f"report: {report} is empty")
    return records.read_summary(args.out)


def check_products(summary: Mapping[str, Any], out: Path, inputs: Inputs, objects: bool) -> None:
    """StageError naming the stage whose file has nothing in it."""
    from mm_fusion.evaluation import records

    perception = inputs.perception()
    if perception and not summary["answered"] and summary["sweeps"]:
        raise StageError(f"fusion_node: none of {summary['sweeps']} sweeps was answered")
    if perception and not summary["sets"]:
        raise StageError("fusion_node: no set was answered")
    if perception and objects and not any(summary["detections"].values()):
        raise StageError("fusion_node: no box in any set, and there were objects to see")
    if (inputs.imu or inputs.wheels) and not (out / records.POSE_LOCAL).stat().st_size:
        raise StageError("pose_node: no local pose was recorded")
    if inputs.gps and not (out / records.POSE).stat().st_size:
        raise StageError("pose_node: no global pose was recorded, although the bag has fixes")


def _single_modalities(bag: Path, out: Path, config: Config, show: Progress) -> None:
    """The same drive through the same network with one input withheld, offline."""
    from mm_fusion.evaluation import records
    from mm_fusion.evaluation.replay import replay, withhold

    for kept, folder in records.SINGLE.items():
        replay(
            bag,
            out / folder,
            withhold(config, kept),
            lambda share, _, kept=kept: show(share, f"{kept} alone"),  # type: ignore[misc]
            single_modalities=False,
        )


def _text(out: Path, summary: Mapping[str, Any]) -> str:
    lines = [f"{out / 'report.html'}"]
    if summary["sweeps"]:
        share = 100.0 * summary["answered"] / summary["sweeps"]
        lines.append(
            f"  answered {summary['answered']} of {summary['sweeps']} sweeps ({share:.1f} %),"
            f" network on {summary['provider']}"
        )
    for stage in ("network", "end_to_end"):
        times = summary["latency_ms"].get(stage)
        if times:
            lines.append(f"  {stage}: median {times['p50']:.1f} ms, p99 {times['p99']:.1f} ms")
    for sensor, reasons in summary["drops"].items():
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        lines.append(f"  dropped from {sensor}: {counts}")
    if summary.get("map"):
        scores = ", ".join(f"{k} {v:.3f}" for k, v in summary["map"].items() if v is not None)
        lines.append(f"  mAP: {scores}")
    for name in ("pose_rmse_m", "gps_rmse_m"):
        if name in summary:
            lines.append(f"  {name}: {summary[name]:.3f}")
    return "\n".join(lines)
