"""Sensors of random kind, place and quality, and the weather they look into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.errors import ConfigError
from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.camera import CameraSpec, optical_mount
from mm_fusion.sim.devices import DEVICES
from mm_fusion.sim.lens import Lens
from mm_fusion.sim.lidar import Channels, LidarSpec
from mm_fusion.sim.shading import Light
from mm_fusion.sim.weather import KINDS, Weather

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

PIXELS = 250_000  # as many as the network takes: with fewer people look like posts
_DEVICE_SHARE = {
    "vlp16": 0.12,
    "hdl32e": 0.14,
    "vlp32c": 0.10,
    "os1-32": 0.06,
    "hdl64e": 0.32,
    "pandar64": 0.10,
    "os1-64": 0.10,
    "os1-128": 0.06,
}
_WEATHER_SHARE = (0.72, 0.12, 0.09, 0.07)
# width over height of a picture, and the span of its horizontal field of view in degrees
_VIEWS = {
    "wide strip": (1242 / 375, (70.0, 95.0)),
    "4:3": (640 / 480, (48.0, 90.0)),
    "16:9": (1280 / 720, (50.0, 110.0)),
    "16:10": (640 / 400, (60.0, 100.0)),
    "5:4": (1280 / 1024, (45.0, 80.0)),
    "2:1": (2.0, (55.0, 110.0)),
}
_VIEW_SHARE = (0.34, 0.16, 0.18, 0.16, 0.06, 0.10)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user fixes; empty or None leaves it to chance."""

    lidar: str = ""
    weather: str = ""
    night: bool | None = None
    pixels: int = PIXELS
    previous: bool = False
    country: float = 0.35  # share of drives that lead out of town

    def __post_init__(self) -> None:
        for name, value, known in (
            ("lidar", self.lidar, DEVICES),
            ("weather", self.weather, KINDS),
        ):
            if value and value not in known:
                raise ConfigError(f"{name}: must be one of {', '.join(known)}, got '{value}'")
        if not 10_000 <= self.pixels <= 2_000_000:
            raise ConfigError(f"pixels: must be between 10000 and 2000000, got {self.pixels}")
        if not 0.0 <= self.country <= 1.0:
            raise ConfigError(f"country: must be between 0 and 1, got {self.country}")


@dataclass(frozen=True, slots=True, eq=False)
class Rig:
    """The sensors of one drive: as they are, and as the calibration believes they are.

    ``believed_from_base`` maps the true base frame into the one that the LIDAR's calibration
    implies: what is labelled and stored is in the believed one.
    """

    device: str
    lidar: LidarSpec
    camera: CameraSpec
    believed_base_from_camera: RigidTransform
    believed_from_base: RigidTransform
    light: Light
    weather: Weather


def random_rig(rng: Rng, wanted: Wanted | None = None) -> Rig:
    """Sensors of random kind, place and quality, under a random sky."""
    wanted = Wanted() if wanted is None else wanted
    device = wanted.lidar or str(rng.choice(list(_DEVICE_SHARE), p=list(_DEVICE_SHARE.values())))
    kind = wanted.weather or str(rng.choice(KINDS, p=_WEATHER_SHARE))
    weather = Weather.random(rng, kind)
    night = bool(rng.random() < 0.14) if wanted.night is None else wanted.night
    light = (Light.dark(rng) if night else Light.random(rng)).under(weather)
    lidar = _random_lidar(rng, device)
    camera = _random_camera(rng, wanted.pixels, night, weather)
    error = RigidTransform.from_rpy(
        rng.normal(scale=0.01, size=3), np.deg2rad(rng.normal(scale=0.1, size=3))
    )
    tilt = np.clip(rng.normal(scale=(0.7, 0.7, 0.0)), -2.0, 2.0)
    lift = float(np.clip(rng.normal(scale=0.06), -0.2, 0.2))
    believed = RigidTransform.from_rpy((0.0, 0.0, lift), np.deg2rad(tilt))
    mount = camera.base_from_camera @ error
    return Rig(device, lidar, camera, mount, believed, light, weather)


def _random_lidar(rng: Rng, name: str) -> LidarSpec:
    device = DEVICES[name]
    tilt = np.deg2rad(rng.uniform(-2, 2, 3))
    height = float(rng.uniform(1.2, 2.2))
    place = (rng.uniform(-0.5, 1.3), rng.uniform(-0.15, 0.15), height)
    return LidarSpec(
        np.deg2rad(device.elevations_deg + rng.normal(scale=0.04, size=device.beams)),
        int(rng.choice(device.columns)),
        RigidTransform.from_rpy(place, tilt),
        start_azimuth_rad=float(rng.uniform(-np.pi, np.pi)),
        min_range_m=float(rng.uniform(0.8, 2.6)),
        max_range_m=float(rng.uniform(*device.max_range_m)),
        range_sigma_m=float(rng.uniform(0.005, 0.025)),
        dropout=float(rng.uniform(0.0, 0.1)),
        intensity_gain=float(rng.uniform(0.5, 2.0)),
        strength=float(np.exp(rng.uniform(np.log(0.04), np.log(0.4)))),
        heights_m=device.heights_m,
        channels=Channels.random(rng, device.beams),
    )


def _random_camera(rng: Rng, pixels: int, night: bool, weather: Weather) -> CameraSpec:
    view = str(rng.choice(list(_VIEWS), p=_VIEW_SHARE))
    aspect, span = _VIEWS[view]
    width = 8 * round(np.sqrt(pixels * aspect) / 8)
    height = 8 * round(width / aspect / 8)
    focal = width / 2 / np.tan(np.deg2rad(float(rng.uniform(*span))) / 2)
    shift = rng.normal(scale=0.02, size=2) * [width, height]
    stretch = 1.0 + float(rng.normal(scale=0.005))
    k = np.array(
        [
            [focal, 0, (width - 1) / 2 + shift[0]],
            [0, focal * stretch, (height - 1) / 2 + shift[1]],
            [0, 0, 1],
        ]
    )
    place = (rng.uniform(0.0, 1.8), rng.uniform(-0.5, 0.5), rng.uniform(1.15, 2.0))
    key = float(np.exp(rng.uniform(np.log(0.08), np.log(0.34))))
    return CameraSpec(
        width,
        height,
        k,
        optical_mount(place, np.deg2rad(rng.uniform(-2, 2, 3))),
        key=0.4 * key if night else key,
        white=tuple(rng.uniform(0.88, 1.12, 3)),
        gamma=float(rng.uniform(1.8, 2.5)),
        noise=float(rng.uniform(0.002, 0.02)) * (2.0 if night else 1.0),
        blur_px=float(rng.choice([0.0, rng.uniform(0.3, 1.0)])),
        vignette=float(rng.uniform(0.0, 0.4)),
        lens=_random_lens(rng, night, weather),
    )


def _random_lens(rng: Rng, night: bool, weather: Weather) -> Lens:
    moved = float(rng.exponential(2.0 if night else 0.8)) if rng.random() < 0.3 else 0.0
    wet = weather.kind in ("rain", "snow")
    return Lens(
        motion_px=min(moved, 6.0),
        motion_rad=float(rng.uniform(-0.5, 0.5)),
        streaks=int(rng.integers(20, 220)) if weather.kind == "rain" else 0,
        flakes=int(rng.integers(20, 300)) if weather.kind == "snow" else 0,
        drops=int(rng.integers(0, 14)) if wet and rng.random() < 0.5 else 0,
        banding=float(rng.uniform(0.0, 0.01)) if night else 0.0,
        chroma_px=float(rng.choice([0.0, 0.0, rng.uniform(0.2, 1.2)])),
    )
