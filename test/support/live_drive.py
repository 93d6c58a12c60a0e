"""A small drive, made without the simulator: what a robot's drivers would publish.

The vehicle stands for two seconds, then drives east with 1 m/s^2 up to 4 m/s. Its sensors sit
where EXTRINSICS says. The camera and the LIDAR see no town, only something that decodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Imu, NavSatFix, NavSatStatus
from tf2_msgs.msg import TFMessage

from mm_fusion.wire import encode

START_NS = 1_700_000_000_000_000_000
REST_S = 2.0
ACCELERATION = 1.0
TOP_SPEED = 4.0
DATUM = (49.0, 8.4, 115.0)
EARTH_RADIUS_M = 6_378_137.0
WIDTH, HEIGHT = 320, 192

# Frame -> position (m) and quaternion x y z w in base_link. Optical: z forward, x right, y down.
EXTRINSICS = {
    "lidar": ((0.0, 0.0, 1.8), (0.0, 0.0, 0.0, 1.0)),
    "camera_optical": ((0.5, 0.0, 1.5), (-0.5, 0.5, -0.5, 0.5)),
    "imu": ((0.0, 0.0, 0.5), (0.0, 0.0, 0.0, 1.0)),
    "gps": ((0.0, 0.0, 2.0), (0.0, 0.0, 0.0, 1.0)),
}


@dataclass(frozen=True)
class Event:
    """One message: ``payload`` is a message object, or serialized bytes."""

    stamp_ns: int
    topic: str
    payload: Any


def speed(t_s: float) -> float:
    """Speed along x at ``t_s`` after the start."""
    return min(max(t_s - REST_S, 0.0) * ACCELERATION, TOP_SPEED)


def travelled(t_s: float) -> float:
    """Metres from the start: the integral of :func:`speed`."""
    s = max(t_s - REST_S, 0.0)
    ramp_s = TOP_SPEED / ACCELERATION
    if s <= ramp_s:
        return 0.5 * ACCELERATION * s * s
    return 0.5 * ACCELERATION * ramp_s**2 + TOP_SPEED * (s - ramp_s)


def stamped(message: Any, stamp_ns: int, frame_id: str) -> Any:
    """Put a header into a message."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = frame_id
    return message


def static_transforms() -> TFMessage:
    """/tf_static of the vehicle."""
    entries = []
    for frame, (position, orientation) in EXTRINSICS.items():
        entry = TransformStamped(child_frame_id=frame)
        entry.header.frame_id = "base_link"
        t, q = entry.transform.translation, entry.transform.rotation
        t.x, t.y, t.z = position
        q.x, q.y, q.z, q.w = orientation
        entries.append(entry)
    return TFMessage(transforms=entries)


def imu(stamp_ns: int, t_s: float) -> Imu:
    """Gravity and the acceleration along x."""
    out = stamped(Imu(), stamp_ns, "imu")
    accelerating = REST_S < t_s < REST_S + TOP_SPEED / ACCELERATION
    out.linear_acceleration.x = ACCELERATION if accelerating else 0.0
    out.linear_acceleration.z = 9.80665
    out.orientation_covariance[0] = -1.0
    return out


def wheels(stamp_ns: int, t_s: float) -> Odometry:
    """The speed; the pose is left alone."""
    out = stamped(Odometry(), stamp_ns, "odom")
    out.child_frame_id = "base_link"
    out.pose.pose.orientation.w = 1.0
    out.twist.twist.linear.x = speed(t_s)
    out.twist.covariance = np.diag([0.01, 0.01, 0.01, 0.001, 0.001, 0.001]).ravel()
    return out


def fix(stamp_ns: int, t_s: float) -> NavSatFix:
    """East of the datum, on a sphere: a millimetre's worth of error over these distances."""
    out = stamped(NavSatFix(), stamp_ns, "gps")
    latitude = math.radians(DATUM[0])
    # Radius of the parallel on the WGS84 ellipsoid.
    normal_m = EARTH_RADIUS_M / math.sqrt(1.0 - 0.00669437999014 * math.sin(latitude) ** 2)
    out.status.status = NavSatStatus.STATUS_FIX
    out.latitude = DATUM[0]
    out.longitude = DATUM[1] + math.degrees(travelled(t_s) / (normal_m * math.cos(latitude)))
    out.altitude = DATUM[2]
    out.position_covariance = np.diag([0.04, 0.04, 0.09]).ravel()
    out.position_covariance_type = NavSatFix.COVARIANCE_TYPE_DIAGONAL_KNOWN
    return out


