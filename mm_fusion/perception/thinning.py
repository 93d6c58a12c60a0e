"""Fewer points of a cloud that has more than the network takes: the far ones are worth most.

A spinning LIDAR puts points on a surface in proportion to the inverse square of its distance. Kept
with a chance in proportion to the square, up to 1, the near surfaces lose what they can spare, and
whatever is far, and has few points, keeps them all.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

# Fractions of multiples of the golden ratio spread evenly over 0..1 and follow no ring pattern.
GOLDEN = 0.6180339887498949
_SAMPLE = 8192  # points that tell the scale
_HALVINGS = 24


def thinned(range2_m2: F32, budget: int, order: F32 | None = None) -> npt.NDArray[np.intp]:
    """Indices, rising, of at most ``budget`` points, of which ``range2_m2`` [N] are the squares of
    their distances (m^2, finite). Always the same ones, but for another ``order`` f32 [N] of
    0..1: a point is kept where its number is below its chance.
    """
    count = len(range2_m2)
    if count <= budget:
        return np.arange(count)
    if order is None:
        order = spread(1 << (count - 1).bit_length())[:count]
    step = -(-count // _SAMPLE)
    scale = _scale(np.ascontiguousarray(range2_m2[::step]), budget / count)
    while True:
        kept = np.flatnonzero(order * scale < range2_m2)
        if len(kept) <= budget:
            return kept
        scale *= np.float32(1.0 + 0.5 * (len(kept) - budget) / budget + 0.002)


def _scale(range2_m2: F32, share: float) -> np.float32:
    """The square distance (m^2) from which on all are kept, for this share to be kept in all."""
    low, high = 0.0, float(range2_m2.max()) / max(share, 1e-6) + 1e-6
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        kept = float(np.minimum(range2_m2 * np.float32(1.0 / middle), 1.0).mean())
        low, high = (middle, high) if kept > share else (low, middle)
    return np.float32(high)


@lru_cache(maxsize=4)
def spread(count: int) -> F32:
    """A fixed order of importance for points [count]: numbers that fill 0..1 evenly."""
    numbers = np.arange(count) * GOLDEN
    numbers -= np.floor(numbers)
    out = numbers.astype(np.float32)
    out.setflags(write=False)
    return out
