"""Bytes to samples and back: the only code that knows CDR and the layouts of messages.

The large messages (Image, CompressedImage, PointCloud2) become numpy views on the message's own
bytes; nothing is copied. The small ones are read from bytes, as a bag has them, or from message
objects, as rclpy has them, into the same samples. Whatever cannot become a sample becomes a
Rejection that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mm_fusion.errors import ConfigError
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
from mm_fusion.wire import calibration, cloud, image, small
from mm_fusion.wire.calibration import FrameTransforms, StampedTransform
from mm_fusion.wire.cdr import CdrReader, Raw, WireError, stamp_to_ns
from mm_fusion.wire.lidars import Lidars

__all__ = [
    "MESSAGE_TYPES",
    "Decoded",
    "FrameTransforms",
    "Lidars",
    "StampedTransform",
    "decode",
    "decode_pose",
    "from_message",
    "pose_from_message",
]

Decoded = (
    CameraFrame
    | LidarSweep
    | GnssFix
    | ImuSample
    | WheelOdometry
    | CameraModel
    | FrameTransforms
    | Rejection
)

CLOUD_TYPE = "sensor_msgs/msg/PointCloud2"

_IMAGE_READERS: dict[str, Callable[[CdrReader, str, int], CameraFrame]] = {
    "sensor_msgs/msg/Image": image.read_image,
    "sensor_msgs/msg/CompressedImage": image.read_compressed_image,
}
_READERS: dict[str, Callable[[CdrReader, str], Decoded]] = {
    **_IMAGE_READERS,  # type: ignore[dict-item]
    CLOUD_TYPE: cloud.read_point_cloud,
    "sensor_msgs/msg/NavSatFix": small.read_nav_sat_fix,
    "sensor_msgs/msg/Imu": small.read_imu,
    "sensor_msgs/msg/CameraInfo": calibration.read_camera_info,
    "nav_msgs/msg/Odometry": small.read_odometry,
    "geometry_msgs/msg/TwistStamped": small.read_twist,
    "geometry_msgs/msg/TwistWithCovarianceStamped": small.read_twist_with_covariance,
    "tf2_msgs/msg/TFMessage": calibration.read_tf,
}


def _image_from_message(msg: Any, sensor: str, arrival_ns: int = 0) -> CameraFrame:
    header = small.message_header(msg.header)
    data = np.frombuffer(msg.data, np.uint8)
    return image.image(
        sensor, header, msg.height, msg.width, msg.encoding, msg.step, data, arrival_ns
    )


def _compressed_image_from_message(msg: Any, sensor: str, arrival_ns: int = 0) -> CameraFrame:
    header = small.message_header(msg.header)
    data = np.frombuffer(msg.data, np.uint8)
    return image.compressed_image(sensor, header, msg.format, data, arrival_ns)


def _cloud_from_message(
    msg: Any, sensor: str, lidars: Lidars | None = None, arrival_ns: int = 0
) -> LidarSweep:
    header = small.message_header(msg.header)
    shape = cloud.CloudShape(
        msg.height, msg.width, bool(msg.is_bigendian), msg.point_step, msg.row_step
    )
    fields = tuple((f.name, f.offset, f.datatype, f.count) for f in msg.fields)
    data = np.frombuffer(msg.data, np.uint8)
    return cloud.point_cloud(sensor, header, shape, fields, data, lidars, arrival_ns)


# By the last part of the type's name, which is what a message object's class is called.
_IMAGE_FROM_MESSAGE: dict[str, Callable[[Any, str, int], CameraFrame]] = {
    "Image": _image_from_message,
    "CompressedImage": _compressed_image_from_message,
}
_FROM_MESSAGE: dict[str, Callable[[Any, str], Decoded]] = {
    **_IMAGE_FROM_MESSAGE,  # type: ignore[dict-item]
    "PointCloud2": _cloud_from_message,
    "NavSatFix": small.nav_sat_fix_from_message,
    "Imu": small.imu_from_message,
    "CameraInfo": calibration.camera_info_from_message,
    "Odometry": small.odometry_from_message,
    "TwistStamped": small.twist_from_message,
    "TwistWithCovarianceStamped": small.twist_with_covariance_from_message,
    "TFMessage": calibration.tf_from_message,
}

MESSAGE_TYPES = tuple(_READERS)


def decode(
    type_name: str,
    raw: Raw,
    sensor: str,
    lidars: Lidars | None = None,
    arrival_ns: int = 0,
) -> Decoded:
    """A serialized message as the sample it holds, or the reason why it holds none.

    ``type_name`` is the full name, one of MESSAGE_TYPES; ``sensor`` the name under which the
    sample travels and is counted. ``lidars`` has the parameters of the LIDARs and remembers what
    their clouds mean; without it every cloud speaks for itself. ``arrival_ns`` is when the
    message came, as in the sample. An Odometry becomes the WheelOdometry of its twist;
    :func:`decode_pose` reads all of it. Raises ConfigError for any other type.
    """
    read = _READERS.get(type_name)
    if read is None:
        known = ", ".join(MESSAGE_TYPES)
        raise ConfigError(f"{sensor}: message type must be one of {known}, got '{type_name}'")
    if type_name == CLOUD_TYPE:
        return _decode(lambda r, s: cloud.read_point_cloud(r, s, lidars, arrival_ns), raw, sensor)
    read_image = _IMAGE_READERS.get(type_name)
    if read_image is not None:
        return _decode(lambda r, s: read_image(r, s, arrival_ns), raw, sensor)
    return _decode(read, raw, sensor)


def decode_pose(raw: Raw, sensor: str) -> PoseEstimate | Rejection:
    """A serialized nav_msgs/msg/Odometry as pose and velocity."""
    return _decode(lambda reader, _: small.read_pose(reader), raw, sensor)


def from_message(
    msg: Any, sensor: str, lidars: Lidars | None = None, arrival_ns: int = 0
) -> Decoded:
    """The same as :func:`decode` from a message object, told by its class's name.

    Only attributes are read, so that rclpy's messages and those of other libraries serve alike.
    Arrays of bytes are viewed. Raises ConfigError for a class of any other name.
    """
    name = type(msg).__name__.rpartition("__")[2]
    convert = _FROM_MESSAGE.get(name)
    if convert is None:
        known = ", ".join(_FROM_MESSAGE)
        raise ConfigError(f"{sensor}: message class must be one of {known}, got '{name}'")
    if name == "PointCloud2":
        return _convert(lambda m, s: _cloud_from_message(m, s, lidars, arrival_ns), msg, sensor)
    convert_image = _IMAGE_FROM_MESSAGE.get(name)
    if convert_image is not None:
        return _convert(lambda m, s: convert_image(m, s, arrival_ns), msg, sensor)
    return _convert(convert, msg, sensor)


def pose_from_message(msg: Any, sensor: str) -> PoseEstimate | Rejection:
    """The same as :func:`decode_pose` from an Odometry object."""
    return _convert(lambda m, _: small.pose_from_message(m), msg, sensor)


def _decode(read: Callable[[CdrReader, str], Any], raw: Raw, sensor: str) -> Any:
    stamp_ns = 0
    try:
        reader = CdrReader(raw)
        try:
            return read(reader, sensor)
        finally:
            stamp_ns = reader.stamp_ns
    except WireError as error:
        return Rejection(sensor, stamp_ns, error.reason, error.detail)


def _convert(convert: Callable[[Any, str], Any], msg: Any, sensor: str) -> Any:
    try:
        return convert(msg, sensor)
    except WireError as error:
        return Rejection(sensor, _stamp_or_zero(msg), error.reason, error.detail)


def _stamp_or_zero(msg: Any) -> int:
    if not hasattr(msg, "header"):
        return 0
    stamp = msg.header.stamp
    try:
        return stamp_to_ns(int(stamp.sec), int(stamp.nanosec))
    except WireError:
        return 0
