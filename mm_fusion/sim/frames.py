"""Training frames out of the simulator: what the network sees, and the truth, one file each.

``python -m mm_fusion.sim.frames --out DIR --frames N --seed S --workers W``
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.camera import CameraSpec, Picture, optical_mount, pixel_rays, render
from mm_fusion.sim.devices import beam_table
from mm_fusion.sim.lidar import LidarSpec, Sweep, sweep
from mm_fusion.sim.shading import Light
from mm_fusion.sim.traffic import Demand
from mm_fusion.sim.world import ObjectStates, World, build_world

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

FRAMES_PER_DRIVE = 16
POINT_BUDGET = 40_000
RANGE_LOW_M = np.array([-25.6, -25.6, -1.0])
RANGE_HIGH_M = np.array([51.2, 25.6, 4.0])
_WIDTH, _HEIGHT = 512, 256
_DRIVE_S = 26.0
_STRIDE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Rig:
    """The sensors of one drive: as they are, and as the calibration believes they are."""

    lidar: LidarSpec
    camera: CameraSpec
    believed_base_from_camera: RigidTransform
    light: Light


def random_rig(rng: np.random.Generator) -> Rig:
    """Sensors of random kind, place and quality."""
    kind = str(rng.choice(["16", "32", "32u", "64", "64u"], p=[0.1, 0.25, 0.2, 0.25, 0.2]))
    tilt = np.deg2rad(rng.uniform(-2, 2, 3))
    height = float(rng.uniform(1.4, 2.1))
    lidar = LidarSpec(
        beam_table(kind),
        int(rng.choice([900, 1024, 1200, 1800])),
        RigidTransform.from_rpy((rng.uniform(-0.5, 1.3), rng.uniform(-0.15, 0.15), height), tilt),
        start_azimuth_rad=float(rng.uniform(-np.pi, np.pi)),
        min_range_m=float(rng.uniform(0.8, 2.2)),
        max_range_m=float(rng.uniform(70, 120)),
        range_sigma_m=float(rng.uniform(0.01, 0.03)),
        dropout=float(rng.uniform(0.0, 0.08)),
        intensity_gain=float(rng.uniform(0.6, 1.3)),
    )
    # square pixels of a picture of this aspect, squeezed into the network's
    aspect, hfov = float(rng.uniform(1.3, 3.4)), np.deg2rad(float(rng.uniform(55, 100)))
    fx = _WIDTH / 2 / np.tan(hfov / 2)
    shift = rng.normal(scale=0.02, size=2)
    k = np.array(
        [
            [fx, 0, (_WIDTH - 1) / 2 + shift[0] * _WIDTH],
            [0, fx * aspect * _HEIGHT / _WIDTH, (_HEIGHT - 1) / 2 + shift[1] * _HEIGHT],
            [0, 0, 1],
        ]
    )
    place = (rng.uniform(0.0, 1.8), rng.uniform(-0.5, 0.5), rng.uniform(1.15, 1.9))
    mount = optical_mount(place, np.deg2rad(rng.uniform(-2, 2, 3)))
    error = RigidTransform.from_rpy(
        rng.normal(scale=0.01, size=3), np.deg2rad(rng.normal(scale=0.1, size=3))
    )
    camera = CameraSpec(
        _WIDTH,
        _HEIGHT,
        k,
        mount,
        key=float(np.exp(rng.uniform(np.log(0.1), np.log(0.32)))),
        white=tuple(rng.uniform(0.88, 1.12, 3)),
        gamma=float(rng.uniform(1.8, 2.5)),
        noise=float(rng.uniform(0.003, 0.022)),
        blur_px=float(rng.choice([0.0, rng.uniform(0.3, 0.9)])),
        vignette=float(rng.uniform(0.0, 0.4)),
    )
    return Rig(lidar, camera, mount @ error, Light.random(rng))


def random_demand(rng: np.random.Generator) -> Demand:
    """How busy a drive is."""
    return Demand(
        cars=int(rng.integers(8, 36)),
        cyclists=int(rng.integers(12, 48)),
        walkers=int(rng.integers(8, 40)),
        ego_speed_ms=float(rng.uniform(3.0, 12.0)),
    )


def deskewed(
    world: World, spec: LidarSpec, measured: Sweep, end_s: float, rng: np.random.Generator
) -> F64:
    """Points [N,3] in the base frame at the sweep's end, by the true ego motion plus the error of
    a good odometry (0.05 m/s, 0.3 deg/s)."""
    steps, inverse = np.unique(measured.seconds, return_inverse=True)
    base_from_world = world.pose(end_s).inverse()
    rotation = base_from_world.rotation @ world.ego.rotation(end_s + steps.astype(np.float64))
    offset = base_from_world.apply(world.ego.position(end_s + steps.astype(np.float64)))
    offset = offset + steps[:, None] * rng.normal(scale=0.05, size=3) * [1.0, 0.4, 0.2]
    slip = steps * float(rng.normal(scale=np.deg2rad(0.3)))
    c, s, zero = np.cos(slip), np.sin(slip), np.zeros_like(slip)
    turn = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], -1).reshape(-1, 3, 3)
    rotation = rotation @ turn
    in_base = spec.base_from_lidar.apply(measured.points.astype(np.float64))
    return np.asarray(np.einsum("nij,nj->ni", rotation[inverse], in_base) + offset[inverse])


def in_range(center: F64) -> npt.NDArray[np.bool_]:
    """Whose centre [N,3] lies over the network's ground area."""
    return np.asarray(
        ((center[:, :2] >= RANGE_LOW_M[:2]) & (center[:, :2] < RANGE_HIGH_M[:2])).all(axis=1)
    )


