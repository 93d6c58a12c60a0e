"""One labelled frame and its file.

A file is an ``.npz`` without compression of its own. Points go into it as differences between
neighbours of a ring in steps of 5 mm, byte by byte through zlib: about 4 bytes a point. Images are
JPEG. Everything else is small. ``docs/dataset.md`` describes the entries one by one.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.errors import StageError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

FORMAT = "mm_fusion frame 1"
LABELS = ("car", "pedestrian", "cyclist")
IGNORED = -1  # the label of what is neither to be found nor a mistake when found
NO_RING = 255
VARIANTS_FOLDER = "variants"  # below a set: its frames once more, see sim.variants
STEP_M = 0.005
TICK_S = 1e-5
REACH_M = 32767 * STEP_M
CLASS_STRIDE = 4  # of the class map, in pixels of the image
UNKNOWN_CLASS = 255
JPEG_QUALITY = 92
_BROKEN = (
    *(KeyError, ValueError, OSError, EOFError),
    *(zlib.error, zipfile.BadZipFile, cv2.error),
)


@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """Points in the base frame at the frame's stamp, N of them.

    ``xyz`` f32 [N,3] m, ``intensity`` f32 [N] 0..1, ``seconds`` f32 [N] before the stamp (>= 0),
    ``ring`` u8 [N], 0 the lowest beam, 255 where it is not known.
    """

    xyz: F32
    intensity: F32
    seconds: F32
    ring: U8

    @staticmethod
    def empty() -> Cloud:
        """No points."""
        nothing = np.zeros(0, np.float32)
        return Cloud(np.zeros((0, 3), np.float32), nothing, nothing, np.zeros(0, np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The labelled objects of a frame, M of them, in the base frame at its stamp.

    ``boxes`` f32 [M,9]: centre, length width height, yaw, vx vy over ground (NaN where unknown).
    ``labels`` i64 [M] index LABELS, IGNORED for what does not count. ``num_points``,
    ``num_pixels`` i32 [M]: LIDAR points on it, pixels of it in the first image (-1: not known).
    ``visible`` f32 [M,2]: share of it that nothing hides from the LIDAR and, within the picture,
    from the camera (NaN: not known). ``kinds`` say more than the class, ``ids`` i64 [M] are stable
    over a drive (-1: not known).
    """

    boxes: F32
    labels: npt.NDArray[np.int64]
    num_points: npt.NDArray[np.int32]
    num_pixels: npt.NDArray[np.int32]
    visible: F32
    kinds: tuple[str, ...]
    ids: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFrame:
    """What the sensors saw at one instant, and what there was.

    ``images`` u8 [H,W,3] RGB each, rectified; ``pixel_from_base`` f32 [C,3,4] for each (pixel
    centres at integers). ``classes`` u8 [ceil(H/4),ceil(W/4)]: 0 nothing, 1 + label, 255 not
    known; [0,0] where nothing is known. ``ignore_px`` f32 [K,4]: left, top, right, bottom of areas
    of the first image with objects that nobody labelled. ``previous`` is the sweep before, moved
    into the base frame at this stamp, its ``seconds`` before this stamp. ``conditions`` say under
    which circumstances (see CONDITIONS).
    """

    cloud: Cloud
    images: tuple[U8, ...]
    pixel_from_base: F32
    objects: Objects
    classes: U8 = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    ignore_px: F32 = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    previous: Cloud | None = None
    conditions: dict[str, Any] = field(default_factory=dict)


# Keys of ``conditions`` that every frame has, and what stands there when it is not known.
CONDITIONS: dict[str, Any] = {
    "source": "",
    "device": "",
    "beams": 0,
    "lidar_height_m": 0.0,
    "weather": "",
    "night": None,
}


def write_frame(path: Path, frame: LabelledFrame) -> None:
    """Write a frame to ``path`` in one step: the file is there whole or not at all."""
    o = frame.objects
    arrays: dict[str, npt.NDArray[Any]] = {
        "format": np.array(FORMAT),
        "cloud": _packed(frame.cloud),
        "pixel_from_base": frame.pixel_from_base.astype(np.float32),
        "boxes": o.boxes.astype(np.float32),
        "labels": o.labels.astype(np.int8),
        "num_points": o.num_points.astype(np.int32),
        "num_pixels": o.num_pixels.astype(np.int32),
        "visible": o.visible.astype(np.float32),
        "ids": o.ids.astype(np.int64),
        "text": np.array(json.dumps({"kinds": o.kinds, "conditions": frame.conditions})),
        "classes": np.frombuffer(zlib.compress(frame.classes.tobytes(), 6), np.uint8),
        "classes_shape": np.array(frame.classes.shape, np.int32),
        "ignore_px": frame.ignore_px.astype(np.float32),
    }
    for k, image in enumerate(frame.images):
        arrays[f"image_{k}"] = _jpeg(image)
    if frame.previous is not None:
        arrays["previous"] = _packed(frame.previous)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    partial.replace(path)


