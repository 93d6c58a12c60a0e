"""What each LIDAR's intensity and time fields mean: told from its sweeps, remembered, and said.

One sweep can look like another unit or scale than it has: a dark scene, a few points, a clock
that was just set. So what was found holds until several sweeps in a row say otherwise, and then
the change is said.

**Where the stamp is.** Offsets that run from 0 upwards count from the start of the sweep, but some
drivers stamp its end or its middle. No sweep arrives before its last point was measured: where
sweeps keep arriving sooner after their stamp than they last, the stamp cannot be the start. It is
then taken for the part of the sweep that leaves the shortest delay. This needs arrival times on
the clock of the stamps; where they are not (the delays are negative, or all alike, as in a
converted bag), or come later than a sweep lasts, the values stand as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.config_lidar import LidarConfig
from mm_fusion.wire.meaning import (
    MAX_SWEEP_NS,
    MIN_POINTS_FOR_SPAN,
    MIN_POINTS_TO_DIFFER,
    Span,
    TimeMeaning,
    fits,
    full_scale,
    offset_ns,
    recognized,
    span_of,
)

AGREEING = 3  # sweeps in a row that change what was found
SETTLED = 10  # sweeps after which a smaller full scale is no news but a dark scene
KEPT = 10  # sweeps whose delays and periods are looked at
ENOUGH = 5  # of them, to decide by
# A delay below these shares of the sweep's length says: not the start, and: not the middle either.
# Below 1 and 0.5 by what two clocks may differ, and more so for what would change the mind.
NOT_START, NOT_MIDDLE = 0.8, 0.4
STICKINESS = 0.05
ALIKE = 0.01  # by less than this share apart, two sweeps begin, end and follow each other alike
LEAST_JITTER_NS = 20_000  # arrivals that vary by less were not measured


class PointFields(NamedTuple):
    """How to read a sweep's intensity and time: what LidarSweep says about its points."""

    intensity_scale: float
    time_field: str
    time_unit_ns: float
    time_offset_ns: int
    remark: str


class Lidars:
    """Every LIDAR's memory, by sensor name. Deterministic; one thread at a time.

    ``topics`` are the sensor names in the order of the entries of the parameters; a sensor that
    is not among them goes by the first entry.
    """

    def __init__(self, config: LidarConfig | None = None, topics: Sequence[str] = ()) -> None:
        self._config = config or LidarConfig()
        self._slots = {name.lstrip("/"): n for n, name in enumerate(topics)}
        self._known: dict[str, _Lidar] = {}

    def fields(
        self,
        sensor: str,
        points: npt.NDArray[np.void],
        intensity_field: str,
        time_field: str,
        stamp_ns: int,
        arrival_ns: int = 0,
    ) -> PointFields:
        """What the fields of a sweep mean; ``time_field`` is the one its names suggest."""
        known = self._known.get(sensor)
        if known is None:
            slot = self._slots.get(sensor.lstrip("/"), 0)
            known = self._known[sensor] = _Lidar(self._config, slot)
        scale = known.scale(points, intensity_field)
        use = known.times(points, time_field, stamp_ns, arrival_ns)
        return PointFields(scale, *use)

    def news(self) -> list[str]:
        """What was found, or found to be different, since the last call: one line each."""
        return [f"{sensor}: {text}" for sensor, k in self._known.items() for text in k.take_news()]

    def report(self) -> dict[str, str]:
        """By sensor, how its points' times are read now, and its full scale of intensity."""
        return {sensor: k.said() for sensor, k in self._known.items()}


class _Shown(NamedTuple):
    """What it is told from what a time field means: numbers of the sweep, and what does not vary
    within a kind of sweeps."""

    low: float
    high: float
    period_ns: float
    kind: tuple[str, int, bool, bool]

    @staticmethod
    def of(span: Span, period_ns: float) -> _Shown:
        many = (span.points >= MIN_POINTS_FOR_SPAN, span.sampled >= MIN_POINTS_TO_DIFFER)
        return _Shown(span.low, span.high, period_ns, (span.kind, span.itemsize, *many))

    def is_like(self, other: _Shown) -> bool:
        """Whether the same is told from both."""
        near = ALIKE * (self.high - self.low)
        return (
            self.kind == other.kind
            and abs(self.low - other.low) < near
            and abs(self.high - other.high) < near
            and abs(self.period_ns - other.period_ns) <= ALIKE * self.period_ns
        )


