"""Parameters of what watches over the sensors."""

from __future__ import annotations

from dataclasses import dataclass

from mm_fusion.parameters import param


@dataclass(frozen=True)
class HealthConfig:
    """When a sensor's clock or stream is complained about. Nothing is refused because of it."""

    clock_off_s: float = param(
        0.2,
        "Stamps older than this when they arrive: the sensor's clock is off, or it comes late",
        unit="s",
        low=0.001,
        high=60.0,
    )
    stamp_future_s: float = param(
        0.05,
        "Stamps further than this ahead of their arrival: the sensor's clock is off",
        unit="s",
        low=0.0,
        high=60.0,
    )
    clock_jump_s: float = param(
        0.1,
        "Steps of a sensor's clock are told from this size on",
        unit="s",
        low=0.005,
        high=10.0,
    )
    clock_drift_ppm: float = param(
        200.0,
        "A clock that runs this much faster or slower than the others' is complained about"
        " (quartz: below 100)",
        unit="ppm",
        low=1.0,
        high=100000.0,
    )
    clock_hold_s: float = param(
        10.0,
        "What happened to a clock is said for this long",
        unit="s",
        low=1.0,
        high=3600.0,
    )
