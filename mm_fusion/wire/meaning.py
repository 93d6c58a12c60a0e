"""What the numbers in a point's intensity and time fields mean: the messages do not say.

Both rules look at an evenly spread sample of the sweep, so that they cost the same for every
sweep and give the same answer for the same bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]

SAMPLED_POINTS = 512
FULL_SCALES = (255.0, 4095.0, 65535.0)  # 8, 12 and 16 bits

MAX_SWEEP_NS = 1e9  # no sweep lasts longer than a second
ABSOLUTE_WITHIN_NS = 2e9
MIN_ABSOLUTE_STAMP_NS = 10 * NS_PER_S
MIN_POINTS_FOR_SPAN = 1000


class PointTimes(NamedTuple):
    """A point's instant is stamp + ``offset_ns`` + value * ``unit_ns``; ``remark``: why not."""

    unit_ns: float
    offset_ns: int
    remark: str = ""


def _sample(points: npt.NDArray[np.void], name: str) -> F64:
    """Finite values of a field from about SAMPLED_POINTS points spread over the sweep."""
    # An odd stride meets every column of an organised cloud, whose width is a power of two.
    stride = len(points) // SAMPLED_POINTS | 1
    column = points[name][::stride]
    if column.dtype.kind != "f":
        return column.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        values = column.astype(np.float64)
    finite = np.isfinite(values)
    return values if finite.all() else values[finite]


def intensity_scale(points: npt.NDArray[np.void], name: str, intensity_max: float = 0.0) -> float:
    """The factor that brings a sweep's intensities to 0..1.

    ``intensity_max`` > 0 is the full scale itself. Otherwise uint8 has the full scale 255, and
    every other type the smallest of 255, 4095 and 65535 that holds the sampled values; floats
    that stay within 0..1 are taken as they are. Single points may still end above 1.
    """
    if intensity_max > 0.0:
        return 1.0 / intensity_max
    dtype = points.dtype[name]
    if dtype.itemsize == 1:
        return 1.0 / 255.0
    values = _sample(points, name)
    largest = float(values.max()) if len(values) else 0.0
    if dtype.kind == "f" and largest <= 1.0:
        return 1.0
    return 1.0 / next((full for full in FULL_SCALES if largest <= full), FULL_SCALES[-1])


def point_times(points: npt.NDArray[np.void], name: str, stamp_ns: int) -> PointTimes:
    """Unit and reference of a sweep's time field.

    float64 values within two seconds of the stamp, read as s, ms, us or ns, are absolute. All
    others are offsets from the stamp, of either sign: floats in the largest of s, ms, us and ns
    with which they stay within a second; integers in ns, or in us or ms where a sweep of many
    points would else have lasted less than a millisecond. What fits none of these is not used.
    """
    values = _sample(points, name)
    if not len(values):
        return PointTimes(1e9, 0, f"time field '{name}' has no finite value")
    low, high = float(values.min()), float(values.max())
    dtype = points.dtype[name]
    if dtype.kind == "f" and dtype.itemsize == 8 and stamp_ns >= MIN_ABSOLUTE_STAMP_NS:
        for unit_ns in (1e9, 1e6, 1e3, 1.0):
            error = max(abs(low * unit_ns - stamp_ns), abs(high * unit_ns - stamp_ns))
            if error <= ABSOLUTE_WITHIN_NS:
                return PointTimes(unit_ns, -stamp_ns)
    largest = max(abs(low), abs(high))
    if dtype.kind == "f":
        unit_ns = next((u for u in (1e9, 1e6, 1e3, 1.0) if largest * u <= MAX_SWEEP_NS), 0.0)
    else:
        unit_ns = 1.0
        while (
            len(points) >= MIN_POINTS_FOR_SPAN and unit_ns < 1e6 and (high - low) * unit_ns <= 1e6
        ):
            unit_ns *= 1e3
    if unit_ns == 0.0 or largest * unit_ns > MAX_SWEEP_NS:
        return PointTimes(
            1e9, 0, f"time field '{name}' ({low:g} .. {high:g}) is neither near the stamp nor 0"
        )
    return PointTimes(unit_ns, 0)
