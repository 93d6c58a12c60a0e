"""A robot whose sensors are regular, played through the synchronizer message by message."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from mm_fusion.config_sync import SyncConfig
from mm_fusion.samples import CameraFrame, LidarSweep, Reason, Rejection, SyncedSet
from mm_fusion.sync import Synchronizer

EPOCH_NS = 1_700_000_000_000_000_000
MS = 1_000_000
POINT = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")])
THIRD = 100.0 / 3.0

Given = tuple[float, str, float]  # when it comes, who, its stamp: milliseconds
Answer = tuple[float, SyncedSet | Rejection]  # when it was given


class Robot:
    """Plays messages in the order of their coming, a clock of 5 ms between them."""

    def __init__(
        self,
        lidars: tuple[str, ...] = ("lidar",),
        cameras: tuple[str, ...] = ("front",),
        arrivals: bool = False,
        clock: bool = True,
        **settings: object,
    ) -> None:
        self.sync = Synchronizer(SyncConfig(**settings), lidars, cameras)  # type: ignore[arg-type]
        self.lidars = lidars
        self.arrivals = arrivals
        self.clock = clock
        self.answers: list[Answer] = []

    def give(self, sensor: str, stamp: float, come: float) -> list[SyncedSet | Rejection]:
        """One message."""
        stamp_ns = EPOCH_NS + round(stamp * MS)
        # The receiver's clock is an hour behind the sensors'.
        arrival_ns = EPOCH_NS - 3_600_000 * MS + round(come * MS) if self.arrivals else 0
        if sensor == "clock":
            found = self.sync.advance(stamp_ns, arrival_ns)
        elif sensor in self.lidars:
            points = np.zeros(1, POINT)
            sweep = LidarSweep(sensor, stamp_ns, sensor, points, arrival_ns=arrival_ns)
            found = self.sync.add(sweep)
        else:
            pixels = np.zeros((1, 1), np.uint8)
            found = self.sync.add(
                CameraFrame(sensor, stamp_ns, sensor, "mono8", 1, 1, 1, pixels, arrival_ns)
            )
        self.answers += [(come, a) for a in found]
        return found

    def play(self, *streams: Iterable[Given], start: float = 0.0, end: float) -> list[Answer]:
        """All messages of the streams that come in this time; what was answered then."""
        before = len(self.answers)
        clock = [(t, "clock", t) for t in np.arange(start, end, 5.0)] if self.clock else []
        given = [g for stream in (*streams, clock) for g in stream if start <= g[0] < end]
        for come, sensor, stamp in sorted(given, key=lambda g: (g[0], g[1] != "clock")):
            self.give(sensor, stamp, come)
        return self.answers[before:]


def every(
    sensor: str,
    period: float,
    phase: float = 0.0,
    late: float = 2.0,
    until: float = 60_000.0,
    without: Callable[[float], bool] | None = None,
    clock_error: float = 0.0,
) -> list[Given]:
    """A regular sensor whose messages come some milliseconds after their stamp."""
    stamps = np.arange(phase, until, period)
    return [
        (s + late, sensor, s + clock_error) for s in stamps if without is None or not without(s)
    ]


def sets(answers: Iterable[Answer]) -> list[tuple[float, SyncedSet]]:
    return [(come, a) for come, a in answers if isinstance(a, SyncedSet)]


def at(found: SyncedSet) -> float:
    return (found.stamp_ns - EPOCH_NS) / MS


def waits(answers: Iterable[Answer]) -> list[float]:
    """How long after its stamp each set went out."""
    return [round(come - at(found), 3) for come, found in sets(answers)]


def dts(answers: Iterable[Answer], sensor: str) -> list[float | None]:
    found = [s.dt_ns.get(sensor) for _, s in sets(answers)]
    return [None if dt is None else round(dt / MS, 3) for dt in found]


def reasons(answers: Iterable[Answer], sensor: str) -> list[Reason]:
    return [a.reason for _, a in answers if isinstance(a, Rejection) and a.sensor == sensor]
