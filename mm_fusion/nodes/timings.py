"""How long each station takes, over the node's life."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from mm_fusion.health.timing import Percentiles
from mm_fusion.nodes.diagnostics import Report
from mm_fusion.samples import FusionResult


class Timings:
    """Latency percentiles by station and counts of modes; for two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, Percentiles] = {}
        self._modes: dict[str, int] = {}

    def add(self, result: FusionResult, spent_ns: Mapping[str, int]) -> None:
        """One result and what its stations took."""
        with self._lock:
            for stage, ns in spent_ns.items():
                self._stages.setdefault(stage, Percentiles()).add(ns)
            mode = result.mode.value
            self._modes[mode] = self._modes.get(mode, 0) + 1

    def report_to(self, report: Report) -> None:
        """Put the counts and the percentiles in milliseconds."""
        with self._lock:
            report.put("results", sum(self._modes.values()))
            report.put_all("modes", self._modes)
            for stage, percentiles in self._stages.items():
                report.put_all(f"latency_ms.{stage}", percentiles.summary())
