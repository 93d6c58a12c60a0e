"""What goes wrong in a drive: scenarios as lists of faults, each with its sensor and its time."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mm_fusion.errors import ConfigError


class Effect(enum.Enum):
    """What a fault does to a sensor's messages."""

    SILENCE = "silence"  # nothing comes
    NO_FIX = "no_fix"  # the receiver says that it has no fix
    OFFSET = "offset"  # positions are wrong by a constant, and do not say so


@dataclass(frozen=True, slots=True)
class Fault:
    """An effect on ``sensor`` (camera, lidar, gps, imu, wheels) in a span of the drive, whose
    ``start`` and ``end`` are shares of its duration. ``offset_m`` is east, north, up."""

    sensor: str
    effect: Effect
    start: float
    end: float
    offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)


SCENARIOS: dict[str, tuple[Fault, ...]] = {
    "town": (),
    "gps_outage": (
        Fault("gps", Effect.NO_FIX, 0.35, 0.5),
        Fault("gps", Effect.SILENCE, 0.5, 0.7),
    ),
    "gps_jump": (Fault("gps", Effect.OFFSET, 0.5, 0.6, (14.0, -9.0, 3.0)),),
    "camera_loss": (Fault("camera", Effect.SILENCE, 0.4, 0.7),),
    "lidar_loss": (Fault("lidar", Effect.SILENCE, 0.4, 0.7),),
    "imu_loss": (Fault("imu", Effect.SILENCE, 0.5, 0.6),),
    "wheel_loss": (Fault("wheels", Effect.SILENCE, 0.4, 0.7),),
}


class FaultPlan:
    """The faults of one drive. Raises ConfigError for a scenario that does not exist."""

    def __init__(self, scenario: str, duration_s: float) -> None:
        if scenario not in SCENARIOS:
            names = ", ".join(SCENARIOS)
            raise ConfigError(f"scenario: must be one of {names}, got '{scenario}'")
        self._faults = SCENARIOS[scenario]
        self._duration_s = duration_s

    def active(self, sensor: str, t: float) -> Fault | None:
        """The fault that affects a sensor's message stamped ``t`` seconds into the drive."""
        share = t / self._duration_s
        for fault in self._faults:
            if fault.sensor == sensor and fault.start <= share < fault.end:
                return fault
        return None

    def silent(self, sensor: str, t: float) -> bool:
        """Whether a sensor's message stamped ``t`` never comes."""
        fault = self.active(sensor, t)
        return fault is not None and fault.effect is Effect.SILENCE
