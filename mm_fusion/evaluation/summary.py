"""What ``summary.json`` says about a run, counted while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import mm_fusion
from mm_fusion import parameters, wire
from mm_fusion.config import Config
from mm_fusion.evaluation.files import Datum
from mm_fusion.health.counters import Counters
from mm_fusion.health.timing import Percentiles
from mm_fusion.samples import FusionResult, GnssFix, LidarSweep, Reason, Rejection


class Tally:
    """Counts of one run: what came, what was answered, what was dropped, how long it took."""

    def __init__(self, config: Config) -> None:
        # Where there are several LIDARs, the sweeps that sets are made of count.
        lidars, reference = config.topics.lidars, config.sync.reference
        self._lidar = reference if reference in lidars else lidars[0]
        self._sweeps = 0
        self._answered = 0
        self._sets = 0
        self._detections: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self._drops = Counters()
        self._stages: dict[str, Percentiles] = {}
        self._gps = config.topics.gps
        self.fixes: list[GnssFix] = []
        self.refused: dict[int, str] = {}  # fixes' stamps and why they were not used

    def arrived(self, sample: wire.Decoded) -> None:
        """One input message, whether it could be used or not."""
        if isinstance(sample, (LidarSweep, Reason, Rejection)) and sample.sensor == self._lidar:
            self._sweeps += 1
        elif isinstance(sample, GnssFix) and sample.status >= 0:
            self.fixes.append(sample)

    def rejected(self, rejection: Rejection) -> None:
        """One drop."""
        if rejection.sensor == self._gps:
            self.refused[rejection.stamp_ns] = rejection.reason.value
        self._drops.count(rejection)

    def answered(self, result: FusionResult) -> None:
        """One result; a sweep counts as answered if it is the result's own."""
        self._sets += 1
        self._answered += self._lidar in result.dt_ns
        self._modes[result.mode.value] += 1
        self._missing.update(result.missing)
        self._detections.update(d.label for d in result.detections)
        for stage, spent_ns in result.stage_ns.items():
            self._stages.setdefault(stage, Percentiles()).add(spent_ns)

    def _details(self) -> dict[str, dict[str, str]]:
        """What the last drop of every kind said."""
        return {
            sensor: {r: self._drops.last_detail(sensor, Reason(r)) for r in reasons}
            for sensor, reasons in self._drops.drops().items()
        }

    def values(self) -> dict[str, Any]:
        """The counts as they stand in the summary."""
        return {
            "sweeps": self._sweeps,
            "answered": self._answered,
            "sets": self._sets,
            "drops": self._drops.drops(),
            "drop_details": self._details(),
            "modes": dict(sorted(self._modes.items())),
            "missing": dict(sorted(self._missing.items())),
            "detections": dict(sorted(self._detections.items())),
            "latency_ms": {name: dict(p.summary()) for name, p in self._stages.items()},
        }


def summarize(
    tally: Tally,
    *,
    source: Mapping[str, Any],
    config: Config,
    provider: str | None,
    network: Mapping[str, Any] | None,
    datum: Datum | None,
    warnings: list[str],
    timing: Mapping[str, float],
    clocks: Mapping[str, Any] | None = None,
    lidar_odometry: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The summary of a run.

    ``source`` says where the data came from (``kind``, ``bag``, ``topics``), ``network`` which
    network answered, ``timing`` how long the run took, ``clocks`` how the sensors' clocks stood,
    ``lidar_odometry`` what became of the sweeps on the pose road.
    """
    default = parameters.flatten(Config())
    values = parameters.flatten(config)
    counts = tally.values()
    latency_ms = counts.pop("latency_ms")
    return {
        "mm_fusion": mm_fusion.__version__,
        "source": dict(source),
        **counts,
        "datum": None if datum is None else dict(zip(("lat", "lon", "alt"), datum, strict=True)),
        "provider": provider,
        "network": None if network is None else dict(network),
        "warnings": list(warnings),
        "clocks": None if clocks is None else dict(clocks),
        "lidar_odometry": dict(lidar_odometry) if lidar_odometry else None,
        "parameters": {n: v for n, v in values.items() if v != default[n]},
        "latency_ms": latency_ms,
        "timing": dict(timing),
    }
