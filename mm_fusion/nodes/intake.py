"""What arrives at a node: rates, silences and rejections, counted for the diagnostics."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from mm_fusion.health.counters import Counters
from mm_fusion.nodes.diagnostics import Report
from mm_fusion.samples import Rejection


class Intake:
    """Counts what each input brings. May be used from the receiving and the working thread."""

    def __init__(self, inputs: Iterable[str], timeout_s: float) -> None:
        self._lock = threading.Lock()
        self._timeout_s = timeout_s
        self._received = dict.fromkeys(inputs, 0)
        self._last_s: dict[str, float] = {}
        self._marked = dict(self._received)
        self._marked_s = time.monotonic()
        self._counters = Counters()
        self._examples: dict[tuple[str, str], str] = {}

    def arrived(self, sensor: str) -> None:
        """One message came."""
        with self._lock:
            self._received[sensor] = self._received.get(sensor, 0) + 1
            self._last_s[sensor] = time.monotonic()

    def reject(self, rejection: Rejection) -> bool:
        """Count a rejection; True where it is the first of its sensor and reason."""
        key = (rejection.sensor, rejection.reason.value)
        with self._lock:
            self._counters.count(rejection)
            first = key not in self._examples
            self._examples[key] = rejection.detail
        return first

    def drops(self) -> dict[str, dict[str, int]]:
        """Rejections so far by sensor and reason."""
        with self._lock:
            return self._counters.drops()

    def silent(self) -> list[str]:
        """Inputs of which nothing came for the timeout, or ever."""
        now_s = time.monotonic()
        with self._lock:
            return [
                s for s in self._received if now_s - self._last_s.get(s, -1e9) > self._timeout_s
            ]

    def report_to(self, report: Report) -> None:
        """Put counts, rates since the last call, silences and drops."""
        now_s = time.monotonic()
        with self._lock:
            elapsed_s = max(now_s - self._marked_s, 1e-3)
            for sensor, count in self._received.items():
                rate_hz = (count - self._marked.get(sensor, 0)) / elapsed_s
                report.put(f"{sensor}.received", count)
                report.put(f"{sensor}.rate_hz", rate_hz)
            self._marked, self._marked_s = dict(self._received), now_s
            for sensor, reasons in self._counters.drops().items():
                for reason, count in reasons.items():
                    report.put(f"{sensor}.drops.{reason}", count)
                    detail = self._examples.get((sensor, reason), "")
                    if detail:
                        report.put(f"{sensor}.drops.{reason}.last", detail)
