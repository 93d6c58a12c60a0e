"""How well ground is told from obstacles in simulated towns on slopes, and what it costs.

Every ray knows what it met. ``ground_removed`` is the share of the points on roads, pavements and
grass that are found to be ground; ``kept`` that of the points on things taller than 0.2 m that are
not: of all of them, and of those more than 0.1 and 0.2 m above the true ground. Banks of earth are
both and count neither way. With ``--peer`` the same frames go to Patchwork++ (``pip install
pypatchworkpp``). With ``--bag`` a recording's sweeps are drawn too, ground and obstacles apart.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.cli.options import Progress, add_config_arguments, load_config
from mm_fusion.errors import StageError
from mm_fusion.perception.ground import find_ground

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Finder = Callable[[F32, float], Bools]

HELP = "how well ground is told from obstacles on slopes, and what it costs"

# The steepest slope of a town, and the device that looks at it.
TOWNS = (
    (0.0, "hdl64e"),
    (0.05, "hdl32e"),
    (0.1, "hdl64e"),
    (0.12, "vlp32c"),
    (0.15, "hdl64e"),
    (0.15, "os1-64"),
    (0.15, "os1-128"),
    (0.15, "vlp16"),
)
TALL_M = 0.2
ROUNDS = 5
_FROM_M = 100.0  # above a point, from where rays look for the ground under it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--frames", type=int, default=3, help="sweeps of each town [3]")
    parser.add_argument("--seed", type=int, default=1, help="seed of towns and sensors [1]")
    parser.add_argument("--peer", action="store_true", help="measure Patchwork++ as well")
    parser.add_argument("--bag", type=Path, help="draw the first sweeps of this bag, too")
    parser.add_argument(
        "--pictures", type=Path, default=Path("out/ground"), help="where to [out/ground]"
    )
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready. Raises StageError where the peer is not installed."""
    config = load_config(args)
    finders: dict[str, Finder] = {"ours": lambda xyz, _: find_ground(xyz, config.ground).is_ground}
    if args.peer:
        finders["patchwork++"] = _peer()
    frames: list[dict[str, Any]] = []
    show = Progress()
    for frame in _frames(args.seed, args.frames):
        frames.append({name: _scores(frame, find) for name, find in finders.items()})
        show(len(frames) / (len(TOWNS) * args.frames), "towns")
    out: dict[str, Any] = {
        "frames": len(frames),
        "is": "shares of points over all frames, and of the worst frame; cost of one sweep",
    }
    for name in finders:
        out[name] = _together([f[name] for f in frames])
    if args.bag is not None:
        from mm_fusion.bench.ground_pictures import draw_bag

        out["pictures"] = draw_bag(args.bag, args.pictures, config)
    return out


# ------------------------------------------------------------------------------ the frames


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """``xyz`` f32 [3,N] in the base frame; per point whether it is on the ground, on something
    tall, and how high above the true ground it is."""

    town: str
    xyz: F32
    intensity: F32
    lidar_height_m: float
    ground: Bools
    tall: Bools
    above_m: F64


def _frames(seed: int, count: int) -> Iterator[Frame]:
    from mm_fusion.sim.companions import companions
    from mm_fusion.sim.frames import deskewed
    from mm_fusion.sim.lidar import sweep
    from mm_fusion.sim.rigs import Wanted, random_rig
    from mm_fusion.sim.traffic import Demand
    from mm_fusion.sim.world import build_world

    for n, (slope, device) in enumerate(TOWNS):
        rng = np.random.default_rng([seed, n])
        world = build_world(
            rng, 100.0, 12.0, Demand(12, 20, 25, 8.0), slope=slope, named_scenery=True
        )
        for t in np.linspace(1.0, 11.0, count):
            rig = random_rig(rng, Wanted(lidar=device, weather="dry"))
            busy = world.with_movers(companions(world, float(t), rng))
            seen = sweep(busy, rig.lidar, float(t), rng, rig.weather)
            points = deskewed(busy, rig.lidar, seen, float(t), rng)
            believed = rig.believed_from_base
            above = _above_ground(world, world.pose(float(t)).apply(points))
            ground, tall = _kinds(world, seen.object_id)
            yield Frame(
                f"{device}, slopes to {slope:.0%}",
                np.ascontiguousarray(believed.apply(points).T.astype(np.float32)),
                seen.intensity,
                float(believed.apply(rig.lidar.base_from_lidar.translation)[2]),
                ground,
                tall,
                above,
            )