_Use = tuple[str, float, int, str]  # time field, unit, offset, remark
_NO_TIMES: _Use = ("", 1e9, 0, "")


class _Lidar:
    """The memory of one LIDAR."""

    def __init__(self, config: LidarConfig, slot: int) -> None:
        def own(values: tuple[str, ...]) -> str:
            return values[slot if slot < len(values) else 0]

        self._intensity_max = config.intensity_max
        self._field = own(config.time_field)
        self._unit = own(config.time_unit)
        self._reference = own(config.time_reference)
        self._scale = _FullScale()
        self._news: list[str] = []
        self._stamp_ns = 0
        self._periods_ns: deque[int] = deque(maxlen=KEPT)
        self._delays_ns: deque[int] = deque(maxlen=KEPT)
        self._forget()
        self._refused = ""

    def _forget(self) -> None:
        self._held: TimeMeaning | None = None
        self._rival: TimeMeaning | None = None
        self._votes = 0
        self._kind = ""
        self._last: tuple[_Shown | None, TimeMeaning | str] = (None, "")

    def take_news(self) -> list[str]:
        news, self._news = self._news, []
        return news

    def said(self) -> str:
        times = f"times from {self._held}" if self._held else self._refused or "no times"
        full = self._intensity_max or self._scale.full
        return f"{times}; intensity of 0 .. {full:g}" if full else times

    # ------------------------------------------------------------------------- intensity

    def scale(self, points: npt.NDArray[np.void], name: str) -> float:
        if not name:
            return 1.0
        if self._intensity_max > 0.0:
            return 1.0 / self._intensity_max
        change = self._scale.see(full_scale(points, name), points.dtype[name].str)
        if change:
            self._news.append(f"intensity of 0 .. {self._scale.full:g}, not {change:g}")
        return 1.0 / (self._scale.full or 1.0)

    # ------------------------------------------------------------------------------ time

    def times(
        self, points: npt.NDArray[np.void], found: str, stamp_ns: int, arrival_ns: int
    ) -> _Use:
        field = self._field or found
        if not field or field == "none":
            return _NO_TIMES
        names = points.dtype.names or ()
        if field not in names or points.dtype[field].shape:
            return self._refuse(f"time field '{field}', as lidar.time_field says, is not there")
        span = span_of(points, field)
        if span is None:
            return self._refuse(f"time field '{field}' has no finite value")
        kind = points.dtype[field].str
        if self._kind and kind != self._kind:
            self._forget()
        self._kind = kind
        self._tick(stamp_ns)
        seen = self._recognized(span, field, stamp_ns)
        if isinstance(seen, TimeMeaning):
            seen = self._by_arrival(seen, span, stamp_ns, arrival_ns)
        held = self._agree(seen)
        if held is None or not fits(held, span, stamp_ns):
            why = seen if isinstance(seen, str) else f"time field '{field}' is not what it was"
            return self._refuse(why)
        self._refused = ""
        return field, held.unit_ns, offset_ns(held, span, points, stamp_ns), ""

    def _recognized(self, span: Span, field: str, stamp_ns: int) -> TimeMeaning | str:
        """What the sweep shows; of offsets hardly different from the last ones, the same."""
        period_ns = self._period_ns()
        last, seen = self._last
        if isinstance(seen, TimeMeaning) and seen.field == field and not seen.absolute:
            if last is not None and last.is_like(_Shown.of(span, period_ns)):
                return seen
        seen = recognized(span, field, stamp_ns, self._unit, self._reference, period_ns)
        self._last = (_Shown.of(span, period_ns), seen)
        return seen

    def _refuse(self, why: str) -> _Use:
        if not self._refused:
            self._news.append(f"{why}: points are not corrected for their times")
        self._refused = why
        return "", 1e9, 0, why

    def _tick(self, stamp_ns: int) -> None:
        since_ns = stamp_ns - self._stamp_ns
        if 0 < since_ns <= 1.5 * MAX_SWEEP_NS:
            self._periods_ns.append(since_ns)
        elif self._stamp_ns:  # a gap, or the bag began anew
            self._periods_ns.clear()
            self._delays_ns.clear()
        self._stamp_ns = stamp_ns

    def _period_ns(self) -> float:
        ordered = sorted(self._periods_ns)
        return float(ordered[len(ordered) // 2]) if len(ordered) > 1 else 0.0

    def _by_arrival(
        self, seen: TimeMeaning, span: Span, stamp_ns: int, arrival_ns: int
    ) -> TimeMeaning:
        """The same, shifted where the arrivals say that the stamp is not the sweep's start."""
        if self._reference != "auto" or seen.absolute or seen.reference != "start":
            return seen
        length_ns = span.high * seen.unit_ns
        delay_ns = arrival_ns - stamp_ns
        if not arrival_ns or delay_ns <= 0:
            self._delays_ns.clear()
            return seen
        self._delays_ns.append(delay_ns)
        least_ns, most_ns = min(self._delays_ns), max(self._delays_ns)
        if len(self._delays_ns) < ENOUGH or most_ns - least_ns < LEAST_JITTER_NS:
            return self._as_held(seen)
        share = least_ns / length_ns
        held = self._held.aligned if self._held else ""
        if share >= NOT_START + (STICKINESS if held else -STICKINESS):
            return seen
        end = share < NOT_MIDDLE + (STICKINESS if held == "end" else -STICKINESS)
        where = "end" if end else "middle"
        return seen._replace(aligned=where, reference=where)

    def _as_held(self, seen: TimeMeaning) -> TimeMeaning:
        """With too few delays, what was found of them before goes on."""
        if self._held is None or self._held.absolute or not self._held.aligned:
            return seen
        return seen._replace(aligned=self._held.aligned, reference=self._held.reference)

    def _agree(self, seen: TimeMeaning | str) -> TimeMeaning | None:
        """What holds after this sweep."""
        held = self._held
        if isinstance(seen, str):
            return held
        if held is not None and held.same_use(seen):
            self._rival, self._votes = None, 0
            return held
        if self._rival is None or not self._rival.same_use(seen):
            self._rival, self._votes = seen, 0
        self._votes += 1
        if held is None or self._votes >= AGREEING:
            self._news.append(self._announcement(seen, held))
            self._held, self._rival, self._votes = seen, None, 0
        return self._held

    def _announcement(self, seen: TimeMeaning, held: TimeMeaning | None) -> str:
        text = f"times from {seen}"
        if seen.aligned and self._reference == "auto":
            least_ms, period = min(self._delays_ns) / 1e6, "than it lasts"
            text += f", for it arrives {least_ms:.1f} ms after, sooner {period}"
        elif self._reference != "auto":
            text += ", as lidar.time_reference says"
        return f"{text} (before: {held})" if held else text


class _FullScale:
    """The full scale of one LIDAR's intensity, which does not follow every dark scene."""

    def __init__(self) -> None:
        self.full = 0.0
        self._kind = ""
        self._seen = 0
        self._rival = 0.0
        self._votes = 0

    def see(self, full: float, kind: str) -> float:
        """Take what one sweep shows; answers the old scale where it changed, else 0."""
        if full == 0.0:
            return 0.0
        if kind != self._kind:
            self.full, self._kind, self._seen = 0.0, kind, 0
        self._seen += 1
        old = self.full
        if old == 0.0:
            self.full = full
            return 0.0
        if full == old or (full < old and self._seen > SETTLED):
            # Sweeps that stay below do not speak against those that went above.
            if self._seen <= SETTLED:
                self._votes = 0
            return 0.0
        if full != self._rival:
            self._rival, self._votes = full, 0
        self._votes += 1
        if self._votes < AGREEING:
            return 0.0
        self.full, self._votes = full, 0
        return old
