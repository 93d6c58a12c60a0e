"""The parameters that concern LIDAR clouds: a part of :mod:`mm_fusion.config`."""

from __future__ import annotations

from dataclasses import dataclass

from mm_fusion.errors import ConfigError
from mm_fusion.parameters import param

TIME_UNITS_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}


@dataclass(frozen=True)
class LidarConfig:
    """What a PointCloud2 does not say about itself. Lists: one entry for all LIDARs or one each."""

    intensity_max: float = param(
        0.0,
        "Intensity that counts as full scale; 0: 1, 255, 4095 or 65535, told from the sweeps",
        low=0.0,
        high=1e9,
    )
    time_field: tuple[str, ...] = param(
        ("",),
        "Field with each point's time; empty: t, time, timestamp, offset_time or time_stamp;"
        " none: points have no times. One for all LIDARs, or one per LIDAR",
    )
    time_unit: tuple[str, ...] = param(
        ("auto",),
        "Unit of that field. One for all LIDARs, or one per LIDAR",
        choices=("auto", *TIME_UNITS_NS),
    )
    time_reference: tuple[str, ...] = param(
        ("auto",),
        "Which part of the sweep the message's stamp is: the times are shifted to make it so;"
        " absolute: they are on the stamp's clock. One for all LIDARs, or one per LIDAR",
        choices=("auto", "start", "middle", "end", "absolute"),
    )

    def __post_init__(self) -> None:
        for name in ("time_unit", "time_reference"):
            choices = self.__dataclass_fields__[name].metadata["choices"]
            wrong = [v for v in getattr(self, name) if v not in choices]
            if wrong:
                raise ConfigError(
                    f"lidar.{name}: must be one of {', '.join(choices)}, got {wrong[0]!r}"
                )

    def check_count(self, lidars: int) -> None:
        """ConfigError where a list has neither one entry nor one for each of the LIDARs."""
        for name in ("time_field", "time_unit", "time_reference"):
            given = len(getattr(self, name))
            if given not in (1, lidars):
                raise ConfigError(
                    f"lidar.{name}: must have one entry, or one per LIDAR ({lidars}), got {given}"
                )


@dataclass(frozen=True)
class DeskewConfig:
    """Correction of points for the motion during the sweep."""

    enabled: bool = param(True, "Move points to the set's stamp where ego motion is known")
    max_motion_age_s: float = param(
        0.5, "Ego motion older than this is not used", unit="s", low=0.01, high=10.0
    )
