"""What vision_msgs has no place for: how tracks move, as the points of a PointCloud2.

A point is a track, in the order of the ``tracks`` of the same stamp and in the same frame. Metres,
seconds and radians; ``cov_a_b`` is the covariance of a and b, in the product of their units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mm_fusion.samples import Track

PAIRS = tuple(
    (a, b) for i, a in enumerate(("x", "y", "vx", "vy")) for b in ("x", "y", "vx", "vy")[i:]
)
NUMBERS = (
    *("x", "y", "z", "vx", "vy", "yaw", "yaw_rate"),
    *(f"cov_{a}_{b}" for a, b in PAIRS),
    *("var_yaw", "var_yaw_rate", "existence", "unseen_s"),
)
TRACK_STATE_DTYPE = np.dtype([*((name, "<f4") for name in NUMBERS), ("id", "<u4")])


def track_states(tracks: Sequence[Track]) -> npt.NDArray[np.void]:
    """Structured TRACK_STATE_DTYPE [N], a row per track."""
    upper = np.triu_indices(4)
    rows = [
        (
            *(*t.center, *t.velocity, t.yaw, t.yaw_rate, *t.covariance[upper]),
            *(t.yaw_variance, t.yaw_rate_variance, t.existence, t.time_since_update_s, t.track_id),
        )
        for t in tracks
    ]
    return np.array(rows, TRACK_STATE_DTYPE)
