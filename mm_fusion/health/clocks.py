"""How each sensor's clock stands to the receiver's, from stamps and arrivals alone.

A message stamped ``s`` that arrives at ``a`` tells ``d = a - s``: its delay on the way plus what
the two clocks are apart. The delay has a floor and a tail, so the smallest ``d`` of a while is the
clocks' difference plus the least delay (the minimum filter of NTP's clock filter, RFC 5905,
section 10, and of Moon, Skelly and Towsley, "Estimation and removal of clock skew", INFOCOM 1999);
the median slope through the minima of successive seconds (Theil-Sen) is the drift, and the spread
of ``d`` about that line is the jitter. From one side, delay and difference cannot be told apart:
``offset`` is their sum. A clock that jumps changes the distance between two *stamps*; a delay that
changes leaves the stamps regular and changes the distance between two *arrivals*; so those can.

There is no clock here. Memory is bounded, and a message costs a few comparisons.
"""

from __future__ import annotations

import enum
import functools
import statistics
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.samples import NS_PER_S

NS_PER_MS = 1_000_000

BIN_NS = NS_PER_S  # one minimum is kept for every second
BINS = 64
OFFSET_BINS = 10  # the offset is the smallest of so many minima
RECENT = 512  # messages that jitter, period and rate are taken from
WARM_UP = 8  # messages before the first estimate
DRIFT_SPAN_S = 8.0  # a slope over less says nothing
# A fall of d cannot be one more delay, so few messages prove it; a rise may be a stall that passes.
FALL_MESSAGES = 3
RISE_MESSAGES = 8
RISE_NS = NS_PER_S // 2
FROZEN_MESSAGES = 3
# Stamps that run at another rate than the receiver's clock by more than this do not drift: a bag
# is played faster or slower than it was recorded.
OTHER_RATE = 0.02


class Event(enum.Enum):
    """What a message showed about its sensor's clock, where it was more than one more delay."""

    JUMP = "jump"  # the stamps' clock stepped, and stayed there
    DELAY = "delay"  # messages need longer, or less long, than before; the stamps are regular
    BURST = "burst"  # messages that had been held up come all at once
    FROZEN = "frozen"  # message after message with one stamp
    RECEIVER = "receiver"  # the receiver's own clock went back: everything begins anew


class Offset(NamedTuple):
    """The state of one sensor's clock against the receiver's; times in milliseconds.

    ``offset_ms`` arrival minus stamp, the least of the last ten seconds. ``drift_ppm`` its change,
    positive where the sensor's clock is slow; ``drift_sigma_ppm`` how well that is known; both None
    until it can be told. ``jitter_ms`` half the distance between the 16th and the 84th percentile
    of the delays (one sigma, were they normal). ``period_ms`` between two stamps; ``rate`` seconds
    of stamps per second of arrivals, None until it can be told. ``latest_ms`` arrival minus stamp
    of the newest message. ``last_jump_ms`` is positive where the clock stepped ahead.
    """

    messages: int
    offset_ms: float
    latest_ms: float
    drift_ppm: float | None
    drift_sigma_ppm: float | None
    jitter_ms: float
    period_ms: float
    rate: float | None
    jumps: int
    last_jump_ms: float
    delay_steps: int
    bursts: int
    longest_burst_ms: float
    frozen: bool
    future: int


