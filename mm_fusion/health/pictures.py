"""Cameras that send pictures and see nothing: frozen ones, and covered or unexposed ones.

A camera's noise makes two pictures differ even where nothing moves. So the same bytes again and
again, under new stamps, come from a driver that repeats its buffer. Only a few rows are looked at:
some kilobytes of a picture of megabytes.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from mm_fusion.samples import NS_PER_S, U8, CameraFrame

ROWS = 16
ROW_BYTES = 512
COMPRESSED_BYTES = 8192
FROZEN_PICTURES = 5  # as many alike, and
FROZEN_NS = NS_PER_S // 2  # over this much of the stamps' time
BLANK_RANGE = 8  # brightest and darkest byte of a picture that shows nothing
BLANK_PICTURES = 5
BLACK = 2  # a byte of a sensor that no light reaches, its noise and all; by night it is more
FEW = 128  # one of so many bytes is looked at first
COMPRESSED = ("jpeg", "png")


class PictureWatch:
    """Follows the pictures of one camera."""

    def __init__(self) -> None:
        self._print = 0
        self._alike = 0
        self._since_ns = self._last_ns = 0
        self._blanks = 0
        self.frozen = 0  # pictures that repeated the one before
        self.blank = 0  # pictures that show nothing

    def add(self, frame: CameraFrame) -> None:
        """One picture. A stamp seen before is no new picture."""
        if frame.stamp_ns == self._last_ns:
            return
        sample = _sample(frame)
        mark = zlib.crc32(sample.data)
        if mark == self._print and frame.stamp_ns > self._last_ns:
            self._alike += 1
            self.frozen += 1
        else:
            self._print, self._alike, self._since_ns = mark, 1, frame.stamp_ns
        self._last_ns = frame.stamp_ns
        if frame.encoding not in COMPRESSED and _shows_nothing(sample):
            self._blanks += 1
            self.blank += 1
        else:
            self._blanks = 0

    def complaint(self) -> str:
        """What is wrong with the camera's pictures now, "" where nothing is."""
        if self._blanks >= BLANK_PICTURES:
            return "its pictures are blank: covered, or not exposed"
        lasting_ns = self._last_ns - self._since_ns
        if self._alike >= FROZEN_PICTURES and lasting_ns >= FROZEN_NS:
            return f"its picture has stood still for {lasting_ns / NS_PER_S:.1f} s under new stamps"
        return ""


class Look(NamedTuple):
    """What a sample of a picture tells."""

    mark: int  # differs where pictures do
    black: bool  # all over; what is compressed does not tell


def look_at(frame: CameraFrame) -> Look:
    """A sample of a picture, taken once for both."""
    sample = _sample(frame)
    return Look(zlib.crc32(sample.data), frame.encoding not in COMPRESSED and _is_black(sample))


def _is_black(sample: U8) -> bool:
    return max(sample.reshape(-1)[::FEW].tobytes()) <= BLACK and int(sample.max()) <= BLACK


def _shows_nothing(sample: U8) -> bool:
    few = sample.reshape(-1)[::FEW].tobytes()  # of nearly every picture enough to tell
    if max(few) - min(few) > BLANK_RANGE:
        return False
    return int(np.ptp(sample)) <= BLANK_RANGE


def _sample(frame: CameraFrame) -> U8:
    """Some bytes of a picture from all over it, contiguous uint8."""
    data = frame.data
    if data.ndim == 1:  # the middle of a compressed one; its length tells pictures apart as well
        first = max(0, (len(data) - COMPRESSED_BYTES) // 2)
        length = np.frombuffer(len(data).to_bytes(8, "little"), np.uint8)
        return np.concatenate([data[first : first + COMPRESSED_BYTES], length])
    step = max(1, data.shape[0] // ROWS)
    rows = data[step // 2 :: step]
    first = max(0, (frame_bytes(frame) - ROW_BYTES) // 2)
    return np.ascontiguousarray(rows[:, first : first + ROW_BYTES])


def frame_bytes(frame: CameraFrame) -> int:
    """Bytes of a row that hold pixels; the rest is padding."""
    pixel = frame.data.shape[1] // max(frame.width, 1)
    return min(frame.data.shape[1], pixel * frame.width)
