"""Where the base is while its heading in the map is still open: everything that fixes and dead
reckoning say together, in closed form.

For a heading t the fixes e_i and the antenna's places o_i in odom differ by a shift, and their
squared misfit is a constant less 2 (a cos t + b sin t), with a and b the weighted sums of dot and
cross products about the means. With Gaussian errors the heading is therefore distributed as von
Mises with concentration hypot(a, b) about atan2(b, a), and the moments of the position are ratios
of Bessel functions (K. V. Mardia and P. E. Jupp, "Directional statistics" (2000), chapter 3).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ive

F64 = npt.NDArray[np.float64]


class HeadingPosterior:
    """Fixes laid on dead reckoning, all headings at once."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._odom: F64 = np.zeros(2)
        self._enu: F64 = np.zeros(2)
        self._dot = 0.0
        self._cross = 0.0
        self._height = 0.0
        self._height_weight = 0.0

    def add(self, enu: F64, odom: F64, variance_m2: float, variance_z_m2: float) -> None:
        """A fix ``enu`` [3] and where odometry had the antenna then, ``odom`` [3]."""
        weight = 1.0 / variance_m2
        total = self._weight + weight
        e, o = enu[:2] - self._enu, odom[:2] - self._odom
        share = weight * self._weight / total
        self._dot += share * float(o[0] * e[0] + o[1] * e[1])
        self._cross += share * float(o[0] * e[1] - o[1] * e[0])
        self._enu = self._enu + e * (weight / total)
        self._odom = self._odom + o * (weight / total)
        self._weight = total
        weight = 1.0 / variance_z_m2
        self._height_weight += weight
        self._height += (float(enu[2] - odom[2]) - self._height) * weight / self._height_weight

    def centre(self) -> tuple[F64, F64]:
        """Weighted means of the places in odom and of the fixes [3]."""
        odom = np.array((*self._odom, 0.0))
        return odom, np.array((*self._enu, self._height))

    def weights(self) -> tuple[float, float]:
        """The fixes' weights together, in the plane and in height, 1/m^2."""
        return self._weight, self._height_weight

    def heading(self) -> tuple[float, float]:
        """Most likely heading of odom in the map, rad, and its concentration (1 / variance)."""
        return math.atan2(self._cross, self._dot), math.hypot(self._dot, self._cross)

    def at(self, odom: F64) -> tuple[F64, F64]:
        """Expected place [3] in the map of a place [3] in odom, and its covariance [3,3]."""
        yaw, kappa = self.heading()
        normal = float(ive(0, kappa))
        first, second = float(ive(1, kappa)) / normal, float(ive(2, kappa)) / normal
        arm = odom[:2] - self._odom
        c, s = math.cos(yaw), math.sin(yaw)
        along = np.array((c * arm[0] - s * arm[1], s * arm[0] + c * arm[1]))
        across = np.array((-along[1], along[0]))
        place = np.array((*(self._enu + first * along), self._height + odom[2]))
        covariance = np.eye(3) / self._weight
        covariance[2, 2] = 1.0 / self._height_weight
        covariance[:2, :2] += np.outer(along, along) * max(0.0, 0.5 * (1 + second) - first**2)
        covariance[:2, :2] += np.outer(across, across) * 0.5 * (1 - second)
        return place, covariance
