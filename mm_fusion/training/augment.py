"""Random versions of a training frame: what the sensors of another vehicle, or worse ones, give.

The world is mirrored, turned and scaled with its boxes; pictures get other light, blur and
darkness; clouds lose points, beams or all that is aside; the calibration between both is off, as
it is on robots, and pictures are late or of quite another place.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import random_direction
from mm_fusion.training.frames import F32, Frame
from mm_fusion.training.views import IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX

Rng = np.random.Generator
U8 = npt.NDArray[np.uint8]
BEAM_STEPS = (2, 4, 8)
FRONT_HALF_RAD = np.radians(60.0)
MISCALIBRATED_RAD, MISCALIBRATED_M = np.radians(2.2), 0.22  # a tenth more than evaluation asks


@dataclass(frozen=True)
class Augmentation:
    """How far a frame may be bent before the network sees it; all zero means not at all."""

    flip_probability: float = 0.5
    yaw_rad: float = 0.3
    scale: float = 0.05
    height_m: float = 0.08
    pitch_rad: float = 0.012
    calibration_px: float = 1.5
    miscalibration_probability: float = 0.25
    stale_probability: float = 0.05
    point_dropout: float = 0.6
    beams_probability: float = 0.35
    front_probability: float = 0.03
    range_noise_m: float = 0.02
    intensity_probability: float = 0.5
    photometric: float = 0.25
    bad_picture_probability: float = 0.15
    blank_picture_probability: float = 0.03
    no_image_probability: float = 0.1
    no_points_probability: float = 0.27


NO_AUGMENTATION = Augmentation(**dict.fromkeys((f.name for f in fields(Augmentation)), 0.0))


def augment(frame: Frame, a: Augmentation, rng: Rng) -> Frame:
    """One random version of a frame. The same generator state gives the same version."""
    if rng.random() < a.flip_probability:
        frame = flip(frame)
    yaw = rng.uniform(-a.yaw_rad, a.yaw_rad)
    scale = rng.uniform(1.0 - a.scale, 1.0 + a.scale)
    height = rng.normal(0.0, a.height_m) if a.height_m > 0.0 else 0.0
    pitch, roll = rng.normal(0.0, a.pitch_rad, 2) if a.pitch_rad > 0.0 else (0.0, 0.0)
    frame = move(frame, yaw, scale, height, pitch, roll)
    shift = np.eye(3, dtype=np.float32)
    shift[:2, 2] = rng.normal(0.0, 1.0, 2) * a.calibration_px
    frame = replace(frame, pixel_from_base=shift @ frame.pixel_from_base)
    frame = replace(frame, looked_from=frame.pixel_from_base)
    if rng.random() < a.stale_probability:
        frame = stale(frame, rng)
    elif rng.random() < a.miscalibration_probability:
        frame = replace(frame, pixel_from_base=miscalibrated(frame.pixel_from_base, rng))
    if a.photometric > 0.0:
        frame = spoil_picture(frame, a, rng)
    if a.point_dropout > 0.0 or a.range_noise_m > 0.0:
        frame = disturb_points(frame, a, rng)
    return frame


# -------------------------------------------------------------------------------- the world


def flip(frame: Frame) -> Frame:
    """Mirror left and right: y in the world, u in the image, and the projection between them."""
    sign = np.diag([1.0, -1.0, 1.0, 1.0])
    mirror = np.array([[-1.0, 0.0, IMAGE_WIDTH_PX - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    points, boxes = frame.points.copy(), frame.boxes.copy()
    points[:, 1] *= -1.0
    boxes[:, [1, 6, 8]] *= -1.0
    return replace(
        frame,
        points=points,
        boxes=boxes,
        image=np.ascontiguousarray(frame.image[:, ::-1]),
        seg=np.ascontiguousarray(frame.seg[:, ::-1]),
        pixel_from_base=(mirror @ frame.pixel_from_base @ sign).astype(np.float32),
    )


def move(
    frame: Frame,
    yaw_rad: float = 0.0,
    scale: float = 1.0,
    height_m: float = 0.0,
    pitch_rad: float = 0.0,
    roll_rad: float = 0.0,
) -> Frame:
    """Turn the world about z, scale it and lift it, then tilt it a little about y and x (a base
    frame that is not quite level), under an image that stays as it is."""
    c, s = scale * np.cos(yaw_rad), scale * np.sin(yaw_rad)
    turned = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, scale, height_m], [0, 0, 0, 1.0]])
    tilted = np.eye(4)
    tilted[0, 2], tilted[2, 0] = pitch_rad, -pitch_rad
    tilted[1, 2], tilted[2, 1] = -roll_rad, roll_rad
    new_from_old = tilted @ turned
    linear = new_from_old[:3, :3].astype(np.float32)
    shift = new_from_old[:3, 3].astype(np.float32)
    rows = np.eye(5, dtype=np.float32)  # whole rows at once are quicker than three columns
    rows[:3, :3] = linear
    points = frame.points @ rows.T
    points[:, :3] += shift
    boxes = frame.boxes.copy()
    boxes[:, 3:6] *= scale
    boxes[:, 6] += yaw_rad
    boxes[:, :3] = boxes[:, :3] @ linear.T + shift
    boxes[:, 7:9] = boxes[:, 7:9] @ linear[:2, :2].T
    projection = frame.pixel_from_base @ np.linalg.inv(new_from_old)
    return replace(frame, points=points, boxes=boxes, pixel_from_base=projection.astype(np.float32))


# -------------------------------------------------------------------------- the calibration


def miscalibrated(pixel_from_base: F32, rng: Rng) -> F32:
    """A projection [3,4] that is wrong: turned by up to MISCALIBRATED_RAD about any axis, moved by
    up to MISCALIBRATED_M anywhere, large errors as often as small ones, and sometimes as late as
    0.1 s at the speed of a vehicle, seldom early."""
    p = pixel_from_base.astype(np.float64)
    rows = p[:, :3] / np.linalg.norm(p[2, :3])  # a world that was scaled scales depth
    centre = rows[:2] @ rows[2]
    focal = np.sqrt(np.maximum((rows[:2] ** 2).sum(1) - centre**2, 1.0))
    camera = np.array([[focal[0], 0.0, centre[0]], [0.0, focal[1], centre[1]], [0.0, 0.0, 1.0]])
    turned, _ = cv2.Rodrigues(random_direction(rng) * rng.uniform(0.0, MISCALIBRATED_RAD))
    moved = np.eye(4)
    moved[:3, 3] = random_direction(rng) * rng.uniform(0.0, MISCALIBRATED_M)
    if rng.random() < 0.4:
        late_s = rng.uniform(0.0, 0.1)
        moved[0, 3] -= late_s * rng.uniform(-5.0, 15.0)  # as in stale()
        turn_rad = late_s * rng.normal(0.0, 0.3)
        moved[0, 1], moved[1, 0] = -turn_rad, turn_rad
    return (camera @ turned @ np.linalg.inv(camera) @ p @ moved).astype(np.float32)


def stale(frame: Frame, rng: Rng) -> Frame:
    """A picture that was taken up to 25 m further back, as one that stands still soon was: to
    whatever does not move the camera is simply believed elsewhere. It shows no object where the
    network would look for it."""
    moved = np.eye(4)
    turn_rad = rng.normal(0.0, 0.15)
    moved[0, 1], moved[1, 0] = -turn_rad, turn_rad
    moved[0, 3] = -rng.uniform(1.0, 25.0)  # the camera is believed ahead of where it was
    believed = (frame.pixel_from_base @ moved).astype(np.float32)
    return replace(frame, pixel_from_base=believed, num_pixels=np.zeros_like(frame.num_pixels))


# ------------------------------------------------------------------------------- the picture


def recolour(image: U8, amount: float, rng: Rng, darker: float = 1.0) -> U8:
    """Another exposure, gamma and white balance, by one look-up table per channel."""
    ramp = np.linspace(0.0, 1.0, 256)
    gamma = np.exp(rng.normal(0.0, amount))
    gain = darker * np.exp(rng.normal(0.0, amount)) * np.exp(rng.normal(0.0, 0.3 * amount, 3))
    shift = rng.normal(0.0, 0.2 * amount)
    tables = [np.clip(gain[c] * ramp**gamma + shift, 0.0, 1.0) * 255.0 for c in range(3)]
    return np.asarray(cv2.LUT(image, np.stack(tables, -1).astype(np.uint8)[None]), np.uint8)


def spoil_picture(frame: Frame, a: Augmentation, rng: Rng) -> Frame:
    """Other light; at times blur, motion blur, darkness or noise; seldom nothing but one colour."""
    if rng.random() < a.blank_picture_probability:
        blank = np.full_like(frame.image, rng.integers(0, 256))
        return replace(frame, image=blank, num_pixels=np.zeros_like(frame.num_pixels))
    kind = rng.integers(0, 4) if rng.random() < a.bad_picture_probability else -1
    image = recolour(frame.image, a.photometric, rng, rng.uniform(0.08, 0.5) if kind == 0 else 1.0)
    if kind == 1:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 3.0))
    elif kind == 2:
        length = int(rng.integers(3, 22))
        image = cv2.blur(image, (length, 1))
    if kind in (0, 3):
        noise = rng.normal(0.0, rng.uniform(2.0, 16.0), (IMAGE_HEIGHT_PX // 2, IMAGE_WIDTH_PX // 2))
        wide = cv2.resize(noise.astype(np.float32), (IMAGE_WIDTH_PX, IMAGE_HEIGHT_PX))
        image = np.clip(image + wide[..., None], 0, 255).astype(np.uint8)
    return replace(frame, image=image)


# --------------------------------------------------------------------------------- the cloud


def keep(frame: Frame, kept: npt.NDArray[np.bool_]) -> Frame:
    """The frame with these of its points [N]; every object is taken to lose its share of them."""
    share = np.count_nonzero(kept) / max(len(kept), 1)
    left = np.floor(frame.num_points * share).astype(np.int32)
    return replace(frame, points=frame.points[kept], rings=frame.rings[kept], num_points=left)


def disturb_points(frame: Frame, a: Augmentation, rng: Rng) -> Frame:
    """Fewer beams or points, a little noise, and often another scale of intensity or none."""
    if rng.random() < a.beams_probability:
        step = int(rng.choice(BEAM_STEPS))
        frame = keep(frame, frame.rings % step == rng.integers(0, step))
    elif rng.random() < a.front_probability:
        aside = np.abs(np.arctan2(frame.boxes[:, 1], frame.boxes[:, 0])) > FRONT_HALF_RAD
        ahead = np.abs(np.arctan2(frame.points[:, 1], frame.points[:, 0])) <= FRONT_HALF_RAD
        left = np.where(aside, 0, frame.num_points).astype(np.int32)
        frame = replace(keep(frame, ahead), num_points=left)
    elif rng.random() < 0.4:
        lost = rng.uniform(0.0, a.point_dropout)
        frame = keep(frame, rng.random(len(frame.points)) >= lost)
    points = frame.points.copy()
    points[:, :3] += a.range_noise_m * rng.standard_normal((len(points), 3), np.float32)
    if rng.random() < a.intensity_probability:
        if rng.random() < 0.5:
            points[:, 3] = 0.0
        else:
            points[:, 3] = np.clip(points[:, 3], 0, 1) ** np.exp(rng.normal(0, 0.7))
            points[:, 3] *= np.float32(rng.uniform(0.2, 1.0))
    return replace(frame, points=points)
