"""rclpy's own serializer and message objects, the ones that robots use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import wire_messages as w
from test_small_messages import same

from mm_fusion import wire
from mm_fusion.samples import CameraFrame, Rejection
from mm_fusion.wire.encode import (
    encode_image,
    encode_pointcloud2,
)

pytest.importorskip("rclpy", reason="rclpy is not installed")

from geometry_msgs.msg import TransformStamped, TwistStamped, TwistWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import (
    CameraInfo,
    CompressedImage,
    Image,
    Imu,
    NavSatFix,
    PointCloud2,
    PointField,
)

CLASSES = {
    w.IMAGE: Image,
    w.COMPRESSED: CompressedImage,
    w.CLOUD: PointCloud2,
    w.FIX: NavSatFix,
    w.IMU: Imu,
    w.ODOMETRY: Odometry,
    w.TWIST: TwistStamped,
    w.TWIST_COVARIANCE: TwistWithCovarianceStamped,
    w.INFO: CameraInfo,
}
POINTS = np.zeros(9, np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("t", "u4")]))
POINTS["x"], POINTS["t"] = np.arange(9), np.arange(9) * 10_000_000
MESSAGES = [
    w.image(),
    w.compressed(),
    w.cloud(POINTS),
    w.nav_sat_fix(),
    w.imu(),
    w.odometry(),
    w.twist_stamped(),
    w.twist_with_covariance(),
    w.camera_info(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.__msgtype__)
def test_bytes_and_objects_of_rclpy_give_the_same_sample(message: Any) -> None:
    kind = message.__msgtype__
    wanted = wire.decode(kind, w.cdr(message), "s")
    assert not isinstance(wanted, Rejection)
    # GIVEN the same message as an object of rclpy, serialized by rclpy
    native = deserialize_message(w.cdr(message), CLASSES[kind])
    # THEN both roads end in the same sample
    assert same(wanted, wire.decode(kind, serialize_message(native), "s"))
    assert same(wanted, wire.from_message(native, "s"))
    if kind == w.ODOMETRY:
        assert same(wire.decode_pose(w.cdr(message), "s"), wire.pose_from_message(native, "s"))


def test_payloads_of_rclpy_messages_are_viewed() -> None:
    native = deserialize_message(w.cdr(w.image()), Image)
    frame = wire.from_message(native, "s")
    assert isinstance(frame, CameraFrame)
    assert np.shares_memory(frame.data, np.frombuffer(native.data, np.uint8))
    raw = serialize_message(native)
    seen = wire.decode(w.IMAGE, raw, "s")
    assert isinstance(seen, CameraFrame)
    assert np.shares_memory(seen.data, np.frombuffer(raw, np.uint8))


def test_a_transform_of_rclpy() -> None:
    native = TransformStamped()
    native.header.frame_id, native.child_frame_id = "base_link", "lidar"
    native.transform.translation.x = 1.5
    holder = type("TFMessage", (), {"transforms": [native]})()
    found = wire.from_message(holder, "tf")
    assert isinstance(found, wire.FrameTransforms)
    assert found.transforms[0].parent_from_child.translation.tolist() == [1.5, 0.0, 0.0]


def test_rclpy_reads_what_we_write() -> None:
    cloud = deserialize_message(encode_pointcloud2(POINTS, w.STAMP_NS, "lidar"), PointCloud2)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (1, 9, 16, 144)
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        ("x", 0, PointField.FLOAT32, 1),
        ("y", 4, PointField.FLOAT32, 1),
        ("z", 8, PointField.FLOAT32, 1),
        ("t", 12, PointField.UINT32, 1),
    ]
    assert cloud.data.tobytes() == POINTS.tobytes()
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    image = deserialize_message(encode_image(pixels, "rgb8", w.STAMP_NS, "camera"), Image)
    assert (image.height, image.width, image.step, image.encoding) == (4, 5, 15, "rgb8")
    assert image.data.tobytes() == pixels.tobytes()
    for message, frame_id in ((cloud, "lidar"), (image, "camera")):
        assert message.header.frame_id == frame_id
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == w.STAMP_NS


def test_an_rclpy_message_nobody_filled_has_a_zero_stamp() -> None:
    for cls in (Image, PointCloud2, Imu, NavSatFix, Odometry):
        answer = wire.from_message(cls(), "s")
        assert isinstance(answer, Rejection)
        assert answer.reason.value == "zero_stamp"
