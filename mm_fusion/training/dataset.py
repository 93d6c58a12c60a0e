"""Training frames from disk, their augmentation, and the batches a training step sees.

The files are those of ``mm_fusion.datasets.frame``. Here they become what the network takes:
``points`` f32 [N,5] and ``pixel_from_base`` f32 [3,4] as in its contract, ``image`` u8
[256,512,3] RGB, ``boxes`` f32 [M,9], ``labels`` i64 [M] (-1: neither demanded nor punished),
``num_points`` and ``num_pixels`` i32 [M] (how much of each object the sensors really see) and
``seg`` u8 [32,64], class ids at stride 8 (0 background, 255 not known).

Everything random here is a function of (seed, step, rank), so a run that is taken up again goes
on exactly as if it had never stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from mm_fusion.datasets.frame import UNKNOWN_CLASS, LabelledFrame, read_frame
from mm_fusion.errors import StageError
from mm_fusion.training.grid import Grid
from mm_fusion.training.network_torch import CLASSES, IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX
from mm_fusion.training.targets import Targets, make_targets

F32 = npt.NDArray[np.float32]
POINT_BUDGET = 40_000
SEG_STRIDE = 8


@dataclass(frozen=True)
class Frame:
    """One training frame as the network takes it."""

    points: F32
    image: npt.NDArray[np.uint8]
    pixel_from_base: F32
    boxes: F32
    labels: npt.NDArray[np.int64]
    num_points: npt.NDArray[np.int32]
    num_pixels: npt.NDArray[np.int32]
    seg: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """How far a frame may be bent before the network sees it; all zero means not at all."""

    flip_probability: float = 0.5
    yaw_rad: float = 0.2
    scale: float = 0.05
    height_m: float = 0.08
    calibration_px: float = 1.5
    point_dropout: float = 0.5
    range_noise_m: float = 0.02
    intensity_probability: float = 0.5
    photometric: float = 0.25
    no_image_probability: float = 0.15
    no_points_probability: float = 0.25  # camera alone is the harder lesson


NO_AUGMENTATION = Augmentation(*([0.0] * 11))


@dataclass
class Batch:
    """What one training step needs; tensors with a leading batch axis."""

    points: torch.Tensor
    images: torch.Tensor
    pixel_from_base: torch.Tensor
    has_points: torch.Tensor
    has_image: torch.Tensor
    segmentation: torch.Tensor  # i64 [B,32,64]
    targets: Targets


def list_frames(folder: Path) -> list[Path]:
    """The folder's frames in name order. Raises StageError when there is none."""
    frames = sorted(folder.glob("*.npz"))
    if not frames:
        raise StageError(f"{folder}: no training frames (*.npz)")
    return frames


def load_frame(path: Path) -> Frame:
    """Read one frame. Raises StageError, naming the file, when it does not fit the format."""
    stored = read_frame(path)
    if not stored.images:
        blank = np.zeros((IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX, 3), np.uint8)
        return frame_of(replace(stored, images=(blank,), pixel_from_base=_NOWHERE[None]))
    return frame_of(stored)


# Projects everything behind the camera.
_NOWHERE = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]], np.float32)


def frame_of(stored: LabelledFrame) -> Frame:
    """A stored frame in the network's terms: its first image in the network's size, its points
    within the volume, unknown velocities as NaN (they carry no loss)."""
    size = (IMAGE_WIDTH_PX, IMAGE_HEIGHT_PX)
    height, width = stored.images[0].shape[:2]
    su, sv = size[0] / width, size[1] / height
    resize = np.array([[su, 0, 0.5 * su - 0.5], [0, sv, 0.5 * sv - 0.5], [0, 0, 1]])
    way = cv2.INTER_AREA if su <= 1.0 and sv <= 1.0 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(stored.images[0], size, interpolation=way), np.uint8)
    cloud, grid, o = stored.cloud, Grid(), stored.objects
    low = np.array([grid.x_min_m, grid.y_min_m, grid.z_min_m], np.float32)
    high = np.array([grid.x_max_m, grid.y_max_m, grid.z_max_m], np.float32)
    inside = ((cloud.xyz >= low) & (cloud.xyz < high)).all(axis=1)
    columns = (cloud.xyz[inside], cloud.intensity[inside], cloud.seconds[inside])
    # where nobody counted pixels, nothing is demanded of the camera alone
    pixels = np.maximum(o.num_pixels, 0) * (su * sv)
    return Frame(
        np.column_stack(columns).astype(np.float32),
        image,
        (resize @ stored.pixel_from_base[0]).astype(np.float32),
        o.boxes,
        o.labels,
        o.num_points,
        pixels.astype(np.int32),
        paint_classes(stored.classes),
    )


