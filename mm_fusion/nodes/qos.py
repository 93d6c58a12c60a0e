"""How topics are read and written: sensors best effort, results reliable, both overridable."""

from __future__ import annotations

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

# A profile is made anew for every topic: rclpy writes a topic's overrides into the one it is given.


def sensor() -> QoSProfile:
    """For large messages and slow sensors: best effort."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.BEST_EFFORT
    )


def fast_sensor() -> QoSProfile:
    """Best effort, deep: an IMU at 100 Hz or more must survive a stall of the receiving thread."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=200, reliability=ReliabilityPolicy.BEST_EFFORT
    )


def result() -> QoSProfile:
    """For what the nodes answer: reliable."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE
    )


def transforms() -> QoSProfile:
    """For /tf, as tf2 has it."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE
    )


def latched() -> QoSProfile:
    """For /tf_static and the like: whoever comes late gets the last ones."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=100,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def overridable() -> QoSOverridingOptions:
    """Lets ``qos_overrides.<topic>.<subscription|publisher>.<policy>`` parameters win."""
    return QoSOverridingOptions.with_default_policies()
