"""A satellite receiver: the antenna's place with white noise and a slowly wandering error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.ego import EgoMotion

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class GnssSpec:
    """A receiver and its antenna's mounting. Standard deviations [3] east, north, up in metres:
    ``white_m`` from fix to fix, ``slow_m`` of a Gauss-Markov error with ``slow_s`` memory."""

    base_from_gps: RigidTransform
    white_m: tuple[float, float, float] = (0.85, 0.85, 1.5)
    slow_m: tuple[float, float, float] = (0.5, 0.5, 1.0)
    slow_s: float = 30.0

    def covariance(self) -> F64:
        """The covariance [3,3] of a fix: of both errors together."""
        return np.diag(np.square(self.white_m) + np.square(self.slow_m))


def measure(ego: EgoMotion, spec: GnssSpec, times: F64, rng: np.random.Generator) -> F64:
    """Antenna positions [N,3] as east, north, up in the world frame, at ``times`` [N]."""
    antenna = ego.position(times) + ego.rotation(times) @ spec.base_from_gps.translation
    slow = np.empty((len(times), 3))
    state = rng.normal(size=3)
    for k in range(len(times)):
        if k > 0:
            keep = np.exp(-(times[k] - times[k - 1]) / spec.slow_s)
            state = keep * state + np.sqrt(1.0 - keep**2) * rng.normal(size=3)
        slow[k] = state
    white = rng.normal(size=(len(times), 3))
    return np.asarray(antenna + white * spec.white_m + slow * spec.slow_m)