def network_points(points: F64, measured: Sweep, rng: np.random.Generator) -> tuple[F32, Any]:
    """Rows of the contract's ``points`` [N,5] and which of the sweep's points they are."""
    inside = ((points >= RANGE_LOW_M) & (points < RANGE_HIGH_M)).all(axis=1)
    index = np.flatnonzero(inside)
    if len(index) > POINT_BUDGET:
        index = np.sort(rng.choice(index, POINT_BUDGET, replace=False))
    rows = np.column_stack([points[index], measured.intensity[index], -measured.seconds[index]])
    return rows.astype(np.float32), index


def class_map(picture: Picture, objects: ObjectStates) -> npt.NDArray[np.uint8]:
    """u8 [32,64]: the class (1 + label) with most pixels of each 8 x 8 patch, if it has >= 12."""
    lookup = np.zeros(int(objects.ids.max(initial=0)) + 2, np.int64)
    lookup[objects.ids] = objects.labels + 1
    classes = lookup[picture.object_id]  # id -1 reads the last entry, which is 0
    h, w = classes.shape
    patches = classes.reshape(h // _STRIDE, _STRIDE, w // _STRIDE, _STRIDE)
    counts = np.stack([(patches == c).sum(axis=(1, 3)) for c in (1, 2, 3)])
    return np.where(counts.max(axis=0) >= 12, counts.argmax(axis=0) + 1, 0).astype(np.uint8)


def make_frame(
    world: World, rig: Rig, t: float, rng: np.random.Generator, rays: F32
) -> dict[str, npt.NDArray[Any]]:
    """One frame as arrays: see the module's own contract in ``docs`` of the training data."""
    measured = sweep(world, rig.lidar, t, rng)
    points = deskewed(world, rig.lidar, measured, t, rng)
    rows, kept = network_points(points, measured, rng)
    exposed = t + float(rng.uniform(-0.05, 0.05))
    picture = render(world, rig.camera, exposed, rig.light, rng, rays)
    # the believed camera, moved with the ego vehicle from the stamp to the exposure
    camera_from_base = (
        rig.believed_base_from_camera.inverse() @ world.pose(exposed).inverse() @ world.pose(t)
    )
    everyone = world.objects_in_base(t)
    objects = everyone.select(in_range(everyone.center))
    size = int(everyone.ids.max(initial=0)) + 1
    seen = measured.object_id[kept]
    hits = np.bincount(seen[seen >= 0], minlength=size)
    pixels = np.bincount(picture.object_id[picture.object_id >= 0], minlength=size)
    return {
        "points": rows,
        "image": picture.image,
        "pixel_from_base": (rig.camera.k @ camera_from_base.matrix()[:3]).astype(np.float32),
        "boxes": objects.boxes(),
        "labels": objects.labels,
        "num_points": hits[objects.ids].astype(np.int32),
        "num_pixels": pixels[objects.ids].astype(np.int32),
        "seg": class_map(picture, everyone),
    }


def write_drive(out: Path, drive: int, first: int, count: int, seed: int) -> int:
    """Write ``count`` frames of one drive as files ``first``.. of ``out``; existing ones stay."""
    names = [out / f"{first + k:06d}.npz" for k in range(count)]
    if all(name.exists() for name in names):
        return 0
    rng = np.random.default_rng([seed, drive])
    world = build_world(rng, 115.0, _DRIVE_S, random_demand(rng))
    rig = random_rig(rng)
    rays = pixel_rays(rig.camera)
    written = 0
    for k, (name, t) in enumerate(zip(names, _frame_times(world, count), strict=True)):
        if name.exists():
            continue
        frame = make_frame(world, rig, t, np.random.default_rng([seed, drive, k]), rays)
        partial = name.with_suffix(".tmp.npz")
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **frame)
        partial.rename(name)
        written += 1
    return written


def _frame_times(world: World, count: int) -> F64:
    """Times spread over the drive by a mix of time and way, so that standing adds little."""
    t = np.arange(0.5, _DRIVE_S - 0.5, 0.1)
    speed = np.linalg.norm(world.ego.velocity(t), axis=1)
    progress = np.cumsum(speed + 1.0)
    wanted = np.linspace(progress[0], progress[-1], count)
    return np.asarray(np.interp(wanted, progress, t))


def generate(out: Path, frames: int, seed: int, workers: int) -> None:
    """Write ``frames`` frames to ``out`` with ``workers`` processes; existing files are kept."""
    out.mkdir(parents=True, exist_ok=True)
    starts = range(0, frames, FRAMES_PER_DRIVE)
    begin, done = time.monotonic(), 0
    with ProcessPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(write_drive, out, k, first, min(FRAMES_PER_DRIVE, frames - first), seed)
            for k, first in enumerate(starts)
        ]
        for job in as_completed(jobs):
            done += job.result()
            rate = done / max(time.monotonic() - begin, 1e-9)
            print(f"{done} frames written, {rate:.1f} per second", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="write simulated training frames")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .npz files")
    parser.add_argument("--frames", type=int, default=1000, help="how many frames in all")
    parser.add_argument("--seed", type=int, default=1, help="seed of the whole set")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args()
    generate(args.out, args.frames, args.seed, args.workers)


if __name__ == "__main__":
    main()
