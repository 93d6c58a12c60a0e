"""The state of the first road as plain keys and values, for diagnostics and for files."""

from __future__ import annotations

from collections.abc import Mapping

from mm_fusion.health.counters import Counters
from mm_fusion.health.modes import ModeLog
from mm_fusion.health.timing import Percentiles, RateMeter
from mm_fusion.samples import FusionResult, Rejection


def result_values(result: FusionResult, provider: str) -> dict[str, str]:
    """One result: mode, what is missing, remarks, milliseconds by station, offsets by sensor."""
    values = {
        "mode": result.mode.value,
        "missing": " ".join(result.missing),
        "provider": provider,
        "ego_motion": str(result.ego_motion).lower(),
        "detections": str(len(result.detections)),
        "tracks": str(len(result.tracks)),
    }
    if result.remarks:
        values["remarks"] = "; ".join(result.remarks)
    for stage, spent_ns in result.stage_ns.items():
        values[f"{stage}_ms"] = f"{spent_ns / 1e6:.3f}"
    for sensor, dt_ns in result.dt_ns.items():
        values[f"dt_ms.{sensor}"] = f"{dt_ns / 1e6:.3f}"
    return values


class RoadHealth:
    """Everything worth telling about a run so far: modes, drops, input rates, latencies."""

    def __init__(self) -> None:
        self.modes = ModeLog()
        self.drops = Counters()
        self._rates: dict[str, RateMeter] = {}
        self._stages: dict[str, Percentiles] = {}
        self._remarks: dict[str, int] = {}

    def received(self, sensor: str, stamp_ns: int) -> None:
        """An input message came."""
        self._rates.setdefault(sensor, RateMeter()).add(stamp_ns)

    def dropped(self, rejection: Rejection) -> None:
        """An input was refused."""
        self.drops.count(rejection)

    def answered(self, result: FusionResult) -> None:
        """A result went out; its rejections and times are taken too."""
        self.modes.add(result)
        for rejection in result.rejections:
            self.drops.count(rejection)
        for stage, spent_ns in result.stage_ns.items():
            self._stages.setdefault(stage, Percentiles()).add(spent_ns)
        for remark in result.remarks:
            self._remarks[remark] = self._remarks.get(remark, 0) + 1

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Percentiles by station."""
        return {stage: p.summary() for stage, p in self._stages.items()}

    def values(self) -> dict[str, str]:
        """All of it, flat."""
        values = {
            "mode": self.modes.mode.value,
            "mode_for_s": f"{self.modes.lasting_s():.1f}",
            "mode_changes": str(self.modes.changes),
        }
        _flatten(values, "results", self.modes.counts())
        _flatten(values, "missing", self.modes.missing())
        for sensor, meter in sorted(self._rates.items()):
            rate = meter.rate()
            values[f"rate_hz.{sensor}"] = f"{rate.hz:.2f}"
            values[f"largest_gap_ms.{sensor}"] = f"{rate.largest_gap_ms:.1f}"
        for sensor, reasons in self.drops.drops().items():
            _flatten(values, f"drops.{sensor}", reasons)
        for stage, percentiles in self.latency_ms().items():
            _flatten(values, f"latency_ms.{stage}", percentiles)
        _flatten(values, "remarks", self._remarks)
        return values


def _flatten(into: dict[str, str], prefix: str, values: Mapping[str, float]) -> None:
    for key, value in values.items():
        into[f"{prefix}.{key}"] = str(value)