def _kinds(world: Any, object_id: npt.NDArray[np.int64]) -> tuple[Bools, Bools]:
    """Which points are on the ground, and which on a thing taller than TALL_M."""
    town = world.town
    mesh = -2 - object_id  # of town.scenery, where it is not negative
    tall = [object_id >= 0]
    for k in np.unique(mesh[mesh >= town.ground]):
        thing = town.scenery[k]
        foot = np.append(thing.vertices[:, :2].mean(axis=0), 0.0)
        high = float(thing.vertices[:, 2].max()) + float(_above_ground(world, foot[None])[0])
        if high > TALL_M and not np.isin(thing.materials, town.soil).any():
            tall.append(mesh == k)
    return (mesh >= 0) & (mesh < town.ground), np.logical_or.reduce(tall)


def _above_ground(world: Any, points: F64) -> F64:
    """Heights [N] of points in the world above the town's ground."""
    from mm_fusion.sim.mesh import merge
    from mm_fusion.sim.raycast import RayScene, packed

    ground = merge(world.town.scenery[: world.town.ground])
    scene = RayScene(ground.vertices, ground.triangles, 1)
    start = points + np.array([0.0, 0.0, _FROM_M])
    down = np.tile(np.array([0.0, 0.0, -1.0], np.float32), (len(points), 1))
    found = scene.cast(packed(start.astype(np.float32), down)).range_m
    return np.asarray(found, np.float64) - _FROM_M


# ------------------------------------------------------------------------------ the finders


def _peer() -> Finder:
    try:
        peer = importlib.import_module("pypatchworkpp")
    except ImportError as error:
        raise StageError("--peer: needs Patchwork++: pip install pypatchworkpp") from error

    def find(xyz: F32, lidar_height_m: float) -> Bools:
        parameters = peer.Parameters()
        parameters.sensor_height, parameters.max_range = lidar_height_m, 100.0
        parameters.enable_RNR = False  # its noise removal wants the device's intensities
        algorithm = peer.patchworkpp(parameters)
        points = np.zeros((xyz.shape[1], 4))
        points[:, :3] = xyz.T
        points[:, 2] -= lidar_height_m
        algorithm.estimateGround(points)
        found = np.zeros(xyz.shape[1], np.bool_)
        found[algorithm.getGroundIndices()] = True
        return found

    return find


def _scores(frame: Frame, find: Finder) -> dict[str, Any]:
    spent = []
    for _ in range(ROUNDS):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        found = find(frame.xyz, frame.lidar_height_m)
        spent.append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
    wall_ms, cpu_ms = np.median(np.array(spent), axis=0) * 1e3
    high = {f"kept_above_{h}m": frame.tall & (frame.above_m > h) for h in (0.1, 0.2)}
    return {
        "town": frame.town,
        "points": frame.xyz.shape[1],
        "ground_removed": (int((found & frame.ground).sum()), int(frame.ground.sum())),
        "kept": (int((~found & frame.tall).sum()), int(frame.tall.sum())),
        **{n: (int((~found & m).sum()), int(m.sum())) for n, m in high.items()},
        "wall_ms": float(wall_ms),
        "cpu_ms": float(cpu_ms),
    }


SHARES = ("ground_removed", "kept", "kept_above_0.1m", "kept_above_0.2m")


def _together(frames: list[dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in SHARES:
        counts = np.array([f[name] for f in frames])
        worst = frames[int(np.argmin(counts[:, 0] / counts[:, 1]))]
        out[name] = {
            "share": _share(counts.sum(axis=0)),
            "worst_frame": _share(worst[name]),
            "worst_town": worst["town"],
        }
    full = max(frames, key=lambda f: f["points"])
    out["cost"] = {k: round(full[k], 2) for k in ("points", "wall_ms", "cpu_ms")}
    towns = dict.fromkeys(f["town"] for f in frames)
    out["by_town"] = {
        t: {n: _share(np.sum([f[n] for f in frames if f["town"] == t], axis=0)) for n in SHARES}
        for t in towns
    }
    return out


def _share(counts: Any) -> float:
    return round(float(counts[0]) / max(float(counts[1]), 1.0), 4)
