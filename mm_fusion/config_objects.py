"""Parameters of what is done with points and boxes: the ground, the obstacles, the tracks."""

from __future__ import annotations

from dataclasses import dataclass

from mm_fusion.parameters import param


@dataclass(frozen=True)
class GroundConfig:
    """The ground under the points: what is told apart from it."""

    find: bool = param(
        True,
        "False takes the ground to be level at the base frame's origin: for LIDARs that see none",
    )
    step_m: float = param(
        0.2,
        "Where nothing is higher than this above the ground, all is ground: kerbs, grass",
        unit="m",
        low=0.05,
        high=1.0,
    )
    tolerance_m: float = param(
        0.03,
        "Beside and under what is higher, points up to this above the ground are ground",
        unit="m",
        low=0.01,
        high=0.5,
    )


@dataclass(frozen=True)
class TrackerConfig:
    """The tracker of detections."""

    min_score: float = param(0.2, "Detections below never start a track", low=-100.0, high=1.0)
    min_existence: float = param(
        0.5,
        "Tracks are published from this probability on that there is such an object; 0: all",
        low=0.0,
        high=0.999,
    )
    gate_m: float = param(
        4.0,
        "Largest distance of a detection from its track's prediction",
        unit="m",
        low=0.1,
        high=20.0,
    )
    confirm_hits: int = param(
        2,
        "Detections that make a track be published, if it is likely enough by then",
        low=1,
        high=20,
    )
    detection_probability: float = param(
        0.8, "How often an object in plain view is detected in one set", low=0.01, high=0.999
    )
    shown_coast_s: float = param(
        0.25, "A track without detections is published this long", unit="s", low=0.0, high=10.0
    )
    max_coast_s: float = param(
        0.8,
        "A track in plain view without detections is kept in mind this long",
        unit="s",
        low=0.0,
        high=10.0,
    )
    occluded_coast_s: float = param(
        2.5, "A track hidden by another is kept in mind this long", unit="s", low=0.0, high=30.0
    )
    max_late_s: float = param(
        0.5,
        "Detections older than the newest by up to this are put in where they belong;"
        " older ones begin a new scene",
        unit="s",
        low=0.0,
        high=5.0,
    )
    acceleration_mps2: float = param(
        4.0, "Standard deviation of a vehicle's acceleration", unit="m/s^2", low=0.01, high=50.0
    )
    turn_acceleration_radps2: float = param(
        0.6,
        "Standard deviation of the change of a vehicle's yaw rate",
        unit="rad/s^2",
        low=0.01,
        high=50.0,
    )
    person_acceleration_mps2: float = param(
        1.0, "Standard deviation of a person's acceleration", unit="m/s^2", low=0.01, high=50.0
    )
    other_acceleration_mps2: float = param(
        1.0, "That of things of no known class", unit="m/s^2", low=0.01, high=50.0
    )
    position_sigma_m: float = param(
        0.3, "Standard deviation of detected centres", unit="m", low=0.01, high=5.0
    )
    yaw_sigma_rad: float = param(
        0.25, "Standard deviation of detected headings", unit="rad", low=0.01, high=3.2
    )
    vehicle_velocity_sigma_mps: float = param(
        8.0, "Standard deviation of a new vehicle's speed", unit="m/s", low=0.1, high=50.0
    )
    velocity_sigma_mps: float = param(
        2.0, "Standard deviation of any other new track's velocity", unit="m/s", low=0.1, high=50.0
    )


@dataclass(frozen=True)
class ObstaclesConfig:
    """The obstacle cloud for Nav2."""

    min_height_m: float = param(
        0.1,
        "Points lower than this above the local ground do not hinder",
        unit="m",
        low=0.0,
        high=5.0,
    )
    max_height_m: float = param(
        2.2, "Nor do those higher than this above it", unit="m", low=0.0, high=20.0
    )
    footprint_m: tuple[float, ...] = param(
        (0.0, 0.0, 0.0, 0.0),
        "The robot's own body in the base frame, whose points are left out:"
        " x from, x to, y from, y to; all 0: nothing is left out",
        unit="m",
        low=-20.0,
        high=20.0,
    )
    moving_speed_mps: float = param(
        0.5,
        "Points on tracks at least this fast are marked as moving",
        unit="m/s",
        low=0.0,
        high=20.0,
    )
