"""What goes wrong with a labelled frame's sensors, fault by fault and severity by severity.

Every fault changes raw data (points with their rings, pictures, the calibration) before anything
is staged. Those that only the simulator can make honestly (weather, night, pictures of another
instant) are read from the set's ``variants`` folder; ``mm_fusion dataset --variants`` makes it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
from scipy.linalg import rq

from mm_fusion.datasets.frame import NO_RING, Cloud, LabelledFrame
from mm_fusion.geometry import RigidTransform, random_direction

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
Rng = np.random.Generator

GAMMA = 2.2  # of the pictures' tone curve, about


@dataclass(frozen=True, slots=True, eq=False)
class Sensed:
    """What the sensors of one frame give, and what the calibration believes of the camera.

    ``cloud`` in the base frame at the stamp, None without a LIDAR; ``image`` u8 [H,W,3] RGB with
    its intrinsics ``k`` [3,3] and ``camera_from_base`` at the exposure, None without a camera;
    ``held_s`` for how long the camera's driver has sent this picture again and again.
    """

    cloud: Cloud | None
    image: U8 | None
    k: F64 | None = None
    camera_from_base: RigidTransform | None = None
    held_s: float = 0.0


Change = Callable[[Sensed, Rng], Sensed | None]


@dataclass(frozen=True, slots=True)
class Condition:
    """A fault at one severity.

    ``touches`` names the senses (camera, lidar) whose data differ from the clean frame's;
    ``loses`` the sense that is gone; ``held_s`` is that of Sensed. ``change`` makes the data, and
    answers None for a frame that it cannot harm (16 beams of a LIDAR that has no more);
    ``variant`` reads them instead.
    """

    name: str
    fault: str
    severity: str
    touches: tuple[str, ...]
    change: Change | None = None
    variant: str = ""
    loses: str = ""
    held_s: float = 0.0


def sensed_of(frame: LabelledFrame) -> Sensed:
    """A frame's own cloud (None where it has no point) and first picture, with its camera taken
    out of the projection."""
    cloud = frame.cloud if len(frame.cloud.xyz) else None
    if not frame.images:
        return Sensed(cloud, None)
    k, camera_from_base = split_projection(frame.pixel_from_base[0])
    return Sensed(cloud, frame.images[0], k, camera_from_base)


def split_projection(pixel_from_base: npt.NDArray[np.floating]) -> tuple[F64, RigidTransform]:
    """Intrinsics [3,3] and camera_from_base of a projection matrix [3,4].

    Hartley and Zisserman, Multiple View Geometry, 2nd ed., section 6.2.4: the left 3 x 3 part is
    the product of an upper triangular and a rotation matrix.
    """
    matrix = pixel_from_base.astype(np.float64)
    k, rotation = rq(matrix[:, :3])
    signs = np.diag(np.where(np.diag(k) < 0.0, -1.0, 1.0))
    k, rotation = k @ signs, signs @ rotation
    if np.linalg.det(rotation) < 0.0:  # the projection is known up to its sign only
        rotation, matrix = -rotation, -matrix
    translation = np.linalg.solve(k, matrix[:, 3])
    u, _, vt = np.linalg.svd(rotation)
    return k / k[2, 2], RigidTransform(u @ vt, translation)


def as_it_is(s: Sensed, _rng: Rng) -> Sensed | None:
    """Nothing is wrong."""
    return s


# ----------------------------------------------------------------------------- the camera


def no_camera(s: Sensed, _rng: Rng) -> Sensed | None:
    """Nothing comes from the camera."""
    return None if s.image is None else replace(s, image=None)


def blank_camera(s: Sensed, _rng: Rng) -> Sensed | None:
    """The camera sends black pictures: covered, or not exposed."""
    return None if s.image is None else replace(s, image=np.zeros_like(s.image))


def motion_blur(turn_deg: float, s: Sensed, _rng: Rng) -> Sensed | None:
    """The camera turns about its vertical axis by so much while it exposes: in linear light, the
    mean along a row over focal length times angle."""
    if s.image is None or s.k is None:
        return None
    width = max(1, round(float(s.k[0, 0]) * float(np.deg2rad(turn_deg))))
    light = (s.image.astype(np.float32) / 255.0) ** GAMMA
    mean = cv2.blur(light, (width, 1), borderType=cv2.BORDER_REPLICATE)
    image = np.clip(mean, 0.0, 1.0) ** (1.0 / GAMMA) * 255.0 + 0.5
    return replace(s, image=image.astype(np.uint8))


def wrong_rotation(angle_deg: float, s: Sensed, rng: Rng) -> Sensed | None:
    """The calibration turns the camera by this angle about an axis drawn for each frame."""
    if s.image is None or s.camera_from_base is None:
        return None
    axis = random_direction(rng) * np.deg2rad(angle_deg)
    rotation, _ = cv2.Rodrigues(axis)
    error = RigidTransform(np.asarray(rotation, np.float64), np.zeros(3))
    return replace(s, camera_from_base=error @ s.camera_from_base)


def wrong_place(error_m: float, s: Sensed, rng: Rng) -> Sensed | None:
    """The calibration moves the camera by this length in a direction drawn for each frame."""
    if s.image is None or s.camera_from_base is None:
        return None
    error = RigidTransform(np.eye(3), random_direction(rng) * error_m)
    return replace(s, camera_from_base=error @ s.camera_from_base)


# ------------------------------------------------------------------------------ the LIDAR


def no_lidar(s: Sensed, _rng: Rng) -> Sensed | None:
    """Nothing comes from the LIDAR."""
    return None if s.cloud is None else replace(s, cloud=None)


def fewer_beams(beams: int, s: Sensed, _rng: Rng) -> Sensed | None:
    """A device with this many of the rings, spread evenly from the lowest to the highest."""
    if s.cloud is None or not len(s.cloud.ring) or (s.cloud.ring == NO_RING).any():
        return None
    there = int(s.cloud.ring.max()) + 1
    if there <= beams:
        return None
    kept = np.floor((np.arange(beams) + 0.5) * there / beams).astype(np.int64)
    return replace(s, cloud=_only(s.cloud, np.isin(s.cloud.ring, kept)))


def front_only(width_deg: float, s: Sensed, _rng: Rng) -> Sensed | None:
    """What the LIDAR sees within this angle about straight ahead."""
    if s.cloud is None:
        return None
    azimuth = np.arctan2(s.cloud.xyz[:, 1], s.cloud.xyz[:, 0])
    kept = np.abs(azimuth) <= np.deg2rad(width_deg / 2)
    return replace(s, cloud=_only(s.cloud, kept))


def points_lost(share: float, s: Sensed, rng: Rng) -> Sensed | None:
    """This share of the points is gone, any of them; more lost means the same ones and others."""
    if s.cloud is None:
        return None
    return replace(s, cloud=_only(s.cloud, rng.random(len(s.cloud.xyz)) >= share))


def _only(cloud: Cloud, kept: npt.NDArray[np.bool_]) -> Cloud:
    return Cloud(cloud.xyz[kept], cloud.intensity[kept], cloud.seconds[kept], cloud.ring[kept])


# -------------------------------------------------------------------------------- the list


def _made(
    fault: str, touches: str, make: Callable[..., Sensed | None], severities: dict[str, float]
) -> list[Condition]:
    return [
        Condition(f"{fault}, {text}", fault, text, (touches,), partial(make, value))
        for text, value in severities.items()
    ]


def _stored(
    fault: str, touches: tuple[str, ...], variants: dict[str, str], held_s: float = 0.0
) -> list[Condition]:
    names = {text: f"{fault}, {text}" if text else fault for text in variants}
    return [
        Condition(names[text], fault, text, touches, variant=variant, held_s=held_s)
        for text, variant in variants.items()
    ]


CLEAN = Condition("clean", "clean", "", ("camera", "lidar"), as_it_is)
BOTH = ("camera", "lidar")
FAULTS: tuple[Condition, ...] = (
    Condition("camera missing", "camera missing", "", ("camera",), no_camera, loses="camera"),
    Condition("LIDAR missing", "LIDAR missing", "", ("lidar",), no_lidar, loses="lidar"),
    Condition("camera blank", "camera blank", "", ("camera",), blank_camera),
    *_stored("camera frozen", ("camera",), {"for 2 s": "frozen_2s"}, held_s=2.0),
    *_made("LIDAR beams", "lidar", fewer_beams, {"16": 16, "8": 8, "4": 4}),
    *_made("LIDAR front only", "lidar", front_only, {"120°": 120.0}),
    *_made("points lost", "lidar", points_lost, {"20 %": 0.2, "40 %": 0.4, "60 %": 0.6}),
    *_stored("fog", BOTH, {"200 m": "fog_200m", "60 m": "fog_60m"}),
    *_stored("rain", BOTH, {"moderate": "rain_moderate", "heavy": "rain_heavy"}),
    *_stored("dark", ("camera",), {"": "dark"}),
    *_made("motion blur", "camera", motion_blur, {"0.5°": 0.5, "1.5°": 1.5}),
    *_made(
        "extrinsic rotation",
        "camera",
        wrong_rotation,
        {"0.2°": 0.2, "0.5°": 0.5, "1°": 1.0, "2°": 2.0},
    ),
    *_made(
        "extrinsic offset",
        "camera",
        wrong_place,
        {"2 cm": 0.02, "5 cm": 0.05, "10 cm": 0.1, "20 cm": 0.2},
    ),
    *_stored(
        "camera late",
        ("camera",),
        {"10 ms": "late_10ms", "30 ms": "late_30ms", "100 ms": "late_100ms"},
    ),
)


def seed_of(frame_name: str, condition: Condition) -> list[int]:
    """What a frame's fault is drawn from: the same for all severities of a fault."""
    return [zlib.crc32(frame_name.encode()), zlib.crc32(condition.fault.encode())]


def apply(
    condition: Condition, name: str, clean: Sensed, stored: LabelledFrame | None
) -> Sensed | None:
    """The frame ``name`` under a condition; None where the condition does not fit it.

    ``stored`` is the variant's frame, None where there is none. Of it only what the condition
    touches is taken: the calibration stays what it was.
    """
    if condition.change is not None:
        return condition.change(clean, np.random.default_rng(seed_of(name, condition)))
    if stored is None or not stored.images:
        return None
    cloud = stored.cloud if "lidar" in condition.touches else clean.cloud
    return replace(clean, cloud=cloud, image=stored.images[0], held_s=condition.held_s)
