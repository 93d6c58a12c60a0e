"""What the numbers in a point's intensity and time fields mean: the messages do not say.

All rules look at an evenly spread sample of one sweep, so that they cost the same for every sweep
and give the same answer for the same bytes. What earlier sweeps of the same LIDAR showed is the
business of :mod:`mm_fusion.wire.lidars`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.config_lidar import TIME_UNITS_NS
from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]

SAMPLED_POINTS = 512
FULL_SCALES = (255.0, 4095.0, 65535.0)  # 8, 12 and 16 bits

MAX_SWEEP_NS = 1e9  # no sweep lasts longer than a second, nor lies further from its stamp
MIN_ABSOLUTE_STAMP_NS = 10 * NS_PER_S  # before, absolute and relative times look alike
ABSOLUTE_STEP_NS = 1e5  # a type that counts absolute time in coarser steps does not hold it
MIN_POINTS_FOR_SPAN = 1000
MIN_POINTS_TO_DIFFER = 32
SHORTEST_SWEEP_NS = 1e4  # of many points; a shorter one is a number that was misread
PERIODS = (0.5, 1.25)  # how long a sweep is, in periods of the LIDAR
NEAR = 0.15  # an end of the sweep is at the stamp within this share of its length
UNIT_NAMES = {ns: name for name, ns in TIME_UNITS_NS.items()}


class Span(NamedTuple):
    """The sampled values of a time field: their range, numpy's kind and size of one, how many
    points the sweep has and how many values were finite."""

    low: float
    high: float
    kind: str
    itemsize: int
    points: int
    sampled: int

    @property
    def length(self) -> float:
        """From the first to the last, in the field's own unit."""
        return self.high - self.low


class TimeMeaning(NamedTuple):
    """How the values of a time field become instants.

    ``unit_ns`` is the value 1. ``absolute`` values are on the stamp's own clock, others count from
    the stamp, or, where ``aligned`` is start, middle or end, they are shifted so that this part of
    the sweep is at the stamp. ``reference`` says in a word which part of the sweep that is.
    """

    field: str
    unit_ns: float
    absolute: bool
    aligned: str
    reference: str

    def same_use(self, other: TimeMeaning) -> bool:
        """Whether both make the same instants of the same values."""
        return self[:4] == other[:4]

    def __str__(self) -> str:
        unit = UNIT_NAMES[self.unit_ns]
        how = "absolute" if self.absolute else "relative"
        return f"field '{self.field}', {unit}, {how}; the stamp is {_WORDS[self.reference]}"


_WORDS = {
    "start": "the start of the sweep",
    "middle": "the middle of the sweep",
    "end": "the end of the sweep",
    "before": "before the sweep",
    "within": "within the sweep",
    "after": "after the sweep",
}


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


# ------------------------------------------------------------------------------- intensity


def full_scale(points: npt.NDArray[np.void], name: str) -> float:
    """The intensity that counts as 1, as one sweep shows it.

    uint8 has the full scale 255, and every other type the smallest of 255, 4095 and 65535 that
    holds the sampled values; floats that stay within 0..1 are taken as they are. Single points
    may still be above it. 0 where no value says anything.
    """
    dtype = points.dtype[name]
    if dtype.itemsize == 1:
        return 255.0
    values = _sample(points, name)
    if not len(values):
        return 0.0
    largest = float(values.max())
    if dtype.kind == "f" and largest <= 1.0:
        return 1.0
    return next((full for full in FULL_SCALES if largest <= full), FULL_SCALES[-1])


# ------------------------------------------------------------------------------------ time


def span_of(points: npt.NDArray[np.void], name: str) -> Span | None:
    """The range of a time field's sampled values, None where none is finite."""
    values = _sample(points, name)
    if not len(values):
        return None
    dtype = points.dtype[name]
    low, high = float(values.min()), float(values.max())
    return Span(low, high, dtype.kind, dtype.itemsize, len(points), len(values))


def recognized(
    span: Span,
    field: str,
    stamp_ns: int,
    unit: str = "auto",
    reference: str = "auto",
    period_ns: float = 0.0,
) -> TimeMeaning | str:
    """What the values of one sweep mean, or why they mean nothing that can be used.

    ``unit`` (auto, s, ms, us, ns) and ``reference`` (auto, start, middle, end, absolute) are the
    parameters lidar.time_unit and lidar.time_reference; ``period_ns`` is the time between two
    sweeps, 0 where it is not known.

    Values within a second of the stamp, read in one of the units, are absolute. All others are
    offsets from the stamp of either sign, also within a second. Their unit is the one in which a
    sweep is as long as the period, else for floats the largest that fits, and for integers ns, or
    us or ms where a sweep of many points would have lasted less than a millisecond.
    """
    units = list(TIME_UNITS_NS.values()) if unit == "auto" else [TIME_UNITS_NS[unit]]
    if reference in ("auto", "absolute"):
        for unit_ns in units:
            if _on_stamps_clock(span, unit_ns, stamp_ns, reference == "absolute"):
                where = _place(span.low * unit_ns - stamp_ns, span.high * unit_ns - stamp_ns)
                return TimeMeaning(field, unit_ns, True, "", where)
    largest = max(abs(span.low), abs(span.high)) if reference == "auto" else span.length
    unit_ns = _unit_ns(span, largest, units, period_ns)
    why_not = _useless(span, field, reference)
    if not why_not and unit_ns == 0.0:
        why_not = f"time field '{field}' ({span.low:.10g} .. {span.high:.10g}) fits no unit"
        if reference == "auto" and _unit_ns(span, span.length, units, period_ns):
            why_not += " counted from the stamp or 0; see lidar.time_reference"
    if why_not:
        return why_not
    natural = _place(span.low * unit_ns, span.high * unit_ns)
    if reference in ("auto", natural):
        return TimeMeaning(field, unit_ns, False, "", natural)
    return TimeMeaning(field, unit_ns, False, reference, reference)


