"""How long things take: a stopwatch that is handed its clock, and percentiles in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NS_PER_MS = 1e6
KEPT_SAMPLES = 65_536


class Percentiles:
    """Percentiles of durations. Exact up to ``capacity`` samples, then of the last ``capacity``.

    The maximum is that of all samples ever added.
    """

    def __init__(self, capacity: int = KEPT_SAMPLES) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: must be at least 1, got {capacity}")
        self._capacity = capacity
        self._samples = np.empty(min(capacity, 256), np.int64)
        self.count = 0
        self._largest_ns = 0

    def add(self, duration_ns: int) -> None:
        """Take one duration in nanoseconds."""
        at = self.count % self._capacity
        if at >= len(self._samples):
            bigger = np.empty(min(2 * len(self._samples), self._capacity), np.int64)
            bigger[: len(self._samples)] = self._samples
            self._samples = bigger
        self._samples[at] = duration_ns
        self._largest_ns = max(self._largest_ns, duration_ns) if self.count else duration_ns
        self.count += 1

    def summary(self) -> dict[str, float]:
        """p50, p90, p99 (linear interpolation) and max in ms, to 0.1 us; zeros without a sample."""
        if not self.count:
            return {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}
        kept = self._samples[: min(self.count, self._capacity)]
        p50, p90, p99 = (round(v / NS_PER_MS, 4) for v in np.percentile(kept, (50, 90, 99)))
        return {
            "p50": float(p50),
            "p90": float(p90),
            "p99": float(p99),
            "max": round(self._largest_ns / NS_PER_MS, 4),
        }


class Stopwatch:
    """Times between laps, on a clock that the caller brings; without one it measures nothing."""

    def __init__(self, now_ns: Callable[[], int] | None) -> None:
        self._now_ns = now_ns
        self._start_ns = self._last_ns = now_ns() if now_ns else 0
        self._laps: dict[str, int] = {}

    def lap(self, name: str) -> None:
        """End a lap under this name; laps of one name add up."""
        if self._now_ns is None:
            return
        now_ns = self._now_ns()
        self._laps[name] = self._laps.get(name, 0) + now_ns - self._last_ns
        self._last_ns = now_ns

    def laps(self, total: str) -> dict[str, int]:
        """Nanoseconds by lap, with the whole under the name ``total``; empty without a clock."""
        if self._now_ns is None:
            return {}
        return {**self._laps, total: self._last_ns - self._start_ns}
