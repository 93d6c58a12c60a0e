"""Bytes that were tampered with: always a sample or a Rejection, never anything else."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
import wire_messages as w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_fusion import wire
from mm_fusion.samples import (
    CameraFrame,
    CameraModel,
    GnssFix,
    ImuSample,
    LidarSweep,
    PoseEstimate,
    Rejection,
    WheelOdometry,
)

POINTS = np.zeros(
    64, np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("i", "u1"), ("timestamp", "f8")])
)
SEEDS: dict[str, tuple[Any, type]] = {
    w.IMAGE: (w.image(), CameraFrame),
    w.COMPRESSED: (w.compressed("rgb8; jpeg compressed bgr8"), CameraFrame),
    w.CLOUD: (w.cloud(POINTS.reshape(4, 16)), LidarSweep),
    w.FIX: (w.nav_sat_fix(), GnssFix),
    w.IMU: (w.imu(), ImuSample),
    w.ODOMETRY: (w.odometry(), WheelOdometry),
    w.TWIST: (w.twist_stamped(), WheelOdometry),
    w.TWIST_COVARIANCE: (w.twist_with_covariance(), WheelOdometry),
    w.INFO: (w.camera_info(), CameraModel),
    w.TF: (w.tf(("a", "b", (1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0))), wire.FrameTransforms),
}
EXTREMES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 127, 128, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def check(type_name: str, raw: bytes) -> bool:
    """Whether it was a sample; anything but a sample or a Rejection fails the test."""
    answer = wire.decode(type_name, raw, "sensor")
    if type_name == w.ODOMETRY:
        assert isinstance(wire.decode_pose(raw, "sensor"), PoseEstimate | Rejection)
    if isinstance(answer, Rejection):
        assert answer.detail
        return False
    assert isinstance(answer, SEEDS[type_name][1])
    if isinstance(answer, LidarSweep):  # what a sample promises must hold: touch all of it
        assert np.isfinite(answer.intensity_scale)
        for name in ("x", "y", "z", answer.intensity_field, answer.time_field):
            assert len(answer.points[name or "x"].tobytes()) > 0
    elif isinstance(answer, CameraFrame):
        assert answer.data.nbytes <= len(raw)
        assert len(answer.data.tobytes()) == answer.data.nbytes
    return True


mutation = st.one_of(
    st.tuples(st.just("bit"), st.integers(0, 1 << 16), st.integers(0, 7)),
    st.tuples(st.just("word"), st.integers(0, 1 << 14), st.sampled_from(EXTREMES)),
    st.tuples(st.just("cut"), st.integers(0, 1 << 16), st.just(0)),
    st.tuples(st.just("double"), st.integers(0, 1 << 12), st.just(0)),
)


def mutate(raw: bytes, steps: list[tuple[str, int, int]]) -> bytes:
    data = bytearray(raw)
    for kind, where, value in steps:
        if not data:
            break
        if kind == "bit":
            data[where % len(data)] ^= 1 << value
        elif kind == "word":
            at = (where * 4) % len(data)
            data[at : at + 4] = value.to_bytes(4, "little")[: len(data) - at]
        elif kind == "double":
            at = (where * 8 + 4) % len(data)
            data[at : at + 8] = np.array([np.nan]).tobytes()[: len(data) - at]
        else:
            del data[where % len(data) :]
    return bytes(data)


@pytest.mark.parametrize("type_name", SEEDS)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(steps=st.lists(mutation, min_size=1, max_size=4), little_endian=st.booleans())
def test_a_mutated_message_is_a_sample_or_a_rejection(
    type_name: str, steps: list[tuple[str, int, int]], little_endian: bool
) -> None:
    check(type_name, mutate(w.cdr(SEEDS[type_name][0], little_endian), steps))


@pytest.mark.parametrize("type_name", SEEDS)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(raw=st.binary(max_size=400))
def test_noise_is_a_sample_or_a_rejection(type_name: str, raw: bytes) -> None:
    check(type_name, b"\x00\x01\x00\x00" + raw)


@pytest.mark.parametrize("type_name", SEEDS)
def test_every_word_takes_every_extreme(type_name: str) -> None:
    # GIVEN each 32-bit word near the start, where the counts are, replaced by each extreme
    raw = w.cdr(SEEDS[type_name][0])
    words = min(len(raw) // 4, 60)
    wrong = [mutate(raw, [("word", at, value)]) for at in range(words) for value in EXTREMES]
    largest, slowest = 0, 0.0
    check(type_name, raw)
    for data in wrong:
        tracemalloc.start()
        start = time.perf_counter()
        answer = wire.decode(type_name, data, "sensor")
        slowest = max(slowest, time.perf_counter() - start)
        largest = max(largest, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert answer is not None
        check(type_name, data)
    # THEN nothing large is allocated and nothing hangs
    assert largest < 2 * len(raw) + 50_000
    assert slowest < 1.0
    # AND the message as it was is a sample
    assert check(type_name, raw)
