"""Real recordings: every message of every type we read, against the rosbags library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from mm_fusion import wire
from mm_fusion.samples import CameraFrame, CameraModel, GnssFix, ImuSample, LidarSweep

DATA = os.environ.get("MM_FUSION_DATA", "")
needs_data = pytest.mark.skipif(not DATA, reason="MM_FUSION_DATA names no folder of real bags")


def messages(bag: str, topic: str) -> list[tuple[Any, bytes, str]]:
    """Message object, serialized bytes and type of everything on a topic."""
    with AnyReader([Path(DATA) / bag]) as reader:
        found = []
        for connection, _, raw in reader.messages():
            if connection.topic == topic:
                message = reader.deserialize(raw, connection.msgtype)
                found.append((message, bytes(raw), connection.msgtype))
        return found


def stamp(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


@needs_data
def test_kitti_images() -> None:
    found = messages("kitti_five_frames", "/camera/image_raw")
    assert len(found) == 5
    for message, raw, kind in found:
        frame = wire.decode(kind, raw, "front")
        assert isinstance(frame, CameraFrame)
        assert (frame.height, frame.width, frame.encoding) == (375, 1242, "bgr8")
        assert frame.stamp_ns == stamp(message)
        np.testing.assert_array_equal(frame.data.reshape(-1), message.data)


@needs_data
def test_kitti_clouds() -> None:
    found = messages("kitti_five_frames", "/velodyne_points")
    assert len(found) == 5
    for message, raw, kind in found:
        sweep = wire.decode(kind, raw, "lidar")
        assert isinstance(sweep, LidarSweep)
        wanted = message.data.view("<f4").reshape(-1, 4)
        for column, name in enumerate(("x", "y", "z", "intensity")):
            np.testing.assert_array_equal(sweep.points[name], wanted[:, column])
        assert (sweep.intensity_scale, sweep.time_field) == (1.0, "")
        assert np.shares_memory(sweep.points, np.frombuffer(raw, np.uint8))


@needs_data
def test_kitti_calibration() -> None:
    message, raw, kind = messages("kitti_five_frames", "/camera/camera_info")[0]
    model = wire.decode(kind, raw, "front")
    assert isinstance(model, CameraModel)
    np.testing.assert_array_equal(model.k.reshape(-1), message.k)
    [(_, raw, kind)] = messages("kitti_five_frames", "/tf_static")
    found = wire.decode(kind, raw, "tf")
    assert isinstance(found, wire.FrameTransforms)
    [link] = found.transforms
    assert (link.parent, link.child) == ("velodyne", "camera_2")
    # KITTI's camera looks along the LIDAR's x axis.
    assert link.parent_from_child.rotation[:, 2] @ [1.0, 0.0, 0.0] > 0.99


@needs_data
def test_husky_imu() -> None:
    found = messages("husky_test1", "/imu/data")
    assert len(found) == 11865
    for message, raw, kind in found[::10]:
        sample = wire.decode(kind, raw, "imu")
        assert isinstance(sample, ImuSample)
        assert sample.stamp_ns == stamp(message)
        a, g = message.linear_acceleration, message.angular_velocity
        assert sample.linear_acceleration.tolist() == [a.x, a.y, a.z]
        assert sample.angular_velocity.tolist() == [g.x, g.y, g.z]
        q = message.orientation
        assert sample.orientation_xyzw is not None
        assert sample.orientation_xyzw.tolist() == [q.x, q.y, q.z, q.w]


@needs_data
def test_husky_fixes() -> None:
    found = messages("husky_test1", "/fix")
    assert len(found) == 989
    for message, raw, kind in found:
        fix = wire.decode(kind, raw, "gps")
        assert isinstance(fix, GnssFix)
        assert (fix.latitude_deg, fix.longitude_deg) == (message.latitude, message.longitude)
        np.testing.assert_array_equal(fix.covariance.reshape(-1), message.position_covariance)
        assert fix.frame_id == "gps"


@needs_data
def test_husky_odometry() -> None:
    found = messages("husky_test1", "/husky_velocity_controller/odom")
    assert len(found) == 3952
    for message, raw, kind in found[::10]:
        estimate = wire.decode_pose(raw, "odom")
        assert not isinstance(estimate, wire.Rejection)
        p = message.pose.pose.position
        assert estimate.frame_from_base.translation.tolist() == [p.x, p.y, p.z]
        wheels = wire.decode(kind, raw, "wheels")
        assert wheels.linear[0] == message.twist.twist.linear.x  # type: ignore[union-attr]
        assert wheels.frame_id == "base_link"  # type: ignore[union-attr]
