"""A spinning LIDAR: beams, rolling sweep, returns by material, range and angle."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.raycast import packed
from mm_fusion.sim.world import Surface, World

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_SECTORS = 12


@dataclass(frozen=True, slots=True, eq=False)
class LidarSpec:
    """A device and how it is mounted.

    ``elevations_rad`` [B] from the lowest beam to the highest, ``columns`` azimuth steps a turn,
    turning clockwise seen from above (azimuth falls) from ``start_azimuth_rad`` in the sensor's
    frame. ``strength`` is the share of light a perfect surface at ``max_range_m`` must give back.
    """

    elevations_rad: F64
    columns: int
    base_from_lidar: RigidTransform
    period_s: float = 0.1
    start_azimuth_rad: float = np.pi
    min_range_m: float = 1.2
    max_range_m: float = 100.0
    range_sigma_m: float = 0.02
    dropout: float = 0.01
    intensity_gain: float = 1.0
    strength: float = 0.06


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One turn as measured. Each point is in the LIDAR's frame at its own instant.

    ``points`` f32 [N,3] m, ``intensity`` f32 [N] 0..1, ``ring`` u16 [N] (0 is the lowest beam),
    ``seconds`` f32 [N] relative to the end of the sweep (<= 0), ``object_id`` i64 [N] truth.
    """

    points: F32
    intensity: F32
    ring: npt.NDArray[np.uint16]
    seconds: F32
    object_id: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def beam_table(name: str) -> F64:
    """Elevations [B] rad of a kind of device, lowest first."""
    tables = {
        "16": np.linspace(-15.0, 15.0, 16),
        "32": np.linspace(-30.67, 10.67, 32),
        "32u": np.concatenate(
            [[-25.0, -15.6, -11.3, -8.8], np.linspace(-7.2, 4.7, 24), [5.7, 7.3, 10.3, 15.0]]
        ),
        "64": np.concatenate([np.linspace(-24.8, -8.83, 32), np.linspace(-8.33, 2.0, 32)]),
        "64u": np.linspace(-22.5, 22.5, 64),
        "128": np.linspace(-22.5, 22.5, 128),
    }
    return np.asarray(np.deg2rad(tables[name]))


def sweep(world: World, spec: LidarSpec, end_s: float, rng: np.random.Generator) -> Sweep:
    """One turn that ends at ``end_s``, taken while the ego vehicle and the traffic move.

    Every ray starts where the sensor is at the ray's instant. Movers stand still within each of
    the twelve parts of a turn, at the part's middle.
    """
    columns, beams = spec.columns, len(spec.elevations_rad)
    # the last column falls on the stamp
    steps = np.arange(columns, dtype=np.float64) - (columns - 1)
    seconds = np.asarray(steps * (spec.period_s / columns), np.float64)
    azimuth = np.asarray(
        spec.start_azimuth_rad - np.arange(columns) * (2 * np.pi / columns), np.float64
    )
    direction = _directions(azimuth, spec.elevations_rad)
    times = end_s + seconds
    world_from_base = world.ego.rotation(times)
    rotation = world_from_base @ spec.base_from_lidar.rotation
    origin = world.ego.position(times) + world_from_base @ spec.base_from_lidar.translation
    rays = np.einsum("cij,cbj->cbi", rotation, direction).astype(np.float32)
    start = np.repeat(origin.astype(np.float32), beams, axis=0)
    found = _cast(world, spec, rays, start, times, origin)
    keep, measured, intensity = _measure(world, spec, found, rays.reshape(-1, 3), rng)
    index = np.flatnonzero(keep)
    points = direction.reshape(-1, 3)[index] * measured[index, None]
    return Sweep(
        points.astype(np.float32),
        intensity[index],
        (index % beams).astype(np.uint16),
        seconds[index // beams].astype(np.float32),
        found.object_id[index],
    )


def _directions(azimuth: F64, elevation: F64) -> F64:
    """Unit rays [columns, beams, 3] in the sensor's frame."""
    ca, sa = np.cos(azimuth)[:, None], np.sin(azimuth)[:, None]
    ce, se = np.cos(elevation)[None], np.sin(elevation)[None]
    return np.stack([ca * ce, sa * ce, np.broadcast_to(se, (len(azimuth), len(elevation)))], -1)


def _cast(world: World, spec: LidarSpec, rays: F32, start: F32, times: F64, origin: F64) -> Surface:
    """Cast the whole turn at what stands, and each part of it at the movers of that moment."""
    columns, beams = rays.shape[:2]
    flat = packed(start, rays.reshape(-1, 3))
    still = world.cast(flat, None)
    bounds = np.linspace(0, columns, _SECTORS + 1).astype(int)
    for a, b in pairwise(bounds):
        middle = (a + b) // 2
        heading = rays[middle, beams // 2]
        sector = (float(np.arctan2(heading[1], heading[0])), np.pi / _SECTORS + 0.03)
        moving = world.moving_scene(float(times[middle]), origin[middle], spec.max_range_m, sector)
        if moving is None:
            continue
        part = slice(a * beams, b * beams)
        found = world.cast_moving(flat[part], moving)
        nearer = found.range_m < still.range_m[part]
        for name in ("range_m", "normal", "material", "object_id"):
            getattr(still, name)[part][nearer] = getattr(found, name)[nearer]
    return still


def _measure(
    world: World, spec: LidarSpec, found: Surface, rays: F32, rng: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], F32, F32]:
    """Who comes back [N], with which range and intensity: a surface answers by its reflectivity,
    the cosine of incidence and the inverse square of its range."""
    range_m = np.where(np.isfinite(found.range_m), found.range_m, 1e6).astype(np.float32)
    cosine = np.abs(np.einsum("ij,ij->i", rays, found.normal))
    reflectivity = world.materials.reflectivity[found.material]
    signal = (reflectivity + 0.02) * (cosine + 0.02) ** 0.7 * (spec.max_range_m / range_m) ** 2
    chance = 1.0 - np.exp(-signal / spec.strength)
    chance *= world.materials.lidar_return[found.material] * (1.0 - spec.dropout)
    back = rng.random(len(range_m), dtype=np.float32) < chance
    keep = back & (range_m > spec.min_range_m) & (range_m < spec.max_range_m)
    keep &= found.material >= 0
    noise = rng.normal(size=len(range_m)).astype(np.float32)
    measured = range_m + spec.range_sigma_m * noise
    grain = 1.0 + 0.12 * rng.standard_normal(len(range_m), dtype=np.float32)
    intensity = spec.intensity_gain * reflectivity * (0.35 + 0.65 * cosine) * grain
    intensity = np.round(np.clip(intensity, 0.0, 1.0) * 255.0) / 255.0
    return keep, measured, intensity.astype(np.float32)
