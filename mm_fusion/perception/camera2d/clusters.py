"""LIDAR points that belong together: connected cells of a polar grid.

A cell is wider the farther it is, as the gaps between neighbouring beams are; close by, where a
cell is narrower than things are apart, neighbours within GAP_M are joined all the same. The joining
is OpenCV's labelling of connected components, on a picture of occupied cells.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

AZIMUTHS = 720  # cells around
RANGE_STEP_M = 0.3
GAP_M = 0.3  # across the beam
BAND_ROWS = (0, 6, 12, 24)  # rows from which on the joining across changes


def cluster(x: F32, y: F32, range_m: float) -> I32:
    """Labels int32 [N] of points in the plane, as seen from the origin: 1 and up; 0 for those
    farther than ``range_m``."""
    rows = int(np.ceil(range_m / RANGE_STEP_M))
    radius = np.sqrt(x * x + y * y)
    radius *= np.float32(1.0 / RANGE_STEP_M)
    turns = np.arctan2(y, x)
    turns *= np.float32(AZIMUTHS / (2.0 * np.pi))
    turns += np.float32(AZIMUTHS / 2)
    column = turns.astype(np.intp)
    column[column == AZIMUTHS] = 0
    # What is too far comes into one row more, which stays empty.
    cell = np.minimum(radius, np.float32(rows)).astype(np.intp)
    cell *= AZIMUTHS
    cell += column
    occupied = np.zeros((rows + 1, AZIMUTHS), np.uint8)
    occupied.reshape(-1)[cell] = 1
    occupied[rows] = 0
    labels, joined = _components(_joined_across(occupied))
    return joined.take(labels.reshape(-1).take(cell))


def _joined_across(occupied: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Close by, every occupied cell is widened to half of GAP_M on either side."""
    out = occupied.copy()
    for first, last in itertools.pairwise(BAND_ROWS):
        middle_m = (first + last) / 2.0 * RANGE_STEP_M
        cells = round(GAP_M / 2.0 / (middle_m * 2.0 * np.pi / AZIMUTHS))
        if cells > 0:
            band = cv2.copyMakeBorder(occupied[first:last], 0, 0, cells, cells, cv2.BORDER_WRAP)
            wide = cv2.dilate(band, np.ones((1, 2 * cells + 1), np.uint8))
            out[first:last] = wide[:, cells:-cells]
    return out


def _components(occupied: npt.NDArray[np.uint8]) -> tuple[I32, I32]:
    """Labels of connected cells, diagonal neighbours included, and the label that each stands for:
    the seam behind is no border."""
    count, labels = cv2.connectedComponents(occupied, connectivity=8, ltype=cv2.CV_32S)
    joined = np.arange(count, dtype=np.int32)
    left, right = labels[:, 0].tolist(), labels[:, -1].tolist()
    touching = [*zip(left, right, strict=True)]
    touching += [*zip(left[1:], right[:-1], strict=True), *zip(left[:-1], right[1:], strict=True)]
    for one, other in sorted(set(touching)):
        if one > 0 and other > 0:
            low, high = sorted((joined[one], joined[other]))
            joined[joined == high] = low
    return np.asarray(labels, np.int32), joined
