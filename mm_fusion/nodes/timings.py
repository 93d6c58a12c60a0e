"""How long each station takes and which senses took part, over the node's life."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from mm_fusion.health.modes import ModeChange, ModeLog
from mm_fusion.health.timing import Percentiles
from mm_fusion.nodes.diagnostics import Report
from mm_fusion.samples import FusionResult


class Timings:
    """Latency percentiles by station and the modes of the results; for two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, Percentiles] = {}
        self._modes = ModeLog()

    def add(self, result: FusionResult, spent_ns: Mapping[str, int]) -> ModeChange | None:
        """One result and what its stations took; answers the change of mode it brought."""
        with self._lock:
            for stage, ns in spent_ns.items():
                self._stages.setdefault(stage, Percentiles()).add(ns)
            return self._modes.add(result)

    def report_to(self, report: Report) -> None:
        """Put the counts and the percentiles in milliseconds."""
        with self._lock:
            counts = self._modes.counts()
            report.put("results", sum(counts.values()))
            report.put_all("modes", counts)
            report.put("mode_changes", self._modes.changes)
            report.put("mode_for_s", self._modes.lasting_s())
            for stage, percentiles in self._stages.items():
                report.put_all(f"latency_ms.{stage}", percentiles.summary())
