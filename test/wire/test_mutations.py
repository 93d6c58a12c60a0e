"""Bytes that were tampered with: a typed rejection or a correct parse, never anything else.

``make fuzz`` does the same with 100 000 messages of every type.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import fuzzing
import numpy as np
import pytest
import wire_messages as w
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_fusion import wire
from mm_fusion.samples import Reason, Rejection
from mm_fusion.wire.cdr import MAX_STRING_BYTES

KINDS = tuple(fuzzing.SAMPLES)
COUNT = 1000


@pytest.mark.parametrize("kind", KINDS)
def test_a_tampered_message_is_a_rejection_or_a_correct_parse(kind: str) -> None:
    verdict = fuzzing.run(kind, 0, range(COUNT))
    # Both answers must have come up often, and another library must have read most of the samples.
    assert verdict.messages == COUNT
    assert verdict.samples > COUNT / 20
    assert verdict.judged > 0.8 * verdict.samples
    assert verdict.rejections["malformed"] > COUNT / 20


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(noise=st.binary(max_size=400))
def test_noise_is_a_rejection_or_a_correct_parse(kind: str, noise: bytes) -> None:
    with fuzzing.traced():
        fuzzing.check(kind, b"\x00\x01\x00\x00" + noise, fuzzing.Verdict())


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_takes_every_extreme(kind: str) -> None:
    # GIVEN each 32-bit word near the start, where the counts are, replaced by each extreme
    raw = fuzzing.SEEDS[kind][0]
    fuzzing.decoded(kind, raw)
    verdict = fuzzing.Verdict()
    with fuzzing.traced():
        for at in range(4, min(len(raw) - 4, 240), 4):
            for value in fuzzing.WORDS:
                wrong = raw[:at] + struct.pack("<I", value) + raw[at + 4 :]
                fuzzing.check(kind, wrong, verdict)
    # THEN small messages take little memory, whatever counts they tell
    assert verdict.largest_bytes < 32_000


def test_a_long_name_is_refused_and_not_kept() -> None:
    # GIVEN clouds whose field names are as long as a sweep
    xyz = [("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1)]
    points = np.zeros(4, np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")]))
    for length, taken in (
        (MAX_STRING_BYTES - 1, True),
        (MAX_STRING_BYTES, False),
        (1 << 20, False),
    ):
        message = w.cloud(points, fields=[*xyz, ("n" * length, 0, 7, 1)])
        answer = wire.decode(w.CLOUD, w.cdr(message), "s")
        # THEN only a name of reasonable length is taken; its NUL counts
        assert isinstance(answer, Rejection) is not taken
        if isinstance(answer, Rejection):
            assert answer.reason is Reason.MALFORMED
            assert len(answer.detail) < 200


# ------------------------------------------------------------- the rules notice what breaks them


def test_a_wrong_parse_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = fuzzing.decoded

    def one_nanosecond_late(kind: str, raw: bytes) -> Any:
        answer = honest(kind, raw)
        return dataclasses.replace(answer, stamp_ns=answer.stamp_ns + 1)

    monkeypatch.setattr(fuzzing, "decoded", one_nanosecond_late)
    with fuzzing.traced(), pytest.raises(AssertionError, match="is not"):
        fuzzing.check(w.IMU, fuzzing.SEEDS[w.IMU][0], fuzzing.Verdict())


def test_an_allocation_by_an_announced_count_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = fuzzing.decoded

    def trusting(kind: str, raw: bytes) -> Any:
        np.empty(3 * fuzzing.SMALL_BYTES, np.uint8)
        return honest(kind, raw)

    monkeypatch.setattr(fuzzing, "decoded", trusting)
    with fuzzing.traced(), pytest.raises(AssertionError, match="bytes of memory"):
        fuzzing.check(w.IMAGE, fuzzing.SEEDS[w.IMAGE][0], fuzzing.Verdict())


def test_an_error_that_is_no_rejection_names_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = fuzzing.decoded

    def broken(kind: str, raw: bytes) -> Any:
        if raw not in fuzzing.SEEDS[kind]:
            raise KeyError(kind)
        return honest(kind, raw)

    monkeypatch.setattr(fuzzing, "decoded", broken)
    with pytest.raises(AssertionError, match="seed 5, number 0"):
        fuzzing.run(w.IMU, 5, range(1))
