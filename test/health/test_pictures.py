"""Cameras that send pictures and see nothing."""

from __future__ import annotations

import numpy as np
import pytest
from perception import scenes

from mm_fusion.health.pictures import PictureWatch

MS = 10**6
SIZE = (96, 192, 3)


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, SIZE, np.uint8) for _ in range(count)]


def frames(images, period_ms=100, padding=0):
    return [
        scenes.frame(image, stamp_ns=scenes.T0 + k * period_ms * MS, padding=padding)
        for k, image in enumerate(images)
    ]


def watch(found):
    out = PictureWatch()
    for frame in found:
        out.add(frame)
    return out


def test_pictures_with_noise_are_nobodys_complaint():
    out = watch(frames(pictures(20)))
    assert (out.complaint(), out.frozen, out.blank) == ("", 0, 0)


@pytest.mark.parametrize("padding", [0, 64])
def test_the_same_picture_again_and_again(padding):
    out = watch(frames(pictures(1) * 10, padding=padding))
    assert out.complaint() == "its picture has stood still for 0.9 s under new stamps"
    assert out.frozen == 9


def test_a_change_anywhere_in_a_row_that_is_looked_at_counts():
    """Noise is everywhere, so that a part of the picture tells it."""
    still = pictures(1)[0]
    moving = []
    for k in range(10):
        image = still.copy()
        image[:, 96] = k
        moving.append(image)
    assert watch(frames(moving)).complaint() == ""


def test_fast_cameras_need_half_a_second():
    assert watch(frames(pictures(1) * 10, period_ms=10)).complaint() == ""
    assert "stood still" in watch(frames(pictures(1) * 60, period_ms=10)).complaint()


def test_it_moves_again():
    out = watch([*frames([*pictures(1) * 10, *pictures(2, seed=1)])])
    assert out.complaint() == ""
    assert out.frozen == 9


def test_one_message_twice_is_no_still_picture():
    frame = frames(pictures(1))[0]
    out = watch([frame] * 20)
    assert (out.complaint(), out.frozen) == ("", 0)


def test_blank_pictures_with_noise_of_their_own():
    rng = np.random.default_rng(0)
    dark = [rng.integers(0, 4, SIZE, np.uint8) for _ in range(6)]
    assert watch(frames(dark[:4])).complaint() == ""
    out = watch(frames(dark))
    assert "blank" in out.complaint()
    assert out.blank == 6


def test_compressed_pictures_are_told_by_their_bytes():
    rng = np.random.default_rng(0)
    data = [rng.integers(0, 255, 50_000, np.uint8) for _ in range(8)]
    times = [scenes.T0 + k * 100 * MS for k in range(8)]
    moving = [scenes.compressed(d, stamp_ns=t) for d, t in zip(data, times, strict=True)]
    still = [scenes.compressed(data[0], stamp_ns=t) for t in times]
    assert watch(moving).complaint() == ""
    assert "stood still" in watch(still).complaint()
