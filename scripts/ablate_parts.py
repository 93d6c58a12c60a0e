#!/usr/bin/env python3
"""What each part of the fusion network is worth: networks without one part at a time, scored.

    .venv/bin/python scripts/ablate_parts.py --train out/frames --frames out/val16 --out out/parts
    .venv/bin/python scripts/ablate_parts.py --frames out/val16 --out out/silenced

With ``--train`` the network is trained as it is, again from another seed (what differs between
these two is chance), and anew without each part, all with as many steps on the same versions of
the same frames; all begin with the LIDAR network's weights and ImageNet's trunk, so that whatever
looks at pictures is learned in each. With ``--init models/fusion.pt`` they begin with the whole
network instead, which then learns to do without. Trainings that are done are not repeated. Without
``--train`` the parts of a network that was trained as a whole are silenced, which says what it
leans on: more than it would lose if it had been trained without.

Every network is exported and scored as the nodes run it, without stand-ins, on clean frames and
with a calibration that is 2° off. Ratios are to the whole network, with 95 % intervals paired over
drives. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mm_fusion.datasets.pool import run_all
from mm_fusion.errors import ConfigError
from mm_fusion.evaluation.ablation_runs import Plan, jobs
from mm_fusion.evaluation.ablation_scores import Curves, Draws, means, number, ratio
from mm_fusion.evaluation.frame_faults import CLEAN, FAULTS
from mm_fusion.evaluation.frame_sets import SCOPES, Setting
from mm_fusion.training.export import export
from mm_fusion.training.frames import list_frames
from mm_fusion.training.parts import PARTS
from mm_fusion.training.settings import TrainSettings
from mm_fusion.training.train import CHECKPOINT, read_checkpoint, train

WHOLE, AGAIN = "whole", "whole, another seed"
CONDITIONS = tuple(c for c in FAULTS if c.name == "extrinsic rotation, 2°")


def train_one(name: str, frames: Path, out: Path, settings: TrainSettings) -> tuple[str, Path]:
    """Train one network, or go on with it where the same training stopped; its name and checkpoint.
    Raises ConfigError where there is one of another training."""
    checkpoint = out / CHECKPOINT
    begun = checkpoint.exists()
    if begun:
        saved = read_checkpoint(checkpoint)
        if saved["settings"] != asdict(settings):
            raise ConfigError(f"{out} holds a training with other settings: name another --out")
        if saved["step"] == settings.steps:
            return name, checkpoint
    out.mkdir(parents=True, exist_ok=True)
    with (out / "output.txt").open("a") as told, redirect_stdout(told):
        train(frames, out, settings, resume=begun)
    return name, checkpoint


def trained(args: argparse.Namespace) -> dict[str, Path]:
    """The checkpoints of the whole network, of its second training, and of those without a part."""
    whole = TrainSettings(
        steps=args.steps,
        decay_steps=max(1, args.steps * 3 // 5),
        workers=1,
        learning_rate=1.2e-3,
        seed=args.seed,
        init=(str(args.init or args.models / "lidar.pt"),),
        withheld=(0.05, 0.05),
        expert=str(args.models / "lidar.pt"),
    )
    wanted = {WHOLE: whole, AGAIN: replace(whole, seed=args.seed + 1)}
    wanted |= {part: replace(whole, without=(part,)) for part in args.parts}
    calls = []
    for name, settings in wanted.items():
        folder = args.out / name.replace(", ", "_").replace(" ", "_")
        calls.append(partial(train_one, name, args.train, folder, settings))
    done = dict(run_all(calls, args.workers, lambda: None))
    return {name: done[name] for name in wanted}


def silenced(args: argparse.Namespace) -> dict[str, Path]:
    """Checkpoints of the packaged network, with one part silenced in each but the first."""
    saved = read_checkpoint(args.models / "fusion.pt")
    out = {}
    for name in (WHOLE, *args.parts):
        without = () if name == WHOLE else (name,)
        out[name] = args.out / name / CHECKPOINT
        out[name].parent.mkdir(parents=True, exist_ok=True)
        torch.save({**saved, "settings": {**saved["settings"], "without": without}}, out[name])
    return out


def score(name: str, checkpoint: Path, paths: list[Path], args: argparse.Namespace) -> Plan:
    """Export a network, and let it answer wherever it has not yet."""
    print(f"scoring: {name}", file=sys.stderr)
    export(checkpoint, checkpoint.parent)
    setting = Setting(checkpoint.parent / "fusion.onnx")
    plan = Plan(tuple(paths), {"fused": setting}, CLEAN, CONDITIONS, len(paths), args.out / "work")
    for _ in run_all([job.run for job in jobs(plan)], args.workers, lambda: None):
        pass
    return plan


def table(plans: dict[str, Plan], resamples: int) -> dict[str, Any]:
    """By condition and scope, each network's mAP and its ratio to the first one's."""
    out: dict[str, Any] = {}
    for condition in (CLEAN, *CONDITIONS):
        for scope in SCOPES:
            rows, whole = {}, None
            for name, plan in plans.items():
                answers = plan.answers("fused", condition)
                draws, curves = Draws(answers.drive, resamples), Curves(answers, scope)
                values = means(curves, draws, answers.took)
                whole = values if whole is None else whole
                rows[name] = {
                    "map": number(values[0]),
                    "ratio": ratio(values, whole),
                    "ap": curves.by_class(draws.times[0]),
                }
            out.setdefault(condition.name, {})[scope] = rows
    return out


def main() -> None:
    """Train or silence, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, help="frames to train each network anew on")
    parser.add_argument("--frames", type=Path, required=True, help="folder of frames to score on")
    parser.add_argument("--limit", type=int, default=256, help="of them, the first so many")
    parser.add_argument("--out", type=Path, required=True, help="folder for the networks")
    parser.add_argument("--models", type=Path, default=Path("models"), help="with the .pt files")
    parser.add_argument("--init", type=Path, help="checkpoint to train on from")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=51)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    paths = list_frames(args.frames)[: args.limit]
    try:
        checkpoints = trained(args) if args.train else silenced(args)
    except ConfigError as error:
        parser.error(str(error))
    plans = {name: score(name, path, paths, args) for name, path in checkpoints.items()}
    said = {"frames": str(args.frames), "count": len(paths), "steps": args.steps * bool(args.train)}
    print(json.dumps(said | table(plans, args.resamples), indent=2))


if __name__ == "__main__":
    main()