def paint_classes(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The class map in the size the network paints it: the class that fills at least a sixth of a
    cell, most of all that do; else 0. All 255 where nothing is known."""
    shape = (IMAGE_HEIGHT_PX // SEG_STRIDE, IMAGE_WIDTH_PX // SEG_STRIDE)
    if not classes.size:
        return np.full(shape, UNKNOWN_CLASS, np.uint8)
    shares = [
        cv2.resize((classes == c).astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
        for c in range(1, len(CLASSES) + 1)
    ]
    best = np.argmax(shares, axis=0)
    return np.where(np.max(shares, axis=0) >= 1 / 6, best + 1, 0).astype(np.uint8)


# ----------------------------------------------------------------------- augmentation


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


def turn(frame: Frame, yaw_rad: float, scale: float, height_m: float) -> Frame:
    """Turn the world about z, scale it and lift it, under an image that stays as it is."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    new_from_old = np.eye(4)
    new_from_old[:3, :3] = scale * np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    new_from_old[2, 3] = height_m
    linear = new_from_old[:3, :3].astype(np.float32)
    points, boxes = frame.points.copy(), frame.boxes.copy()
    points[:, :3] = points[:, :3] @ linear.T
    points[:, 2] += height_m
    boxes[:, :3] = boxes[:, :3] @ linear.T
    boxes[:, 2] += height_m
    boxes[:, 3:6] *= scale
    boxes[:, 6] += yaw_rad
    boxes[:, 7:9] = boxes[:, 7:9] @ linear[:2, :2].T
    projection = frame.pixel_from_base @ np.linalg.inv(new_from_old)
    return replace(frame, points=points, boxes=boxes, pixel_from_base=projection.astype(np.float32))


def recolour(image: npt.NDArray[np.uint8], amount: float, rng: np.random.Generator) -> npt.NDArray:
    """Another exposure, gamma and white balance, by one look-up table per channel."""
    ramp = np.linspace(0.0, 1.0, 256)
    gamma = np.exp(rng.normal(0.0, amount))
    gain = np.exp(rng.normal(0.0, amount)) * np.exp(rng.normal(0.0, 0.3 * amount, 3))
    shift = rng.normal(0.0, 0.2 * amount)
    out = np.empty_like(image)
    for channel in range(3):
        table = np.clip(gain[channel] * ramp**gamma + shift, 0.0, 1.0) * 255.0
        out[..., channel] = table.astype(np.uint8)[image[..., channel]]
    return out


def disturb_points(points: F32, a: Augmentation, rng: np.random.Generator) -> F32:
    """Fewer points, a little noise, and often another scale of intensity or none at all."""
    if rng.random() < 0.5 and a.point_dropout > 0.0:
        keep = rng.uniform(1.0 - a.point_dropout, 1.0)
        points = points[rng.random(len(points)) < keep]
    points = points.copy()
    points[:, :3] += rng.normal(0.0, a.range_noise_m, (len(points), 3)).astype(np.float32)
    if rng.random() < a.intensity_probability:
        if rng.random() < 0.5:
            points[:, 3] = 0.0
        else:
            points[:, 3] = np.clip(points[:, 3], 0, 1) ** np.exp(rng.normal(0, 0.7))
            points[:, 3] *= np.float32(rng.uniform(0.2, 1.0))
    return points


def augment(frame: Frame, a: Augmentation, rng: np.random.Generator) -> Frame:
    """One random version of a frame. The same generator state gives the same version."""
    if rng.random() < a.flip_probability:
        frame = flip(frame)
    yaw = rng.uniform(-a.yaw_rad, a.yaw_rad)
    scale = rng.uniform(1.0 - a.scale, 1.0 + a.scale)
    frame = turn(frame, yaw, scale, rng.normal(0.0, a.height_m) if a.height_m > 0 else 0.0)
    shift = np.eye(3, dtype=np.float32)
    shift[:2, 2] = rng.normal(0.0, 1.0, 2) * a.calibration_px
    frame = replace(frame, pixel_from_base=shift @ frame.pixel_from_base)
    if a.photometric > 0.0:
        frame = replace(frame, image=recolour(frame.image, a.photometric, rng))
    if a.point_dropout > 0.0 or a.range_noise_m > 0.0:
        frame = replace(frame, points=disturb_points(frame.points, a, rng))
    return frame


# ------------------------------------------------------------------------------ batches


def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch visits ``count`` frames."""
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


def indices(seed: int, step: int, count: int, batch: int) -> list[int]:
    """Frame numbers of one step over all ranks; the last batch of an epoch runs into the next."""
    first = step * batch
    numbers = range(first, first + batch)
    orders = {n // count: epoch_order(seed, n // count, count) for n in (first, numbers[-1])}
    for n in numbers:
        orders.setdefault(n // count, epoch_order(seed, n // count, count))
    return [int(orders[n // count][n % count]) for n in numbers]


def collate(frames: list[Frame], flags: list[tuple[float, float]], grid: Grid) -> Batch:
    """Frames and their (has_points, has_image) flags as one batch; short clouds end in NaN rows."""
    longest = max(len(frame.points) for frame in frames)
    points = np.full((len(frames), longest, 5), np.nan, np.float32)
    for row, frame in zip(points, frames, strict=True):
        row[: len(frame.points)] = frame.points
    has = torch.tensor(flags, dtype=torch.float32)
    return Batch(
        points=torch.from_numpy(points),
        images=torch.from_numpy(np.stack([f.image for f in frames])).unsqueeze(1),
        pixel_from_base=torch.from_numpy(np.stack([f.pixel_from_base for f in frames]))
        .to(torch.float32)
        .unsqueeze(1),
        has_points=has[:, 0:1].contiguous(),
        has_image=has[:, 1:2].contiguous(),
        segmentation=torch.from_numpy(np.stack([f.seg for f in frames]).astype(np.int64)),
        targets=Targets.stack(
            [
                make_targets(
                    f.boxes, f.labels, f.num_points * int(p > 0), f.num_pixels * int(i > 0), grid
                )
                for f, (p, i) in zip(frames, flags, strict=True)
            ]
        ),
    )


def limit_points(points: F32, budget: int, rng: np.random.Generator) -> F32:
    """At most ``budget`` points, chosen evenly at random, in their order."""
    if len(points) <= budget:
        return points
    return points[np.sort(rng.choice(len(points), budget, replace=False))]


def make_batch(
    paths: list[Path],
    a: Augmentation,
    grid: Grid,
    rng: np.random.Generator,
) -> Batch:
    """Load, augment and collate the frames of one step, with modality dropout."""
    frames, flags = [], []
    for path in paths:
        frame = augment(load_frame(path), a, rng)
        frames.append(replace(frame, points=limit_points(frame.points, POINT_BUDGET, rng)))
        draw = rng.random()
        no_image = draw < a.no_image_probability
        no_points = not no_image and draw < a.no_image_probability + a.no_points_probability
        flags.append((0.0 if no_points else 1.0, 0.0 if no_image else 1.0))
    return collate(frames, flags, grid)
