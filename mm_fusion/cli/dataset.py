"""Write labelled frames to train on: out of the simulator, a labelled bag, KITTI or nuScenes."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from mm_fusion.cli.options import (
    Progress,
    add_config_arguments,
    add_json_argument,
    load_config,
    print_result,
)
from mm_fusion.errors import ConfigError

NAME = "dataset"
HELP = "write labelled frames to train on"
EXAMPLES = """examples:
  mm_fusion dataset --sim --frames 2000 --out data/train
  mm_fusion dataset --sim --frames 200 --seed 9 --lidar vlp16 --weather rain --out data/rain16
  mm_fusion dataset --variants data/val --frames 256
  mm_fusion dataset --bag out/drive --out data/drive
  mm_fusion dataset --kitti kitti/object --out data/kitti
  mm_fusion dataset --nuscenes nuscenes/mini --out data/nuscenes

A run that was broken off goes on where it stopped when it is given again. docs/dataset.md describes
the files.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion dataset``."""
    from mm_fusion.sim.devices import DEVICES
    from mm_fusion.sim.weather import KINDS

    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--sim", action="store_true", help="simulate them")
    source.add_argument("--bag", type=Path, help="a bag with truth/objects beside its sensors")
    source.add_argument(
        "--kitti", type=Path, metavar="DIR", help="KITTI object detection: velodyne, image_2, ..."
    )
    source.add_argument("--nuscenes", type=Path, metavar="DIR", help="nuScenes v1.0")
    source.add_argument(
        "--variants",
        type=Path,
        metavar="DIR",
        help="the scenes of the simulated set in DIR once more, into DIR/variants: in fog, rain"
        " and dark, and with pictures that are late or stand still",
    )
    parser.add_argument("--out", type=Path, help="folder for the frames")
    parser.add_argument("--only", metavar="NAMES", help="with --variants: these, by commas")
    parser.add_argument(
        "--frames", type=int, help="how many in all (1000 simulated ones; all there are)"
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed is another set (1)")
    cores = os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=cores, help=f"processes ({cores})")
    parser.add_argument(
        "--pixels",
        type=int,
        help="of a stored picture, about (250000 simulated ones; real ones are shrunk to 500000)",
    )
    one = parser.add_argument_group("simulated frames; every frame draws what is not given")
    one.add_argument("--lidar", choices=tuple(DEVICES), help="one device for all")
    one.add_argument("--weather", choices=KINDS, help="one weather for all")
    light = one.add_mutually_exclusive_group()
    light.add_argument("--night", action="store_true", help="by night only")
    light.add_argument("--day", action="store_true", help="by day only")
    one.add_argument(
        "--country", type=float, default=0.35, help="share of drives that lead out of town (0.35)"
    )
    one.add_argument("--previous", action="store_true", help="store the sweep before as well")
    add_config_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write the frames and say what there is."""
    from mm_fusion.datasets import writing

    if args.frames is not None and args.frames < 1:
        raise ConfigError(f"--frames: must be 1 or more, got {args.frames}")
    if args.variants is not None:
        return _variants(args)
    if args.out is None:
        raise ConfigError("--out: a folder for the frames is needed")
    if args.only is not None:
        raise ConfigError("--only goes with --variants only")
    options, jobs, total = _plan(args)
    writing.claim(args.out, options)
    show = Progress()
    result = writing.run_jobs(
        args.out, jobs, args.workers, total, lambda share: show(share, "dataset")
    )
    return _tell(args.out, result, args.json)


def _variants(args: argparse.Namespace) -> int:
    """Write the variants of a set and say what there is."""
    from mm_fusion.datasets import writing
    from mm_fusion.sim.variants import VARIANTS

    if args.out is not None:
        raise ConfigError("--out: variants go into the folder of their set")
    names = tuple(args.only.split(",")) if args.only else tuple(VARIANTS)
    folder = args.variants
    jobs, count = writing.variant_jobs(folder, args.frames or sys.maxsize, names)
    total, show = count * len(names), Progress()
    result = writing.run_jobs(
        folder,
        jobs,
        args.workers,
        total,
        lambda share: show(share, "variants"),
        writing.VARIANT_FILES,
    )
    return _tell(folder, result, args.json)


def _tell(folder: Path, result: dict[str, Any], as_json: bool) -> int:
    lines = [f"{folder}: {result['frames']} frames, {result['written']} of them new"]
    lines += [f"  {key}: {value}" for key, value in result.items()]
    print_result(result, as_json, "\n".join(lines))
    return 0


def _plan(args: argparse.Namespace) -> tuple[dict[str, Any], list[Any], int]:
    """What the set is made of, its jobs, and how many frames it will have (as far as is known)."""
    from mm_fusion.datasets import writing
    from mm_fusion.datasets.pictures import STORED_PIXELS
    from mm_fusion.sim.rigs import PIXELS, Wanted

    limit = args.frames or sys.maxsize
    night = True if args.night else False if args.day else None
    simulated = PIXELS if args.pixels is None else args.pixels
    wanted = Wanted(
        args.lidar or "", args.weather or "", night, simulated, args.previous, args.country
    )
    if args.sim:
        total = args.frames or 1000
        options = writing.options_of("sim", seed=args.seed, wanted=wanted)
        return options, writing.sim_jobs(total, args.seed, wanted), total
    if wanted != Wanted(pixels=simulated):
        raise ConfigError(
            "--lidar, --weather, --night, --day, --country and --previous go with --sim only"
        )
    pixels = STORED_PIXELS if args.pixels is None else args.pixels
    if args.bag is not None:
        options = writing.options_of("bag", bag=args.bag.resolve(), pixels=pixels)
        jobs: list[Any] = [writing.BagJob(args.bag, load_config(args), pixels, limit)]
        return options, jobs, args.frames or 1
    kind, folder = ("kitti", args.kitti) if args.kitti else ("nuscenes", args.nuscenes)
    options = writing.options_of(kind, folder=folder.resolve(), pixels=pixels)
    parts = writing.folder_jobs(kind, folder, limit, pixels)
    return options, list(parts), sum(len(part.frames) for part in parts)
