"""Which detection belongs to which track: the cheapest assignment of all, within a gate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GATE = 16.0  # squared Mahalanobis distance; of true pairs 3 in 10 000 lie beyond


def assigned(offset: F64, innovation: F64, allowed: Bools) -> tuple[I64, I64]:
    """Rows of tracks and columns of detections that belong together.

    ``offset`` [N,M,2] from each track's prediction to each detection, ``innovation`` [N,M,2,2] its
    covariance, ``allowed`` [N,M] which pairs may be. The cost is that of the likelihood, -2 log
    N(offset; 0, S), so that a track that is sure of its place has the first claim on what is there;
    to leave a pair apart costs as much as the gate.
    """
    nothing = np.zeros(0, np.int64)
    if not allowed.any():
        return nothing, nothing
    a, b, c = innovation[..., 0, 0], innovation[..., 0, 1], innovation[..., 1, 1]
    determinant = a * c - b * b
    x, y = offset[..., 0], offset[..., 1]
    square = (c * x * x - 2.0 * b * x * y + a * y * y) / determinant
    volume = np.log(determinant)
    fits = allowed & (square < GATE)
    cost = np.where(fits, square + volume, GATE + volume.max())
    rows, columns = linear_sum_assignment(cost)
    kept = fits[rows, columns]
    return rows[kept].astype(np.int64), columns[kept].astype(np.int64)


def hidden(place: F64, size: F64, seen: Bools) -> Bools:
    """Which boxes [N] something that is seen now stands before, as looked at from the origin.

    ``place`` [N,2] m, ``size`` [N,3] m. A box hides what is behind the middle of its width.
    """
    distance = np.hypot(place[:, 0], place[:, 1])
    azimuth = np.arctan2(place[:, 1], place[:, 0])
    reach = np.hypot(size[:, 0], size[:, 1]) / 2.0
    half = np.arctan2(0.8 * reach, np.maximum(distance, 0.1))
    apart = np.abs((azimuth[:, None] - azimuth + np.pi) % (2 * np.pi) - np.pi)
    before = distance + reach < distance[:, None]
    return np.asarray((before & seen & (apart < half)).any(axis=1))