def _useless(span: Span, field: str, reference: str) -> str:
    """Why no unit would make relative times of the values, "" where one might."""
    if reference == "absolute":
        values = f"({span.low:.10g} .. {span.high:.10g})"
        return f"time field '{field}' {values} is not on the stamp's clock"
    if span.length == 0.0 and span.sampled >= MIN_POINTS_TO_DIFFER:
        return f"time field '{field}' is {span.low:.10g} for every point"
    return ""


def fits(meaning: TimeMeaning, span: Span, stamp_ns: int) -> bool:
    """Whether a meaning found before makes sense of the values of this sweep, too."""
    low_ns, high_ns = span.low * meaning.unit_ns, span.high * meaning.unit_ns
    if meaning.absolute:
        return max(abs(low_ns - stamp_ns), abs(high_ns - stamp_ns)) <= MAX_SWEEP_NS
    if meaning.aligned and _place(low_ns, high_ns) != "start":
        return high_ns - low_ns <= MAX_SWEEP_NS
    return max(abs(low_ns), abs(high_ns)) <= MAX_SWEEP_NS


def offset_ns(meaning: TimeMeaning, span: Span, points: npt.NDArray[np.void], stamp_ns: int) -> int:
    """What is added to value * unit to have nanoseconds after the stamp.

    Where the sweep is shifted, its values count as they are from 0 if they begin or end there: the
    first return of a sweep is not yet its start.
    """
    if meaning.absolute:
        return -stamp_ns
    if not meaning.aligned:
        return 0
    low, high = _ends(span, points[meaning.field])
    natural = _place(low * meaning.unit_ns, high * meaning.unit_ns)
    low, high = (0.0 if natural == "start" else low), (0.0 if natural == "end" else high)
    at = {"start": low, "middle": (low + high) / 2.0, "end": high}[meaning.aligned]
    return -round(at * meaning.unit_ns)


def _ends(span: Span, column: npt.NDArray[np.generic]) -> tuple[float, float]:
    """The first and the last value of all points, but for single ones that are far off."""
    slack = 0.05 * span.length
    with np.errstate(invalid="ignore"):
        low, high = float(np.fmin.reduce(column)), float(np.fmax.reduce(column))
    return (
        low if span.low - slack <= low else span.low,
        high if high <= span.high + slack else span.high,
    )


def _on_stamps_clock(span: Span, unit_ns: float, stamp_ns: int, sure: bool) -> bool:
    if stamp_ns < MIN_ABSOLUTE_STAMP_NS and not sure:
        return False
    if span.kind == "f" and span.itemsize < 8:
        if float(np.spacing(np.float32(stamp_ns / unit_ns))) * unit_ns > ABSOLUTE_STEP_NS:
            return False
    ends_ns = (span.low * unit_ns - stamp_ns, span.high * unit_ns - stamp_ns)
    return max(abs(ends_ns[0]), abs(ends_ns[1])) <= MAX_SWEEP_NS


def _unit_ns(span: Span, largest: float, units: list[float], period_ns: float) -> float:
    """The unit of offsets, 0 where they fit none."""
    shortest_ns = SHORTEST_SWEEP_NS if span.points >= MIN_POINTS_FOR_SPAN else 0.0
    fitting = [u for u in units if largest * u <= MAX_SWEEP_NS and span.length * u >= shortest_ns]
    if not fitting:
        return 0.0
    if len(units) == 1:
        return fitting[0]
    if period_ns > 0.0:
        low_ns, high_ns = PERIODS[0] * period_ns, PERIODS[1] * period_ns
        for unit_ns in fitting:
            if low_ns <= span.length * unit_ns <= high_ns:
                return unit_ns
    if span.kind == "f":
        return fitting[0]
    whole = [u for u in fitting if u < 1e9]  # nobody counts whole seconds within a sweep
    for unit_ns in reversed(whole):
        if span.points < MIN_POINTS_FOR_SPAN or span.length * unit_ns > 1e6:
            return unit_ns
    return whole[0] if whole else 0.0


def _place(first_ns: float, last_ns: float) -> str:
    """Where in a sweep the instant 0 is."""
    near_ns = NEAR * (last_ns - first_ns)
    for where, at_ns in (
        ("start", first_ns),
        ("end", last_ns),
        ("middle", (first_ns + last_ns) / 2.0),
    ):
        if abs(at_ns) <= near_ns:
            return where
    if first_ns > 0.0:
        return "before"
    return "after" if last_ns < 0.0 else "within"
