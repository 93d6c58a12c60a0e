"""A robot on a circle, written out by hand: the truth that deskewing is held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import scenes

from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import LidarSweep, PoseEstimate

F64 = npt.NDArray[np.float64]
T0 = scenes.T0
RATE_RADPS = np.pi / 2.0  # 90 degrees a second to the left
SPEED_MPS = 6.0


def turn(yaw: float) -> F64:
    """A rotation about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def world_from_base(seconds: float) -> tuple[F64, F64]:
    """Rotation and place of the base on its circle; at 0 s it is at the origin, looking along x."""
    yaw = RATE_RADPS * seconds
    radius = SPEED_MPS / RATE_RADPS
    return turn(yaw), np.array([radius * np.sin(yaw), radius * (1.0 - np.cos(yaw)), 0.0])


def mounting(place: Sequence[float]) -> tuple[F64, F64]:
    """Rotation and translation of ``x y z roll pitch yaw``, the rotation as Rz Ry Rx."""
    x, y, z, roll, pitch, yaw = place
    cr, sr, cp, sp = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    return turn(yaw) @ about_y @ about_x, np.array([x, y, z])


def seen_from(place: Sequence[float], seconds: float, point: F64) -> F64:
    """A world point in the axes of a sensor at ``place`` on the base, at an instant."""
    base_rotation, base_at = world_from_base(seconds)
    rotation, at = mounting(place)
    in_base = base_rotation.T @ (point - base_at)
    return np.asarray(rotation.T @ (in_base - at))


def ring_of_points(count: int, radius_m: float = 20.0, seed: int = 2) -> F64:
    """World points [N,3] all around, at one distance from where the base is at 0 s."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, count)
    return np.column_stack(
        [radius_m * np.cos(angle), radius_m * np.sin(angle), rng.uniform(0.0, 3.0, count)]
    )


def sweep_of(
    world: F64,
    place: Sequence[float],
    begin_s: float,
    end_s: float,
    stamp_s: float,
    sensor: str = "lidar",
    timed: bool = True,
) -> LidarSweep:
    """A sweep over world points, one after the other from ``begin_s`` to ``end_s``."""
    instants = np.linspace(begin_s, end_s, len(world))
    xyz = [seen_from(place, t, p) for t, p in zip(instants, world, strict=True)]
    made = scenes.sweep(
        xyz,
        T0 + round(stamp_s * 1e9),
        seconds=instants - stamp_s if timed else None,
        frame_id=sensor,
    )
    return named(made, sensor)


def named(sweep: LidarSweep, sensor: str) -> LidarSweep:
    """The same sweep from another LIDAR."""
    fields = {n: getattr(sweep, n) for n in LidarSweep.__slots__}
    return LidarSweep(**{**fields, "sensor": sensor})


def poses(
    stamps_s: Iterable[float],
    twist: bool = True,
    frame_id: str = "odom",
) -> list[PoseEstimate]:
    """What an odometry says of the circle. Its origin is anywhere, as odometries' are."""
    start_rotation, start = turn(0.7), np.array([120.0, -40.0, 3.0])
    out = []
    for seconds in stamps_s:
        rotation, at = world_from_base(seconds)
        where = RigidTransform(start_rotation @ rotation, start_rotation @ at + start)
        linear = (SPEED_MPS, 0.0, 0.0) if twist else (0.0, 0.0, 0.0)
        angular = (0.0, 0.0, RATE_RADPS) if twist else (0.0, 0.0, 0.0)
        out.append(scenes.pose(T0 + round(seconds * 1e9), where, linear, angular, frame_id))
    return out