def read_frame(path: Path) -> LabelledFrame:
    """Read a frame. Raises StageError, naming the file, when it does not fit the format."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return _frame(data)
    except _BROKEN as error:
        raise StageError(f"{path}: not a frame of '{FORMAT}' ({error})") from error


def _frame(data: Any) -> LabelledFrame:
    if str(data["format"]) != FORMAT:
        raise ValueError(f"it says '{data['format']}'")
    text = json.loads(str(data["text"]))
    names = set(data.files)
    count = sum(name.startswith("image_") for name in names)
    objects = Objects(
        data["boxes"].reshape(-1, 9),
        data["labels"].astype(np.int64),
        data["num_points"],
        data["num_pixels"],
        data["visible"].reshape(-1, 2),
        tuple(text["kinds"]),
        data["ids"],
    )
    lengths = {len(v) for v in (objects.boxes, objects.labels, objects.num_points, objects.kinds)}
    if len(lengths) != 1:
        raise ValueError(f"its objects' entries have different lengths: {sorted(lengths)}")
    shape = tuple(int(n) for n in data["classes_shape"])
    classes = np.frombuffer(zlib.decompress(data["classes"].tobytes()), np.uint8).reshape(shape)
    return LabelledFrame(
        _unpacked(data["cloud"]),
        tuple(_image(data[f"image_{k}"]) for k in range(count)),
        data["pixel_from_base"].reshape(count, 3, 4),
        objects,
        classes,
        data["ignore_px"].reshape(-1, 4),
        _unpacked(data["previous"]) if "previous" in names else None,
        text["conditions"],
    )


# --------------------------------------------------------------------------------- points


def _packed(cloud: Cloud) -> U8:
    """Points as bytes; those beyond REACH_M along an axis are left out."""
    near = (np.abs(cloud.xyz) < REACH_M).all(axis=1)
    # NaN compares as false: what is not finite is left out as well
    index = np.flatnonzero(near)
    index = index[np.lexsort((-cloud.seconds[index], cloud.ring[index]))]
    columns = [np.round(cloud.xyz[index, k] / STEP_M).astype(np.int16) for k in range(3)]
    ticks = np.clip(np.round(cloud.seconds[index] / TICK_S), 0, 65535).astype(np.uint16)
    columns.append(ticks.view(np.int16))
    planes = []
    for column in columns:
        steps = np.diff(column, prepend=column.dtype.type(0))  # wraps around, and back again
        planes += [(steps & 255).astype(np.uint8), (steps >> 8 & 255).astype(np.uint8)]
    level = np.round(np.clip(cloud.intensity[index], 0.0, 1.0) * 255.0).astype(np.uint8)
    planes += [level, np.diff(cloud.ring[index], prepend=np.uint8(0))]
    return np.frombuffer(zlib.compress(np.concatenate(planes).tobytes(), 1), np.uint8)


def _unpacked(packed: U8) -> Cloud:
    data = np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8)
    if len(data) % 10:
        raise ValueError("its cloud is cut off")
    planes = data.reshape(10, -1)
    columns = []
    for k in range(4):
        steps = planes[2 * k].astype(np.uint16) | planes[2 * k + 1].astype(np.uint16) << 8
        columns.append(np.cumsum(steps, dtype=np.uint16))
    xyz = np.stack([c.view(np.int16) for c in columns[:3]], axis=1) * np.float32(STEP_M)
    return Cloud(
        xyz.astype(np.float32),
        planes[8] * np.float32(1 / 255),
        columns[3] * np.float32(TICK_S),
        np.cumsum(planes[9], dtype=np.uint8),
    )


# --------------------------------------------------------------------------------- images


def _jpeg(image: U8) -> U8:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise StageError(f"an image of {image.shape} cannot be encoded")
    return np.asarray(data, np.uint8).reshape(-1)


def _image(data: U8) -> U8:
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("an image in it cannot be decoded")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


# -------------------------------------------------------------------------------- objects


def count_inside(xyz: npt.NDArray[np.floating], boxes: F32) -> npt.NDArray[np.int32]:
    """How many of points [N,3] lie in each of boxes [M,9], their faces included."""
    counts = np.zeros(len(boxes), np.int32)
    for k, box in enumerate(boxes.astype(np.float64)):
        reach = 0.5 * float(np.linalg.norm(box[3:6])) + 0.01
        near = xyz[(np.abs(xyz - box[:3]) <= reach).all(axis=1)] - box[:3]
        c, s = np.cos(box[6]), np.sin(box[6])
        local = np.stack([near[:, 0] * c + near[:, 1] * s, near[:, 1] * c - near[:, 0] * s], 1)
        inside = (np.abs(local) <= box[3:5] / 2).all(axis=1) & (np.abs(near[:, 2]) <= box[5] / 2)
        counts[k] = int(inside.sum())
    return counts