@functools.cache
def _pairs(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Every pair of that many; there are at most BINS of them."""
    return np.triu_indices(count, 1)


class SensorClock:
    """Follows one sensor. ``add`` its messages in the order they arrive.

    ``jump_ns`` is the smallest step that counts, ``future_ns`` how far a stamp may lie ahead of
    its arrival. ``resolution_ns`` is the step of the receiver's clock, where it comes in steps.
    """

    def __init__(self, jump_ns: int, future_ns: int) -> None:
        self._jump_ns = jump_ns
        self._future_ns = future_ns
        self.resolution_ns = 0
        self.messages = self.jumps = self.delay_steps = self.bursts = self.future = 0
        self.last_jump_ns = self.longest_burst_ns = self.last_arrival_ns = 0
        self.restart()

    def restart(self) -> None:
        """The receiver's clock was set: what was learned no longer holds; the counts stay."""
        self._before: tuple[int, int] | None = None  # stamp and arrival of the last message
        self._repeats = 0
        self._begin([])

    def _begin(self, messages: Sequence[tuple[int, int]]) -> None:
        """Learn anew, from these messages on (pairs of stamp and arrival)."""
        self._recent: deque[tuple[int, int]] = deque(maxlen=RECENT)
        self._minima: deque[tuple[int, int]] = deque(maxlen=BINS)  # arrival and d, by the second
        self._floors: deque[int] = deque(maxlen=OFFSET_BINS)
        self._least: tuple[int, int] | None = None  # of this second
        self._second_end_ns = 0
        self._floor_ns: int | None = None
        self._held: list[tuple[int, int]] = []  # messages off the floor: a step, or a stall
        self._irregular = False  # whether the first of them came with a jump of the stamps
        self._bursting = False
        for stamp_ns, arrival_ns in messages:
            self._recent.append((stamp_ns, arrival_ns))
            self._keep(arrival_ns, arrival_ns - stamp_ns)

    def add(self, stamp_ns: int, arrival_ns: int) -> Event | None:
        """One message; the event it completed, if any."""
        before, self._before = self._before, (stamp_ns, arrival_ns)
        self.messages += 1
        self.last_arrival_ns = arrival_ns
        if before is not None and stamp_ns == before[0]:
            self._repeats += 1
            return Event.FROZEN if self._repeats == FROZEN_MESSAGES else None
        self._repeats = 0
        d_ns = arrival_ns - stamp_ns
        if d_ns < -self._future_ns - self.resolution_ns:
            self.future += 1
        self._recent.append((stamp_ns, arrival_ns))
        floor_ns = self._floor_ns
        if floor_ns is None or before is None:
            if len(self._recent) >= WARM_UP:
                self._warm_up()
            return None
        tolerance_ns = self._jump_ns + self.resolution_ns
        if -tolerance_ns <= d_ns - floor_ns <= tolerance_ns:
            if self._held:
                # Back at the floor: what was off it were delays, or corrupt stamps.
                self._held, self._bursting = [], False
            self._keep(arrival_ns, d_ns)
            return None
        return self._suspect(before, stamp_ns, arrival_ns, d_ns - floor_ns)

    def _warm_up(self) -> None:
        """The first floor, against which the first odd stamps stand out."""
        messages = list(self._recent)
        level_ns = statistics.median_low([a - s for s, a in messages])
        near_ns = self._jump_ns + self.resolution_ns
        for s, a in messages:
            if abs(a - s - level_ns) <= near_ns:
                self._keep(a, a - s)

    def _keep(self, arrival_ns: int, d_ns: int) -> None:
        """A message like those before it: it may be the least of its second."""
        if self._least is None or d_ns < self._least[1]:
            self._least = (arrival_ns, d_ns)
            if self._floor_ns is None or d_ns < self._floor_ns:
                self._floor_ns = d_ns
        if arrival_ns < self._second_end_ns:
            return
        if self._second_end_ns:
            self._minima.append(self._least)
            self._floors.append(self._least[1])
            self._floor_ns = min(self._floors)
            self._least = None
        self._second_end_ns = arrival_ns + BIN_NS

    def period_ns(self) -> int:
        """The median distance of two stamps; 0 before there are two."""
        stamps = [s for s, _ in self._recent]
        gaps = [b - a for a, b in pairwise(stamps) if b > a]
        return round(statistics.median(gaps)) if gaps else 0

    # ---------------------------------------------------------------- away from the floor

    def _suspect(
        self, before: tuple[int, int], stamp_ns: int, arrival_ns: int, off_ns: int
    ) -> Event | None:
        """A message off the floor: part of a stall, a step, or a corrupt stamp."""
        held, floor_ns = self._held, self._floor_ns or 0
        if held and (off_ns < 0) != (held[0][1] - held[0][0] < floor_ns):
            held = self._held = []
        if not held:
            period_ns = self.period_ns()
            stamped_off_ns = abs(stamp_ns - before[0] - period_ns)
            self._irregular = stamped_off_ns > abs(arrival_ns - before[1] - period_ns)
        held.append((stamp_ns, arrival_ns))
        event = self._look_for_burst(before, stamp_ns, arrival_ns, off_ns)
        enough = FALL_MESSAGES
        if off_ns > 0:
            enough = RISE_MESSAGES
            if arrival_ns - held[0][1] < RISE_NS and len(held) < RECENT:
                return event
        return self._step(enough) if len(held) >= enough else event

    def _look_for_burst(
        self, before: tuple[int, int], stamp_ns: int, arrival_ns: int, off_ns: int
    ) -> Event | None:
        """Two that were stamped a period apart and come together, long after their time."""
        together = 4 * (arrival_ns - before[1]) < stamp_ns - before[0]
        if off_ns <= 0 or self._irregular or not together:
            return None
        self.longest_burst_ns = max(self.longest_burst_ns, off_ns)
        if self._bursting:
            return None
        self._bursting = True
        self.bursts += 1
        return Event.BURST

    def _step(self, enough: int) -> Event | None:
        """The messages off the floor have come to stay, if they agree among themselves."""
        held = self._held
        ds_ns = [a - s for s, a in held]
        if max(ds_ns) - min(ds_ns) > self._jump_ns + self.resolution_ns:
            # Not one level but the way to another: a backlog that is being worked off.
            del held[: len(held) - enough + 1]
            return None
        size_ns = min(ds_ns) - (self._floor_ns or 0)
        irregular, recent = self._irregular, self._recent
        self._begin(held)
        if not irregular:
            self._recent = recent  # those stamps and these are of one clock
            self.delay_steps += 1
            return Event.DELAY
        self.jumps += 1
        self.last_jump_ns = -size_ns  # a clock that steps ahead makes d smaller
        return Event.JUMP

    # ------------------------------------------------------------------------- the estimate

    @property
    def known(self) -> bool:
        """Whether there is enough for an estimate."""
        return self._floor_ns is not None

    @property
    def offset_ns(self) -> int:
        """The least d of the last ten seconds; 0 until it is known."""
        return self._floor_ns or 0

    def estimate(self) -> Offset:
        """What is known now. Takes a fraction of a millisecond: for reports, not per message."""
        recent = np.array(self._recent, np.int64).reshape(-1, 2)
        rate = self._rate(recent)
        other = rate is not None and abs(rate - 1.0) >= OTHER_RATE
        drift_ppm, sigma_ppm = (None, None) if other else self._drift()
        stamp_ns, arrival_ns = self._before or (0, 0)
        return Offset(
            messages=self.messages,
            offset_ms=self.offset_ns / NS_PER_MS,
            latest_ms=(arrival_ns - stamp_ns) / NS_PER_MS,
            drift_ppm=drift_ppm,
            drift_sigma_ppm=sigma_ppm,
            jitter_ms=self._jitter_ms(recent, drift_ppm or 0.0),
            period_ms=self.period_ns() / NS_PER_MS,
            rate=rate,
            jumps=self.jumps,
            last_jump_ms=self.last_jump_ns / NS_PER_MS,
            delay_steps=self.delay_steps,
            bursts=self.bursts,
            longest_burst_ms=self.longest_burst_ns / NS_PER_MS,
            frozen=self._repeats >= FROZEN_MESSAGES,
            future=self.future,
        )

    def _rate(self, points: npt.NDArray[np.int64]) -> float | None:
        """Stamps' seconds per second of arrivals, the median over pairs half the memory apart."""
        half = len(points) // 2
        if half < WARM_UP // 2:
            return None
        spans = points[half : 2 * half] - points[:half]
        # Over a short time delays look like a rate.
        long_ns = NS_PER_S if half < RECENT // 2 else NS_PER_S // 20
        spans = spans[spans[:, 1] > max(long_ns, 20 * self.resolution_ns)]
        if len(spans) < half // 2:
            return None
        return float(np.median(spans[:, 0] / spans[:, 1]))

    def _drift(self) -> tuple[float | None, float | None]:
        """Theil-Sen slope of the minima, and its sigma from the residuals, both in ppm."""
        if len(self._minima) < 4:
            return None, None
        points = np.array(self._minima, np.int64)
        at = (points[:, 0] - points[0, 0]) / NS_PER_S
        if at[-1] < DRIFT_SPAN_S:
            return None, None
        d_us = (points[:, 1] - points[0, 1]) / 1e3
        first, second = _pairs(len(at))
        run_s = at[second] - at[first]
        wide = run_s >= 0.25 * at[-1]
        slope = float(np.median((d_us[second] - d_us[first])[wide] / run_s[wide]))
        rest = d_us - slope * at
        spread_us = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
        spread_us = max(spread_us, self.resolution_ns / 1e3 / 12**0.5)
        # The sigma of a least-squares slope, widened by pi/3 for Theil-Sen's efficiency.
        width_s = float(np.sqrt(np.sum((at - at.mean()) ** 2)))
        return slope, (np.pi / 3.0) ** 0.5 * spread_us / width_s

    def _jitter_ms(self, points: npt.NDArray[np.int64], drift_ppm: float) -> float:
        if not self.known:
            return 0.0
        at_s = (points[:, 1] - points[0, 1]) / NS_PER_S
        d_ms = (points[:, 1] - points[:, 0] - self.offset_ns) / NS_PER_MS
        low, high = np.percentile(d_ms - drift_ppm * at_s / 1e3, (15.87, 84.13))
        return float(high - low) / 2.0
