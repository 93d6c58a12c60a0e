"""The tape of the latency bench: what is played when, and with which stamp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mm_fusion.bench.tape import Stream, Tape, stamp_of, stamped
from mm_fusion.errors import MmFusionError
from mm_fusion.samples import CameraFrame
from mm_fusion.wire import decode
from mm_fusion.wire.encode import encode_image

STAMP_NS = 1_700_000_123_987_654_321


def test_a_message_gets_another_stamp_and_stays_the_same_else() -> None:
    """GIVEN a serialized message WHEN stamped anew THEN only the stamp is another."""
    pixel = np.zeros((1, 1, 3), np.uint8)
    raw = encode_image(pixel, "rgb8", 5, "camera")
    again = stamped(memoryview(raw), STAMP_NS)
    assert again == encode_image(pixel, "rgb8", STAMP_NS, "camera")
    frame = decode("sensor_msgs/msg/Image", again, "c")
    assert isinstance(frame, CameraFrame)
    assert frame.stamp_ns == stamp_of(again) == STAMP_NS


def test_scenes_go_forth_and_back_and_others_end() -> None:
    """GIVEN three scenes WHEN played on THEN 0 1 2 1 0 1 ..., each as often as asked."""
    items = [(0, 1), (1, 1), (2, 1)]
    swing = Stream("t", "k", 1, swings=True, repeat=2, items=items)
    shown = [place[0] for n in range(14) if (place := swing.item(n)) is not None]
    assert shown == [0, 0, 1, 1, 2, 2, 1, 1, 0, 0, 1, 1, 2, 2]
    once = Stream("t", "k", 1, items=items)
    assert [once.item(n) for n in range(4)] == [*items, None]


def test_what_is_no_tape_is_named(tmp_path: Path) -> None:
    """GIVEN a folder without a tape WHEN opened THEN a clear error."""
    with pytest.raises(MmFusionError, match="not a tape"):
        Tape(tmp_path)
