"""People on bicycles: a detector sees a person and a bicycle, here they are one cyclist."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mm_fusion.perception.camera2d.associate import Seen

F64 = npt.NDArray[np.float64]

OVER_SHARE = 0.5  # of the narrower one's width that lies over the other
FEET = (0.25, 1.1)  # the rider's feet are between these heights of the bicycle, from its top


def with_riders(seen: list[Seen]) -> list[Seen]:
    """The boxes with every person on a bicycle or motorcycle joined with it; best first."""
    people = [s for s in seen if s.label == "pedestrian"]
    riding: set[int] = set()
    out = []
    for one in seen:
        free = (p for p in people if id(p) not in riding and _rides(p.box, one.box))
        rider = next(free, None) if one.label == "cyclist" else None
        if rider is None:
            out.append(one)
        else:
            riding.add(id(rider))
            out.append(one._replace(box=_around(one.box, rider.box)))
    return [s for s in out if id(s) not in riding]


def _rides(person: F64, cycle: F64) -> bool:
    """Over the bicycle, and no lower than it: somebody on foot before it stands lower."""
    over = min(person[2], cycle[2]) - max(person[0], cycle[0])
    narrow = min(person[2] - person[0], cycle[2] - cycle[0])
    tall = cycle[3] - cycle[1]
    low, high = cycle[1] + FEET[0] * tall, cycle[1] + FEET[1] * tall
    return bool(over > OVER_SHARE * narrow and low < person[3] < high and person[1] < cycle[1])


def _around(a: F64, b: F64) -> F64:
    return np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
