"""Training frames out of the simulator: what the sensors saw and what there was, one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.datasets.frame import (
    CLASS_STRIDE,
    Cloud,
    LabelledFrame,
    Objects,
    write_frame,
)
from mm_fusion.geometry import project
from mm_fusion.sim.camera import Picture, render
from mm_fusion.sim.companions import companions
from mm_fusion.sim.lidar import LidarSpec, Sweep, sweep
from mm_fusion.sim.raycast import packed
from mm_fusion.sim.rigs import Rig, Wanted, random_rig
from mm_fusion.sim.traffic import Demand
from mm_fusion.sim.world import ObjectStates, World, build_world

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

FRAMES_PER_DRIVE = 16
RANGE_LOW_M = np.array([-25.6, -25.6, -1.0])
RANGE_HIGH_M = np.array([51.2, 25.6, 4.0])
# What is labelled: more than the network looks at, so that another one may look further.
LABELLED_LOW_M = np.array([-45.0, -50.0])
LABELLED_HIGH_M = np.array([80.0, 50.0])
EXTENT_M = 100.0
DRIVE_S = 20.0
_PERIOD_S = 0.1
_LOOKS = 20  # rays that ask how much of an object can be seen


def random_demand(rng: np.random.Generator) -> Demand:
    """How busy a drive is."""
    return Demand(
        cars=int(rng.integers(4, 20)),
        cyclists=int(rng.integers(10, 40)),
        walkers=int(rng.integers(8, 44)),
        ego_speed_ms=float(rng.uniform(3.0, 12.0)),
    )


def deskewed(
    world: World,
    spec: LidarSpec,
    measured: Sweep,
    end_s: float,
    rng: np.random.Generator,
    at_s: float | None = None,
) -> F64:
    """Points [N,3] in the base frame at ``at_s`` (the sweep's end), by the true ego motion plus
    the error of a good odometry (0.05 m/s, 0.3 deg/s)."""
    at_s = end_s if at_s is None else at_s
    steps, inverse = _columns(measured.seconds)
    times = end_s + steps.astype(np.float64)
    base_from_world = world.pose(at_s).inverse()
    rotation = base_from_world.rotation @ world.ego.rotation(times)
    offset = base_from_world.apply(world.ego.position(times))
    elapsed = times - at_s
    offset = offset + elapsed[:, None] * rng.normal(scale=0.05, size=3) * [1.0, 0.4, 0.2]
    slip = elapsed * float(rng.normal(scale=np.deg2rad(0.3)))
    c, s, zero = np.cos(slip), np.sin(slip), np.zeros_like(slip)
    turn = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], -1).reshape(-1, 3, 3)
    rotation = rotation @ turn
    in_base = spec.base_from_lidar.apply(measured.points.astype(np.float64))
    return np.asarray(np.einsum("nij,nj->ni", rotation[inverse], in_base) + offset[inverse])


def _columns(seconds: F32) -> tuple[F32, npt.NDArray[np.int64]]:
    """The different times [C] of points [N] in the order of time, and whose [N] is which."""
    new = np.append(True, seconds[1:] != seconds[:-1])
    return seconds[new[: len(seconds)]], np.cumsum(new[: len(seconds)]) - 1


def in_range(center: F64) -> npt.NDArray[np.bool_]:
    """Whose centre [N,3] lies over the network's ground area."""
    return np.asarray(
        ((center[:, :2] >= RANGE_LOW_M[:2]) & (center[:, :2] < RANGE_HIGH_M[:2])).all(axis=1)
    )


def class_map(picture: Picture, objects: ObjectStates) -> npt.NDArray[np.uint8]:
    """u8 [ceil(H/4),ceil(W/4)]: 0, or the class (1 + label) with most pixels of a 4 x 4 patch, if
    it has at least 3."""
    lookup = np.zeros(int(objects.ids.max(initial=0)) + 2, np.uint8)
    lookup[objects.ids] = objects.labels + 1
    classes = lookup[picture.object_id]  # id -1 reads the last entry, which is 0
    h, w = classes.shape
    pad = ((0, -h % CLASS_STRIDE), (0, -w % CLASS_STRIDE))
    classes = np.pad(classes, pad)
    rows, columns = classes.shape[0] // CLASS_STRIDE, classes.shape[1] // CLASS_STRIDE
    patches = classes.reshape(rows, CLASS_STRIDE, columns, CLASS_STRIDE)
    counts = np.stack([_sum_of_patches(patches == c) for c in (1, 2, 3)])
    return np.where(counts.max(axis=0) >= 3, counts.argmax(axis=0) + 1, 0).astype(np.uint8)


def _sum_of_patches(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """How many are marked [rows, columns] in patches [rows,4,columns,4], at a fifth of the time
    that a sum over two axes takes."""
    lines = marked.view(np.uint8)
    across = lines[:, 0] + lines[:, 1] + lines[:, 2] + lines[:, 3]
    return np.asarray(across[..., 0] + across[..., 1] + across[..., 2] + across[..., 3])


def visible_share(
    world: World,
    states: ObjectStates,
    t: float,
    origin: F64,
    pixel_from_world: F64 | None = None,
    size_px: tuple[int, int] = (0, 0),
) -> F32:
    """How much [N] of objects (in the world) nothing else hides from ``origin`` at ``t``: the
    share of points all over an object to which a straight line is free. With a projection [3,4],
    only points within the picture of ``size_px`` (width, height) count as seen."""
    points, free = _looks(world, states, t, origin[None])
    return _share(points, free[0], pixel_from_world, size_px)


def _looks(
    world: World, states: ObjectStates, t: float, origins: F64
) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Points [N*20,3] all over objects (in the world), and whether nothing else lies on the line
    [E,N*20] to them from each of ``origins`` [E,3], a few metres apart at the most."""
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [np.zeros((0, 3)), *(_places(world, states, k, rng) for k in range(len(states.ids)))]
    )
    towards = points - origins[:, None]
    distance = np.maximum(np.linalg.norm(towards, axis=2), 1e-6)
    start = np.broadcast_to(origins[:, None], towards.shape).reshape(-1, 3)
    ahead = (towards / distance[..., None]).reshape(-1, 3)
    rays = packed(start.astype(np.float32), ahead.astype(np.float32))
    middle = origins.mean(axis=0)
    spread = float(np.linalg.norm(origins - middle, axis=1).max())
    found = world.cast(rays, world.moving(np.array([t]), middle[None], 120.0, None, spread)[0])
    own = np.tile(np.repeat(states.ids, _LOOKS), len(origins))
    free = (found.object_id == own) | (found.range_m > distance.ravel() - 0.05)
    return points, free.reshape(len(origins), -1)


def _share(
    points: F64,
    free: npt.NDArray[np.bool_],
    pixel_from_world: F64 | None = None,
    size_px: tuple[int, int] = (0, 0),
) -> F32:
    if pixel_from_world is not None:
        pixel, front = project(pixel_from_world, points)
        with np.errstate(invalid="ignore"):
            inside = ((pixel >= -0.5) & (pixel < np.array(size_px) - 0.5)).all(axis=1)
        free = free & front & inside
    return free.reshape(-1, _LOOKS).mean(axis=1).astype(np.float32)


def _places(world: World, states: ObjectStates, k: int, rng: np.random.Generator) -> F64:
    """Points [20,3] all over an object's mesh, in the world."""
    mesh = world.model(int(states.ids[k])).meshes[0]
    vertices = mesh.vertices[mesh.triangles[rng.integers(0, len(mesh.triangles), _LOOKS)]]
    local = vertices.mean(axis=1) - [0, 0, 0.5 * states.size[k, 2]]
    c, s = np.cos(states.yaw[k]), np.sin(states.yaw[k])
    turned = local @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(turned + states.center[k])


def make_frame(
    world: World,
    rig: Rig,
    t: float,
    rng: np.random.Generator,
    rays: F32 | None = None,
    previous: bool = False,
) -> LabelledFrame:
    """One frame of a world, with vehicles of its own around the ego vehicle.

    ``rays`` may hand in ``pixel_rays(rig.camera)`` computed before; ``previous`` asks for the
    sweep before as well.
    """
    world = world.with_movers(companions(world, t, rng))
    measured = sweep(world, rig.lidar, t, rng, rig.weather)
    states = world.objects_in_base(t)
    cloud = placed_cloud(world, rig, measured, (t, t), rng)
    exposed = t + float(rng.uniform(-0.05, 0.05))
    picture = render(world, rig.camera, exposed, rig.light, rng, rays)
    before = None
    if previous:
        earlier = sweep(world, rig.lidar, t - _PERIOD_S, rng, rig.weather)
        before = placed_cloud(world, rig, earlier, (t - _PERIOD_S, t), rng)
    return LabelledFrame(
        cloud,
        (picture.image,),
        believed_projection(world, rig, t, exposed).astype(np.float32)[None],
        _objects(world, rig, (measured, picture), states, (t, exposed)),
        class_map(picture, states),
        previous=before,
        conditions=_conditions(rig, exposed - t),
    )


def believed_projection(world: World, rig: Rig, t: float, exposed: float) -> F64:
    """pixel_from_base [3,4] of the believed base frame at ``t`` into the believed camera, which
    the ego vehicle has carried on until ``exposed``."""
    camera_from_base = (
        rig.believed_base_from_camera.inverse() @ world.pose(exposed).inverse() @ world.pose(t)
    )
    camera_from_believed = camera_from_base @ rig.believed_from_base.inverse()
    return np.asarray(rig.camera.k @ camera_from_believed.matrix()[:3])


def _conditions(rig: Rig, offset_s: float) -> dict[str, Any]:
    return {
        "source": "sim",
        "device": rig.device,
        "beams": len(rig.lidar.elevations_rad),
        "lidar_height_m": round(float(rig.lidar.base_from_lidar.translation[2]), 3),
        "weather": rig.weather.kind,
        "night": rig.light.night,
        "visibility_m": round(rig.weather.visibility_m),
        "exposure_offset_s": round(offset_s, 4),
        "columns": rig.lidar.columns,
    }


def placed_cloud(
    world: World, rig: Rig, measured: Sweep, span: tuple[float, float], rng: np.random.Generator
) -> Cloud:
    """A sweep that ended at the first of ``span``, in the believed base frame at the second."""
    end_s, at_s = span
    points = deskewed(world, rig.lidar, measured, end_s, rng, at_s)
    return Cloud(
        rig.believed_from_base.apply(points).astype(np.float32),
        measured.intensity,
        (at_s - end_s - measured.seconds).astype(np.float32),
        measured.ring.astype(np.uint8),
    )


def _objects(
    world: World,
    rig: Rig,
    seen: tuple[Sweep, Picture],
    base: ObjectStates,
    span: tuple[float, float],
) -> Objects:
    """The truth ``base`` at the first time of ``span``, with what the LIDAR then and the camera
    at the second one have seen of it."""
    (measured, picture), (t, exposed) = seen, span
    ground = base.center[:, :2]
    labelled = np.asarray(((ground >= LABELLED_LOW_M) & (ground < LABELLED_HIGH_M)).all(axis=1))
    states = base.select(labelled)
    size = int(base.ids.max(initial=0)) + 1
    hits = np.bincount(measured.object_id[measured.object_id >= 0], minlength=size)[states.ids]
    pixels = np.bincount(picture.object_id[picture.object_id >= 0], minlength=size)[states.ids]
    visible = np.zeros((len(states.ids), 2), np.float32)
    # what left neither a point nor a pixel is not looked for
    some = np.flatnonzero((hits > 0) | (pixels > 0))
    there = world.in_world(states.select(some), t)
    world_from_camera = world.pose(exposed) @ rig.camera.base_from_camera
    projection = rig.camera.k @ world_from_camera.inverse().matrix()[:3]
    resolution = (rig.camera.width, rig.camera.height)
    lidar = world.pose(t).apply(rig.lidar.base_from_lidar.translation)
    eyes = np.stack([lidar, world_from_camera.translation])
    points, free = _looks(world, there, t, eyes)
    visible[some, 0] = _share(points, free[0])
    visible[some, 1] = _share(points, free[1], projection, resolution)
    boxes = states.boxes()
    boxes[:, :3] = rig.believed_from_base.apply(states.center)
    return Objects(
        boxes,
        states.labels,
        hits.astype(np.int32),
        pixels.astype(np.int32),
        visible,
        tuple(world.model(int(i)).kind for i in states.ids),
        states.ids,
    )


def write_drive(
    out: Path,
    drive: int,
    frames: range,
    seed: int,
    wanted: Wanted | None = None,
    done: Callable[[int], None] | None = None,
) -> int:
    """Write frames ``frames`` of the set as one drive's; those that are there stay.

    The answer is how many were written; ``done`` is called with each one's number.
    """
    wanted = Wanted() if wanted is None else wanted
    names = [out / f"{number:06d}.npz" for number in frames]
    if all(name.exists() for name in names):
        return 0
    rng = np.random.default_rng([seed, drive])
    world = build_world(rng, EXTENT_M, DRIVE_S, random_demand(rng), country=wanted.country)
    written = 0
    for k, (name, t) in enumerate(zip(names, frame_times(world), strict=False)):
        if name.exists():
            continue
        own = np.random.default_rng([seed, drive, k])
        # sensors and weather are new for every frame: a town is dear, they are not
        rig = random_rig(own, wanted)
        frame = make_frame(world, rig, float(t), own, None, wanted.previous)
        frame.conditions.update(drive=drive, seed=seed, time_s=round(float(t), 3))
        write_frame(name, frame)
        written += 1
        if done is not None:
            done(frames[k])
    return written


def frame_times(world: World) -> F64:
    """Times [FRAMES_PER_DRIVE] spread over the drive by a mix of time and way, so that standing
    adds little. They do not depend on how many frames are asked for."""
    t = np.arange(0.5, DRIVE_S - 0.5, 0.1)
    speed = np.linalg.norm(world.ego.velocity(t), axis=1)
    progress = np.cumsum(speed + 1.0)
    wanted = np.linspace(progress[0], progress[-1], FRAMES_PER_DRIVE)
    return np.asarray(np.interp(wanted, progress, t))
