"""A robot without DDS: made sensors, the first road, and what watches over it, message by message.

Everything that the node does with a message is done here, with the node's own objects, in the order
of arrival; time is the sensors'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from perception import scenes

from mm_fusion.config import Config
from mm_fusion.health.clock_watch import ClockWatch
from mm_fusion.health.modes import Ladder, ModeLog
from mm_fusion.health.pictures import PictureWatch
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.network import FusionNetwork
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.samples import CameraFrame, FusionResult, LidarSweep, Mode, Reason, Rejection

T0 = scenes.T0
S, MS = 10**9, 10**6
PERIOD_NS = 100 * MS
CLOUD = np.array([[10.0, 1.0, -1.0], [12.0, 3.0, -1.0]])
SIZE = (96, 192, 3)

Message = CameraFrame | LidarSweep
Fault = Callable[[Message], Message | None]


def seconds(stamp_ns: int) -> float:
    """A stamp as seconds since the start."""
    return (stamp_ns - T0) / S


def messages(duration_s: float, seed: int = 0) -> list[Message]:
    """A camera of 10 Hz, each picture with noise of its own, and a LIDAR of 10 Hz, 20 ms later."""
    rng = np.random.default_rng(seed)
    out: list[Message] = []
    for k in range(1, round(duration_s * 10)):
        stamp_ns = T0 + k * PERIOD_NS
        picture = rng.integers(40, 60, SIZE, np.uint8)
        frame = scenes.frame(picture, stamp_ns=stamp_ns)
        delay_ns = 8 * MS + round(2 * MS * rng.random())
        out.append(replace(frame, arrival_ns=stamp_ns + delay_ns))
        sweep = scenes.sweep(CLOUD, stamp_ns + 20 * MS)
        out.append(replace(sweep, arrival_ns=sweep.stamp_ns + delay_ns // 2))
    return out


def only(sensor: str, since_s: float, until_s: float, change: Fault) -> Fault:
    """A fault of one sensor within a time."""

    def fault(message: Message) -> Message | None:
        due = message.sensor == sensor and since_s <= seconds(message.arrival_ns) < until_s
        return change(message) if due else message

    return fault


def dead(_: Message) -> None:
    """The message never comes."""


@dataclass
class Told:
    """One result, with what stood then, and when it came out (arrival time of what released it)."""

    result: FusionResult
    ladder: Ladder
    at_ns: int

    @property
    def at_s(self) -> float:
        """Its stamp since the start."""
        return seconds(self.result.stamp_ns)


class Rig:
    """The road under test."""

    def __init__(self, folder: Path, intrinsics: bool = True, **settings: Any) -> None:
        self.config: Config = scenes.config(**settings)
        self.calibration = Calibration(self.config)
        if intrinsics:
            self.calibration.set_camera(scenes.camera_model(SIZE[1], SIZE[0]))
        network = FusionNetwork.open(scenes.write_network(folder), "cpu", threads=1)
        self.road = PerceptionPipeline(self.config, network, self.calibration)
        self.modes = ModeLog()
        self.clocks = ClockWatch(self.config.health)
        self.pictures = PictureWatch()
        self.told: list[Told] = []
        self.drops: Counter[tuple[str, Reason]] = Counter()
        self.complaints: set[tuple[str, str]] = set()

    def play(self, coming: Iterable[Message], *faults: Fault) -> Rig:
        """Feed what is left of the messages after the faults, in the order of arrival."""
        left: list[Message] = []
        for message in coming:
            changed: Message | None = message
            for fault in faults:
                changed = fault(changed) if changed is not None else None
            if changed is not None:
                left.append(changed)
        for message in sorted(left, key=lambda m: m.arrival_ns):
            self.take(message)
        return self

    def take(self, message: Message) -> None:
        """One message, as the node takes it."""
        self.clocks.add(message.sensor, message.stamp_ns, message.arrival_ns)
        if isinstance(message, CameraFrame):
            self.pictures.add(message)
            if self.pictures.complaint():
                self.complaints.add((message.sensor, self.pictures.complaint()))
        self.answer(self.road.add(message), message.arrival_ns)
        for complaint in self.clocks.complaints():
            self.complaints.add((complaint.sensor, complaint.text))

    def answer(self, answers: Iterable[FusionResult | Rejection], at_ns: int) -> None:
        """What came of it."""
        for answer in answers:
            if isinstance(answer, Rejection):
                self.drops[answer.sensor, answer.reason] += 1
                continue
            for rejection in answer.rejections:
                self.drops[rejection.sensor, rejection.reason] += 1
            self.modes.add(answer)
            self.told.append(Told(answer, self.modes.ladder(), at_ns))

    # ----------------------------------------------------------------------------- questions

    def modes_between(self, since_s: float, until_s: float) -> set[Mode]:
        """The modes of the results of a time."""
        return {t.result.mode for t in self.told if since_s <= t.at_s < until_s}

    def first(self, mode: Mode, since_s: float) -> Told:
        """The first result of a mode from a time on."""
        return next(t for t in self.told if t.at_s >= since_s and t.result.mode is mode)

    def longest_gap_s(self, since_s: float = 0.0, until_s: float = 1e9) -> float:
        """Between the stamps of two results."""
        stamps = [t.at_s for t in self.told if since_s <= t.at_s < until_s]
        return max(b - a for a, b in pairwise(stamps))

    def said(self, sensor: str) -> str:
        """All complaints about a sensor."""
        return "; ".join(sorted(text for name, text in self.complaints if name == sensor))
