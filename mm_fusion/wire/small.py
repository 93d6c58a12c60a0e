"""The small messages: poses, velocities, fixes, calibration.

Every message has one reading from bytes and one from a message object (rclpy's, or anything with
the same attributes); both end in the same builder, and so in the same sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mm_fusion.errors import CalibrationError
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import (
    F64,
    CovarianceType,
    GnssFix,
    ImuSample,
    PoseEstimate,
    Reason,
    WheelOdometry,
)
from mm_fusion.wire.cdr import CdrReader, Header, WireError, malformed, stamp_to_ns

Numbers = Sequence[float]

# sensor_msgs/Imu: this as the first element of a covariance says that there is no such datum.
NOT_MEASURED = -1.0


def message_header(header: Any, allow_zero_stamp: bool = False) -> Header:
    """std_msgs/Header from a message object, with the rules of CdrReader.header."""
    stamp_ns = stamp_to_ns(int(header.stamp.sec), int(header.stamp.nanosec))
    if stamp_ns == 0 and not allow_zero_stamp:
        raise WireError(Reason.ZERO_STAMP, "header.stamp is zero")
    return Header(stamp_ns, header.frame_id.lstrip("/"))


def finite(name: str, values: Numbers) -> F64:
    """float64 [n]. WireError with NON_FINITE, naming the member."""
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise WireError(Reason.NON_FINITE, f"{name} must be finite, got {array.tolist()}")
    return array


def covariance(name: str, values: Numbers) -> F64:
    """A square float64 matrix. WireError with BAD_COVARIANCE where it is not finite."""
    matrix = np.array(values, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise WireError(Reason.BAD_COVARIANCE, f"{name} must be finite")
    size = math.isqrt(len(matrix))
    return matrix.reshape(size, size)


def xyz(vector: Any) -> tuple[float, float, float]:
    """geometry_msgs/Vector3 or Point of a message object."""
    return vector.x, vector.y, vector.z


def xyzw(quaternion: Any) -> tuple[float, float, float, float]:
    """geometry_msgs/Quaternion of a message object."""
    return quaternion.x, quaternion.y, quaternion.z, quaternion.w


# ------------------------------------------------------------------------------- NavSatFix


def read_nav_sat_fix(reader: CdrReader, sensor: str) -> GnssFix:
    """A sensor_msgs/msg/NavSatFix."""
    header = reader.header()
    status = reader.unpack("b", 1)[0]
    reader.unpack("H", 2)  # which satellite systems served
    position, matrix = reader.doubles(3), reader.doubles(9)
    return nav_sat_fix(sensor, header, status, position, matrix, reader.unpack("B", 1)[0])


def nav_sat_fix_from_message(msg: Any, sensor: str) -> GnssFix:
    """A NavSatFix object."""
    position = (msg.latitude, msg.longitude, msg.altitude)
    matrix, kind = msg.position_covariance, msg.position_covariance_type
    return nav_sat_fix(
        sensor, message_header(msg.header), msg.status.status, position, matrix, kind
    )


def nav_sat_fix(
    sensor: str, header: Header, status: int, position: Numbers, matrix: Numbers, kind: int
) -> GnssFix:
    """A fix from latitude, longitude (deg), altitude (m) and the covariance's nine numbers."""
    if status < 0 and not all(map(math.isfinite, position)):
        # Receivers without a fix publish NaN; that is no defect of the message.
        raise WireError(Reason.NO_FIX, f"status {status}, no position")
    latitude, longitude, altitude = finite("latitude, longitude, altitude", position).tolist()
    if not 0 <= kind <= 3:
        raise malformed(f"position_covariance_type must be 0 .. 3, got {kind}")
    unknown = kind == CovarianceType.UNKNOWN
    return GnssFix(
        sensor,
        header.stamp_ns,
        header.frame_id,
        latitude,
        longitude,
        altitude,
        np.zeros((3, 3)) if unknown else covariance("position_covariance", matrix),
        CovarianceType(kind),
        int(status),
    )


# ------------------------------------------------------------------------------------- Imu


def read_imu(reader: CdrReader, sensor: str) -> ImuSample:
    """A sensor_msgs/msg/Imu."""
    header = reader.header()
    v = reader.doubles(37)
    return imu(sensor, header, v[0:4], v[4], v[13:16], v[16:25], v[25:28], v[28:37])


def imu_from_message(msg: Any, sensor: str) -> ImuSample:
    """An Imu object."""
    return imu(
        sensor,
        message_header(msg.header),
        xyzw(msg.orientation),
        msg.orientation_covariance[0],
        xyz(msg.angular_velocity),
        msg.angular_velocity_covariance,
        xyz(msg.linear_acceleration),
        msg.linear_acceleration_covariance,
    )


def imu(
    sensor: str,
    header: Header,
    orientation: Numbers,
    orientation_variance: float,
    angular: Numbers,
    angular_covariance: Numbers,
    linear: Numbers,
    linear_covariance: Numbers,
) -> ImuSample:
    """An inertial sample. An orientation that is no unit quaternion counts as none given."""
    for name, variance in (
        ("angular_velocity", angular_covariance[0]),
        ("linear_acceleration", linear_covariance[0]),
    ):
        if variance == NOT_MEASURED:
            raise WireError(Reason.MISSING_FIELD, f"{name} is not measured (covariance -1)")
    norm = math.hypot(*orientation)
    given = orientation_variance != NOT_MEASURED and abs(norm - 1.0) < 1e-2
    return ImuSample(
        sensor,
        header.stamp_ns,
        header.frame_id,
        finite("angular_velocity", angular),
        finite("linear_acceleration", linear),
        np.array(orientation, dtype=np.float64) if given else None,
        covariance("angular_velocity_covariance", angular_covariance),
        covariance("linear_acceleration_covariance", linear_covariance),
    )


