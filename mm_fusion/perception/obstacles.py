"""The obstacle cloud: every point of a sweep in a band of heights, for a costmap.

Simple on purpose: what is lower than ``obstacles.min_height_m`` above the base frame counts as
ground, which holds on level ground. Slopes, and the robot's own body, are not told apart. The
network has no part in it, so that the cloud is there where a network fails.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.clouds import CloudPlacer
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.samples import SyncedSet

OBSTACLE_DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])


def obstacle_points(
    synced: SyncedSet,
    calibration: Calibration,
    config: Config,
    motion: MotionBuffer | None = None,
) -> npt.NDArray[np.void] | None:
    """Obstacles of a set, structured OBSTACLE_DTYPE [N], in the base frame at the set's stamp.

    ``motion`` takes the motion during the sweep out, where ``deskew.enabled``. Intensity is 0..1.
    None where the set has no sweep, or nothing says where the LIDAR sits.
    """
    sweep = next(iter(synced.sweeps), None)
    base_from_lidar = None if sweep is None else calibration.base_from(sweep.frame_id)
    if sweep is None or base_from_lidar is None:
        return None
    used = motion if config.deskew.enabled else None
    cloud = CloudPlacer().place(sweep, base_from_lidar, synced.stamp_ns, used)
    x, y, z = cloud.xyz
    band = (z >= config.obstacles.min_height_m) & (z <= config.obstacles.max_height_m)
    band &= np.isfinite(x) & np.isfinite(y)
    kept = np.flatnonzero(band)
    out = np.zeros(len(kept), OBSTACLE_DTYPE)
    out["x"], out["y"], out["z"] = x[kept], y[kept], z[kept]
    if sweep.intensity_field:
        with np.errstate(invalid="ignore", over="ignore"):
            intensity = sweep.points[sweep.intensity_field][kept] * sweep.intensity_scale
            out["intensity"] = np.fmin(np.fmax(intensity, 0.0), 1.0)
    return out
