"""A spinning LIDAR: beams, rolling sweep, returns by material, range, angle and weather."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.devices import beam_table
from mm_fusion.sim.materials import Texture
from mm_fusion.sim.raycast import dots
from mm_fusion.sim.shading import window_panes
from mm_fusion.sim.surfaces import Moving, Surface
from mm_fusion.sim.weather import Weather
from mm_fusion.sim.world import World

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Channels", "LidarSpec", "Sweep", "beam_table", "sweep"]

_SECTORS = 12
_PANES = 2  # a ray goes into a car through one, and out through another
_STEP_M = 0.03  # by which a ray is set behind the pane it goes through


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """How the beams of one device differ: ``range_bias_m``, ``gain`` and ``offset`` of the
    intensity, all [B]. ``quantum`` is the intensity's step, 1/255 or 1/100."""

    range_bias_m: F64
    gain: F64
    offset: F64
    quantum: float = 1.0 / 255.0

    @staticmethod
    def random(rng: np.random.Generator, beams: int) -> Channels:
        """A device as it comes from calibration, good or not so good."""
        spread = float(rng.uniform(0.0, 1.0))
        return Channels(
            rng.normal(scale=0.008 * spread, size=beams),
            np.exp(rng.normal(scale=0.25 * spread, size=beams)),
            -np.abs(rng.normal(scale=0.18 * spread, size=beams)),
            float(rng.choice([1.0 / 255.0, 1.0 / 100.0])),
        )


@dataclass(frozen=True, slots=True, eq=False)
class LidarSpec:
    """A device and how it is mounted.

    ``elevations_rad`` [B] from the lowest beam to the highest, ``columns`` azimuth steps a turn,
    turning clockwise seen from above (azimuth falls) from ``start_azimuth_rad`` in the sensor's
    frame. ``strength`` is the share of light a perfect surface at ``max_range_m`` must give back.
    ``heights_m`` [B] is how far above the sensor's origin each beam leaves it (None: not at all),
    ``channels`` how the beams differ (None: they do not).
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
    heights_m: F64 | None = None
    channels: Channels | None = None


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


def sweep(
    world: World,
    spec: LidarSpec,
    end_s: float,
    rng: np.random.Generator,
    weather: Weather | None = None,
) -> Sweep:
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
    heights = np.zeros(beams) if spec.heights_m is None else spec.heights_m
    flat = _world_rays(origin, rotation, direction, heights)
    found = _cast(world, spec, flat, times, origin, rng)
    answer = _measure(world, spec, found, flat, rng, Weather() if weather is None else weather)
    index = np.flatnonzero(answer.keep)
    points = direction.reshape(-1, 3).take(index, axis=0) * answer.range_m[index, None]
    points[:, 2] += heights[index % beams]
    return Sweep(
        points.astype(np.float32),
        answer.intensity[index],
        (index % beams).astype(np.uint16),
        seconds[index // beams].astype(np.float32),
        answer.object_id[index],
    )


def _directions(azimuth: F64, elevation: F64) -> F64:
    """Unit rays [columns, beams, 3] in the sensor's frame."""
    ca, sa = np.cos(azimuth)[:, None], np.sin(azimuth)[:, None]
    ce, se = np.cos(elevation)[None], np.sin(elevation)[None]
    return np.stack([ca * ce, sa * ce, np.broadcast_to(se, (len(azimuth), len(elevation)))], -1)


def _world_rays(origin: F64, rotation: F64, direction: F64, heights: F64) -> F32:
    """``packed`` rays [columns * beams, 6] of a sensor that is at ``origin`` [columns,3] with
    ``rotation`` [columns,3,3] when it looks along ``direction`` [columns,beams,3]."""
    rays = np.empty((*direction.shape[:2], 6), np.float32)
    x, y, z = np.moveaxis(direction, -1, 0)
    for k in range(3):  # by component: as one product of small matrices it takes six times as long
        row = rotation[:, k, None]
        rays[..., k] = origin[:, k, None] + heights * row[..., 2]
        rays[..., 3 + k] = row[..., 0] * x + row[..., 1] * y + row[..., 2] * z
    return rays.reshape(-1, 6)


