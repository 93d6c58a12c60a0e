"""The parameters of the synchronizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mm_fusion.errors import ConfigError
from mm_fusion.parameters import param

MAX_CAMERAS = 12
MAX_LIDARS = 4


@dataclass(frozen=True)
class SyncConfig:
    """The synchronizer, in sensor time. Lists of offsets: one for all sensors, or one each."""

    reference: str = param(
        "", "Topic whose every message makes a set; empty: the first LIDAR, else the first camera"
    )
    required: tuple[str, ...] = param(
        ("",), "Topics without which a set does not go out but is counted as required_missing"
    )
    deadline_s: float = param(
        0.1,
        "A set waits at most this long after the stamp of its reference",
        unit="s",
        low=0.0,
        high=1.0,
    )
    max_dt_s: float = param(
        0.06, "Largest stamp difference of a partner", unit="s", low=0.001, high=1.0
    )
    camera_offsets_s: tuple[float, ...] = param(
        (0.0,),
        "Added to camera stamps before matching (clock correction); one for all, or one per camera",
        unit="s",
        low=-1.0,
        high=1.0,
        any_length=True,
    )
    lidar_offsets_s: tuple[float, ...] = param(
        (0.0,),
        "Added to LIDAR stamps before matching (clock correction); one for all, or one per LIDAR",
        unit="s",
        low=-1.0,
        high=1.0,
        any_length=True,
    )
    queue_size: int = param(30, "Messages kept per sensor", low=2, high=1000)
    lidar_timeout_s: float = param(
        0.25,
        "A LIDAR that leads is silent after this long, sooner where its learned period says so,"
        " later where that is longer; others lead then",
        unit="s",
        low=0.02,
        high=10.0,
    )
    camera_timeout_s: float = param(
        1.0,
        "Sets do not wait for a partner that has been silent this long, sooner where its learned"
        " period says so; a camera that leads is silent then",
        unit="s",
        low=0.02,
        high=10.0,
    )
    time_jump_s: float = param(
        0.3,
        "A stamp further back than this resets the synchronizer (loop of a bag, clock step)",
        unit="s",
        low=0.05,
        high=3600.0,
    )

    def check_sensors(self, lidars: Sequence[str], cameras: Sequence[str]) -> None:
        """ConfigError where these sensors are too many, or not those that parameters speak of."""
        for names, what, limit in (
            (lidars, "topics.lidars", MAX_LIDARS),
            (cameras, "topics.cameras", MAX_CAMERAS),
        ):
            if len(names) > limit:
                raise ConfigError(f"{what}: at most {limit} are supported, got {len(names)}")
        names = [*lidars, *cameras]
        for what, wanted in (("reference", (self.reference,)), ("required", self.required)):
            for name in wanted:
                if name and name not in names:
                    raise ConfigError(
                        f"sync.{what}: must be among the LIDARs and cameras"
                        f" ({', '.join(names) or 'none'}), got {name}"
                    )
        offsets_of(self.lidar_offsets_s, len(lidars), "sync.lidar_offsets_s", "LIDAR")
        offsets_of(self.camera_offsets_s, len(cameras), "sync.camera_offsets_s", "camera")


def offsets_of(given: Sequence[float], count: int, parameter: str, kind: str) -> tuple[float, ...]:
    """One offset per sensor, from one for all or one each. Raises ConfigError for other counts."""
    if len(given) == 1:
        return (given[0],) * count
    if len(given) != count:
        raise ConfigError(
            f"{parameter}: must have one number, or one per {kind} ({count}), got {len(given)}"
        )
    return tuple(given)
