"""Small bags for tests, written message by message with rosbags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
for _name, _text in {
    "ObjectHypothesis": "string class_id\nfloat64 score\n",
    "ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id\n"
    ),
    "Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n",
}.items():
    STORE.register(get_types_from_msg(_text, f"vision_msgs/msg/{_name}"))

START_NS = 1_700_000_000 * 1_000_000_000
S = 1_000_000_000
_SHORT = {
    "Imu": "sensor_msgs/msg/Imu",
    "NavSatFix": "sensor_msgs/msg/NavSatFix",
    "Image": "sensor_msgs/msg/Image",
    "CompressedImage": "sensor_msgs/msg/CompressedImage",
    "PointCloud2": "sensor_msgs/msg/PointCloud2",
    "CameraInfo": "sensor_msgs/msg/CameraInfo",
    "Odometry": "nav_msgs/msg/Odometry",
    "TwistStamped": "geometry_msgs/msg/TwistStamped",
    "TFMessage": "tf2_msgs/msg/TFMessage",
    "Detection3DArray": "vision_msgs/msg/Detection3DArray",
}


def make(kind: str, **fields: Any) -> Any:
    """A message object by its type's short or full name."""
    full = _SHORT.get(kind, kind)
    return STORE.types[full](**fields)


def stamp(ns: int) -> Any:
    return make("builtin_interfaces/msg/Time", sec=ns // S, nanosec=ns % S)


def header(ns: int, frame: str) -> Any:
    return make("std_msgs/msg/Header", stamp=stamp(ns), frame_id=frame)


def vector(x: float, y: float, z: float) -> Any:
    return make("geometry_msgs/msg/Vector3", x=float(x), y=float(y), z=float(z))


def pose(position: Any, xyzw: Any = (0, 0, 0, 1)) -> Any:
    p = [float(v) for v in position]
    q = [float(v) for v in xyzw]
    return make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", x=p[0], y=p[1], z=p[2]),
        orientation=make("geometry_msgs/msg/Quaternion", x=q[0], y=q[1], z=q[2], w=q[3]),
    )


def imu(ns: int, gyro: Any = (0, 0, 0), accel: Any = (0, 0, 9.81), frame: str = "imu") -> Any:
    covariance = (np.eye(3) * 1e-4).ravel()
    unknown = np.zeros(9)
    unknown[0] = -1.0
    return make(
        "Imu",
        header=header(ns, frame),
        orientation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        orientation_covariance=unknown,
        angular_velocity=vector(*gyro),
        angular_velocity_covariance=covariance,
        linear_acceleration=vector(*accel),
        linear_acceleration_covariance=covariance,
    )


def fix(
    ns: int,
    latitude: float = 48.0,
    longitude: float = 8.0,
    altitude: float = 100.0,
    status: int = 0,
    frame: str = "gps",
) -> Any:
    return make(
        "NavSatFix",
        header=header(ns, frame),
        status=make("sensor_msgs/msg/NavSatStatus", status=status, service=1),
        latitude=latitude,
        longitude=longitude,
        altitude=altitude,
        position_covariance=np.diag([1.0, 1.0, 4.0]).ravel(),
        position_covariance_type=2,
    )


def odometry(
    ns: int,
    linear: Any = (0, 0, 0),
    angular: Any = (0, 0, 0),
    position: Any = (0, 0, 0),
    xyzw: Any = (0, 0, 0, 1),
    frame: str = "odom",
) -> Any:
    twist = make("geometry_msgs/msg/Twist", linear=vector(*linear), angular=vector(*angular))
    covariance = (np.eye(6) * 1e-3).ravel()
    return make(
        "Odometry",
        header=header(ns, frame),
        child_frame_id="base_link",
        pose=make(
            "geometry_msgs/msg/PoseWithCovariance", pose=pose(position, xyzw), covariance=covariance
        ),
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=covariance),
    )


def image(
    ns: int, encoding: str = "rgb8", height: int = 96, width: int = 128, frame: str = "camera"
) -> Any:
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}.get(encoding, 2)
    pixels = np.random.default_rng(ns % 2**32).integers(0, 255, height * width * channels, np.uint8)
    return make(
        "Image",
        header=header(ns, frame),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=width * channels,
        data=pixels,
    )


def cloud(ns: int, points: Any = None, frame: str = "lidar") -> Any:
    """A PointCloud2 of points [N,3] (default: a scattered ground) with intensity."""
    if points is None:
        random = np.random.default_rng(ns % 2**32)
        points = random.uniform([-20, -20, -1.9], [40, 20, -1.6], (500, 3))
    data = np.zeros((len(points), 4), np.float32)
    data[:, :3] = points
    data[:, 3] = 50.0
    fields = [
        make("sensor_msgs/msg/PointField", name=n, offset=4 * i, datatype=7, count=1)
        for i, n in enumerate(("x", "y", "z", "intensity"))
    ]
    return make(
        "PointCloud2",
        header=header(ns, frame),
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(points),
        data=data.view(np.uint8).ravel(),
        is_dense=True,
    )


