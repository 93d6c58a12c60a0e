"""How surfaces look: procedural textures, sun, sky, shadows and haze."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.materials import MaterialArrays, Texture
from mm_fusion.sim.raycast import dots
from mm_fusion.sim.surfaces import Surface
from mm_fusion.sim.weather import Weather

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """The weather: unit direction ``to_sun`` [3], linear RGB of sun, ambient and sky."""

    to_sun: F32
    sun: F32
    ambient: F32
    zenith: F32
    horizon: F32
    haze_m: float
    cloud: float
    seed: int
    night: bool = False
    wet: float = 0.0

    @staticmethod
    def random(rng: np.random.Generator) -> Light:
        """Anything from a clear noon to a grey evening."""
        elevation, azimuth = float(rng.uniform(0.25, 1.25)), float(rng.uniform(-np.pi, np.pi))
        to_sun = [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
        overcast = float(rng.choice([0.0, 0.0, 0.4, 0.9, 1.0]))
        warmth = np.array([1.0, 0.93, 0.82]) ** float(rng.uniform(0.3, 1.6))
        sun = 2.6 * (1 - overcast) * warmth
        blue = np.array([0.35, 0.55, 1.0]) * (1 - overcast) + 0.95 * overcast
        ambient = (0.45 + 0.45 * overcast) * (0.6 + 0.4 * blue) * float(rng.uniform(0.8, 1.3))
        return Light(
            to_sun=np.asarray(to_sun, np.float32),
            sun=np.asarray(sun, np.float32),
            ambient=np.asarray(ambient, np.float32),
            zenith=np.asarray(blue * rng.uniform(0.7, 1.2), np.float32),
            horizon=np.asarray((0.5 * blue + 0.6) * rng.uniform(0.9, 1.5), np.float32),
            haze_m=float(np.exp(rng.uniform(np.log(200), np.log(4000)))),
            cloud=float(rng.uniform(0.0, 1.0)),
            seed=int(rng.integers(1 << 30)),
        )

    @staticmethod
    def dark(rng: np.random.Generator) -> Light:
        """A night in a lit street."""
        glow = np.array([0.010, 0.010, 0.012]) * float(np.exp(rng.uniform(-1.2, 1.2)))
        return replace(
            Light.random(rng),
            sun=np.zeros(3, np.float32),
            ambient=np.asarray(glow, np.float32),
            zenith=np.asarray(0.4 * glow, np.float32),
            horizon=np.asarray(1.2 * glow, np.float32),
            night=True,
        )

    def under(self, weather: Weather) -> Light:
        """The same light in rain, fog or snow: the sun is gone, the air is grey."""
        wet = replace(self, wet=weather.wet)
        if weather.kind == "dry":
            return wet
        # Koschmieder: a contrast of 5 % is left at the visibility
        haze_m = min(self.haze_m, weather.visibility_m / 3.0)
        grey = np.float32(np.mean(self.horizon))
        veil = np.full(3, 0.8 * grey, np.float32)
        sun, ambient = self.sun * np.float32(0.05), self.ambient + np.float32(0.1) * self.sun
        return replace(
            wet, sun=sun, ambient=ambient, zenith=veil, horizon=veil, haze_m=haze_m, cloud=1.0
        )

    @staticmethod
    def clear(rng: np.random.Generator) -> Light:
        """A sunny day with a few clouds and clear air."""
        day = Light.random(rng)
        azimuth = float(rng.uniform(-np.pi, np.pi))
        to_sun = np.array([0.55 * np.cos(azimuth), 0.55 * np.sin(azimuth), 0.835], np.float32)
        return replace(
            day,
            to_sun=to_sun,
            sun=np.array([2.5, 2.35, 2.1], np.float32),
            ambient=np.array([0.42, 0.48, 0.58], np.float32),
            zenith=np.array([0.32, 0.5, 0.9], np.float32),
            horizon=np.array([0.85, 0.95, 1.1], np.float32),
            haze_m=1500.0,
            cloud=0.4,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Lighting:
    """The light of one picture: the weather's, and at night lamps [N,3], the vehicle's headlights
    [2,3] and the way they point [3], all in the world."""

    light: Light
    lamps: F64 = field(default_factory=lambda: np.zeros((0, 3)))
    heads: F64 = field(default_factory=lambda: np.zeros((0, 3)))
    ahead: F64 = field(default_factory=lambda: np.array([1.0, 0.0, 0.0]))

    def artificial(self, point: F32, normal: F32) -> F32:
        """Linear RGB [N,3] of lamp light that falls on points [N,3] with unit normals."""
        warm = np.array([1.0, 0.78, 0.5], np.float32)
        white = np.array([1.0, 0.97, 0.9], np.float32)
        total = np.zeros((len(point), 3), np.float32)
        for place in self.lamps.astype(np.float32):
            towards = place - point
            square = dots(towards, towards) + np.float32(0.5)
            cosine = np.clip(dots(towards, normal) / np.sqrt(square), 0.0, 1.0)
            total += (np.float32(14.0) * cosine / square)[:, None] * warm
        ahead = self.ahead.astype(np.float32)
        for place in self.heads.astype(np.float32):
            towards = place - point
            square = dots(towards, towards) + np.float32(2.0)
            distance = np.sqrt(square)
            cosine = np.clip(dots(towards, normal) / distance, 0.0, 1.0)
            aligned = np.clip(-(towards @ ahead) / distance, 0.0, 1.0)
            dipped = np.where(-towards[:, 2] > 0.02 * distance, 0.12, 1.0)
            power = np.float32(90.0) * aligned**30 * dipped.astype(np.float32)
            total += (power * cosine / square)[:, None] * white
        return total


def hash01(x: npt.NDArray[np.integer], y: npt.NDArray[np.integer], seed: int) -> F32:
    """A number in [0, 1) that depends on integers and nothing else (an integer mix)."""
    h = x.astype(np.uint32) * np.uint32(0x85EBCA6B)
    h ^= y.astype(np.uint32) * np.uint32(0xC2B2AE35)
    h += np.uint32(seed & 0xFFFFFFFF)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x2C1B3C6D)
    h ^= h >> np.uint32(12)
    h *= np.uint32(0x297A2D39)
    h ^= h >> np.uint32(15)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(1.0 / (1 << 24))


def sky(direction: F32, light: Light) -> F32:
    """Linear RGB [N,3] of the sky along unit directions [N,3]: a gradient and soft clouds."""
    up = np.clip(direction[:, 2:3], 0.0, 1.0)
    colour = light.horizon + (light.zenith - light.horizon) * np.sqrt(up)
    plane = direction[:, :2] / (up + 0.15)
    wave = np.zeros(len(direction), np.float32)
    for k, scale in enumerate((1.3, 2.9, 5.3)):
        phase = np.float32((light.seed >> (4 * k)) & 255)
        wave += np.sin(
            scale * plane[:, 0] + phase + 1.7 * np.sin(scale * plane[:, 1] + 2 * phase)
        ) / (k + 1)
    cover = np.clip(wave * 0.6 + light.cloud - 0.5, 0.0, 1.0)[:, None] * up**0.3
    return _f32(colour * (1 - 0.7 * cover) + (0.7 * 1.3) * cover * light.horizon)


def _f32(values: npt.NDArray[np.floating]) -> F32:
    return values.astype(np.float32, copy=False)


def _wall_u(point: F32, normal: F32) -> F32:
    """A coordinate along a wall: the point along the horizontal tangent of its normal."""
    length = np.maximum(np.hypot(normal[:, 0], normal[:, 1]), 1e-3)
    return _f32((point[:, 1] * normal[:, 0] - point[:, 0] * normal[:, 1]) / length)


def textured(materials: MaterialArrays, material: I64, point: F32, normal: F32) -> tuple[F32, Bool]:
    """Albedo [N,3] at world points with unit normals, and who is a window pane there [N]."""
    albedo = materials.albedo.take(material, axis=0)
    kind = materials.texture.take(material)
    pane = kind == Texture.GLASS
    for texture, paint in (
        (Texture.NOISE, _noise),
        (Texture.BRICK, _brick),
        (Texture.PLANKS, _planks),
    ):
        chosen = np.flatnonzero(kind == texture)
        if len(chosen):
            of = material.take(chosen)
            params = materials.params.take(of, axis=0)
            factor = paint(point.take(chosen, axis=0), normal.take(chosen, axis=0), params)
            albedo[chosen] = materials.albedo.take(of, axis=0) * factor[:, None]
    chosen = np.flatnonzero(kind == Texture.FACADE)
    if len(chosen):
        of = material.take(chosen)
        params = materials.params.take(of, axis=0)
        at, facing = point.take(chosen, axis=0), normal.take(chosen, axis=0)
        factor, glass = _facade(at, facing, params, of)
        albedo[chosen] = materials.albedo.take(of, axis=0) * factor[:, None]
        albedo[chosen[glass]] = 0.04
        pane[chosen[glass]] = True
    return albedo, pane


def _noise(point: F32, normal: F32, params: F32) -> F32:
    """Grains of a cell's size, and blotches twelve times as large."""
    upright = np.abs(normal[:, 2]) < 0.7
    first = np.where(upright, point[:, 0] + point[:, 1], point[:, 0])
    second = np.where(upright, point[:, 2], point[:, 1])
    fine = np.stack([first, second]) / params[:, 0]
    small, large = np.floor(fine).astype(np.int64), np.floor(fine / 12.0).astype(np.int64)
    a, b = hash01(small[0], small[1], 11), hash01(large[0], large[1], 12)
    return _f32(1.0 + params[:, 1] * (a - 0.5) + 0.5 * params[:, 1] * (b - 0.5))


