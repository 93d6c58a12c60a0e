"""The small drive of live_drive as a bag."""

from __future__ import annotations

from pathlib import Path

from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from support import live_drive as drive

from mm_fusion.evaluation.bags import typestore

TYPES = {
    "imu/data": "sensor_msgs/msg/Imu",
    "wheel/odometry": "nav_msgs/msg/Odometry",
    "gps/fix": "sensor_msgs/msg/NavSatFix",
    "camera/camera_info": "sensor_msgs/msg/CameraInfo",
    "camera/image_raw": "sensor_msgs/msg/Image",
    "lidar/points": "sensor_msgs/msg/PointCloud2",
    "/tf_static": "tf2_msgs/msg/TFMessage",
}


def write_bag(path: Path, duration_s: float) -> Path:
    """Write the drive; answers the path."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            topic: writer.add_connection(f"/{topic.lstrip('/')}", type_name, typestore=typestore())
            for topic, type_name in TYPES.items()
        }
        tf = serialize_message(drive.static_transforms())
        writer.write(connections["/tf_static"], drive.START_NS, tf)
        for event in drive.events(duration_s):
            payload = event.payload
            raw = payload if isinstance(payload, bytes) else serialize_message(payload)
            writer.write(connections[event.topic], event.stamp_ns, raw)
    return path
