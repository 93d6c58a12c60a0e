"""Rain, fog and snow: what they take from light on its way, and what they send back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

KINDS = ("dry", "rain", "fog", "snow")


@dataclass(frozen=True, slots=True)
class Weather:
    """What is in the air and on the ground.

    ``extinction_per_m`` of a laser beam (Beer and Lambert: a way of r there and back leaves
    exp(-2 r extinction)); ``drops_per_m`` chance a metre of way that a drop or flake sends a beam
    back; ``visibility_m`` how far the camera sees (Koschmieder: contrast falls to 5 % there);
    ``wet`` 0..1 how much water lies on level surfaces.
    """

    kind: str = "dry"
    extinction_per_m: float = 0.0
    drops_per_m: float = 0.0
    visibility_m: float = 20_000.0
    wet: float = 0.0

    @staticmethod
    def random(rng: np.random.Generator, kind: str) -> Weather:
        """A weather of one of KINDS, from hardly noticed to heavy."""
        heavy = float(rng.uniform(0.0, 1.0))
        if kind == "dry":
            return Weather(wet=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.1 else 0.0)
        return Weather.of(kind, heavy)

    @staticmethod
    def of(kind: str, heavy: float) -> Weather:
        """A weather of one of KINDS, ``heavy`` from 0, hardly noticed, to 1."""
        if kind == "rain":
            visibility = float(np.exp(np.log(4000) - heavy * np.log(10)))
            return Weather(kind, 0.001 + 0.006 * heavy, 0.0015 * (0.1 + heavy), visibility, 1.0)
        if kind == "fog":
            visibility = float(np.exp(np.log(700) - heavy * np.log(12)))
            return Weather(kind, 3.0 / visibility, 0.15 / visibility, visibility, 0.3)
        if kind == "snow":
            visibility = float(np.exp(np.log(1500) - heavy * np.log(8)))
            return Weather(kind, 0.002 + 0.008 * heavy, 0.004 * (0.1 + heavy), visibility, 0.4)
        return Weather()

    def clutter_ranges(self, count: int, rng: np.random.Generator) -> F32:
        """How far [N] beams come before a drop sends them back; inf for most.

        The chance of a drop is the same on every metre, that its echo is strong enough falls with
        the square of its range: beyond a few metres only few are heard.
        """
        ranges = np.full(count, np.inf, np.float32)
        if self.drops_per_m <= 0.0:
            return ranges
        near = rng.exponential(1.0 / self.drops_per_m, count)
        heard = rng.random(count) < np.minimum(1.0, (14.0 / np.maximum(near, 1e-3)) ** 2)
        ranges[heard] = near[heard]
        return ranges

    def transmission(self, range_m: F32) -> F32:
        """Share of a beam's light [N] that is left after its way there and back."""
        return np.exp(-2.0 * self.extinction_per_m * range_m).astype(np.float32)
