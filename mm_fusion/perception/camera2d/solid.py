"""What stands on the ground, cluster by cluster: every later step reads its points in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.perception.camera2d.clusters import cluster
from mm_fusion.perception.ground import Ground

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Index = npt.NDArray[np.intp]

CLUSTERED_HEIGHT_M = 2.8  # above the ground: what hangs higher joins what it hangs over


class Solid(NamedTuple):
    """N points off the ground in the order of their K clusters.

    ``xyz`` float32 [3,N] in the base frame, ``height_m`` [N] above the ground, ``labels`` int32 [N]
    the clusters 0..K-1. The points of cluster k are the ``counts[k]`` from ``starts[k]`` on; they
    lie between ``low[:,k]`` and ``high[:,k]`` [3,K].
    """

    xyz: F32
    height_m: F32
    labels: I32
    starts: Index
    counts: Index
    low: F32
    high: F32

    def rows_of(self, clusters: Sequence[int]) -> Index:
        """The points of these clusters, one after the other."""
        first, last = self.starts, self.starts + self.counts
        return np.concatenate([np.arange(first[k], last[k]) for k in clusters])


def solid_of(xyz: F32, ground: Ground, range_m: float, sensor: F64) -> Solid:
    """What stands on the ground up to ``range_m`` from ``sensor`` [2], of points [3,N]."""
    rows = np.flatnonzero(~ground.is_ground & (ground.height_m < CLUSTERED_HEIGHT_M))
    x, y = (xyz[i].take(rows) - np.float32(sensor[i]) for i in range(2))
    labels = cluster(x, y, range_m)
    # Numbers of 16 bits are sorted in linear time.
    short = np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.int32
    order = np.argsort(labels.astype(short), kind="stable")
    order = order[len(order) - np.count_nonzero(labels) :]
    labels, rows = labels.take(order), rows.take(order)
    starts, counts = runs(labels)
    points = xyz.take(rows, axis=1)
    low = high = np.zeros((3, 0), np.float32)
    if len(starts):
        low = np.minimum.reduceat(points, starts, axis=1)
        high = np.maximum.reduceat(points, starts, axis=1)
    names = np.repeat(np.arange(len(starts), dtype=np.int32), counts)
    return Solid(points, ground.height_m.take(rows), names, starts, counts, low, high)


def runs(names: I32) -> tuple[Index, Index]:
    """Where equal ones of N sorted names begin, and how many of them there are."""
    ends = np.append(np.flatnonzero(names[1:] != names[:-1]) + 1, len(names))
    starts = np.zeros(len(ends), np.intp)
    starts[1:] = ends[:-1]
    return (starts, ends - starts) if len(names) else (starts[:0], starts[:0])
