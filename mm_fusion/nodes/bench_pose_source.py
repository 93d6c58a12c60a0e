"""Publishes IMU, wheels and GPS of a drive in real time for ``mm_fusion bench pose_node``.

``python -m mm_fusion.nodes.bench_pose_source --seconds S --warm S`` waits for two listeners of each
topic, then says ``{"phase": "warm"}``, ``"measure"`` and ``"end"`` on stdout as it gets there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import rclpy
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import Imu, NavSatFix

from mm_fusion.bench.drives import T0_NS, Drive, Sensors, merge
from mm_fusion.nodes import process, qos
from mm_fusion.samples import GnssFix, ImuSample, Sample, WheelOdometry

TOPICS: dict[str, type] = {"imu/data": Imu, "wheel/odometry": Odometry, "gps/fix": NavSatFix}
LISTENERS = 2
PATIENCE_S = 60.0


def message_of(sample: Sample) -> tuple[str, Any]:
    """Topic and message, the stamp left open."""
    if isinstance(sample, ImuSample):
        imu = Imu()
        imu.header.frame_id = sample.frame_id
        w, a = imu.angular_velocity, imu.linear_acceleration
        w.x, w.y, w.z = sample.angular_velocity.tolist()
        a.x, a.y, a.z = sample.linear_acceleration.tolist()
        imu.angular_velocity_covariance = sample.angular_velocity_covariance.reshape(-1)
        imu.linear_acceleration_covariance = sample.linear_acceleration_covariance.reshape(-1)
        return "imu/data", imu
    if isinstance(sample, WheelOdometry):
        odometry = Odometry()
        odometry.header.frame_id, odometry.child_frame_id = "wheel_odom", sample.frame_id
        odometry.twist.twist.linear.x = float(sample.linear[0])
        odometry.twist.twist.angular.z = float(sample.angular[2])
        odometry.twist.covariance = sample.covariance.reshape(-1)
        return "wheel/odometry", odometry
    assert isinstance(sample, GnssFix)
    fix = NavSatFix()
    fix.header.frame_id = sample.frame_id
    fix.latitude, fix.longitude = sample.latitude_deg, sample.longitude_deg
    fix.altitude = sample.altitude_m
    fix.position_covariance = sample.covariance.reshape(-1)
    fix.position_covariance_type = int(sample.covariance_type)
    return "gps/fix", fix


def publish(node: Node, samples: list[Sample], warm_s: float, say: Callable[[str], None]) -> None:
    """All samples at their time."""
    publishers = {
        topic: node.create_publisher(kind, topic, qos.fast_sensor())
        for topic, kind in TOPICS.items()
    }
    ready = [(s.stamp_ns - T0_NS, *message_of(s)) for s in samples]
    deadline_s = time.monotonic() + PATIENCE_S
    while not all(p.get_subscription_count() >= LISTENERS for p in publishers.values()):
        if time.monotonic() > deadline_s:
            raise TimeoutError("a topic has not found its listeners")
        time.sleep(0.05)
    say("warm")
    start_ns, measuring = time.time_ns(), False
    for after_ns, topic, message in ready:
        if not measuring and after_ns >= warm_s * 1e9:
            measuring = True
            say("measure")
        wait_s = (start_ns + after_ns - time.time_ns()) / 1e9
        if wait_s > 0:
            time.sleep(wait_s)
        stamp_ns = start_ns + after_ns
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        publishers[topic].publish(message)
    say("end")
    time.sleep(0.5)


def main() -> None:
    """Publish the drive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm", type=float, required=True)
    args = parser.parse_args()
    drive, sensors = Drive(duration_s=args.seconds + args.warm), Sensors(seed=1)
    samples = merge(sensors.imu(drive, 5), sensors.wheels(drive, 20), sensors.gps(drive, 100))
    process.begin(sys.argv[:1])
    node = Node("bench_pose_source")
    try:
        publish(node, samples, args.warm, lambda p: print(json.dumps({"phase": p}), flush=True))
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
