"""The peer that trackers are compared with follows its paper's recipe."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.bench.ab3dmot import Ab3dmotTracker, overlap
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import Detection

CUBE = np.array([5.0, 2.0, 1.0, 0.3, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("along", "up", "expected"),
    [
        (0.0, 0.0, 1.0),
        (1.0, 0.0, 0.0),  # side by side: nothing shared, nothing between
        (3.0, 0.0, -0.5),  # a hull of 4, half of it empty
        (0.5, 0.0, 1 / 3),
        (0.0, 0.5, 1 / 3),
    ],
)
def test_generalized_overlap(along: float, up: float, expected: float) -> None:
    other = CUBE.copy()
    other[:3] += (along * np.cos(0.3), along * np.sin(0.3), up)
    assert overlap(CUBE, other) == pytest.approx(expected, abs=1e-3)


def test_tracks_are_shown_from_the_third_detection_and_end_after_two_without() -> None:
    """A car at 10 m/s, unseen from the 26th sweep on."""
    tracker, shown = Ab3dmotTracker(), []
    for n in range(30):
        car = Detection(
            *(
                "car",
                0.9,
                np.array([n * 1.0, 0.0, 0.8]),
                np.array([4.0, 1.8, 1.5]),
                0.0,
                np.zeros(2),
            )
        )
        seen = [car] if 5 <= n < 25 else []
        shown.append(tracker.update(n * 100_000_000, seen, RigidTransform.identity()))
    assert [len(s) for s in shown] == [0] * 7 + [1] * 19 + [0] * 4
    assert {t.track_id for s in shown for t in s} == {1}
    assert shown[24][0].velocity == pytest.approx([10.0, 0.0], abs=0.5)