def cloud(stamp_ns: int) -> bytes:
    """A sweep of flat ground with a wall 12 m ahead; the times lie within the last 100 ms."""
    generator = np.random.default_rng(stamp_ns % 1000)
    count = 4000
    dtype = np.dtype(
        [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("time", "<f4")]
    )
    points = np.zeros(count, dtype)
    points["x"] = generator.uniform(3.0, 30.0, count)
    points["y"] = generator.uniform(-10.0, 10.0, count)
    points["z"] = -1.8
    wall = slice(0, count // 4)
    points["x"][wall] = 12.0
    points["y"][wall] = generator.uniform(-2.0, 2.0, count // 4)
    points["z"][wall] = generator.uniform(-1.8, 0.2, count // 4)
    points["intensity"] = 50.0
    points["time"] = np.linspace(-0.1, 0.0, count)
    return encode.encode_pointcloud2(points, stamp_ns, "lidar")


def image(stamp_ns: int, noise_of: int | None = None) -> bytes:
    """A grey picture with a darker lower half. Its noise is that of its own stamp, or of another:
    a camera that stands still repeats one picture."""
    generator = np.random.default_rng(stamp_ns if noise_of is None else noise_of)
    pixels = generator.integers(155, 165, (HEIGHT, WIDTH, 3), np.uint8)
    pixels[HEIGHT // 2 :] -= 70
    return encode.encode_image(pixels, "rgb8", stamp_ns, "camera_optical")


def camera_info(stamp_ns: int) -> CameraInfo:
    """A pinhole camera of 90 degrees."""
    out = stamped(CameraInfo(), stamp_ns, "camera_optical")
    out.width, out.height = WIDTH, HEIGHT
    f = WIDTH / 2.0
    out.k = np.array([f, 0.0, WIDTH / 2 - 0.5, 0.0, f, HEIGHT / 2 - 0.5, 0.0, 0.0, 1.0])
    out.p = np.array([f, 0, WIDTH / 2 - 0.5, 0, 0, f, HEIGHT / 2 - 0.5, 0, 0, 0, 1.0, 0])
    out.distortion_model = "plumb_bob"
    out.d = [0.0] * 5
    return out


def events(duration_s: float, begin_ns: int = START_NS) -> Iterator[Event]:
    """The messages of the drive in the order of time; ``begin_ns`` is the stamp of its start."""
    for step in range(round(duration_s * 100)):
        yield from _messages(step, step / 100, begin_ns + step * 10_000_000)


def standing(*topics: str) -> Iterator[list[Event]]:
    """A vehicle that stands where the drive starts, in tenths of a second without end, the first
    from START_NS on; of all sensors or of these topics."""
    for begin in count(0, 10):
        beat = [
            event
            for step in range(begin, begin + 10)
            for event in _messages(step, 0.0, START_NS + step * 10_000_000)
        ]
        yield [e for e in beat if e.topic in topics or not topics]


def _messages(step: int, t_s: float, stamp_ns: int) -> Iterator[Event]:
    """What comes in one hundredth of a second."""
    yield Event(stamp_ns, "imu/data", imu(stamp_ns, t_s))
    if step % 2 == 0:
        yield Event(stamp_ns, "wheel/odometry", wheels(stamp_ns, t_s))
    if step % 20 == 0:
        yield Event(stamp_ns, "gps/fix", fix(stamp_ns, t_s))
    if step % 10 == 0:
        yield Event(stamp_ns, "camera/camera_info", camera_info(stamp_ns))
        yield Event(stamp_ns, "camera/image_raw", image(stamp_ns))
        yield Event(stamp_ns, "lidar/points", cloud(stamp_ns))
