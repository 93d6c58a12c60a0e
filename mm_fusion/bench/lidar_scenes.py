"""Surroundings for a drive known by formula, and what a spinning LIDAR on it measures.

A street (houses, posts and parked cars along the way), a tunnel, an open field. The truth is the
drive's; the rays are cast, column by column, from where the LIDAR is at that instant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from mm_fusion.bench.drives import T0_NS, Drive
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import LidarSweep
from mm_fusion.sim.devices import beam_table
from mm_fusion.sim.mesh import Mesh, box, merge
from mm_fusion.sim.raycast import RayScene, packed

F64 = npt.NDArray[np.float64]

PERIOD_S = 0.1
POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("time", "<f4")])
BASE_FROM_LIDAR = RigidTransform.from_rpy((0.7, 0.0, 1.8), (0.004, 0.01, 0.003))
_GROUND_M = 4000.0
_CLEAR_M = 4.5  # nothing stands nearer to the way
_REACH_M = (1.5, 100.0)


@dataclass(frozen=True, slots=True)
class Lidar:
    """``beams`` names a table of :mod:`mm_fusion.sim.devices`; ``columns`` a turn."""

    beams: str = "64"
    columns: int = 2083
    sigma_m: float = 0.02


def _ground() -> Mesh:
    return box((0.0, 0.0, -0.5), (_GROUND_M, _GROUND_M, 1.0), 0)


def _scene(meshes: list[Mesh]) -> RayScene:
    whole = merge([_ground(), *meshes])
    return RayScene(whole.vertices, whole.triangles, 1)


def street(drive: Drive, seed: int) -> RayScene:
    """Houses every 10 to 25 m on either side, posts and cars between them and the way."""
    rng = np.random.default_rng([seed, 31])
    way = np.stack([drive.east, drive.north], axis=1)[::100]
    near, meshes = cKDTree(way), []
    gone_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
    for length, width, height, aside, every in (
        (12.0, 9.0, 7.0, 14.0, 18.0),
        (0.25, 0.25, 5.0, 5.5, 20.0),
        (4.2, 1.8, 1.5, 6.5, 15.0),
    ):
        for side in (-1.0, 1.0):
            at_m = -60.0
            while at_m < gone_m[-1] + 60.0:
                at_m += float(rng.uniform(0.6, 1.4)) * every
                size = np.array([length, width, height]) * rng.uniform(0.8, 1.4, 3)
                place, yaw = _beside(way, gone_m, drive.yaw[::100], at_m)
                out_m = side * (aside + float(rng.uniform(0.0, 3.0)) + size[1] / 2 - width / 2)
                place = place + out_m * np.array([-np.sin(yaw), np.cos(yaw)])
                if near.query(place)[0] > _CLEAR_M + float(np.hypot(size[0], size[1])) / 2:
                    upright = box((0.0, 0.0, size[2] / 2), size, 0)
                    turn = yaw + float(rng.normal(0.0, 0.1))
                    meshes.append(upright.placed((*place, 0.0), turn))
    return _scene(meshes)


def _beside(way: F64, gone_m: F64, yaw: F64, at_m: float) -> tuple[F64, float]:
    """The point [2] of the way after ``at_m``, gone on straight at its ends, and the heading."""
    if at_m < 0.0 or at_m > gone_m[-1]:
        end = 0 if at_m < 0.0 else -1
        more = at_m - float(gone_m[end])
        ahead = np.array([np.cos(yaw[end]), np.sin(yaw[end])])
        return way[end] + more * ahead, float(yaw[end])
    n = min(int(np.searchsorted(gone_m, at_m)), len(way) - 1)
    return way[n], float(yaw[n])


def tunnel(drive: Drive) -> RayScene:
    """Two smooth walls and a roof along a drive that goes straight on."""
    middle = np.array([drive.east.mean(), drive.north.mean(), 0.0])
    parts = [
        box((0.0, 5.5, 3.0), (3000.0, 1.0, 6.0), 0),
        box((0.0, -5.5, 3.0), (3000.0, 1.0, 6.0), 0),
        box((0.0, 0.0, 6.5), (3000.0, 12.0, 1.0), 0),
    ]
    return _scene([p.placed(middle, drive.heading) for p in parts])


def field() -> RayScene:
    """Flat ground, and nothing on it."""
    return _scene([])


def pose_at(drive: Drive, seconds: F64) -> tuple[F64, F64]:
    """World from base at instants [N]: rotations [N,3,3] and places [N,3]."""
    yaw = np.interp(seconds, drive.t, drive.yaw)
    east, north = (np.interp(seconds, drive.t, v) for v in (drive.east, drive.north))
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    rotations = np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)
    return rotations, np.stack([east, north, zero], axis=-1)


def motion_between(drive: Drive, first_ns: int, second_ns: int) -> RigidTransform:
    """The base's true motion from one instant to another."""
    seconds = (np.array([first_ns, second_ns]) - T0_NS) / 1e9
    a, b = (RigidTransform(r, p) for r, p in zip(*pose_at(drive, seconds), strict=True))
    return a.inverse() @ b


def sweep(scene: RayScene, drive: Drive, lidar: Lidar, end_s: float, seed: int) -> LidarSweep:
    """One turn that ends, and is stamped, at ``end_s``."""
    rng = np.random.default_rng([seed, 32, round(end_s * 1000)])
    steps = np.arange(lidar.columns) - (lidar.columns - 1)
    seconds = steps * (PERIOD_S / lidar.columns)
    azimuth = np.pi - np.arange(lidar.columns) * (2 * np.pi / lidar.columns)
    elevation = beam_table(lidar.beams)
    ce, se = np.cos(elevation), np.sin(elevation)
    direction = np.stack(
        [
            np.cos(azimuth)[:, None] * ce,
            np.sin(azimuth)[:, None] * ce,
            np.broadcast_to(se, (len(azimuth), len(se))),
        ],
        axis=-1,
    )
    rotations, places = pose_at(drive, np.asarray(end_s + seconds, np.float64))
    origin = places + rotations @ BASE_FROM_LIDAR.translation
    turned = np.einsum("cij,cbj->cbi", rotations @ BASE_FROM_LIDAR.rotation, direction)
    starts = np.broadcast_to(origin[:, None], turned.shape).reshape(-1, 3)
    rays = packed(starts.astype(np.float32), turned.reshape(-1, 3).astype(np.float32))
    range_m = scene.cast(rays).range_m
    back = (range_m > _REACH_M[0]) & (range_m < _REACH_M[1])
    measured = range_m[back] + rng.normal(0.0, lidar.sigma_m, int(back.sum()))
    points = np.empty(len(measured), POINT)
    found = direction.reshape(-1, 3)[back] * measured[:, None]
    points["x"], points["y"], points["z"] = found.T
    points["time"] = np.repeat(seconds, len(elevation))[back]
    stamp_ns = T0_NS + round(end_s * 1e9)
    return LidarSweep("lidar", stamp_ns, "lidar", points, time_field="time", time_unit_ns=1e9)


def sweeps(
    scene: RayScene, drive: Drive, lidar: Lidar, seed: int, first_s: float, last_s: float
) -> list[LidarSweep]:
    """Ten turns a second from one instant to another."""
    count = round((last_s - first_s) / PERIOD_S)
    ends = first_s + PERIOD_S * np.arange(1, count + 1)
    return [sweep(scene, drive, lidar, float(s), seed) for s in ends]
