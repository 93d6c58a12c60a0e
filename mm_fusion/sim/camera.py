"""A camera: primary rays, shadow rays, exposure and noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.lens import Lens, develop
from mm_fusion.sim.raycast import packed
from mm_fusion.sim.shading import Light, Lighting, shade, sky
from mm_fusion.sim.surfaces import Moving, Surface
from mm_fusion.sim.world import World

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

_REACH_M = 160.0
_SHADOW_M, _SHADE_M = 80.0, 2.5  # how far away things hide the sun, and the sky


@dataclass(frozen=True, slots=True, eq=False)
class CameraSpec:
    """A camera and how it is mounted.

    ``k`` [3,3] in pixels, centres at integers; ``d`` plumb_bob coefficients (k1 k2 p1 p2 k3), as
    in sensor_msgs/CameraInfo; ``base_from_camera`` with the optical frame of REP-103 (z ahead,
    x right, y down). ``key`` is the linear brightness the lower picture's median is exposed to;
    ``noise`` the standard deviation of a pixel at half brightness, 0..1; ``blur_px`` the lens's;
    ``lens`` what else happens on the way to the bytes.
    """

    width: int
    height: int
    k: F64
    base_from_camera: RigidTransform
    d: F64 = field(default_factory=lambda: np.zeros(5))
    key: float = 0.2
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 2.2
    noise: float = 0.012
    blur_px: float = 0.0
    vignette: float = 0.15
    lens: Lens = field(default_factory=Lens)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """``image`` u8 [H,W,3] RGB and the truth beside it: ``object_id`` i64 [H,W] (-1: none)."""

    image: U8
    object_id: npt.NDArray[np.int64]


def optical_mount(translation: npt.ArrayLike, rpy_rad: npt.ArrayLike) -> RigidTransform:
    """base_from_camera of a camera that looks ahead when roll, pitch and yaw are zero."""
    body_from_optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    body = RigidTransform.from_rpy(translation, rpy_rad)
    return body @ RigidTransform(body_from_optical, np.zeros(3))


def pixel_rays(spec: CameraSpec) -> F32:
    """Unit rays [H*W,3] through all pixel centres, in the optical frame, distortion undone."""
    u, v = np.arange(spec.width, dtype=np.float64), np.arange(spec.height, dtype=np.float64)
    if np.any(spec.d):
        grid = np.meshgrid(u, v)
        pixels = np.stack([grid[0].ravel(), grid[1].ravel()], axis=1)[:, None]
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-10)
        normalised = cv2.undistortPoints(pixels, spec.k, spec.d, None, None, None, criteria)
        x, y = np.moveaxis(normalised.reshape(spec.height, spec.width, 2), -1, 0)
    else:
        x = (u[None] - spec.k[0, 2]) / spec.k[0, 0]
        y = (v[:, None] - spec.k[1, 2]) / spec.k[1, 1]
    length = np.sqrt(x * x + y * y + 1.0)
    rays = np.empty((spec.height, spec.width, 3), np.float32)
    for k, part in enumerate((x, y, 1.0)):
        rays[..., k] = part / length
    return rays.reshape(-1, 3)


def render(
    world: World,
    spec: CameraSpec,
    t: float,
    light: Light,
    rng: np.random.Generator,
    rays: F32 | None = None,
) -> Picture:
    """A picture exposed at ``t``. ``rays`` may hand in ``pixel_rays(spec)`` computed before."""
    rays = pixel_rays(spec) if rays is None else rays
    world_from_camera = world.pose(t) @ spec.base_from_camera
    origin = world_from_camera.translation
    directions = (rays @ world_from_camera.rotation.T.astype(np.float32)).astype(np.float32)
    moving = _movers(world, t, world_from_camera, directions, light)
    found = world.cast(packed(origin.astype(np.float32), directions), moving)
    hit = np.flatnonzero(found.material >= 0)
    empty = np.flatnonzero(found.material < 0)
    radiance = np.empty((len(directions), 3), np.float32)
    radiance[empty] = sky(directions.take(empty, axis=0), light)
    lighting = _lighting(world, light, t, origin)
    radiance[hit] = _surfaces(world, found, hit, origin, directions, lighting, moving, spec, rng)
    far = np.where(np.isfinite(found.range_m), found.range_m, 0.0)
    # what meets nothing is as far as the air lets one see when there is fog
    clear = np.exp(
        -np.where(found.material >= 0, far, 400.0 * (light.haze_m < 500.0)) / light.haze_m
    )
    haze = clear[:, None]
    radiance = radiance * haze + light.horizon * (1 - haze)
    linear = radiance.reshape(spec.height, spec.width, 3).astype(np.float32)
    image = develop(linear, spec, rng)
    return Picture(image, found.object_id.reshape(spec.height, spec.width))


def _movers(
    world: World, t: float, world_from_camera: RigidTransform, directions: F32, light: Light
) -> Moving:
    """The movers that a picture shows, or whose shadows it may show."""
    origin, axis = world_from_camera.translation, world_from_camera.rotation[:, 2]
    moving = world.moving(np.array([t]), origin[None], _REACH_M)[0]
    half_rad = float(np.arccos(np.clip((directions @ axis.astype(np.float32)).min(), -1.0, 1.0)))
    # a shadow ends where the sun's ray has come down to the lowest ground there is
    down = moving.above(world.lowest_m) / max(float(light.to_sun[2]), 1e-3)
    shadow = -np.clip(down, 0.0, _SHADOW_M)[:, None] * light.to_sun.astype(np.float64)
    shown = moving.select(moving.in_cone(axis, half_rad, _SHADE_M, shadow))
    shown.scene()  # rays into shadows will want all of them
    return shown


def _lighting(world: World, light: Light, t: float, origin: F64) -> Lighting:
    """The light of a picture: at night, the nearest street lamps and the vehicle's own lights."""
    if not light.night:
        return Lighting(light)
    lamps = np.array(world.town.lamps).reshape(-1, 3)
    order = np.argsort(np.linalg.norm(lamps - origin, axis=1))[:5]
    pose = world.pose(t)
    heads = pose.apply(np.array([[2.2, 0.6, 0.65], [2.2, -0.6, 0.65]]))
    return Lighting(light, lamps[order], heads, pose.rotation[:, 0])


