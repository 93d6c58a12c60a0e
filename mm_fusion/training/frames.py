"""Training frames from disk, as the network takes them.

The files are those of ``mm_fusion.datasets.frame``. Here they become what the network takes:
``points`` f32 [N,5] and ``pixel_from_base`` f32 [3,4] as in its contract, ``image`` u8 [H,W,3] RGB
of the network's size, ``boxes`` f32 [M,9], ``labels`` i64 [M] (-1: neither demanded nor punished),
``num_points`` and ``num_pixels`` i32 [M] (how much of each object the sensors really see) and
``seg`` u8 [H/4,W/4], class ids at stride 4 (0 background, 255 not known).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.datasets.frame import UNKNOWN_CLASS, LabelledFrame, read_frame
from mm_fusion.errors import StageError
from mm_fusion.training.grid import Grid
from mm_fusion.training.views import IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX

F32 = npt.NDArray[np.float32]
CLASSES = ("car", "pedestrian", "cyclist")
SEG_STRIDE = 4


@dataclass(frozen=True)
class Frame:
    """One training frame as the network takes it."""

    points: F32
    rings: npt.NDArray[np.uint8]  # [N]; the beam of each point, 255 where not known
    image: npt.NDArray[np.uint8]
    pixel_from_base: F32
    boxes: F32
    labels: npt.NDArray[np.int64]
    num_points: npt.NDArray[np.int32]
    num_pixels: npt.NDArray[np.int32]
    seg: npt.NDArray[np.uint8]
    looked_from: F32 | None = None  # [3,4]: where pixel_from_base is believed wrongly, the true one


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
        cloud.ring[inside],
        image,
        (resize @ stored.pixel_from_base[0]).astype(np.float32),
        o.boxes,
        o.labels,
        o.num_points,
        pixels.astype(np.int32),
        paint_classes(stored.classes),
    )


def paint_classes(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The class map in the size the network paints it: the class that fills at least a quarter of a
    cell, most of all that do; else 0. All 255 where nothing is known."""
    shape = (IMAGE_HEIGHT_PX // SEG_STRIDE, IMAGE_WIDTH_PX // SEG_STRIDE)
    if not classes.size:
        return np.full(shape, UNKNOWN_CLASS, np.uint8)
    shares = [
        cv2.resize((classes == c).astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
        for c in range(1, len(CLASSES) + 1)
    ]
    best = np.argmax(shares, axis=0)
    return np.where(np.max(shares, axis=0) >= 1 / 4, best + 1, 0).astype(np.uint8)
