"""Serialized answers, read back by readers that are not ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mm_fusion.evaluation.bags import typestore
from mm_fusion.samples import Detection, Track
from mm_fusion.wire.answers import encode_boxes, encode_diagnostics

BOXES, STATUS = "vision_msgs/msg/Detection3DArray", "diagnostic_msgs/msg/DiagnosticArray"
STAMP_NS = 1_700_000_000_123_456_789
# Lengths of all remainders by eight: what is aligned behind them must still be found.
WORDS = ["", "a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh"]


def read(raw: bytes, type_name: str) -> Any:
    return typestore().deserialize_cdr(raw, type_name)


def detection(n: int, label: str = "car") -> Detection:
    return Detection(
        label,
        0.5 + n / 1000.0,
        np.array([n + 0.25, -n - 0.5, 0.75]),
        np.array([4.0 + n, 2.0 + n, 1.5 + n]),
        0.1 * n - 1.0,
        np.array([n, -1.0]),
    )


def track(n: int) -> Track:
    d = detection(n)
    covariance = np.arange(16.0).reshape(4, 4) + n
    values = (d.label, d.score, d.center, d.size, d.yaw, d.velocity, covariance, 3, 0.0)
    return Track(10**n, *values)


def check_box(found: Any, want: Detection | Track) -> None:
    """The members of one Detection3D but its covariance."""
    (result,) = found.results
    assert result.hypothesis.class_id == want.label
    assert result.hypothesis.score == want.score
    for pose in (result.pose.pose, found.bbox.center):
        assert [pose.position.x, pose.position.y, pose.position.z] == want.center.tolist()
        turn = pose.orientation
        assert (turn.x, turn.y) == (0.0, 0.0)
        assert 2.0 * math.atan2(turn.z, turn.w) == pytest.approx(want.yaw, abs=1e-12)
    assert [found.bbox.size.x, found.bbox.size.y, found.bbox.size.z] == want.size.tolist()


@pytest.mark.parametrize("frame", WORDS)
@pytest.mark.parametrize("label", WORDS)
def test_boxes_of_any_alignment(frame: str, label: str) -> None:
    """GIVEN names of any length WHEN boxes are encoded THEN another reader finds every number."""
    boxes = [detection(n, label if n % 2 else "pedestrian") for n in range(4)]
    found = read(encode_boxes(boxes, STAMP_NS, frame), BOXES)
    assert len(found.detections) == 4
    for header in (found.header, *(d.header for d in found.detections)):
        assert header.stamp.sec * 10**9 + header.stamp.nanosec == STAMP_NS
        assert header.frame_id == frame
    for got, want in zip(found.detections, boxes, strict=True):
        check_box(got, want)
        assert got.id == ""
        assert got.results[0].pose.covariance.tolist() == [-1.0, *[0.0] * 35]


def test_tracks_have_ids_and_the_covariance_of_their_place() -> None:
    """GIVEN tracks with ids of every length WHEN encoded THEN ids and covariances are theirs."""
    tracks = [track(n) for n in range(9)]
    found = read(encode_boxes(tracks, STAMP_NS, "odom"), BOXES)
    for got, want in zip(found.detections, tracks, strict=True):
        check_box(got, want)
        assert got.id == str(want.track_id)
        covariance = np.diag([0.0, 0.0, 1e3, 1e3, 1e3, 1e3])
        covariance[:2, :2] = want.covariance[:2, :2]
        assert got.results[0].pose.covariance.tolist() == covariance.ravel().tolist()


def test_no_boxes_are_a_message_too() -> None:
    """GIVEN nothing seen WHEN encoded THEN an empty array with its header."""
    found = read(encode_boxes([], STAMP_NS, "base_link"), BOXES)
    assert (found.header.frame_id, len(found.detections)) == ("base_link", 0)


@pytest.mark.parametrize("word", WORDS)
def test_status_of_any_alignment(word: str) -> None:
    """GIVEN texts of any length WHEN a status is encoded THEN another reader finds them all."""
    values = {f"key{word}": word, "größe": f"{word} m²", word: "last"}
    raw = encode_diagnostics(STAMP_NS, word, 2, (f"n{word}", word, f"/{word}"), values)
    found = read(raw, STATUS)
    assert found.header.stamp.nanosec == STAMP_NS % 10**9
    assert found.header.frame_id == word
    (status,) = found.status
    assert (status.level, status.name, status.message) == (2, f"n{word}", word)
    assert status.hardware_id == f"/{word}"
    assert {v.key: v.value for v in status.values} == values


def test_status_without_values() -> None:
    """GIVEN no values WHEN encoded THEN the status is whole."""
    found = read(encode_diagnostics(STAMP_NS, "f", 0, ("n", "m", "h"), {}), STATUS)
    assert (found.status[0].hardware_id, len(found.status[0].values)) == ("h", 0)


def test_lengths_are_those_of_ros() -> None:
    """GIVEN a message of ours WHEN ROS serializes the same THEN it is as long to the byte."""
    pytest.importorskip("rclpy")
    from rclpy.serialization import deserialize_message, serialize_message

    messages = pytest.importorskip("vision_msgs.msg")
    for boxes in ([], [track(0)], [track(n) for n in range(5)], [detection(n) for n in range(5)]):
        raw = encode_boxes(boxes, STAMP_NS, "base_link")  # type: ignore[arg-type]
        whole = deserialize_message(raw, messages.Detection3DArray)
        assert len(serialize_message(whole)) == len(raw)
