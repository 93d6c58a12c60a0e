"""Image and CompressedImage: views where they are good, a reason where they are not."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import wire_messages as w

from mm_fusion.samples import CameraFrame, Reason, Rejection
from mm_fusion.wire import decode, from_message

ENCODINGS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}


def frame(answer: Any) -> CameraFrame:
    assert isinstance(answer, CameraFrame), answer
    return answer


def rejection(answer: Any) -> Rejection:
    assert isinstance(answer, Rejection), answer
    return answer


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pixels_are_a_view_on_the_message(encoding: str, little_endian: bool) -> None:
    # GIVEN an image whose rows end in three bytes of padding
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7 * ENCODINGS[encoding] + 3), np.uint8)
    message = w.image(5, 7, encoding, pixels.shape[1], pixels.tobytes())
    raw = w.cdr(message, little_endian)
    # WHEN it is decoded
    sample = frame(decode(w.IMAGE, raw, "front"))
    # THEN the rows are the message's own memory
    np.testing.assert_array_equal(sample.data, pixels)
    assert np.shares_memory(sample.data, np.frombuffer(raw, np.uint8))
    assert (sample.height, sample.width, sample.step) == (5, 7, pixels.shape[1])
    assert (sample.encoding, sample.sensor, sample.frame_id) == (encoding, "front", "camera")
    assert sample.stamp_ns == w.STAMP_NS


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, w.octets])
def test_any_buffer_of_bytes_is_read(kind: Any) -> None:
    raw = kind(w.cdr(w.image()))
    sample = frame(decode(w.IMAGE, raw, "front"))
    assert np.shares_memory(sample.data, np.frombuffer(raw, np.uint8))
    assert sample.data[1, 0] == 18


def test_a_message_object_is_viewed_too() -> None:
    message = w.image()
    sample = frame(from_message(message, "front"))
    assert np.shares_memory(sample.data, message.data)
    np.testing.assert_array_equal(sample.data, np.arange(72, dtype=np.uint8).reshape(4, 18))


def test_a_leading_slash_of_the_frame_is_gone() -> None:
    assert frame(decode(w.IMAGE, w.cdr(w.image(frame="/cam")), "front")).frame_id == "cam"


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (w.image(encoding="16UC1"), Reason.UNKNOWN_ENCODING, "16UC1"),
        (w.image(encoding=""), Reason.UNKNOWN_ENCODING, "rgb8"),
        (w.image(step=17), Reason.MALFORMED, "step"),
        (w.image(data=bytes(71)), Reason.MALFORMED, "72"),
        (w.image(height=0), Reason.MALFORMED, "positive"),
        (w.image(width=0), Reason.MALFORMED, "positive"),
        (w.image(height=2**32 - 1, step=2**32 - 1, data=b""), Reason.MALFORMED, "height * step"),
        (w.image(stamp_ns=0), Reason.ZERO_STAMP, "stamp"),
        (w.image(stamp_ns=-1), Reason.MALFORMED, "stamp"),
    ],
)
def test_a_bad_image_is_answered_with_its_reason(message: Any, reason: Reason, words: str) -> None:
    for answer in (decode(w.IMAGE, w.cdr(message), "front"), from_message(message, "front")):
        found = rejection(answer)
        assert found.reason is reason
        assert words in found.detail
        assert found.sensor == "front"


def test_a_rejection_carries_the_stamp() -> None:
    found = rejection(decode(w.IMAGE, w.cdr(w.image(step=17)), "front"))
    assert found.stamp_ns == w.STAMP_NS


@pytest.mark.parametrize("raw", [b"", b"\x00\x01", b"\x00\x03\x00\x00" + bytes(60), b"\x07" * 64])
def test_bytes_that_are_no_cdr_are_malformed(raw: bytes) -> None:
    assert rejection(decode(w.IMAGE, raw, "front")).reason is Reason.MALFORMED


def test_every_truncation_is_malformed() -> None:
    raw = w.cdr(w.image())
    for length in range(len(raw)):
        assert rejection(decode(w.IMAGE, raw[:length], "front")).reason is Reason.MALFORMED


# ------------------------------------------------------------------------------- compressed


@pytest.mark.parametrize(
    ("text", "data", "codec"),
    [
        ("jpeg", w.JPEG, "jpeg"),
        ("jpg", w.JPEG, "jpeg"),
        ("JPEG", w.JPEG, "jpeg"),
        ("png", w.PNG, "png"),
        ("rgb8; jpeg compressed bgr8", w.JPEG, "jpeg"),
        ("bgr8; png compressed bgr8", w.PNG, "png"),
        ("mono8; jpeg compressed ", w.JPEG, "jpeg"),
        ("bayer_rggb8; jpeg compressed bgr8", w.JPEG, "jpeg"),
        ("", w.JPEG, "jpeg"),
        ("", w.PNG, "png"),
    ],
)
@pytest.mark.parametrize("little_endian", [True, False])
def test_the_codec_is_told(text: str, data: bytes, codec: str, little_endian: bool) -> None:
    raw = w.cdr(w.compressed(text, data), little_endian)
    sample = frame(decode(w.COMPRESSED, raw, "front"))
    assert sample.encoding == codec
    assert bytes(sample.data) == data
    assert np.shares_memory(sample.data, np.frombuffer(raw, np.uint8))
    assert (sample.height, sample.width, sample.step) == (0, 0, 0)


@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_what_opencv_wrote_is_recognised_and_decodes(codec: str) -> None:
    pixels = np.full((16, 24, 3), 77, np.uint8)
    data = cv2.imencode(f".{codec}", pixels)[1].tobytes()
    sample = frame(decode(w.COMPRESSED, w.cdr(w.compressed(codec, data)), "front"))
    np.testing.assert_allclose(cv2.imdecode(sample.data, cv2.IMREAD_COLOR), pixels, atol=2)


def test_a_png_of_sixteen_bits_is_no_colour_image() -> None:
    data = cv2.imencode(".png", np.zeros((8, 8), np.uint16))[1].tobytes()
    found = rejection(decode(w.COMPRESSED, w.cdr(w.compressed("png", data)), "front"))
    assert found.reason is Reason.UNKNOWN_ENCODING
    assert "16 bits" in found.detail


@pytest.mark.parametrize(
    ("text", "data", "reason"),
    [
        ("jpeg", w.PNG, Reason.UNDECODABLE_IMAGE),
        ("png", w.JPEG, Reason.UNDECODABLE_IMAGE),
        ("jpeg", b"", Reason.UNDECODABLE_IMAGE),
        ("jpeg", b"\xff\xd8", Reason.UNDECODABLE_IMAGE),
        ("png", w.PNG[:12], Reason.UNDECODABLE_IMAGE),
        ("", b"GIF89a" + bytes(30), Reason.UNDECODABLE_IMAGE),
        ("tiff", b"II*\x00" + bytes(30), Reason.UNKNOWN_ENCODING),
        ("16UC1; compressedDepth png", w.PNG, Reason.UNKNOWN_ENCODING),
        ("h264", w.JPEG, Reason.UNKNOWN_ENCODING),
        (";", w.JPEG, Reason.UNKNOWN_ENCODING),
    ],
)
def test_a_bad_compressed_image_is_answered(text: str, data: bytes, reason: Reason) -> None:
    message = w.compressed(text, data)
    for answer in (decode(w.COMPRESSED, w.cdr(message), "f"), from_message(message, "f")):
        assert rejection(answer).reason is reason
