"""How many objects of a street get a box within a metre, of those that a real detector would find.

Simulated streets as a car with a 64-beam LIDAR and a camera of 1242 x 375 pixels sees them. In
place of a detector, boxes are drawn about the pixels of each object that are seen, as detectors
draw them: about the visible part, or about more of it by guess; cut off by the picture's border;
off by 4 % of their size or 2 pixels; vans are called cars, lorries or both, people on bicycles are
people, bicycles or both; what is small or mostly hidden is missed. An object counts as found where
a box overlaps that of all of it within the picture by half (IoU). ``bench late_fusion`` asks the
same of frames with whole boxes, and what it costs.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.config_objects import GroundConfig
from mm_fusion.datasets.frame import LABELS
from mm_fusion.geometry import RigidTransform, overlaps, project
from mm_fusion.perception.camera2d.associate import Seen
from mm_fusion.perception.camera2d.bodies import Look
from mm_fusion.perception.camera2d.contract import usual_map
from mm_fusion.perception.camera2d.locate import locate, prior_of
from mm_fusion.perception.camera2d.riders import with_riders
from mm_fusion.perception.ground import find_ground

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

HELP = "how many objects of a street get a box within a metre, with boxes as detectors draw them"

WIDTH, HEIGHT = 1242, 375
K = np.array([[721.5, 0.0, 609.6], [0.0, 721.5, 172.9], [0.0, 0.0, 1.0]])
LIMIT = np.array([WIDTH, HEIGHT] * 2) - 0.5
NAMES = usual_map(("person", "bicycle", "car", "bus", "truck"))
FARTHEST_M, NEAR_M, FOUND_IOU, LEAST_PIXELS = 40.0, 1.0, 0.5, 40
SCALE = 640 / WIDTH  # of the detector's picture
NOISE, NOISE_PX = 0.04, 2.0


class Thing(NamedTuple):
    """An object: its class and kind, box [7] in the base frame, pixels seen; the camera boxes about
    those, and about all of it within the picture; whether the border cuts it off."""

    label: str
    kind: str
    box: F64
    pixels: int
    seen: F64
    whole: F64
    cut: bool


class Street(NamedTuple):
    """One frame: points [N,3], objects, the camera's projection [3,4]."""

    xyz: npt.NDArray[np.float32]
    things: list[Thing]
    pixel_from_base: F64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--towns", type=int, default=10, help="simulated towns [10]")
    parser.add_argument("--frames", type=int, default=8, help="frames of each, at most 16 [8]")
    parser.add_argument("--seed", type=int, default=92, help="seed of towns and detector [92]")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    errors: dict[str, list[float]] = defaultdict(list)
    count = 0
    for town in range(args.towns):
        rng = np.random.default_rng([args.seed, town])
        for street in _streets(rng, args.frames):
            count += 1
            for thing, error in _errors(street, np.random.default_rng([args.seed, count, 1])):
                errors["all"].append(error)
                errors[thing.label].append(error)
                away = float(np.hypot(*thing.box[:2]))
                errors[f"to {10 * int(away // 10 + 1)} m"].append(error)
                errors["cut off" if thing.cut else "not cut off"].append(error)
    return {
        "frames": count,
        "within_1_m": {
            name: {
                "objects": len(off),
                "share": round(float(np.mean(np.array(off) < NEAR_M)), 3),
                "median_m": round(float(np.median(off)), 3),
            }
            for name, off in sorted(errors.items())
        },
    }


# -------------------------------------------------------------------------------- the frames


def _streets(rng: Rng, count: int) -> Iterator[Street]:
    from mm_fusion.sim.companions import companions
    from mm_fusion.sim.frames import frame_times, random_demand
    from mm_fusion.sim.world import build_world

    world = build_world(rng, 100.0, 20.0, random_demand(rng))
    for t in rng.choice(frame_times(world), count, replace=False).tolist():
        yield _street(world.with_movers(companions(world, t, rng)), t, rng)


def _street(world: Any, t: float, rng: Rng) -> Street:
    """The camera is exposed while the LIDAR looks ahead, in the middle of its turn."""
    from mm_fusion.sim.camera import CameraSpec, optical_mount, pixel_rays
    from mm_fusion.sim.frames import deskewed
    from mm_fusion.sim.lidar import sweep
    from mm_fusion.sim.raycast import packed
    from mm_fusion.sim.weather import Weather

    spec = _lidar(rng)
    points = sweep(world, spec, t + 0.05, rng, Weather.random(rng, "dry"))
    xyz = deskewed(world, spec, points, t + 0.05, rng, t).astype(np.float32)
    believed = optical_mount((0.27, 0.06, 1.65), np.deg2rad(rng.normal(0.0, 0.3, 3)))
    error = rng.normal(0.0, 0.01, 3), np.deg2rad(rng.normal(0.0, 0.05, 3))
    mount = believed @ RigidTransform.from_rpy(*error)
    eye = world.pose(t) @ mount
    rays = pixel_rays(CameraSpec(WIDTH, HEIGHT, K, mount)) @ eye.rotation.T.astype(np.float32)
    start = eye.translation.astype(np.float32)
    moving = world.moving(np.array([t]), eye.translation[None], 160.0)[0]
    found = world.cast(packed(start, rays), moving)
    ids = found.object_id.reshape(HEIGHT, WIDTH)
    states = world.objects_in_base(t)
    true = K @ mount.inverse().matrix()[:3]
    things = [_thing(world, states, k, ids == i, true) for k, i in enumerate(states.ids.tolist())]
    return Street(xyz, [x for x in things if x is not None], K @ believed.inverse().matrix()[:3])


