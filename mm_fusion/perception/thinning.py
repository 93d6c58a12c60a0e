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
Bools = npt.NDArray[np.bool_]

# Fractions of multiples of the golden ratio spread evenly over 0..1 and follow no ring pattern.
GOLDEN = 0.6180339887498949
_SAMPLE = 4096  # points that tell the scale
_AIM = 0.99  # share of the budget that is aimed at: what the sample cannot tell seldom exceeds it
_LEAST_M2 = 1e-9


def thinned(
    range2_m2: F32, budget: int, order: F32 | None = None, among: Bools | None = None
) -> npt.NDArray[np.intp]:
    """Indices, rising, of at most ``budget`` points, of which ``range2_m2`` [N] are the squares of
    their distances (m^2, finite), of those marked in ``among`` [N]; the distances of the others may
    be anything. Always the same ones, but for another ``order`` f32 [N] of 0..1: a point is kept
    where its number is below its chance.
    """
    count = len(range2_m2) if among is None else int(np.count_nonzero(among))
    if count <= budget:
        return np.arange(count) if among is None else np.flatnonzero(among)
    if order is None:
        order = spread(1 << (len(range2_m2) - 1).bit_length())[: len(range2_m2)]
    step = -(-count // _SAMPLE)
    some = range2_m2[::step]
    scale = _scale(some if among is None else some[among[::step]], _AIM * budget / count)
    while True:
        chosen = order * scale < range2_m2
        if among is not None:
            chosen &= among
        kept = int(np.count_nonzero(chosen))
        if kept <= budget:
            return np.flatnonzero(chosen)
        scale *= np.float32(1.0 + 0.5 * (kept - budget) / budget + 0.002)


def _scale(range2_m2: F32, share: float) -> np.float32:
    """The square distance (m^2) from which on all are kept, for this share to be kept in all.

    With the scale s the number kept is S/s of the i nearer than it, where S is the sum of their
    squares, and all of the others. It falls with s, so s lies before the first distance that,
    taken for s, keeps no more than wanted.
    """
    nearest = np.sort(range2_m2)
    count = len(nearest)
    if not count:
        return np.float32(_LEAST_M2)
    np.maximum(nearest, np.float32(_LEAST_M2), out=nearest)
    sums = np.concatenate([[0.0], np.cumsum(nearest, dtype=np.float64)])
    wanted = share * count
    keeps = sums[:-1] / nearest + np.arange(count, 0, -1)
    nearer = int(np.searchsorted(-keeps, -wanted))
    return np.float32(sums[nearer] / (wanted - (count - nearer)))


@lru_cache(maxsize=4)
def spread(count: int) -> F32:
    """A fixed order of importance for points [count]: numbers that fill 0..1 evenly."""
    numbers = np.arange(count) * GOLDEN
    numbers -= np.floor(numbers)
    out = numbers.astype(np.float32)
    out.setflags(write=False)
    return out
