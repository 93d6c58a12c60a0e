"""The obstacle cloud: every point of the sweeps in a band of heights, for a costmap.

Simple on purpose: what is lower than ``obstacles.min_height_m`` above the base frame counts as
ground, which holds on level ground. Slopes, and the robot's own body, are not told apart. The
network has no part in it, so that the cloud is there where a network fails.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config, ObstaclesConfig
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.clouds import CloudPlacer, PlacedCloud, mounted
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.samples import SyncedSet

OBSTACLE_DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])


def obstacle_points(
    synced: SyncedSet,
    calibration: Calibration,
    config: Config,
    motion: MotionBuffer | None = None,
    placer: CloudPlacer | None = None,
) -> npt.NDArray[np.void] | None:
    """Obstacles of a set, structured OBSTACLE_DTYPE [N], in the base frame at the set's stamp.

    The sweeps of all LIDARs together. ``motion`` takes the motion during the sweeps out, where
    ``deskew.enabled``; ``placer`` lends its memory. Intensity is 0..1. None where the set has no
    sweep, or nothing says where any of its LIDARs sits.
    """
    sweeps, _ = mounted(synced, calibration)
    if not sweeps:
        return None
    used = motion if config.deskew.enabled else None
    clouds = (placer or CloudPlacer()).place(sweeps, synced.stamp_ns, used)
    kept = [_in_band(cloud, config.obstacles) for cloud in clouds]
    out = np.zeros(sum(len(k) for k in kept), OBSTACLE_DTYPE)
    start = 0
    for (sweep, *_), cloud, indices in zip(sweeps, clouds, kept, strict=True):
        part = out[start : start + len(indices)]
        start += len(indices)
        for axis, row in zip("xyz", cloud.xyz, strict=True):
            part[axis] = row[indices]
        if sweep.intensity_field:
            with np.errstate(invalid="ignore", over="ignore"):
                intensity = sweep.points[sweep.intensity_field][indices] * sweep.intensity_scale
                part["intensity"] = np.fmin(np.fmax(intensity, 0.0), 1.0)
    return out


def _in_band(cloud: PlacedCloud, heights: ObstaclesConfig) -> npt.NDArray[np.intp]:
    x, y, z = cloud.xyz
    band = (z >= heights.min_height_m) & (z <= heights.max_height_m)
    band &= np.isfinite(x) & np.isfinite(y)
    return np.flatnonzero(band)