def _lidar(rng: Rng) -> Any:
    from mm_fusion.sim.devices import DEVICES
    from mm_fusion.sim.lidar import Channels, LidarSpec

    device = DEVICES["hdl64e"]
    mount = RigidTransform.from_rpy((0.0, 0.0, 1.57), np.deg2rad(rng.normal(0.0, 0.3, 3)))
    return LidarSpec(
        np.deg2rad(device.elevations_deg),
        max(device.columns),
        mount,
        dropout=0.05,
        strength=float(np.exp(rng.uniform(np.log(0.05), np.log(0.3)))),
        heights_m=device.heights_m,
        channels=Channels.random(rng, device.beams),
    )


def _thing(
    world: Any, states: Any, k: int, mask: npt.NDArray[np.bool_], pixel_from_base: F64
) -> Thing | None:
    v, u = np.nonzero(mask)
    if len(u) < LEAST_PIXELS:
        return None
    seen = np.array([u.min() - 0.5, v.min() - 0.5, u.max() + 0.5, v.max() + 0.5])
    model, yaw = world.model(int(states.ids[k])), float(states.yaw[k])
    turn = RigidTransform.from_rpy(states.center[k], (0.0, 0.0, yaw))
    points = turn.apply(model.meshes[0].vertices - [0.0, 0.0, 0.5 * states.size[k, 2]])
    pixel, front = project(pixel_from_base, points)
    whole = np.concatenate([pixel[front].min(axis=0), pixel[front].max(axis=0)])
    whole = whole if front.all() else np.concatenate([np.minimum(whole[:2], seen[:2]), whole[2:]])
    inside = np.clip(whole, -0.5, LIMIT)
    cut = not front.all() or bool((np.abs(inside - whole) > 0.5).any())
    inside = inside if front.all() else seen
    box = np.array([*states.center[k], *states.size[k], yaw])
    return Thing(LABELS[states.labels[k]], model.kind, box, len(u), seen, inside, cut)


# ------------------------------------------------------------------------------ the detector


def _called(thing: Thing, rng: Rng) -> list[str]:
    """What a detector of COCO's classes calls it."""
    kind = thing.kind.split("_")[0]
    if thing.label == "pedestrian":
        return ["person"]
    if thing.label == "cyclist":
        names = [["person", "bicycle"], ["person"], ["bicycle"]]
        return names[int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
    if kind in ("truck", "bus"):
        return [kind] if rng.random() < 0.8 else ["car"]
    if kind in ("van", "minibus", "pickup"):
        return [["car"], ["truck"], ["car", "truck"]][int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
    return ["car"]


def _detected(things: list[Thing], rng: Rng) -> list[Seen]:
    out = []
    for x in things:
        size = x.whole[2:] - x.whole[:2]
        tall = SCALE * min(size[1], x.seen[3] - x.seen[1])
        chance = np.clip((tall - 7.0) / 10.0, 0.0, 1.0)
        chance *= np.clip((x.pixels / max(float(np.prod(size)), 1.0) - 0.12) / 0.3, 0.0, 1.0)
        if rng.random() > chance:
            continue
        guessed = 0.0 if rng.random() < 0.5 else rng.random()
        for name in _called(x, rng):
            box = x.seen + guessed * (x.whole - x.seen)
            if x.label == "cyclist":
                box = box + _part(name, box)
            sigma = np.maximum(NOISE_PX, NOISE * np.tile(box[2:] - box[:2], 2))
            box = np.clip(box + sigma * rng.normal(size=4), -0.5, LIMIT)
            if (box[2:] - box[:2] >= 2.0).all():
                label = NAMES[name]
                score = float(rng.uniform(0.3, 0.95))
                out.append(Seen(box, score, label, name, prior_of(label, name)))
    return out


def _part(name: str, box: F64) -> F64:
    """From a cyclist's box to that of the rider, or of the bicycle."""
    width, height = box[2:] - box[:2]
    if name == "bicycle":
        return np.array([0.0, 0.4 * height, 0.0, 0.0])
    return np.array([0.1 * width, 0.0, -0.1 * width, -0.15 * height])


def _errors(street: Street, rng: Rng) -> Iterator[tuple[Thing, float]]:
    """The found objects up to FARTHEST_M, and how far from each the nearest box is, m."""
    seen = with_riders(_detected(street.things, rng))
    xyz = np.ascontiguousarray(street.xyz.T)
    look = Look(seen, street.pixel_from_base, (WIDTH, HEIGHT))
    boxes = locate([look], xyz, find_ground(xyz, GroundConfig()), 60.0, np.zeros(2))
    if not seen:
        return
    overlap = overlaps(np.stack([s.box for s in seen]), np.stack([t.whole for t in street.things]))
    for thing, own in zip(street.things, overlap.T, strict=True):
        best = int(own.argmax())
        if own[best] < FOUND_IOU or np.hypot(*thing.box[:2]) > FARTHEST_M:
            continue
        if overlap[best].max() > own[best]:
            continue  # another's box
        off = [float(np.hypot(*(d.center - thing.box[:3])[:2])) for d in boxes]
        yield thing, min(off, default=np.inf)
