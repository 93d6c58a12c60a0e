"""How the sensors' clocks stood to the recorder's, from the receive times of a bag."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mm_fusion.config import Config
from mm_fusion.evaluation.order import Arrival
from mm_fusion.health.clock_watch import ClockWatch
from mm_fusion.samples import Sample


class RecordedClocks:
    """Watches the samples of a bag in the order they were recorded."""

    def __init__(self, config: Config) -> None:
        self._watch = ClockWatch(config.health)
        self._received = False

    def watch(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        """Hand the arrivals on, having looked at their times."""
        for arrival in arrivals:
            sample = arrival.sample
            if isinstance(sample, Sample):
                self._received = self._received or arrival.log_ns != sample.stamp_ns
                self._watch.add(arrival.sensor, sample.stamp_ns, arrival.log_ns)
            yield arrival

    def summary(self) -> dict[str, Any] | None:
        """The clocks by sensor, and what is wrong with them; None where the bag was written with
        stamps for receive times, which tell nothing."""
        if not self._received:
            return None
        states = self._watch.estimates()
        return {
            "sensors": {
                name: {
                    "offset_ms": round(s.offset_ms, 3),
                    "drift_ppm": _rounded(s.drift_ppm),
                    "drift_sigma_ppm": _rounded(s.drift_sigma_ppm),
                    "jitter_ms": round(s.jitter_ms, 3),
                    "period_ms": round(s.period_ms, 3),
                    "jumps": s.jumps,
                    "delay_steps": s.delay_steps,
                    "bursts": s.bursts,
                    "longest_burst_ms": round(s.longest_burst_ms, 3),
                    "stamps_ahead": s.future,
                }
                for name, s in states.items()
            },
            "warnings": [
                f"{c.sensor}: {c.text}".removeprefix(": ")
                for c in self._watch.complaints(states, whole=True)
            ],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