def _brick(point: F32, normal: F32, params: F32) -> F32:
    """Courses of bricks, slabs or tiles with joints between them."""
    flat = np.abs(normal[:, 2]) > 0.8
    u = np.where(flat, point[:, 0], _wall_u(point, normal))
    v = np.where(flat, point[:, 1], point[:, 2])
    row = np.floor(v / params[:, 0])
    along = u / params[:, 1] + 0.5 * (row % 2)
    tone = hash01(np.floor(along).astype(np.int64), row.astype(np.int64), 13) - 0.5
    joint = (v / params[:, 0] - row < 0.1) | (along - np.floor(along) < 0.06)
    return _f32((1.0 + params[:, 2] * tone) * np.where(joint, 0.75, 1.0))


def _planks(point: F32, normal: F32, params: F32) -> F32:
    u = _wall_u(point, normal) / params[:, 0]
    plank = np.floor(u).astype(np.int64)
    tone = hash01(plank, np.zeros_like(plank), 14) - 0.5
    return _f32(1.0 + params[:, 1] * tone)


def _facade(point: F32, normal: F32, params: F32, material: I64) -> tuple[F32, Bool]:
    """Storeys of windows with lighter frames on upright faces: factor [N], window [N]."""
    u, v = _wall_u(point, normal) / params[:, 1], (point[:, 2] + 0.3) / params[:, 0]
    storey, bay = np.floor(v), np.floor(u)
    x, y = np.abs(u - bay - 0.5), np.abs(v - storey - 0.55)
    half = 0.5 * params[:, 2]
    upright = np.abs(normal[:, 2]) < 0.3
    filled = hash01(bay.astype(np.int64), storey.astype(np.int64) + material * 7, 15) < 0.88
    window = (x < half) & (y < 0.26) & upright & filled & (v > 0.3)
    frame = (x < half + 0.04) & (y < 0.3) & upright & filled & (v > 0.3)
    grime = hash01(
        np.floor(u * 6).astype(np.int64), np.floor(v * 8).astype(np.int64) + material, 16
    )
    base = np.where(v < 0.25, 0.7, 1.0)
    factor = base * (0.94 + 0.1 * grime) * np.where(frame, 1.25, 1.0)
    return _f32(factor), window


