"""Pictures of real cameras on their way into frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.errors import StageError

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

STORED_PIXELS = 500_000  # more than the network takes, and than KITTI's camera has


def read_picture(path: Path) -> U8:
    """A picture file as RGB [H,W,3]. Raises StageError, naming it, where it cannot be read."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise StageError(f"{path}: not a readable picture")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def shrunk(image: U8, pixel_from_base: F64, pixels: int) -> tuple[U8, F64, tuple[float, float]]:
    """A picture [H,W,3] of at most about ``pixels``, its projection [3,4], its scales (u, v).

    Pixel centres are at integers: what was at u is then at (u + 0.5) * scale - 0.5.
    """
    height, width = image.shape[:2]
    scale = min(1.0, (pixels / (height * width)) ** 0.5)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return image, np.asarray(pixel_from_base, np.float64), (1.0, 1.0)
    su, sv = size[0] / width, size[1] / height
    small_from_large = np.array([[su, 0, 0.5 * su - 0.5], [0, sv, 0.5 * sv - 0.5], [0, 0, 1]])
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, np.asarray(small_from_large @ pixel_from_base), (su, sv)