def _cast(
    world: World, spec: LidarSpec, flat: F32, times: F64, origin: F64, rng: np.random.Generator
) -> Surface:
    """Cast each part of the turn at what stands, and at the movers of that moment."""
    beams = len(spec.elevations_rad)
    parts = list(pairwise(np.linspace(0, len(times), _SECTORS + 1).astype(int).tolist()))
    middle = np.array([(a + b) // 2 for a, b in parts])
    heading = flat[middle * beams + beams // 2, 3:]
    azimuth = np.arctan2(heading[:, 1], heading[:, 0]).astype(np.float64)
    sectors = np.stack([azimuth, np.full(_SECTORS, np.pi / _SECTORS + 0.03)], axis=1)
    start = flat[:, :3].reshape(len(times), beams, 3)[:, [0, -1]]
    spread = max(
        float(np.linalg.norm(start[a:b] - origin[m], axis=-1).max())
        for (a, b), m in zip(parts, middle.tolist(), strict=True)
    )
    moving = world.moving(times[middle], origin[middle], spec.max_range_m, sectors, spread)
    return Surface.joined(
        [
            _through_glass(world, flat[a * beams : b * beams], there, rng)
            for (a, b), there in zip(parts, moving, strict=True)
        ]
    )


def _through_glass(world: World, rays: F32, moving: Moving, rng: np.random.Generator) -> Surface:
    """First surfaces that do not let the rays through."""
    found = world.cast(rays, moving)
    going = np.arange(len(rays))
    for _ in range(_PANES):
        through = world.materials.lidar_through[found.material[going]]
        through = np.where(found.material[going] >= 0, through, 0.0)
        passing = going[(through > 0) & (rng.random(len(going), dtype=np.float32) < through)]
        if not len(passing):
            break
        way = found.range_m[passing] + np.float32(_STEP_M)
        on = rays[passing]
        on[:, :3] += on[:, 3:] * way[:, None]
        beyond = world.cast(on, moving, way)
        beyond.range_m[:] += way
        found.put(passing, beyond)
        going = passing
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What comes back: ``keep`` [N], ``range_m`` [N], ``intensity`` [N], ``object_id`` [N]."""

    keep: Bool
    range_m: F32
    intensity: F32
    object_id: npt.NDArray[np.int64]


def _measure(
    world: World,
    spec: LidarSpec,
    found: Surface,
    rays: F32,
    rng: np.random.Generator,
    weather: Weather,
) -> _Answers:
    """Who comes back, with which range and intensity: a surface answers by its reflectivity, the
    cosine of incidence and the inverse square of its range, less what the air takes."""
    count = len(rays)
    range_m = np.where(np.isfinite(found.range_m), found.range_m, 1e6).astype(np.float32)
    cosine = np.abs(dots(rays[:, 3:], found.normal))
    materials = world.materials
    reflectivity = materials.reflectivity[found.material]
    if weather.wet > 0.0:  # water on level surfaces sends the light away
        level = np.abs(found.normal[:, 2]) ** 4
        reflectivity = reflectivity * (1 - np.float32(0.6 * weather.wet) * level)
    # a clear coat mirrors: seen from aside little of it comes back
    sharp = np.where(materials.texture[found.material] == Texture.PAINT, 1.6, 0.7)
    signal = (reflectivity + 0.02) * (cosine + 0.02) ** sharp
    signal *= (spec.max_range_m / range_m) ** 2 * weather.transmission(range_m)
    chance = 1.0 - np.exp(-signal / np.float32(spec.strength))
    chance *= materials.lidar_return[found.material] * (1.0 - spec.dropout)
    chance *= 1.0 - 0.75 * window_panes(materials, found, rays)
    keep = rng.random(count, dtype=np.float32) < chance
    keep &= found.material >= 0
    grain = 1.0 + 0.12 * rng.standard_normal(count, dtype=np.float32)
    intensity = spec.intensity_gain * reflectivity * (0.75 + 0.25 * cosine) * grain
    object_id = found.object_id
    drops = weather.clutter_ranges(count, rng)
    early = drops < range_m
    if early.any():
        range_m = np.where(early, drops, range_m)
        intensity = np.where(early, 0.08 * rng.random(count, dtype=np.float32), intensity)
        object_id = np.where(early, -1, object_id)
        keep |= early
    keep &= (range_m > spec.min_range_m) & (range_m < spec.max_range_m)
    range_m = range_m + spec.range_sigma_m * rng.standard_normal(count, dtype=np.float32)
    quantum = 1.0 / 255.0
    if spec.channels is not None:
        ring = np.tile(np.arange(len(spec.elevations_rad)), spec.columns)
        quantum = spec.channels.quantum
        range_m = range_m + spec.channels.range_bias_m[ring].astype(np.float32)
        intensity = spec.channels.gain[ring] * intensity + spec.channels.offset[ring]
    intensity = np.round(np.clip(intensity, 0.0, 1.0) / quantum) * quantum
    return _Answers(keep, range_m, np.minimum(intensity, 1.0).astype(np.float32), object_id)
