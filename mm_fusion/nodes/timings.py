"""How long each station takes and which senses took part, over the node's life."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from mm_fusion.health.modes import Ladder, ModeChange, ModeLog
from mm_fusion.health.timing import Percentiles
from mm_fusion.nodes.diagnostics import Report
from mm_fusion.samples import FusionResult, SyncedSet

REMEMBERED = 200


class Arrivals:
    """When messages came, on the clock that stations are timed with; the newest are remembered.

    Samples carry their arrival in ROS time, which may be simulated: no measure of latency.
    """

    def __init__(self) -> None:
        self._at_ns: OrderedDict[tuple[str, int], int] = OrderedDict()

    def note(self, sensor: str, stamp_ns: int, now_ns: int) -> None:
        """A message of ``sensor`` came."""
        self._at_ns[sensor, stamp_ns] = now_ns
        if len(self._at_ns) > REMEMBERED:
            self._at_ns.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._at_ns.clear()

    def of(self, synced: SyncedSet, now_ns: int) -> tuple[int, int]:
        """When a set's own reference came, and the last of its members; ``now_ns`` if unknown."""
        members = [*synced.sweeps, *(c for c in synced.cameras if c is not None)]
        came = {m.sensor: self._at_ns.get((m.sensor, m.stamp_ns), now_ns) for m in members}
        reference = next((s for s, dt_ns in synced.dt_ns.items() if dt_ns == 0), "")
        return came.get(reference, now_ns), max(came.values(), default=now_ns)


class Timings:
    """Latency percentiles by station and the modes of the results; for two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, Percentiles] = {}
        self._modes = ModeLog()

    def add(
        self, result: FusionResult, spent_ns: Mapping[str, int]
    ) -> tuple[Ladder, ModeChange | None]:
        """One result and what its stations took; where that leaves fusion, and what changed."""
        with self._lock:
            for stage, ns in spent_ns.items():
                self._stages.setdefault(stage, Percentiles()).add(ns)
            change = self._modes.add(result)
            return self._modes.ladder(), change

    def note(self, stage: str, spent_ns: int) -> None:
        """What one more station took, behind the result."""
        with self._lock:
            self._stages.setdefault(stage, Percentiles()).add(spent_ns)

    def silent(self, stamp_ns: int, sensors: Iterable[str]) -> tuple[Ladder, ModeChange | None]:
        """No result can come: these sensors are silent, at ``stamp_ns`` of their time."""
        with self._lock:
            change = self._modes.silent(stamp_ns, sensors)
            return self._modes.ladder(), change

    def ladder(self) -> Ladder:
        """Where fusion stands."""
        with self._lock:
            return self._modes.ladder()

    def report_to(self, report: Report) -> None:
        """Put the counts and the percentiles in milliseconds."""
        with self._lock:
            counts = self._modes.counts()
            report.put("results", sum(counts.values()))
            report.put_all("modes", counts)
            report.put("mode_changes", self._modes.changes)
            for key, value in self._modes.ladder().values().items():
                report.put(key, value)
            for stage, percentiles in self._stages.items():
                report.put_all(f"latency_ms.{stage}", percentiles.summary())
