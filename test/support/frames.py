"""Training frames as files hold them, for tests."""

from __future__ import annotations

import numpy as np

from mm_fusion.datasets.frame import Cloud, LabelledFrame, Objects
from mm_fusion.training.frames import Frame


def stored(frame: Frame) -> LabelledFrame:
    """The same as a file would hold it."""
    count = len(frame.labels)
    return LabelledFrame(
        Cloud(
            frame.points[:, :3],
            frame.points[:, 3],
            frame.points[:, 4],
            frame.rings,
        ),
        (frame.image,),
        frame.pixel_from_base[None],
        Objects(
            frame.boxes,
            frame.labels,
            frame.num_points,
            frame.num_pixels,
            np.ones((count, 2), np.float32),
            ("",) * count,
            np.arange(count),
        ),
        frame.seg.repeat(2, axis=0).repeat(2, axis=1),
    )
