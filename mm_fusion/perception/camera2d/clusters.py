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
    radius = np.hypot(x, y)
    rows = int(np.ceil(range_m / RANGE_STEP_M))
    row = (radius * np.float32(1.0 / RANGE_STEP_M)).astype(np.int32)
    turns = np.arctan2(y, x) * np.float32(AZIMUTHS / (2.0 * np.pi))
    column = (turns + np.float32(AZIMUTHS / 2)).astype(np.int32) % AZIMUTHS
    near = row < rows
    row[~near] = 0
    occupied = np.zeros((rows, AZIMUTHS), np.uint8)
    occupied[row[near], column[near]] = 1
    labels = _components(_joined_across(occupied))
    found = labels[row, column]
    found[~near] = 0
    return found


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


def _components(occupied: npt.NDArray[np.uint8]) -> I32:
    """Labels of connected cells, diagonal neighbours included; the seam behind is no border."""
    count, labels = cv2.connectedComponents(occupied, connectivity=8, ltype=cv2.CV_32S)
    joined = np.arange(count)
    left, right = labels[:, 0], labels[:, -1]
    for shift in (-1, 0, 1):
        a = np.roll(right, shift)
        for one, other in np.unique(np.stack([left, a])[:, (left > 0) & (a > 0)], axis=1).T:
            low, high = sorted((joined[one], joined[other]))
            joined[joined == high] = low
    return np.asarray(joined[labels], np.int32)