def _surfaces(
    world: World,
    found: Surface,
    hit: npt.NDArray[np.int64],
    origin: F64,
    directions: F32,
    lighting: Lighting,
    moving: Moving,
    spec: CameraSpec,
    rng: np.random.Generator,
) -> F32:
    """Radiance of the pixels that met something, with cast shadows and blocked sky."""
    light = lighting.light
    ray, normal = directions.take(hit, axis=0), found.normal.take(hit, axis=0)
    point = (origin + ray * found.range_m[hit, None]).astype(np.float32)
    start = point + normal * np.float32(0.02)
    lit = np.zeros(len(hit), np.float32)
    sunny = np.flatnonzero(normal @ light.to_sun > 0.0)
    if light.sun.max() > 0.05 and len(sunny):
        to_sun = np.broadcast_to(light.to_sun, (len(sunny), 3))
        lit[sunny] = ~world.occluded(packed(start.take(sunny, axis=0), to_sun), _SHADOW_M, moving)
    open_sky = 0.35 + 0.65 * _sky_share(world, hit, start, normal, moving, spec, rng)
    return shade(world.materials, found.material[hit], point, normal, ray, lit, open_sky, lighting)


def _sky_share(
    world: World,
    hit: npt.NDArray[np.int64],
    start: F32,
    normal: F32,
    moving: Moving,
    spec: CameraSpec,
    rng: np.random.Generator,
) -> F32:
    """How open the surroundings of each hit pixel are, 0..1: one scattered ray for every fourth
    pixel, smoothed, for what it darkens has soft edges."""
    row = hit // spec.width
    column = hit - row * spec.width
    chosen = np.flatnonzero((row | column) & 1 == 0)
    scatter = rng.standard_normal((len(chosen), 3), dtype=np.float32)
    scatter /= np.linalg.norm(scatter, axis=1, keepdims=True)
    up = normal.take(chosen, axis=0) * np.float32(1.05) + scatter
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    rows, columns = (spec.height + 1) // 2, (spec.width + 1) // 2
    share = np.ones((rows, columns), np.float32)
    blocked = world.occluded(packed(start.take(chosen, axis=0), up), _SHADE_M, moving)
    share[row[chosen] // 2, column[chosen] // 2] = ~blocked
    smooth = cv2.resize(cv2.blur(share, (3, 3)), (2 * columns, 2 * rows))
    return np.asarray(smooth[: spec.height, : spec.width].reshape(-1)[hit], np.float32)
