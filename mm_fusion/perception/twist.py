"""Rigid motions of constant twist: the exponential of SE(3) and its inverse, one motion at a time.

Plain floats: a few motions are wanted per set, ten times a second, and what runs that seldom finds
little of a library's code in the processor's caches. Formulas: Barfoot, State Estimation for
Robotics, 2017, ch. 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Row = tuple[float, float, float, float, float, float, float, float, float, float, float, float]

SMALL_ANGLE2_RAD2 = 1e-8


def moved(linear: Sequence[float], angular: Sequence[float], share: float = 1.0) -> Row:
    """The motion after ``share`` units of time at a constant twist: [3,4], rotation and
    translation, row by row.

    ``linear`` and ``angular`` [3] are in the moving body's axes.
    """
    vx, vy, vz = linear[0] * share, linear[1] * share, linear[2] * share
    wx, wy, wz = angular[0] * share, angular[1] * share, angular[2] * share
    angle2 = wx * wx + wy * wy + wz * wz
    a, b = _series(angle2)
    c = 1.0 - angle2 * b  # sin(angle) / angle
    xy, xz, yz = a * wx * wy, a * wx * wz, a * wy * wz
    along = wx * vx + wy * vy + wz * vz
    return (
        1.0 + a * (wx * wx - angle2),
        xy - c * wz,
        xz + c * wy,
        vx + a * (wy * vz - wz * vy) + b * (wx * along - angle2 * vx),
        xy + c * wz,
        1.0 + a * (wy * wy - angle2),
        yz - c * wx,
        vy + a * (wz * vx - wx * vz) + b * (wy * along - angle2 * vy),
        xz - c * wy,
        yz + c * wx,
        1.0 + a * (wz * wz - angle2),
        vz + a * (wx * vy - wy * vx) + b * (wz * along - angle2 * vz),
    )


def twist_of(rotation: F64, translation: F64) -> tuple[list[float], list[float]]:
    """The twist (linear, angular [3]) that in one unit of time makes this motion.

    ``rotation`` [3,3] by less than half a turn, ``translation`` [3].
    """
    wx, wy, wz = angular = _rotation_vector(rotation)
    x, y, z = translation.tolist()
    angle2 = wx * wx + wy * wy + wz * wz
    if angle2 < SMALL_ANGLE2_RAD2:
        c = 1.0 / 12.0 + angle2 / 720.0
    else:
        half = math.sqrt(angle2) / 2.0
        c = (1.0 - half / math.tan(half)) / angle2
    along = wx * x + wy * y + wz * z
    linear = [
        x - 0.5 * (wy * z - wz * y) + c * (wx * along - angle2 * x),
        y - 0.5 * (wz * x - wx * z) + c * (wy * along - angle2 * y),
        z - 0.5 * (wx * y - wy * x) + c * (wz * along - angle2 * z),
    ]
    return linear, angular


def _series(angle2: float) -> tuple[float, float]:
    """Of an angle, by its square: (1 - cos) / angle^2 and (angle - sin) / angle^3."""
    if angle2 < SMALL_ANGLE2_RAD2:
        return 0.5 - angle2 / 24.0, 1.0 / 6.0 - angle2 / 120.0
    angle = math.sqrt(angle2)
    return (1.0 - math.cos(angle)) / angle2, (angle - math.sin(angle)) / (angle2 * angle)


def _rotation_vector(rotation: F64) -> list[float]:
    """Axis times angle [3], over the quaternion's largest component."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    trace = xx + yy + zz
    if trace >= max(xx, yy, zz):
        w, x, y, z = 1.0 + trace, zy - yz, xz - zx, yx - xy
    elif xx >= max(yy, zz):
        w, x, y, z = zy - yz, 1.0 + 2.0 * xx - trace, xy + yx, xz + zx
    elif yy >= zz:
        w, x, y, z = xz - zx, xy + yx, 1.0 + 2.0 * yy - trace, yz + zy
    else:
        w, x, y, z = yx - xy, xz + zx, yz + zy, 1.0 + 2.0 * zz - trace
    if w < 0.0:
        w, x, y, z = -w, -x, -y, -z
    sine = math.sqrt(x * x + y * y + z * z)
    # Without a rotation the ratio has this limit.
    factor = 2.0 * math.atan2(sine, w) / sine if sine > 1e-300 else 2.0 / w
    return [x * factor, y * factor, z * factor]
