"""Parameters of what is done with points and boxes: the ground, the obstacles, the tracks."""

from __future__ import annotations

from dataclasses import dataclass

from mm_fusion.parameters import param


@dataclass(frozen=True)
class GroundConfig:
    """The ground under the points: what is told apart from it."""

    step_m: float = param(
        0.2,
        "Where nothing is higher than this above the ground, all is ground: kerbs, grass",
        unit="m",
        low=0.05,
        high=1.0,
    )
    tolerance_m: float = param(
        0.05,
        "Beside and under what is higher, points up to this above the ground are ground",
        unit="m",
        low=0.01,
        high=0.5,
    )


@dataclass(frozen=True)
class TrackerConfig:
    """The tracker of detections."""

    min_score: float = param(0.2, "Detections below never start a track", low=0.0, high=1.0)
    gate_m: float = param(
        3.0,
        "Largest distance of a detection from its track's prediction",
        unit="m",
        low=0.1,
        high=20.0,
    )
    confirm_hits: int = param(3, "Detections that make a track be published", low=1, high=20)
    max_coast_s: float = param(
        0.5, "A track without detections lives this long", unit="s", low=0.0, high=10.0
    )
    acceleration_mps2: float = param(
        3.0, "Standard deviation of object acceleration", unit="m/s^2", low=0.01, high=50.0
    )
    position_sigma_m: float = param(
        0.3, "Standard deviation of detected centres", unit="m", low=0.01, high=5.0
    )
    velocity_sigma_mps: float = param(
        4.0, "Standard deviation of a new track's velocity", unit="m/s", low=0.1, high=50.0
    )


@dataclass(frozen=True)
class ObstaclesConfig:
    """The obstacle cloud for Nav2."""

    min_height_m: float = param(
        0.25, "Points lower than this above the base frame are ground", unit="m", low=-5.0, high=5.0
    )
    max_height_m: float = param(
        2.2, "Points higher than this do not hinder", unit="m", low=-5.0, high=20.0
    )
