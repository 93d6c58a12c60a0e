"""What we write, others read: the rosbags library is the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import wire_messages as w

from mm_fusion.samples import LidarSweep
from mm_fusion.wire import decode
from mm_fusion.wire.encode import (
    encode_image,
    encode_pointcloud2,
    pointcloud2_fields,
)

DTYPE = np.dtype(
    {
        "names": ["x", "y", "z", "intensity", "ring", "time", "normal"],
        "formats": ["<f4", "<f4", "<f4", "u1", "<u2", "<f8", ("<i4", (3,))],
        "offsets": [0, 4, 8, 12, 14, 16, 24],
        "itemsize": 40,
    }
)
TABLE = [
    ("x", 0, 7, 1),
    ("y", 4, 7, 1),
    ("z", 8, 7, 1),
    ("intensity", 12, 2, 1),
    ("ring", 14, 4, 1),
    ("time", 16, 8, 1),
    ("normal", 24, 5, 3),
]


def cloud_points() -> Any:
    points = np.zeros(17, DTYPE)
    for i, name in enumerate(DTYPE.names or ()):
        points[name] = (np.arange(points[name].size) + i).reshape(points[name].shape)
    return points


def test_the_field_table_is_that_of_the_dtype() -> None:
    assert [tuple(spec) for spec in pointcloud2_fields(DTYPE)] == TABLE


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "lidar_top"])
def test_a_serialized_cloud_is_read_by_another_library(frame_id: str) -> None:
    points = cloud_points()
    raw = encode_pointcloud2(points, w.STAMP_NS, frame_id)
    found = w.STORE.deserialize_cdr(raw, w.CLOUD)
    assert (found.header.stamp.sec, found.header.stamp.nanosec) == divmod(w.STAMP_NS, 10**9)
    assert found.header.frame_id == frame_id
    assert (found.height, found.width, found.point_step, found.row_step) == (1, 17, 40, 680)
    assert [(f.name, f.offset, f.datatype, f.count) for f in found.fields] == TABLE
    assert not found.is_bigendian
    assert found.data.tobytes() == points.tobytes()
    assert len(raw) == len(w.cdr(found))


def test_a_serialized_cloud_comes_back_as_it_was() -> None:
    points = cloud_points()
    found = decode(w.CLOUD, encode_pointcloud2(points, w.STAMP_NS, "lidar"), "lidar")
    assert isinstance(found, LidarSweep)
    np.testing.assert_array_equal(found.points, points)


def test_every_second_point_can_be_sent() -> None:
    points = cloud_points()[::2]
    raw = encode_pointcloud2(points, w.STAMP_NS, "l")
    found = w.STORE.deserialize_cdr(raw, w.CLOUD)
    np.testing.assert_array_equal(found.data.view(DTYPE), points)
    # The gaps between the fields are zeros and not whatever lay in memory.
    assert not found.data.reshape(9, 40)[:, [13, 36, 37, 38, 39]].any()


def test_an_empty_cloud_can_be_sent() -> None:
    found = w.STORE.deserialize_cdr(
        encode_pointcloud2(np.zeros(0, DTYPE), w.STAMP_NS, "l"), w.CLOUD
    )
    assert (found.width, len(found.data)) == (0, 0)


@pytest.mark.parametrize(
    ("encoding", "shape"),
    [("rgb8", (5, 7, 3)), ("bgra8", (5, 7, 4)), ("mono8", (5, 7)), ("mono8", (5, 7, 1))],
)
def test_a_serialized_image_is_read_by_another_library(encoding: str, shape: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    raw = encode_image(pixels, encoding, w.STAMP_NS, "camera")
    found = w.STORE.deserialize_cdr(raw, w.IMAGE)
    channels = shape[2] if len(shape) == 3 else 1
    assert (found.height, found.width, found.step) == (5, 7, 7 * channels)
    assert found.encoding == encoding
    assert found.data.tobytes() == pixels.tobytes()
    assert len(raw) == len(w.cdr(found))


@pytest.mark.parametrize("dtype", ["f4", [("x", ">f4")], [("x", "f2")], [("x", "u8")]])
def test_a_dtype_that_a_cloud_cannot_carry_is_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match="points"):
        pointcloud2_fields(np.dtype(dtype))


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (np.zeros((2, 2, 3), np.float32), "rgb8"),
        (np.zeros((2, 2, 4), np.uint8), "rgb8"),
        (np.zeros((2, 2), np.uint8), "rgb8"),
        (np.zeros((2, 2), np.uint8), "mono16"),
    ],
)
def test_pixels_that_do_not_fit_their_encoding_are_refused(pixels: Any, encoding: str) -> None:
    with pytest.raises(ValueError, match=r"encoding|pixels"):
        encode_image(pixels, encoding, w.STAMP_NS, "camera")
