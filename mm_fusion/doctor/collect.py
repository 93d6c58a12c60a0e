"""Messages into observations, as the bytes that a bag or a raw subscription gives."""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.doctor import covariance
from mm_fusion.doctor.looks import look_at, read_head
from mm_fusion.doctor.observations import Input, Link, Stream
from mm_fusion.evaluation.topics import TF_MESSAGE, is_static
from mm_fusion.samples import (
    CameraFrame,
    CameraModel,
    GnssFix,
    ImuSample,
    LidarSweep,
    Rejection,
    WheelOdometry,
)
from mm_fusion.wire.calibration import MAX_TRANSFORMS
from mm_fusion.wire.cdr import CdrReader, Raw, WireError, malformed

LOOKS = 60  # large messages of one topic whose content is looked at, spread over the observation
MAX_HEADS = 100_000
MAX_LINKS = 10_000
CLOUD = "sensor_msgs/msg/PointCloud2"
IMU = "sensor_msgs/msg/Imu"
# Where they begin among the 37 numbers of an Imu.
IMU_COVARIANCES = {"angular_velocity_covariance": 16, "linear_acceleration_covariance": 28}


class Collector:
    """Takes every message of the inputs and of TF and keeps what the checks need.

    ``duration_ns`` is how long the observation will be: the looks at large messages are spread
    over it.
    """

    def __init__(self, config: Config, duration_ns: int) -> None:
        self.streams: dict[str, Stream] = {}
        self.links: dict[Link, int] = {}
        self.bad_links: dict[str, str] = {}
        self._config = config
        self._lidars = wire.Lidars(config.lidar)
        self._between_looks_ns = max(duration_ns // LOOKS, 1)
        self._next_look_ns: dict[str, int] = {}
        self._classes: dict[bytes, str] = {}
        self._moving: set[tuple[str, str]] = set()
        self._epoch_ns = 0

    def expect(self, inputs: Iterable[Input]) -> None:
        """Open a stream for every input that a topic serves."""
        for given in inputs:
            topic, wanted = given.topic, given.wanted
            if topic is not None and topic.name not in self.streams:
                msgtype = next((t for t in wanted.types if t in topic.msgtypes), "")
                stream = Stream(topic.name, msgtype, wanted.role, wanted.slot)
                self.streams[topic.name] = stream
        # A LIDAR's parameters go by its place among the configured ones.
        lidars = sorted((s.slot, s.topic) for s in self.streams.values() if s.role == "lidar")
        self._lidars = wire.Lidars(self._config.lidar, [topic for _, topic in lidars])

    def finish(self) -> None:
        """To be called after the last message."""
        for topic, meaning in self._lidars.report().items():
            self.streams[topic].meaning = meaning

    def add(self, topic: str, msgtype: str, raw: Raw, arrival_ns: int, clock_ns: int = 0) -> None:
        """Take one message. ``clock_ns``: what /clock said last, 0 where there is none."""
        if msgtype == TF_MESSAGE:
            self._add_transforms(topic, raw)
            return
        stream = self.streams[topic]
        stream.messages += 1
        stream.bytes_total += len(raw)
        stream.bytes_max = max(stream.bytes_max, len(raw))
        try:
            header = CdrReader(raw).header(allow_zero_stamp=True)
        except WireError as error:
            _count(stream, error.reason.value, error.detail)
            return
        stream.stamps_ns.append(header.stamp_ns)
        stream.arrivals_ns.append(arrival_ns)
        stream.clocks_ns.append(clock_ns)
        stream.frames[header.frame_id] += 1
        self._epoch_ns = self._epoch_ns or header.stamp_ns
        if msgtype == CLOUD and len(stream.heads) < MAX_HEADS:
            self._add_head(stream, raw)
        sample = wire.decode(msgtype, raw, topic, self._lidars, arrival_ns)
        if isinstance(sample, Rejection):
            _count(stream, sample.reason.value, sample.detail)
        else:
            self._add_sample(stream, sample, arrival_ns)
        if msgtype == IMU:
            self._add_imu_covariances(stream, raw)

    def _add_sample(self, stream: Stream, sample: wire.Decoded, arrival_ns: int) -> None:
        if isinstance(sample, LidarSweep):
            if self._due(stream, arrival_ns):
                stream.looks.append(look_at(sample))
        elif isinstance(sample, CameraFrame):
            self._add_image(stream, sample, arrival_ns)
        elif isinstance(sample, CameraModel):
            if not stream.models or not _same(stream.models[-1], sample):
                stream.models.append(sample)
        elif isinstance(sample, GnssFix):
            stream.fixes.append(sample)
            if sample.covariance_type:
                self._classify(stream, "position_covariance", sample.covariance)
        elif isinstance(sample, ImuSample):
            seconds = (sample.stamp_ns - self._epoch_ns) / 1e9
            vectors = (*sample.angular_velocity, *sample.linear_acceleration)
            stream.inertial.extend((seconds, *vectors))
            stream.oriented += sample.orientation_xyzw is not None
        elif isinstance(sample, WheelOdometry):
            seconds = (sample.stamp_ns - self._epoch_ns) / 1e9
            rates = (sample.linear[0], sample.linear[1], sample.angular[2])
            stream.motion.extend((seconds, *rates))
            stream.child_frames[sample.frame_id] += 1
            if stream.msgtype != "geometry_msgs/msg/TwistStamped":
                self._classify(stream, "twist.covariance", sample.covariance)

    def _add_head(self, stream: Stream, raw: Raw) -> None:
        try:
            stream.heads.append(read_head(raw))
        except WireError:
            return  # counted where the sweep is read

    def _add_image(self, stream: Stream, frame: CameraFrame, arrival_ns: int) -> None:
        height, width = frame.height, frame.width
        if frame.encoding in ("jpeg", "png"):
            if not self._due(stream, arrival_ns):
                return
            decoded = cv2.imdecode(frame.data, cv2.IMREAD_UNCHANGED)
            if decoded is None:
                _count(stream, "undecodable_image", f"{len(frame.data)} bytes of {frame.encoding}")
                return
            height, width = decoded.shape[:2]
        stream.image_sizes[width, height, frame.encoding] += 1

    def _add_imu_covariances(self, stream: Stream, raw: Raw) -> None:
        # Read apart from the sample: a message that is rejected for one of them counts as well.
        try:
            reader = CdrReader(raw)
            reader.header(allow_zero_stamp=True)
            v = np.array(reader.doubles(37))
        except WireError:
            return  # counted where the sample was read
        for name, start in IMU_COVARIANCES.items():
            matrix = v[start : start + 9].reshape(3, 3)
            if np.isfinite(matrix).all():
                self._classify(stream, name, matrix)

    def _classify(self, stream: Stream, name: str, matrix: npt.NDArray[np.float64]) -> None:
        key = matrix.tobytes()
        if key not in self._classes:
            if len(self._classes) > 1000:
                self._classes.clear()
            self._classes[key] = covariance.fault(matrix, stream.msgtype == IMU)
        stream.covariances[name, self._classes[key]] += 1

    def _due(self, stream: Stream, arrival_ns: int) -> bool:
        if arrival_ns < self._next_look_ns.get(stream.topic, arrival_ns):
            return False
        self._next_look_ns[stream.topic] = arrival_ns + self._between_looks_ns
        return True

    # ------------------------------------------------------------------------- transforms

    def _add_transforms(self, topic: str, raw: Raw) -> None:
        static = is_static(topic)
        try:
            for link in read_links(CdrReader(raw), static):
                self._add_link(link)
        except WireError as error:
            self.bad_links[topic] = error.detail

    def _add_link(self, link: Link) -> None:
        pair = (link.parent, link.child)
        if not link.static and pair in self._moving and not is_odd(link):
            return  # of a joint that moves, one place is enough: what matters is its connection
        if not link.static:
            self._moving.add(pair)
        if link in self.links or len(self.links) < MAX_LINKS:
            self.links[link] = self.links.get(link, 0) + 1


def is_odd(link: Link) -> bool:
    """Whether the numbers of a transform are no rigid transform."""
    numbers = (*link.translation, *link.xyzw)
    return not all(map(math.isfinite, numbers)) or abs(math.hypot(*link.xyzw) - 1.0) > 1e-3


def read_links(reader: CdrReader, static: bool) -> list[Link]:
    """Every transform of a TFMessage with the numbers it came with, rigid or not."""
    count = reader.uint32()
    if count > MAX_TRANSFORMS:
        raise malformed(f"{count} transforms in one message")
    found = []
    for _ in range(count):
        parent = reader.header(allow_zero_stamp=True).frame_id
        child = reader.string().lstrip("/")
        x, y, z, qx, qy, qz, qw = reader.doubles(7)
        found.append(Link(parent, child, (x, y, z), (qx, qy, qz, qw), static))
    return found


def _count(stream: Stream, reason: str, detail: str) -> None:
    stream.rejections[reason] += 1
    stream.details.setdefault(reason, detail)


def _same(a: CameraModel, b: CameraModel) -> bool:
    sizes = (a.frame_id, a.height, a.width, a.distortion_model)
    if sizes != (b.frame_id, b.height, b.width, b.distortion_model):
        return False
    return bool(np.array_equal(a.k, b.k) and np.array_equal(a.d, b.d))
