#!/usr/bin/env python3
"""What cameras all around add: the packaged networks with one camera and with several.

    .venv/bin/python scripts/surround.py --cameras 4 --lidar vlp16 --frames 128

Simulates frames whose vehicle carries so many equal cameras, which look round in equal steps, and
scores the fused network with all of them and with the first alone, the LIDAR network, and the
camera network in both ways. A network's cameras share its weights, so nothing is trained for
this. mAP as nuScenes has it, over all that any of the sensors sees; intervals are 95 %, paired
over drives. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mm_fusion.datasets.frame import LabelledFrame
from mm_fusion.evaluation.ablation_runs import Answers
from mm_fusion.evaluation.ablation_scores import Curves, Draws, means, number, ratio
from mm_fusion.evaluation.detection import CLASSES, FrameMatch, match_frame
from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.devices import DEVICES
from mm_fusion.sim.frames import (
    DRIVE_S,
    EXTENT_M,
    FRAMES_PER_DRIVE,
    frame_times,
    make_frame,
    random_demand,
)
from mm_fusion.sim.rigs import Rig, Wanted, random_rig
from mm_fusion.sim.world import build_world
from mm_fusion.training.dataset import POINT_BUDGET, collate, limit_points
from mm_fusion.training.export import network_of
from mm_fusion.training.frames import Frame, frame_of
from mm_fusion.training.network_torch import FusionNet
from mm_fusion.training.validate import Lines, lines_of, truth_of

PER_DRIVE = 8  # frames: every second one of a drive's
OVERLAP_DEG = (2.0, 18.0)  # of neighbouring pictures
MIDDLE_M = (0.9, 0.0, 0.0)  # of the vehicle: what the cameras stand around
MIN_SCORE = 0.02
# name: the network, and whether it sees through all cameras
MODES = {
    "fused": ("fusion", True),
    "fused, one camera": ("fusion", False),
    "lidar": ("lidar", False),
    "camera": ("camera", True),
    "camera, one": ("camera", False),
}
Matches = dict[tuple[str, str], FrameMatch]


def turned(rig: Rig, share: float, span_deg: float) -> Rig:
    """The rig with its camera carried round the vehicle's middle by a share of a whole turn."""
    turn = RigidTransform.from_rpy((0.0, 0.0, 0.0), (0.0, 0.0, 2.0 * np.pi * share))
    to_middle = RigidTransform.from_rpy(MIDDLE_M, (0.0, 0.0, 0.0))
    carried = to_middle @ turn @ to_middle.inverse()
    k = rig.camera.k.copy()
    k[0, 0] = k[1, 1] = rig.camera.width / 2 / np.tan(np.deg2rad(span_deg) / 2)
    camera = replace(rig.camera, k=k, base_from_camera=carried @ rig.camera.base_from_camera)
    believed = carried @ rig.believed_base_from_camera
    return replace(rig, camera=camera, believed_base_from_camera=believed)


def frames_of_drive(
    drive: int, seed: int, cameras: int, wanted: Wanted
) -> Iterator[list[LabelledFrame]]:
    """For each instant, a frame for each camera; they differ in what that camera shows only."""
    rng = np.random.default_rng([seed, drive])
    world = build_world(rng, EXTENT_M, DRIVE_S, random_demand(rng), country=wanted.country)
    for k, t in enumerate(frame_times(world)[:: FRAMES_PER_DRIVE // PER_DRIVE]):
        own = np.random.default_rng([seed, drive, k])
        rig = random_rig(own, wanted)
        span = 360.0 / cameras + float(own.uniform(*OVERLAP_DEG))
        state = own.bit_generator.state
        each = []
        for c in range(cameras):
            own.bit_generator.state = state  # the same traffic, sweep and exposure for all
            each.append(make_frame(world, turned(rig, c / cameras, span), float(t), own))
        yield each


def answers_of(net: FusionNet, views: list[Frame], points: bool) -> Lines:
    """What a network finds with these pictures, whose points are the same."""
    batch = collate(views[:1], [(float(points), 1.0)], net.grid)
    images = torch.from_numpy(np.stack([f.image for f in views]))[None]
    projections = torch.from_numpy(np.stack([f.pixel_from_base for f in views]))[None]
    with torch.no_grad():
        there = torch.ones(1, len(views))
        maps = net(batch.points, images, projections, batch.has_points, there)
    (lines,) = lines_of(net, maps, MIN_SCORE)
    return lines


@cache
def networks(models: Path) -> dict[str, FusionNet]:
    """The networks of MODES, opened once by each process, which gets one thread."""
    torch.set_num_threads(1)
    return {name: network_of(models / f"{name}.pt")[0] for name in {m for m, _ in MODES.values()}}


def score_drive(
    drive: int, models: Path, seed: int, cameras: int, wanted: Wanted
) -> dict[str, list[Matches]]:
    """How each mode's answers met the truth, frame by frame."""
    nets = networks(models)
    out: dict[str, list[Matches]] = {mode: [] for mode in MODES}
    for each in frames_of_drive(drive, seed, cameras, wanted):
        views = [frame_of(frame) for frame in each]
        seen = np.max([f.num_pixels for f in views], axis=0)
        kept = limit_points(views[0].points, POINT_BUDGET)
        views = [replace(f, points=kept, num_pixels=seen) for f in views]
        truth = truth_of(views[0], nets["lidar"].grid)
        for mode, (name, everywhere) in MODES.items():
            lines = answers_of(nets[name], views if everywhere else views[:1], name != "camera")
            matches = {
                ("grid", c): match_frame(
                    [line for line in lines if line["class"] == c],
                    [t for t in truth if t.label == c],
                )
                for c in CLASSES
            }
            out[mode].append(matches)
    return out


def table(found: dict[str, list[Matches]], resamples: int) -> dict[str, Any]:
    """mAP of each mode, and what fusion gains with all cameras and with one."""
    count = len(found["fused"])
    drive = np.arange(count) // PER_DRIVE
    draws, everything = Draws(drive, resamples), np.ones(count, bool)
    values, ap = {}, {}
    for mode, matches in found.items():
        curves = Curves(Answers.of(matches, drive), "grid")
        values[mode] = means(curves, draws, everything)
        ap[mode] = curves.by_class(draws.times[0])
    pairs = {"fused": "lidar", "fused, one camera": "lidar", "camera": "fused"}
    return {
        "frames": count,
        "map": {mode: number(v[0]) for mode, v in values.items()},
        "ap": ap,
        "ratio": {f"{a} / {b}": ratio(values[a], values[b]) for a, b in pairs.items()},
    }


def main() -> None:
    """Simulate, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("models"), help="with the .pt files")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--frames", type=int, default=128, help=f"in drives of {PER_DRIVE}")
    parser.add_argument("--seed", type=int, default=910001)
    parser.add_argument("--lidar", choices=tuple(DEVICES), default="vlp16")
    parser.add_argument("--pixels", type=int, default=460_000, help="of a picture, about")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    if args.cameras < 3:
        parser.error(f"--cameras: it takes 3 to look all around, got {args.cameras}")
    wanted = Wanted(lidar=args.lidar, pixels=args.pixels)
    score = partial(
        score_drive, models=args.models, seed=args.seed, cameras=args.cameras, wanted=wanted
    )
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        drives = pool.map(score, range(-(-args.frames // PER_DRIVE)), chunksize=1)
    found = {mode: [m for drive in drives for m in drive[mode]] for mode in MODES}
    said = {"cameras": args.cameras, "lidar": args.lidar, "seed": args.seed}
    print(json.dumps(said | table(found, args.resamples), indent=2))


if __name__ == "__main__":
    main()
