"""Answers as standard messages; boxes and their status are written in ``wire/answers``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import (
    Point,
    Quaternion,
    TransformStamped,
    Vector3,
)
from nav_msgs.msg import Odometry
from sensor_msgs.msg import NavSatFix, NavSatStatus
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import NS_PER_S, FusionResult, PoseEstimate, Track

F64 = npt.NDArray[np.float64]

# Colours of the classes (r, g, b), far apart also for colour-blind eyes (Okabe and Ito's palette).
COLORS = {
    "car": (0.0, 0.45, 0.70),
    "pedestrian": (0.90, 0.60, 0.0),
    "cyclist": (0.0, 0.62, 0.45),
}
OTHER_COLOR = (0.80, 0.47, 0.65)


def stamp(stamp_ns: int) -> Time:
    """Nanoseconds as a message."""
    return Time(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)


def stamp_ns(time: Time) -> int:
    """A message's stamp in nanoseconds."""
    return int(time.sec) * NS_PER_S + int(time.nanosec)


def header(at_ns: int, frame_id: str) -> Header:
    """A header."""
    return Header(stamp=stamp(at_ns), frame_id=frame_id)


def _point(p: F64) -> Point:
    return Point(x=float(p[0]), y=float(p[1]), z=float(p[2]))


def _vector(v: F64) -> Vector3:
    return Vector3(x=float(v[0]), y=float(v[1]), z=float(v[2]))


def _quaternion(xyzw: F64) -> Quaternion:
    return Quaternion(x=float(xyzw[0]), y=float(xyzw[1]), z=float(xyzw[2]), w=float(xyzw[3]))


def _yawed(yaw_rad: float) -> Quaternion:
    return Quaternion(z=math.sin(yaw_rad / 2.0), w=math.cos(yaw_rad / 2.0))


# ------------------------------------------------------------------------------ objects


def markers(result: FusionResult) -> MarkerArray:
    """Tracks for RViz and Foxglove: a box, an arrow as long as one second of motion, a label.

    What was shown before goes, and what is shown now goes by itself where no more messages come.
    """
    top = header(result.stamp_ns, result.track_frame_id)
    out = [Marker(header=top, action=Marker.DELETEALL)]
    for track in result.tracks:
        r, g, b = COLORS.get(track.label, OTHER_COLOR)
        color = ColorRGBA(r=r, g=g, b=b, a=0.45)
        solid = ColorRGBA(r=r, g=g, b=b, a=1.0)
        out.append(_box_marker(track, top, color))
        if float(np.hypot(*track.velocity)) > 0.3:
            out.append(_arrow_marker(track, top, solid))
        out.append(_label_marker(track, top))
    for marker in out[1:]:
        marker.lifetime = Duration(sec=1)
    return MarkerArray(markers=out)


def _box_marker(track: Track, top: Header, color: ColorRGBA) -> Marker:
    box = Marker(header=top, ns="box", id=track.track_id, type=Marker.CUBE, color=color)
    box.pose.position = _point(track.center)
    box.pose.orientation = _yawed(track.yaw)
    box.scale = _vector(track.size)
    return box


def _arrow_marker(track: Track, top: Header, color: ColorRGBA) -> Marker:
    arrow = Marker(header=top, ns="velocity", id=track.track_id, type=Marker.ARROW, color=color)
    tip = track.center + np.array([*track.velocity, 0.0])
    arrow.points = [_point(track.center), _point(tip)]
    arrow.scale = Vector3(x=0.12, y=0.3, z=0.3)
    return arrow


def _label_marker(track: Track, top: Header) -> Marker:
    white = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    label = Marker(header=top, ns="label", id=track.track_id, type=Marker.TEXT_VIEW_FACING)
    label.color = white
    label.pose.position = _point(track.center + np.array([0.0, 0.0, track.size[2] / 2 + 0.4]))
    label.scale.z = 0.6
    label.text = f"{track.label} {track.track_id} {track.score:.2f}"
    return label


# --------------------------------------------------------------------------------- pose


def odometry(estimate: PoseEstimate) -> Odometry:
    """A pose with its velocity and covariances."""
    out = Odometry(header=header(estimate.stamp_ns, estimate.frame_id))
    out.child_frame_id = estimate.child_frame_id
    out.pose.pose.position = _point(estimate.frame_from_base.translation)
    out.pose.pose.orientation = _quaternion(estimate.frame_from_base.quaternion_xyzw())
    out.pose.covariance = np.ascontiguousarray(estimate.pose_covariance, np.float64).ravel()
    out.twist.twist.linear = _vector(estimate.linear)
    out.twist.twist.angular = _vector(estimate.angular)
    out.twist.covariance = np.ascontiguousarray(estimate.twist_covariance, np.float64).ravel()
    return out


def transform(
    at_ns: int, parent: str, child: str, parent_from_child: RigidTransform
) -> TransformStamped:
    """One entry of /tf."""
    out = TransformStamped(header=header(at_ns, parent), child_frame_id=child)
    out.transform.translation = _vector(parent_from_child.translation)
    out.transform.rotation = _quaternion(parent_from_child.quaternion_xyzw())
    return out


def transform_of(pose: Odometry) -> TransformStamped:
    """The entry of /tf that says the same as an odometry message."""
    out = TransformStamped(header=pose.header, child_frame_id=pose.child_frame_id)
    place = pose.pose.pose.position
    out.transform.translation = Vector3(x=place.x, y=place.y, z=place.z)
    out.transform.rotation = pose.pose.pose.orientation
    return out


def fix(estimate: PoseEstimate, geodetic: Sequence[float], position_covariance: F64) -> NavSatFix:
    """A filtered position: ``geodetic`` is latitude, longitude (deg), ellipsoidal height (m)."""
    out = NavSatFix(header=header(estimate.stamp_ns, estimate.child_frame_id))
    out.status.status = NavSatStatus.STATUS_FIX
    out.status.service = NavSatStatus.SERVICE_GPS
    out.latitude, out.longitude, out.altitude = (float(v) for v in geodetic)
    out.position_covariance = np.ascontiguousarray(position_covariance, np.float64).ravel()
    out.position_covariance_type = NavSatFix.COVARIANCE_TYPE_KNOWN
    return out
