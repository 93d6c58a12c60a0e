"""The small messages: from bytes and from objects the same sample, with hand-written values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import wire_messages as w

from mm_fusion import wire
from mm_fusion.errors import ConfigError
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import (
    CameraModel,
    CovarianceType,
    GnssFix,
    ImuSample,
    PoseEstimate,
    Reason,
    Rejection,
    WheelOdometry,
)

NAN = float("nan")


def same(a: Any, b: Any) -> bool:
    """Whether two samples are equal to the last bit."""
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and np.array_equal(a, b))
    if dataclasses.is_dataclass(a):
        fields = [f.name for f in dataclasses.fields(a)]
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in fields)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def both_ways(message: Any, sensor: str = "s") -> Any:
    """The sample, after checking that bytes of either order and the object give the same one."""
    wanted = wire.decode(message.__msgtype__, w.cdr(message), sensor)
    assert same(wanted, wire.decode(message.__msgtype__, w.cdr(message, False), sensor))
    assert same(wanted, wire.from_message(message, sensor))
    return wanted


def matrix(size: int, start: float = 0.5) -> Any:
    return (start + np.arange(size * size)).reshape(size, size)


def test_nav_sat_fix() -> None:
    fix = both_ways(w.nav_sat_fix(), "gps")
    assert isinstance(fix, GnssFix)
    assert (fix.sensor, fix.stamp_ns, fix.frame_id) == ("gps", w.STAMP_NS, "gps")
    assert (fix.latitude_deg, fix.longitude_deg, fix.altitude_m) == (48.5, 9.25, 300.125)
    assert fix.covariance_type is CovarianceType.DIAGONAL_KNOWN
    assert fix.status == 1
    np.testing.assert_array_equal(fix.covariance, matrix(3))


def test_a_covariance_of_unknown_type_is_not_read() -> None:
    fix = both_ways(w.nav_sat_fix(kind=0, matrix=np.full(9, NAN)))
    assert fix.covariance_type is CovarianceType.UNKNOWN
    np.testing.assert_array_equal(fix.covariance, np.zeros((3, 3)))


def test_no_fix_with_a_position_is_left_to_the_pose_filter() -> None:
    assert both_ways(w.nav_sat_fix(status=-1)).status == -1


def test_imu() -> None:
    sample = both_ways(w.imu())
    assert isinstance(sample, ImuSample)
    assert sample.frame_id == "imu_link"
    assert sample.angular_velocity.tolist() == [0.1, -0.2, 0.3]
    assert sample.linear_acceleration.tolist() == [0.4, 0.5, 9.8]
    assert sample.orientation_xyzw.tolist() == [0.5, -0.5, 0.5, 0.5]
    np.testing.assert_array_equal(sample.angular_velocity_covariance, matrix(3, 10.0))
    np.testing.assert_array_equal(sample.linear_acceleration_covariance, matrix(3, 20.0))


@pytest.mark.parametrize(
    "message",
    [
        w.imu(orientation_variance=-1.0),
        w.imu(orientation=(0.0, 0.0, 0.0, 0.0)),
        w.imu(orientation=(NAN, 0.0, 0.0, 1.0)),
        w.imu(orientation=(1.0, 1.0, 0.0, 0.0)),
    ],
)
def test_an_imu_without_a_usable_orientation_is_still_an_imu(message: Any) -> None:
    assert both_ways(message).orientation_xyzw is None


def test_odometry_is_the_twist_in_its_child_frame() -> None:
    sample = both_ways(w.odometry())
    assert isinstance(sample, WheelOdometry)
    assert (sample.stamp_ns, sample.frame_id) == (w.STAMP_NS, "base_link")
    assert sample.linear.tolist() == [1.5, 0.25, -0.125]
    assert sample.angular.tolist() == [0.1, 0.2, 0.3]
    np.testing.assert_array_equal(sample.covariance, matrix(6, 100.0))


def test_odometry_as_a_pose() -> None:
    message = w.odometry()
    estimate = wire.decode_pose(w.cdr(message), "motion")
    assert isinstance(estimate, PoseEstimate)
    assert same(estimate, wire.pose_from_message(message, "motion"))
    assert (estimate.frame_id, estimate.child_frame_id) == ("odom", "base_link")
    assert estimate.frame_from_base.translation.tolist() == [1.0, 2.0, 3.0]
    # The quaternion (0, 0, 0.6, 0.8) turns by 2 atan2(0.6, 0.8) about z.
    assert estimate.frame_from_base.yaw_rad() == pytest.approx(2 * np.arctan2(0.6, 0.8))
    assert estimate.linear.tolist() == [1.5, 0.25, -0.125]
    np.testing.assert_array_equal(estimate.pose_covariance, matrix(6))
    np.testing.assert_array_equal(estimate.twist_covariance, matrix(6, 100.0))


def test_twists() -> None:
    plain, with_covariance = both_ways(w.twist_stamped()), both_ways(w.twist_with_covariance())
    for sample in (plain, with_covariance):
        assert isinstance(sample, WheelOdometry)
        assert (sample.stamp_ns, sample.frame_id) == (w.STAMP_NS, "base")
        assert sample.linear.tolist() == [1.0, 2.0, 3.0]
        assert sample.angular.tolist() == [4.0, 5.0, 6.0]
    np.testing.assert_array_equal(plain.covariance, np.zeros((6, 6)))
    np.testing.assert_array_equal(with_covariance.covariance, matrix(6))


def test_camera_info() -> None:
    model = both_ways(w.camera_info(stamp_ns=0))
    assert isinstance(model, CameraModel)
    assert (model.frame_id, model.height, model.width) == ("camera_optical", 720, 1280)
    assert model.distortion_model == "plumb_bob"
    assert model.d.tolist() == [-0.3, 0.1, 0.001, -0.002, 0.0]
    assert model.k.tolist() == [[700.0, 0.0, 639.5], [0.0, 710.0, 359.5], [0.0, 0.0, 1.0]]


def test_camera_info_of_a_part_of_the_sensor() -> None:
    # GIVEN a region of 600 x 400 that starts at column 100, row 50
    model = both_ways(w.camera_info(roi=(100, 50, 400, 600)))
    # THEN the principal point moves with it
    assert (model.height, model.width) == (400, 600)
    assert model.k.tolist() == [[700.0, 0.0, 539.5], [0.0, 710.0, 309.5], [0.0, 0.0, 1.0]]


def test_camera_info_of_binned_pixels() -> None:
    # GIVEN 2 x 2 binning of an image of 1280 x 720 whose axis is in its very middle
    model = both_ways(w.camera_info(binning=(2, 2)))
    # THEN it is in the very middle of the image of 640 x 360
    assert (model.height, model.width) == (360, 640)
    assert model.k.tolist() == [[350.0, 0.0, 319.5], [0.0, 355.0, 179.5], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("model", "d"),
    [("plumb_bob", ()), ("equidistant", (0.1,) * 4), ("rational_polynomial", (0.1,) * 8), ("", ())],
)
def test_distortion_models(model: str, d: tuple[float, ...]) -> None:
    assert both_ways(w.camera_info(d=d, model=model)).d.tolist() == list(d)


HALF = 2**-0.5


def test_transforms() -> None:
    message = w.tf(
        ("/base_link", "/lidar", (1.0, 2.0, 3.0), (0.0, 0.0, HALF, HALF)),
        ("base_link", "imu", (0.0, 0.0, 0.5), (0.0, 0.0, 0.0, 1.0)),
    )
    found = both_ways(message)
    assert isinstance(found, wire.FrameTransforms)
    assert [(t.parent, t.child, t.stamp_ns) for t in found.transforms] == [
        ("base_link", "lidar", 0),
        ("base_link", "imu", 0),
    ]
    lidar = found.transforms[0].parent_from_child
    assert isinstance(lidar, RigidTransform)
    # A quarter turn to the left: the LIDAR's x axis is the base's y axis.
    np.testing.assert_allclose(lidar.apply(np.array([1.0, 0.0, 0.0])), [1.0, 3.0, 3.0], atol=1e-12)
    assert found.rejections == ()


def test_one_bad_transform_does_not_spoil_the_others() -> None:
    found = both_ways(
        w.tf(
            ("base_link", "lidar", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
            ("base_link", "camera", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
            ("base_link", "base_link", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
            ("", "imu", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
            ("base_link", "gps", (NAN, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
        )
    )
    assert [t.child for t in found.transforms] == ["camera"]
    assert [r.reason for r in found.rejections] == [Reason.MALFORMED] * 3 + [Reason.NON_FINITE]
    assert "'base_link' -> 'lidar'" in found.rejections[0].detail


BAD = np.array([NAN] + [0.0] * 8)
LEFT_OUT = np.array([-1.0] + [0.0] * 8)


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (w.nav_sat_fix(stamp_ns=0), Reason.ZERO_STAMP, "stamp"),
        (w.nav_sat_fix(latitude=NAN), Reason.NON_FINITE, "latitude"),
        (w.nav_sat_fix(latitude=NAN, status=-1), Reason.NO_FIX, "-1"),
        (w.nav_sat_fix(matrix=BAD), Reason.BAD_COVARIANCE, "position_covariance"),
        (w.nav_sat_fix(kind=4), Reason.MALFORMED, "type"),
        (w.imu(stamp_ns=0), Reason.ZERO_STAMP, "stamp"),
        (w.imu(angular=(0.0, NAN, 0.0)), Reason.NON_FINITE, "angular_velocity"),
        (w.imu(linear=(0.0, float("inf"), 0.0)), Reason.NON_FINITE, "linear_acceleration"),
        (w.imu(angular_covariance=BAD), Reason.BAD_COVARIANCE, "angular"),
        (w.imu(linear_covariance=BAD), Reason.BAD_COVARIANCE, "linear"),
        (w.imu(angular_covariance=LEFT_OUT), Reason.MISSING_FIELD, "angular_velocity"),
        (w.imu(linear_covariance=LEFT_OUT), Reason.MISSING_FIELD, "linear_acceleration"),
        (w.odometry(stamp_ns=0), Reason.ZERO_STAMP, "stamp"),
        (w.odometry(linear=(NAN, 0.0, 0.0)), Reason.NON_FINITE, "twist"),
        (w.odometry(matrix=np.full(36, NAN)), Reason.BAD_COVARIANCE, "twist"),
        (w.twist_stamped(stamp_ns=0), Reason.ZERO_STAMP, "stamp"),
        (w.twist_stamped(linear=(NAN, 0.0, 0.0)), Reason.NON_FINITE, "twist"),
        (w.twist_with_covariance(stamp_ns=0), Reason.ZERO_STAMP, "stamp"),
        (w.camera_info(k=(0.0,) * 9), Reason.NO_INTRINSICS, "focal"),
        (w.camera_info(k=(NAN,) * 9), Reason.NON_FINITE, "k"),
        (w.camera_info(d=(NAN,) * 5), Reason.NON_FINITE, "d"),
        (w.camera_info(model="kannala"), Reason.NO_INTRINSICS, "kannala"),
        (w.camera_info(d=(0.1,) * 7), Reason.NO_INTRINSICS, "7"),
        (w.camera_info(size=(0, 0)), Reason.MALFORMED, "0 x 0"),
    ],
)
def test_a_bad_message_is_answered_with_its_reason(
    message: Any, reason: Reason, words: str
) -> None:
    answer = both_ways(message)
    assert isinstance(answer, Rejection)
    assert answer.reason is reason
    assert words in answer.detail


def test_a_pose_without_a_rotation_is_malformed() -> None:
    message = w.odometry(orientation=(0.0, 0.0, 0.0, 0.0))
    for answer in (wire.decode_pose(w.cdr(message), "m"), wire.pose_from_message(message, "m")):
        assert isinstance(answer, Rejection)
        assert (answer.reason, answer.stamp_ns) == (Reason.MALFORMED, w.STAMP_NS)
    # The twist of the same message is good.
    assert isinstance(both_ways(message), WheelOdometry)


@pytest.mark.parametrize(
    "message",
    [
        w.nav_sat_fix(),
        w.imu(),
        w.odometry(),
        w.twist_stamped(),
        w.twist_with_covariance(),
        w.camera_info(),
        w.tf(("a", "b", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))),
    ],
)
def test_every_truncation_is_malformed(message: Any) -> None:
    raw = w.cdr(message)
    for length in range(len(raw)):
        answer = wire.decode(message.__msgtype__, raw[:length], "s")
        assert isinstance(answer, Rejection)
        assert answer.reason is Reason.MALFORMED


def test_a_type_that_is_not_known_is_the_callers_mistake() -> None:
    with pytest.raises(ConfigError, match="std_msgs/msg/String"):
        wire.decode("std_msgs/msg/String", b"", "topic")
    with pytest.raises(ConfigError, match="'dict'"):
        wire.from_message({}, "topic")
