"""Runs of the pose road over drives whose truth is known by formula (mm_fusion.bench.drives)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mm_fusion.bench.drives import ALT, DATUM, LAT, LON, T0_NS, Drive, Sensors, fix, merge
from mm_fusion.config import Config, load
from mm_fusion.geometry import FrameTree
from mm_fusion.pose.pipeline import PosePipeline
from mm_fusion.samples import PoseEstimate, Rejection, Sample

F64 = npt.NDArray[np.float64]

__all__ = [
    "ALT",
    "DATUM",
    "LAT",
    "LON",
    "T0_NS",
    "Drive",
    "Run",
    "Sensors",
    "configure",
    "errors",
    "fix",
    "frames",
    "merge",
    "play",
    "rms",
]


def configure(*assignments: str) -> Config:
    """Defaults with the datum given."""
    return load(assignments=[DATUM, *assignments])


def frames(sensors: Sensors) -> FrameTree:
    """The sensors' true poses."""
    return sensors.frames()


@dataclass
class Run:
    """What came out."""

    pipeline: PosePipeline
    local: list[PoseEstimate] = field(default_factory=list)
    global_: list[PoseEstimate] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    def feed(self, samples: list[Sample]) -> Run:
        for sample in samples:
            for answer in self.pipeline.add(sample):
                if isinstance(answer, Rejection):
                    self.rejections.append(answer)
                elif answer.frame_id == "map":
                    self.global_.append(answer)
                else:
                    self.local.append(answer)
        return self

    def reasons(self) -> list[tuple[str, str]]:
        return [(r.sensor, r.reason.value) for r in self.rejections]


def play(samples: list[Sample], tree: FrameTree, *assignments: str) -> Run:
    """All samples through a new pipeline."""
    return Run(PosePipeline(configure(*assignments), tree)).feed(samples)


def errors(drive: Drive, estimates: list[PoseEstimate], after_s: float = 0.0) -> F64:
    """Rows of (seconds, east error, north error, heading error)."""
    rows = []
    for e in estimates:
        s = (e.stamp_ns - T0_NS) / 1e9
        if s < after_s:
            continue
        east, north, yaw, _ = drive.at(e.stamp_ns)
        x, y, _ = e.frame_from_base.translation
        dyaw = (e.frame_from_base.yaw_rad() - yaw + np.pi) % (2 * np.pi) - np.pi
        rows.append((s, x - east, y - north, dyaw))
    return np.array(rows)


def rms(rows: F64) -> float:
    """Of the horizontal error."""
    return float(np.sqrt((rows[:, 1:3] ** 2).sum(axis=1).mean()))
