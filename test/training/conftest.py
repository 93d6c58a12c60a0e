"""Made training frames: a flat street with boxes of points, seen by a camera looking ahead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.frames import stored

from mm_fusion.datasets.frame import write_frame
from mm_fusion.training.frames import Frame

SIZES = ([4.4, 1.8, 1.6], [0.6, 0.6, 1.75], [1.8, 0.6, 1.7])
COLOURS = ([200, 30, 30], [30, 200, 30], [30, 30, 200])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def projection() -> np.ndarray:
    """A pinhole camera 1.6 m above base, 0.3 m ahead of it, looking along +x."""
    intrinsics = np.array([[375.0, 0.0, 319.5], [0.0, 450.0, 191.5], [0.0, 0.0, 1.0]])
    optical_from_base = np.array(
        [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.6], [1.0, 0.0, 0.0, -0.3]]
    )
    return (intrinsics @ optical_from_base).astype(np.float32)


def made_frame(seed: int, objects: int = 6, ground_points: int = 1500) -> Frame:
    """Ground points, objects of 60 points each, and their blobs painted into the image."""
    rng = np.random.default_rng(seed)
    ground = np.zeros((ground_points, 5))
    ground[:, :2] = rng.uniform(-25.0, 25.0, (ground_points, 2))
    labels = rng.integers(0, 3, objects)
    boxes = np.zeros((objects, 9))
    boxes[:, 0] = rng.uniform(6.0, 30.0, objects)
    boxes[:, 1] = np.linspace(-12.0, 12.0, objects)
    boxes[:, 3:6] = np.array(SIZES)[labels]
    boxes[:, 2] = boxes[:, 5] / 2.0
    boxes[:, 6] = rng.uniform(-3.0, 3.0, objects)
    clouds, image = [ground], np.full((384, 640, 3), 90, np.uint8)
    seg = np.zeros((96, 160), np.uint8)
    for box, label in zip(boxes, labels, strict=True):
        cloud = np.zeros((60, 5))
        cloud[:, :3] = box[:3] + rng.uniform(-0.5, 0.5, (60, 3)) * box[3:6]
        clouds.append(cloud)
        u, v, w = projection() @ np.append(box[:3], 1.0)
        if 8 <= u / w < 632 and 8 <= v / w < 376:
            row, column = int(v / w) // 8, int(u / w) // 8
            image[row * 8 - 8 : row * 8 + 8, column * 8 - 8 : column * 8 + 8] = COLOURS[label]
            seg[2 * row - 2 : 2 * row + 2, 2 * column - 2 : 2 * column + 2] = 1 + label
    points = np.concatenate(clouds)
    points[:, 3] = rng.uniform(0.0, 1.0, len(points))
    return Frame(
        points=points.astype(np.float32),
        rings=np.zeros(len(points), np.uint8),
        image=image,
        pixel_from_base=projection(),
        boxes=boxes.astype(np.float32),
        labels=labels.astype(np.int64),
        num_points=np.full(objects, 60, np.int32),
        num_pixels=np.full(objects, 100, np.int32),
        seg=seg,
    )


@pytest.fixture
def frame() -> Frame:
    return made_frame(3)


@pytest.fixture
def write_frames(tmp_path: Path) -> Callable[[int], Path]:
    """A function that writes so many made frames to a folder and returns it."""

    def write(count: int) -> Path:
        folder = tmp_path / "frames"
        folder.mkdir(exist_ok=True)
        for n in range(count):
            write_frame(folder / f"{n:06d}.npz", stored(made_frame(n)))
        return folder

    return write