def camera_info(ns: int, height: int = 96, width: int = 128, frame: str = "camera") -> Any:
    k = np.array([100.0, 0, width / 2, 0, 100.0, height / 2, 0, 0, 1])
    return make(
        "CameraInfo",
        header=header(ns, frame),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).ravel(),
        p=np.hstack([k.reshape(3, 3), np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        ),
    )


OPTICAL_XYZW = (-0.5, 0.5, -0.5, 0.5)  # x forward, z up -> z forward, y down


def transforms(ns: int, *links: tuple[str, str, Any, Any]) -> Any:
    """A TFMessage of (parent, child, translation, quaternion)."""
    out = []
    for parent, child, translation, xyzw in links:
        q = [float(v) for v in xyzw]
        out.append(
            make(
                "geometry_msgs/msg/TransformStamped",
                header=header(ns, parent),
                child_frame_id=child,
                transform=make(
                    "geometry_msgs/msg/Transform",
                    translation=vector(*translation),
                    rotation=make("geometry_msgs/msg/Quaternion", x=q[0], y=q[1], z=q[2], w=q[3]),
                ),
            )
        )
    return make("TFMessage", transforms=out)


def car_mounting(ns: int = START_NS) -> Any:
    """Where the sensors of the test vehicle sit."""
    upright = (0, 0, 0, 1)
    return transforms(
        ns,
        ("base_link", "lidar", (0.0, 0.0, 1.8), upright),
        ("base_link", "camera", (0.5, 0.0, 1.5), OPTICAL_XYZW),
        ("base_link", "imu", (0.0, 0.0, 0.0), upright),
        ("base_link", "gps", (0.0, 0.0, 1.5), upright),
    )


def objects(ns: int, *boxes: tuple[str, str, Any, Any, float]) -> Any:
    """True objects: (id, class, center, size, score)."""
    out = []
    for name, label, center, size, score in boxes:
        hypothesis = make("vision_msgs/msg/ObjectHypothesis", class_id=label, score=float(score))
        with_pose = make(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=hypothesis,
            pose=make(
                "geometry_msgs/msg/PoseWithCovariance", pose=pose(center), covariance=np.zeros(36)
            ),
        )
        out.append(
            make(
                "vision_msgs/msg/Detection3D",
                header=header(ns, "base_link"),
                results=[with_pose],
                bbox=make("vision_msgs/msg/BoundingBox3D", center=pose(center), size=vector(*size)),
                id=name,
            )
        )
    return make("Detection3DArray", header=header(ns, "base_link"), detections=out)


Row = tuple[str, int, Any]  # topic, time of recording, message


def write_bag(path: Path, rows: list[Row], storage: str = "mcap") -> Path:
    """Write rows to a rosbag2 directory (``mcap`` or ``sqlite3``) or a ROS 1 file (``ros1``)."""
    if storage == "ros1":
        return _write_ros1(path, rows)
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for topic, log_ns, message in rows:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], log_ns, STORE.serialize_cdr(message, kind))
    return path


def _write_ros1(path: Path, rows: list[Row]) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    with Ros1Writer(path) as writer:
        connections: dict[str, Any] = {}
        for topic, log_ns, message in rows:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            # The same fields in ROS 1's layout, the header's sequence number zero.
            raw = STORE.cdr_to_ros1(STORE.serialize_cdr(message, kind), kind)
            writer.write(connections[topic], log_ns, bytes(raw))
    return path


def drive_rows(
    seconds: float = 2.0, perception: bool = True, pose_sensors: bool = True
) -> list[Row]:
    """A vehicle driving east at 5 m/s past nothing in particular, in the order of stamps."""
    rows: list[Row] = [("/tf_static", START_NS, car_mounting())]
    end_ns = round(seconds * S)
    if pose_sensors:
        for t in range(0, end_ns, S // 100):
            rows.append(("/imu/data", START_NS + t, imu(START_NS + t)))
        for t in range(0, end_ns, S // 50):
            rows.append(("/wheel/odometry", START_NS + t, odometry(START_NS + t, (5, 0, 0))))
        for t in range(0, end_ns, S // 5):
            east_m = 5.0 * t / S
            # WGS84's radius of curvature in the prime vertical at this latitude
            radius_m = 6_378_137.0 / np.sqrt(1 - 6.694379990e-3 * np.sin(np.radians(48.0)) ** 2)
            longitude = 8.0 + np.degrees(east_m / (radius_m * np.cos(np.radians(48.0))))
            rows.append(("/gps/fix", START_NS + t, fix(START_NS + t, longitude=longitude)))
    if perception:
        for t in range(0, end_ns, S // 10):
            ns = START_NS + t
            rows.append(("/camera/camera_info", ns, camera_info(ns)))
            rows.append(("/camera/image_raw", ns, image(ns)))
            rows.append(("/lidar/points", ns, cloud(ns)))
    return sorted(rows, key=lambda r: r[1])