def window_panes(materials: MaterialArrays, found: Surface, rays: F32) -> Bool:
    """Which of the surfaces that ``packed`` rays [N,6] met are panes in a painted façade [N]."""
    panes = np.zeros(len(rays), np.bool_)
    chosen = np.flatnonzero(
        (found.material >= 0) & (materials.texture[found.material] == Texture.FACADE)
    )
    if len(chosen):
        point = rays[chosen, :3] + rays[chosen, 3:] * found.range_m[chosen, None]
        material = found.material[chosen]
        _, glass = _facade(point, found.normal[chosen], materials.params[material], material)
        panes[chosen] = glass
    return panes


def shade(
    materials: MaterialArrays,
    material: I64,
    point: F32,
    normal: F32,
    ray: F32,
    lit: F32,
    open_sky: F32,
    lighting: Lighting,
) -> F32:
    """Linear RGB [N,3] of surface points seen along unit ``ray`` [N,3].

    ``lit`` [N] is how much of the sun, ``open_sky`` [N] how much of the sky reaches the point.
    """
    light = lighting.light
    albedo, pane = textured(materials, material, point, normal)
    sunny = np.clip(normal @ light.to_sun, 0.0, 1.0) * lit
    hemisphere = (0.65 + 0.35 * normal[:, 2]) * open_sky
    received = sunny[:, None] * light.sun + hemisphere[:, None] * light.ambient
    mirrors = pane | (materials.texture[material] == Texture.PAINT)
    if light.night:
        received += lighting.artificial(point, normal)
        received += (0.35 * materials.emission[material])[:, None]
    if light.wet > 0.0:
        puddle = normal[:, 2] > 0.9
        albedo[puddle] *= np.float32(1.0 - 0.45 * light.wet)
        mirrors |= puddle & (light.wet > 0.5)
    radiance = albedo * received
    shiny = np.flatnonzero(mirrors)
    if len(shiny):
        n, r = normal.take(shiny, axis=0), ray.take(shiny, axis=0)
        cosine = np.clip(-dots(n, r), 0.0, 1.0)
        mirror = r + 2 * cosine[:, None] * n
        base = np.where(pane[shiny], 0.07, 0.05)
        fresnel = (base + (0.75 - base) * (1 - cosine) ** 4)[:, None].astype(np.float32)
        seen = np.where(mirror[:, 2:3] > 0.0, sky(mirror, light), 0.25 * light.horizon)
        glint = np.clip(mirror @ light.to_sun, 0.0, 1.0) ** 60 * lit[shiny]
        radiance[shiny] = (
            radiance.take(shiny, axis=0) * (1 - fresnel)
            + seen * fresnel
            + 0.35 * glint[:, None] * light.sun
        )
    return radiance
