"""How the ego vehicle moves: a pose with continuous velocity and acceleration at any time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.layout import Layout, Path

F64 = npt.NDArray[np.float64]

_SMOOTH_S = 0.45
_DIVE_RAD_PER_MS2 = 0.004


class EgoMotion:
    """The base frame's motion through the world (east-north-up), from ``way_m`` [T] along ``path``
    at steps of ``step_s``. Times are seconds since the drive's start, arrays [N] or scalars."""

    def __init__(self, layout: Layout, path: Path, way_m: F64, step_s: float) -> None:
        self.duration_s = (len(way_m) - 1) * step_s
        times = np.arange(len(way_m)) * step_s
        way = gaussian_filter1d(way_m, _SMOOTH_S / step_s, mode="nearest")
        points, yaw = path.at(way)
        for k in range(3):
            points[:, k] = gaussian_filter1d(points[:, k], 0.15 / step_s, mode="nearest")
        plan = np.stack([np.interp(way, path.way_m, path.plan[:, k]) for k in range(2)], axis=1)
        pitch, roll = _tilt(layout, plan, path, way)
        speed = np.gradient(way, step_s)
        pitch = pitch - _DIVE_RAD_PER_MS2 * np.gradient(speed, step_s)
        angles = np.stack([roll, pitch, yaw], axis=1)
        for k in range(3):
            angles[:, k] = gaussian_filter1d(angles[:, k], 0.2 / step_s, mode="nearest")
        self._position = CubicSpline(times, points, bc_type="natural")
        self._angles = CubicSpline(times, angles, bc_type="natural")
        self._velocity = self._position.derivative()
        self._acceleration = self._position.derivative(2)
        self._angle_rates = self._angles.derivative()

    def position(self, t: npt.ArrayLike) -> F64:
        """World position of the base [...,3] m."""
        return np.asarray(self._position(t))

    def velocity(self, t: npt.ArrayLike) -> F64:
        """World velocity of the base [...,3] m/s."""
        return np.asarray(self._velocity(t))

    def acceleration(self, t: npt.ArrayLike) -> F64:
        """World acceleration of the base [...,3] m/s^2."""
        return np.asarray(self._acceleration(t))

    def rotation(self, t: npt.ArrayLike) -> F64:
        """Rotation matrices world_from_base [...,3,3]."""
        rpy = np.asarray(self._angles(t))
        return np.asarray(Rotation.from_euler("xyz", rpy).as_matrix())

    def angular_velocity(self, t: npt.ArrayLike) -> F64:
        """Angular velocity [...,3] rad/s in the base frame, from the rates of roll, pitch, yaw."""
        roll, pitch, _ = np.moveaxis(np.asarray(self._angles(t)), -1, 0)
        dr, dp, dy = np.moveaxis(np.asarray(self._angle_rates(t)), -1, 0)
        sr, cr, sp, cp = np.sin(roll), np.cos(roll), np.sin(pitch), np.cos(pitch)
        return np.stack([dr - sp * dy, cr * dp + sr * cp * dy, -sr * dp + cr * cp * dy], axis=-1)

    def pose(self, t: float) -> RigidTransform:
        """world_from_base at one time."""
        return RigidTransform(self.rotation(t), self.position(t))


def _tilt(layout: Layout, plan: F64, path: Path, way: F64) -> tuple[F64, F64]:
    """Pitch and roll of a body on the road's surface."""
    direction = np.gradient(path.plan, axis=0)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    ahead = np.stack([np.interp(way, path.way_m, direction[:, k]) for k in range(2)], axis=1)
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    rise = layout.road_z(plan + 1.3 * ahead) - layout.road_z(plan - 1.3 * ahead)
    bank = layout.road_z(plan + 0.8 * left) - layout.road_z(plan - 0.8 * left)
    return -np.arctan2(rise, 2.6), np.arctan2(bank, 1.6)
