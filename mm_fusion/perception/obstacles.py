"""The obstacle cloud: what stands on the ground, for a costmap or a collision monitor.

The ground is found and taken away, on slopes and over kerbs, what hangs higher than the robot is
tall, and the robot's own body where its footprint is given. What belongs to a moving track is
marked. No network has a part in it but by that mark, so that the cloud is there where a network
fails.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config
from mm_fusion.config_objects import ObstaclesConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.clouds import CloudPlacer, Mounted, mounted
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.ground import Ground, find_ground
from mm_fusion.samples import SyncedSet, Track

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# x y z in the base frame, m; height above the local ground, m; intensity 0..1; the id of the moving
# track that a point belongs to, 0 where it belongs to none; whether it belongs to one.
OBSTACLE_DTYPE = np.dtype(
    {
        "names": ["x", "y", "z", "height", "intensity", "track", "moving"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<f4", "<u4", "u1"],
        "offsets": [0, 4, 8, 12, 16, 20, 24],
        "itemsize": 28,
    }
)
AROUND_M = 0.3  # a box is taken this much larger on every side: noise, and what sticks out


def obstacle_points(
    synced: SyncedSet,
    calibration: Calibration,
    config: Config,
    motion: MotionBuffer | None = None,
    placer: CloudPlacer | None = None,
    tracks: Sequence[Track] = (),
    tracks_from_base: RigidTransform | None = None,
    ground: tuple[npt.NDArray[np.bool_], F32] | None = None,
) -> npt.NDArray[np.void] | None:
    """Obstacles of a set, structured OBSTACLE_DTYPE [N], in the base frame at the set's stamp.

    The sweeps of all LIDARs together. ``motion`` takes the motion during the sweeps out, where
    ``deskew.enabled``; ``placer`` lends its memory. ``tracks`` are of the same stamp, in a frame
    that ``tracks_from_base`` leads to (None: they are in the base frame, where their velocities are
    relative and nothing is marked as moving). ``ground`` is the result's, where it was found
    already. None where the set has no sweep, or nothing says
    where any of its LIDARs sits; no number in the cloud is NaN.
    """
    sweeps, _ = mounted(synced, calibration)
    if not sweeps:
        return None
    used = motion if config.deskew.enabled else None
    clouds = (placer or CloudPlacer()).place(sweeps, synced.stamp_ns, used)
    xyz = clouds[0].xyz if len(clouds) == 1 else np.concatenate([c.xyz for c in clouds], axis=1)
    height = find_ground(xyz, config.ground) if ground is None else Ground(*ground)
    chosen = np.flatnonzero(~height.is_ground & _hinders(xyz, height.height_m, config.obstacles))
    out = np.zeros(len(chosen), OBSTACLE_DTYPE)
    for name, row in zip("xyz", xyz, strict=True):
        out[name] = row[chosen]
    out["height"] = height.height_m[chosen]
    _put_intensity(out["intensity"], sweeps, chosen)
    if tracks_from_base is not None:
        _mark(out, tracks, tracks_from_base, config.obstacles.moving_speed_mps)
    return out


def _hinders(xyz: F32, height_m: F32, config: ObstaclesConfig) -> npt.NDArray[np.bool_]:
    """In the band of heights over the ground, and not on the robot itself. NaN is in no band."""
    kept = (height_m >= config.min_height_m) & (height_m <= config.max_height_m)
    x0, x1, y0, y1 = config.footprint_m
    if x1 > x0 and y1 > y0:
        x, y, _ = xyz
        kept &= (x < x0) | (x > x1) | (y < y0) | (y > y1)
    return np.asarray(kept)


def _put_intensity(out: F32, sweeps: Sequence[Mounted], chosen: npt.NDArray[np.intp]) -> None:
    start = 0
    for sweep, *_ in sweeps:
        first, last = np.searchsorted(chosen, (start, start + len(sweep.points)))
        if sweep.intensity_field:
            rows = chosen[first:last] - start
            with np.errstate(invalid="ignore", over="ignore"):
                intensity = sweep.points[sweep.intensity_field][rows] * sweep.intensity_scale
                out[first:last] = np.fmin(np.fmax(intensity, 0.0), 1.0)
        start += len(sweep.points)


def _mark(
    out: npt.NDArray[np.void],
    tracks: Sequence[Track],
    tracks_from_base: RigidTransform,
    least_mps: float,
) -> None:
    """Give the points in the boxes of moving tracks their track's number."""
    base_from_tracks = tracks_from_base.inverse()
    turned = base_from_tracks.yaw_rad()
    for track in tracks:
        if float(np.hypot(*track.velocity)) < least_mps:
            continue
        middle = base_from_tracks.apply(track.center).astype(np.float32)
        reach = track.size / 2.0 + AROUND_M
        near = np.flatnonzero(
            (np.abs(out["x"] - middle[0]) < np.hypot(reach[0], reach[1]))
            & (np.abs(out["y"] - middle[1]) < np.hypot(reach[0], reach[1]))
            & (np.abs(out["z"] - middle[2]) < reach[2])
        )
        dx, dy = out["x"][near] - middle[0], out["y"][near] - middle[1]
        c, s = np.cos(track.yaw + turned), np.sin(track.yaw + turned)
        inside = (np.abs(c * dx + s * dy) < reach[0]) & (np.abs(c * dy - s * dx) < reach[1])
        out["track"][near[inside]] = track.track_id
        out["moving"][near[inside]] = 1
