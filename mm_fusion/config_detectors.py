"""Parameters of the detectors beside the fusion network."""

from __future__ import annotations

from dataclasses import dataclass

from mm_fusion.parameters import param


@dataclass(frozen=True)
class Camera2dConfig:
    """Late fusion: a camera detector's boxes and the LIDAR's clusters."""

    range_m: float = param(
        60.0, "Points farther away belong to nothing", unit="m", low=5.0, high=200.0
    )
    unknown: bool = param(
        True, "Clusters that no camera has a name for are detections of the class unknown"
    )
    unknown_range_m: float = param(
        40.0, "Those farther away are not", unit="m", low=1.0, high=200.0
    )
