"""One synced set with everything that belongs into a picture of it, brought together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.evaluation.truth import TruthBox

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]


@dataclass(slots=True, eq=False)
class Scene:
    """One set: ``points`` [N,3] m and ``detections``, ``truth`` boxes, all in the base frame.

    ``image`` uint8 RGB [H,W,3] is rectified; ``pixel_from_base`` [3,4] projects into it, the
    vehicle's motion between set and exposure included. None where there is no camera.
    """

    stamp_ns: int
    mode: str
    points: F64
    detections: Sequence[Mapping[str, Any]]
    truth: Sequence[TruthBox] = ()
    image: U8 | None = None
    pixel_from_base: F64 | None = None
    title: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
