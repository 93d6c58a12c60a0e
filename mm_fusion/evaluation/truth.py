"""Ground truth as a simulated bag carries it: objects, the vehicle's own motion, the datum."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.topics import (
    DETECTIONS,
    NAV_SAT_FIX,
    ODOMETRY,
    TRUTH_DATUM,
    TRUTH_OBJECTS,
    TRUTH_ODOMETRY,
    find_named,
)
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TruthBox:
    """One true object in the base frame: ``center`` [3], ``size`` [3] m, ``yaw`` rad.

    ``velocity`` [2] m/s over ground in the base frame's axes, None where it is not known.
    ``counted`` is False for an object that nobody could have seen.
    """

    object_id: str
    label: str
    center: F64
    size: F64
    yaw: float
    velocity: F64 | None = None
    counted: bool = True

    def uncounted(self) -> TruthBox:
        """The same object, not to be found."""
        return dataclasses.replace(self, counted=False)


@dataclass(slots=True)
class Truth:
    """What a bag knows for certain; empty or None where it does not.

    ``objects`` by LIDAR stamp in the base frame; ``trajectory`` of the base in ENU about
    ``datum`` (latitude, longitude in degrees, ellipsoidal height in metres).
    """

    objects: dict[int, list[TruthBox]] = field(default_factory=dict)
    trajectory: Trajectory | None = None
    datum: tuple[float, float, float] | None = None


class Known(NamedTuple):
    """Which truths a bag carries."""

    objects: bool
    trajectory: bool


def known_truth(bag: Bag) -> Known:
    """Which truths a bag carries, without reading them."""
    return Known(
        objects=find_named(bag.topics, TRUTH_OBJECTS, DETECTIONS) is not None,
        trajectory=find_named(bag.topics, TRUTH_ODOMETRY, ODOMETRY) is not None,
    )


def read_truth(bag: Bag) -> Truth:
    """The truth of a bag, by the topics ``truth/objects``, ``truth/odometry``, ``truth/datum``."""
    truth = Truth()
    topics = bag.topics
    datum = find_named(topics, TRUTH_DATUM, NAV_SAT_FIX)
    if datum is not None:
        for message in bag.messages([datum.name]):
            fix = bag.decode(message)
            truth.datum = (fix.latitude, fix.longitude, fix.altitude)
    odometry = find_named(topics, TRUTH_ODOMETRY, ODOMETRY)
    if odometry is not None:
        rows = [_pose_row(bag.decode(m)) for m in bag.messages([odometry.name])]
        truth.trajectory = Trajectory.of(rows)
    objects = find_named(topics, TRUTH_OBJECTS, DETECTIONS)
    if objects is not None:
        for message in bag.messages([objects.name]):
            array = bag.decode(message)
            truth.objects[_stamp_ns(array)] = [_box(d) for d in array.detections]
        if truth.trajectory is not None:
            truth.objects = with_velocities(truth.objects, truth.trajectory)
    return truth


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def _pose_row(message: Any) -> tuple[int, list[float], list[float]]:
    p, q = message.pose.pose.position, message.pose.pose.orientation
    return _stamp_ns(message), [p.x, p.y, p.z], [q.x, q.y, q.z, q.w]


def _box(detection: Any) -> TruthBox:
    p, q = detection.bbox.center.position, detection.bbox.center.orientation
    size = detection.bbox.size
    pose = RigidTransform.from_quaternion([p.x, p.y, p.z], [q.x, q.y, q.z, q.w])
    hypothesis = detection.results[0].hypothesis
    return TruthBox(
        object_id=detection.id,
        label=hypothesis.class_id,
        center=pose.translation,
        size=np.array([size.x, size.y, size.z], dtype=np.float64),
        yaw=pose.yaw_rad(),
        counted=hypothesis.score > 0.0,
    )


def with_velocities(
    objects: dict[int, list[TruthBox]], trajectory: Trajectory, longest_gap_s: float = 0.5
) -> dict[int, list[TruthBox]]:
    """The objects with their velocities: central differences of their places in the map.

    An object seen only once, or with gaps longer than ``longest_gap_s``, keeps None.
    """
    poses = {s: p for s in objects if (p := pose_at(trajectory, s)) is not None}
    tracks: dict[str, list[tuple[int, F64]]] = {}
    for stamp in sorted(poses):
        for box in objects[stamp]:
            place = (stamp, poses[stamp].apply(box.center))
            tracks.setdefault(box.object_id, []).append(place)
    speeds = {
        (name, track[i][0]): _speed(track, i, longest_gap_s)
        for name, track in tracks.items()
        for i in range(len(track))
    }
    out = {}
    for stamp, boxes in objects.items():
        out[stamp] = [
            _moving(box, speeds.get((box.object_id, stamp)), poses.get(stamp)) for box in boxes
        ]
    return out


def _speed(track: Sequence[tuple[int, F64]], i: int, longest_gap_s: float) -> F64 | None:
    first, last = track[max(i - 1, 0)], track[min(i + 1, len(track) - 1)]
    elapsed_s = (last[0] - first[0]) / NS_PER_S
    if elapsed_s <= 0.0 or elapsed_s > 2 * longest_gap_s:
        return None
    return (last[1] - first[1]) / elapsed_s


def _moving(box: TruthBox, speed: F64 | None, pose: RigidTransform | None) -> TruthBox:
    if speed is None or pose is None:
        return box
    return dataclasses.replace(box, velocity=(pose.rotation.T @ speed)[:2])


def pose_at(
    trajectory: Trajectory, stamp_ns: int, longest_gap_s: float = 0.2
) -> RigidTransform | None:
    """The pose between two of a trajectory's, or None outside it and in its gaps."""
    stamps = trajectory.stamps_ns
    after = int(np.searchsorted(stamps, stamp_ns))
    if after < len(stamps) and stamps[after] == stamp_ns:
        return RigidTransform.from_quaternion(trajectory.positions[after], trajectory.xyzw[after])
    if after == 0 or after == len(stamps):
        return None
    before = after - 1
    gap_ns = int(stamps[after] - stamps[before])
    if gap_ns > longest_gap_s * NS_PER_S:
        return None
    share = (stamp_ns - int(stamps[before])) / gap_ns
    place = (1 - share) * trajectory.positions[before] + share * trajectory.positions[after]
    # Over such short gaps the normalised mean of two quaternions is the rotation between them.
    one, two = trajectory.xyzw[before], trajectory.xyzw[after]
    mean = (1 - share) * one + share * two * (1.0 if one @ two >= 0 else -1.0)
    return RigidTransform.from_quaternion(place, mean / np.linalg.norm(mean))
