"""Messages made and serialized by the rosbags library, which knows nothing of our reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
STAMP_NS = 1_700_000_123_456_789_012

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CLOUD = "sensor_msgs/msg/PointCloud2"
FIX = "sensor_msgs/msg/NavSatFix"
IMU = "sensor_msgs/msg/Imu"
INFO = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"
TWIST = "geometry_msgs/msg/TwistStamped"
TWIST_COVARIANCE = "geometry_msgs/msg/TwistWithCovarianceStamped"
TF = "tf2_msgs/msg/TFMessage"

JPEG = b"\xff\xd8\xff\xe0" + bytes(60)
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0dIHDR" + bytes(8) + b"\x08\x02" + bytes(40)

DATATYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}


def make(name: str, *values: Any) -> Any:
    return STORE.types[name](*values)


def cdr(msg: Any, little_endian: bool = True) -> bytes:
    return bytes(STORE.serialize_cdr(msg, msg.__msgtype__, little_endian=little_endian))


def header(stamp_ns: int = STAMP_NS, frame: str = "sensor") -> Any:
    sec, nanosec = divmod(stamp_ns, 10**9)
    return make("std_msgs/msg/Header", make("builtin_interfaces/msg/Time", sec, nanosec), frame)


def octets(data: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytes(data), np.uint8)


def image(
    height: int = 4,
    width: int = 6,
    encoding: str = "rgb8",
    step: int = 18,
    data: Any = None,
    stamp_ns: int = STAMP_NS,
    frame: str = "camera",
) -> Any:
    data = bytes(range(height * step)) if data is None else data
    return make(IMAGE, header(stamp_ns, frame), height, width, encoding, 0, step, octets(data))


def compressed(format_text: str = "jpeg", data: bytes = JPEG, stamp_ns: int = STAMP_NS) -> Any:
    return make(COMPRESSED, header(stamp_ns), format_text, octets(data))


def fields_of(dtype: np.dtype[Any]) -> list[tuple[str, int, int, int]]:
    table = []
    for name in dtype.names or ():
        field, offset = dtype.fields[name][:2]  # type: ignore[index]
        base, shape = field.base, field.shape
        kind = f"{base.kind}{base.itemsize}"
        table.append((name, offset, DATATYPES[kind], shape[0] if shape else 1))
    return table


def cloud(
    points: npt.NDArray[Any],
    *,
    fields: list[tuple[str, int, int, int]] | None = None,
    bigendian: bool = False,
    stamp_ns: int = STAMP_NS,
    **replaced: Any,
) -> Any:
    """A PointCloud2 of ``points``; single members can be replaced by wrong ones."""
    rows = points if points.ndim == 2 else points[None]
    table = fields_of(points.dtype) if fields is None else fields
    members = {
        "height": rows.shape[0],
        "width": rows.shape[1],
        "point_step": points.dtype.itemsize,
        "row_step": rows.shape[1] * points.dtype.itemsize,
        "data": rows.tobytes(),
    }
    members.update(replaced)
    return make(
        CLOUD,
        header(stamp_ns, "lidar"),
        members["height"],
        members["width"],
        [make("sensor_msgs/msg/PointField", *f) for f in table],
        bigendian,
        members["point_step"],
        members["row_step"],
        octets(members["data"]),
        True,
    )


def vector(*xyz: float) -> Any:
    return make("geometry_msgs/msg/Vector3", *xyz)


def quaternion(*xyzw: float) -> Any:
    return make("geometry_msgs/msg/Quaternion", *xyzw)


def numbers(count: int, start: float = 0.5) -> npt.NDArray[np.float64]:
    return start + np.arange(count, dtype=np.float64)


def nav_sat_fix(
    latitude: float = 48.5,
    longitude: float = 9.25,
    altitude: float = 300.125,
    status: int = 1,
    kind: int = 2,
    matrix: npt.NDArray[np.float64] | None = None,
    stamp_ns: int = STAMP_NS,
) -> Any:
    matrix = numbers(9) if matrix is None else matrix
    state = make("sensor_msgs/msg/NavSatStatus", status, 5)
    head = header(stamp_ns, "/gps")
    return make(FIX, head, state, latitude, longitude, altitude, matrix, kind)


def imu(
    orientation: tuple[float, ...] = (0.5, -0.5, 0.5, 0.5),
    orientation_variance: float = 0.01,
    angular: tuple[float, ...] = (0.1, -0.2, 0.3),
    linear: tuple[float, ...] = (0.4, 0.5, 9.8),
    angular_covariance: npt.NDArray[np.float64] | None = None,
    linear_covariance: npt.NDArray[np.float64] | None = None,
    stamp_ns: int = STAMP_NS,
) -> Any:
    first = numbers(9)
    first[0] = orientation_variance
    second = numbers(9, 10.0) if angular_covariance is None else angular_covariance
    third = numbers(9, 20.0) if linear_covariance is None else linear_covariance
    head = header(stamp_ns, "imu_link")
    rotation = quaternion(*orientation)
    return make(IMU, head, rotation, first, vector(*angular), second, vector(*linear), third)


def twist(linear: tuple[float, ...], angular: tuple[float, ...]) -> Any:
    return make("geometry_msgs/msg/Twist", vector(*linear), vector(*angular))


def odometry(
    linear: tuple[float, ...] = (1.5, 0.25, -0.125),
    orientation: tuple[float, ...] = (0.0, 0.0, 0.6, 0.8),
    matrix: npt.NDArray[np.float64] | None = None,
    stamp_ns: int = STAMP_NS,
) -> Any:
    point = make("geometry_msgs/msg/Point", 1.0, 2.0, 3.0)
    where = make("geometry_msgs/msg/Pose", point, quaternion(*orientation))
    pose = make("geometry_msgs/msg/PoseWithCovariance", where, numbers(36))
    matrix = numbers(36, 100.0) if matrix is None else matrix
    motion = make("geometry_msgs/msg/TwistWithCovariance", twist(linear, (0.1, 0.2, 0.3)), matrix)
    return make(ODOMETRY, header(stamp_ns, "odom"), "base_link", pose, motion)


def twist_stamped(linear: tuple[float, ...] = (1.0, 2.0, 3.0), stamp_ns: int = STAMP_NS) -> Any:
    return make(TWIST, header(stamp_ns, "base"), twist(linear, (4.0, 5.0, 6.0)))


def twist_with_covariance(
    linear: tuple[float, ...] = (1.0, 2.0, 3.0), stamp_ns: int = STAMP_NS
) -> Any:
    motion = make(
        "geometry_msgs/msg/TwistWithCovariance", twist(linear, (4.0, 5.0, 6.0)), numbers(36)
    )
    return make(TWIST_COVARIANCE, header(stamp_ns, "base"), motion)


def camera_info(
    d: tuple[float, ...] = (-0.3, 0.1, 0.001, -0.002, 0.0),
    model: str = "plumb_bob",
    k: tuple[float, ...] = (700.0, 0.0, 639.5, 0.0, 710.0, 359.5, 0.0, 0.0, 1.0),
    size: tuple[int, int] = (720, 1280),
    binning: tuple[int, int] = (0, 0),
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
    stamp_ns: int = STAMP_NS,
) -> Any:
    region = make("sensor_msgs/msg/RegionOfInterest", *roi, False)
    coefficients = np.array(d, dtype=np.float64)
    matrix = np.array(k, dtype=np.float64)
    head = header(stamp_ns, "/camera_optical")
    rest = (numbers(9), numbers(12), *binning, region)
    return make(INFO, head, *size, model, coefficients, matrix, *rest)


def tf(*entries: tuple[str, str, tuple[float, ...], tuple[float, ...]], stamp_ns: int = 0) -> Any:
    return make(
        TF,
        [
            make(
                "geometry_msgs/msg/TransformStamped",
                header(stamp_ns, parent),
                child,
                make("geometry_msgs/msg/Transform", vector(*translation), quaternion(*rotation)),
            )
            for parent, child, translation, rotation in entries
        ],
    )