# --------------------------------------------------------------------- velocities and poses


def read_odometry(reader: CdrReader, sensor: str) -> WheelOdometry:
    """The twist of a nav_msgs/msg/Odometry."""
    header = reader.header()
    child = reader.string().lstrip("/")
    v = reader.doubles(85)
    return wheel_odometry(sensor, Header(header.stamp_ns, child), v[43:49], v[49:85])


def odometry_from_message(msg: Any, sensor: str) -> WheelOdometry:
    """The twist of an Odometry object."""
    stamp_ns = message_header(msg.header).stamp_ns
    frame = Header(stamp_ns, msg.child_frame_id.lstrip("/"))
    return wheel_odometry(sensor, frame, _six(msg.twist.twist), msg.twist.covariance)


def read_twist(reader: CdrReader, sensor: str) -> WheelOdometry:
    """A geometry_msgs/msg/TwistStamped."""
    header = reader.header()
    return wheel_odometry(sensor, header, reader.doubles(6), np.zeros(36))


def twist_from_message(msg: Any, sensor: str) -> WheelOdometry:
    """A TwistStamped object."""
    return wheel_odometry(sensor, message_header(msg.header), _six(msg.twist), np.zeros(36))


def read_twist_with_covariance(reader: CdrReader, sensor: str) -> WheelOdometry:
    """A geometry_msgs/msg/TwistWithCovarianceStamped."""
    header = reader.header()
    return wheel_odometry(sensor, header, reader.doubles(6), reader.doubles(36))


def twist_with_covariance_from_message(msg: Any, sensor: str) -> WheelOdometry:
    """A TwistWithCovarianceStamped object."""
    header = message_header(msg.header)
    return wheel_odometry(sensor, header, _six(msg.twist.twist), msg.twist.covariance)


def _six(twist: Any) -> tuple[float, ...]:
    return (*xyz(twist.linear), *xyz(twist.angular))


def wheel_odometry(
    sensor: str, header: Header, twist: Numbers, matrix: Sequence[float] | F64
) -> WheelOdometry:
    """Body velocity from linear and angular velocity (six numbers) in ``header.frame_id``."""
    values = finite("twist", twist)
    return WheelOdometry(
        sensor,
        header.stamp_ns,
        header.frame_id,
        values[:3],
        values[3:],
        covariance("twist.covariance", matrix),  # type: ignore[arg-type]
    )


def read_pose(reader: CdrReader) -> PoseEstimate:
    """The whole of a nav_msgs/msg/Odometry."""
    header = reader.header()
    child = reader.string().lstrip("/")
    numbers = reader.float64s(85)
    # A sum is finite where all are; where it is not, it is looked at which, and what that means.
    v = numbers.tolist()
    if not math.isfinite(sum(v)):
        return pose(header, child, v[0:3], v[3:7], v[7:43], v[43:49], v[49:85])
    # Poses come 50 times a second to who only wants the motion: one array serves for all.
    return PoseEstimate(
        stamp_ns=header.stamp_ns,
        frame_id=header.frame_id,
        child_frame_id=child,
        frame_from_base=_rigid(numbers[0:3], v[3:7]),
        linear=numbers[43:46],
        angular=numbers[46:49],
        pose_covariance=numbers[7:43].reshape(6, 6),
        twist_covariance=numbers[49:85].reshape(6, 6),
    )


def pose_from_message(msg: Any) -> PoseEstimate:
    """The whole of an Odometry object."""
    return pose(
        message_header(msg.header),
        msg.child_frame_id.lstrip("/"),
        xyz(msg.pose.pose.position),
        xyzw(msg.pose.pose.orientation),
        msg.pose.covariance,
        _six(msg.twist.twist),
        msg.twist.covariance,
    )


def pose(
    header: Header,
    child: str,
    position: Numbers,
    orientation: Numbers,
    pose_covariance: Numbers,
    twist: Numbers,
    twist_covariance: Numbers,
) -> PoseEstimate:
    """A pose with its velocity."""
    velocity = finite("twist", twist)
    return PoseEstimate(
        stamp_ns=header.stamp_ns,
        frame_id=header.frame_id,
        child_frame_id=child,
        frame_from_base=transform(position, orientation),
        linear=velocity[:3],
        angular=velocity[3:],
        pose_covariance=covariance("pose.covariance", pose_covariance),
        twist_covariance=covariance("twist.covariance", twist_covariance),
    )


def transform(translation: Iterable[float], orientation: Iterable[float]) -> RigidTransform:
    """A rigid transform from a translation and a quaternion x y z w."""
    return _rigid(finite("translation", list(translation)), finite("rotation", list(orientation)))


def _rigid(translation: F64, orientation: Numbers | F64) -> RigidTransform:
    """The same from finite numbers."""
    norm = math.hypot(*orientation)  # which, unlike a sum of squares, does not overflow
    if abs(norm - 1.0) > 1e-2:
        raise malformed(f"rotation must be a unit quaternion, its norm is {norm:.4g}")
    try:
        return RigidTransform.from_quaternion(translation, orientation)
    except CalibrationError as error:
        raise malformed(str(error)) from error
