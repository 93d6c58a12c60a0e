"""A small drive in which everything is in order, and ways to put it out of order."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from support import bags
from support.bags import START_NS, Row, S

Rows = list[Row]
CAMERA, INFO, LIDAR = "/camera/image_raw", "/camera/camera_info", "/lidar/points"
GPS, IMU, WHEELS, TF, TF_STATIC = "/gps/fix", "/imu/data", "/wheel/odometry", "/tf", "/tf_static"
MS = S // 1000
# From the instant to the recording, as on a robot: a sweep is stamped at its start.
DELAY_MS = {CAMERA: 20.0, INFO: 20.0, LIDAR: 103.0, GPS: 60.0, IMU: 2.0, WHEELS: 4.0}
SWEEP_S = 0.0999
FIELDS = ("x", "y", "z", "intensity", "t")
_FOREVER = QosTime(2147483647, 4294967295)


def profile(reliable: bool = True, latched: bool = False, deadline: QosTime = _FOREVER) -> Qos:
    """What a publisher offered, as a recorder writes it down."""
    return Qos(
        QosHistory.KEEP_LAST,
        10,
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


def cloud(ns: int, points: int = 600, frame: str = "lidar") -> Any:
    """A whole sweep with intensities of 0 .. 200 and float32 seconds after the stamp."""
    random = np.random.default_rng(ns % 2**32)
    columns = np.empty((points, 5), np.float32)
    columns[:, :3] = random.uniform([-20, -20, -1.9], [40, 20, -1.6], (points, 3))
    columns[:, 3] = random.integers(0, 200, points)
    columns[:, 4] = np.linspace(0.0, SWEEP_S, points)
    return of_columns(ns, columns, frame)


def of_columns(ns: int, columns: Any, frame: str = "lidar", names: tuple[str, ...] = FIELDS) -> Any:
    """A PointCloud2 of float32 columns [n, len(names)]."""
    columns = np.asarray(columns, np.float32)
    message = bags.cloud(ns, columns[:, :3], frame)
    message.fields = [
        bags.make("sensor_msgs/msg/PointField", name=n, offset=4 * i, datatype=7, count=1)
        for i, n in enumerate(names)
    ]
    message.point_step = 4 * len(names)
    message.row_step = message.point_step * len(columns)
    message.data = columns.view(np.uint8).ravel()
    return message


def columns_of(message: Any) -> Any:
    """The float32 columns of such a cloud, to be changed and put back by :func:`of_columns`."""
    return message.data.view(np.float32).reshape(message.width, -1).copy()


def yaw_rate_radps(t_s: float) -> float:
    """How the vehicle of the drive turns."""
    return 0.3 * float(np.sin(2.0 * t_s))


def healthy_rows(seconds: float = 3.0) -> Rows:
    """Camera, LIDAR, GPS, IMU and wheels of one drive, in the order of their recording."""
    random = np.random.default_rng(5)
    rows: Rows = [(TF_STATIC, START_NS, bags.car_mounting())]

    def every(period_ns: int, *topics: str) -> Iterable[tuple[int, list[int]]]:
        for t in range(0, round(seconds * S), period_ns):
            ns = START_NS + t
            delays = [DELAY_MS[topic] + random.exponential(0.5) for topic in topics]
            yield ns, [ns + round(d * MS) for d in delays]

    for ns, (log,) in every(S // 50, IMU):
        turn = yaw_rate_radps((ns - START_NS) / S)
        gyro = random.normal((0.0, 0.0, turn), 0.002)
        force = random.normal((0.0, 5.0 * turn, 9.81), 0.02)
        rows.append((IMU, log, bags.imu(ns, gyro, force)))
    for ns, (log,) in every(S // 20, WHEELS):
        turn = yaw_rate_radps((ns - START_NS) / S)
        rows.append((WHEELS, log, bags.odometry(ns, (5.0, 0.0, 0.0), (0.0, 0.0, turn))))
    for ns, (log,) in every(S // 5, GPS):
        east_deg = 5.0 * (ns - START_NS) / S / 74_600.0  # metres of a degree at 48 north
        rows.append((GPS, log, bags.fix(ns, longitude=8.0 + east_deg)))
    for ns, (camera, info, lidar) in every(S // 10, CAMERA, INFO, LIDAR):
        rows.append((INFO, info, bags.camera_info(ns)))
        rows.append((CAMERA, camera, bags.image(ns)))
        rows.append((LIDAR, lidar, cloud(ns)))
    return sorted(rows, key=lambda r: r[1])


Change = Callable[[Any, int, int], Any]


def change(rows: Rows, topic: str, how: Change) -> Rows:
    """``how(message, index, log_ns)`` for each message of a topic.

    It answers the message to write, a (log_ns, message), or None for one that is left out.
    """
    out, index = [], 0
    for name, log_ns, message in rows:
        if name != topic:
            out.append((name, log_ns, message))
            continue
        answer = how(copy.deepcopy(message), index, log_ns)
        index += 1
        if isinstance(answer, tuple):
            out.append((name, *answer))
        elif answer is not None:
            out.append((name, log_ns, answer))
    return sorted(out, key=lambda r: r[1])


def without(rows: Rows, *topics: str) -> Rows:
    """All but these topics."""
    return [r for r in rows if r[0] not in topics]


def restamp(message: Any, ns: int) -> Any:
    """The message with another stamp."""
    message.header.stamp = bags.stamp(ns)
    return message


def stamp_ns(message: Any) -> int:
    """The stamp of a message."""
    return int(message.header.stamp.sec) * S + int(message.header.stamp.nanosec)


def write(path: Path, rows: Rows, offered: dict[str, list[Qos]] | None = None) -> Path:
    """A bag whose /tf_static was offered transient local, and the rest reliable."""
    offers = {TF_STATIC: [profile(latched=True)], **(offered or {})}
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[tuple[str, str], Any] = {}
        for topic, log_ns, message in rows:
            kind = message.__msgtype__
            if (topic, kind) not in connections:
                connections[topic, kind] = writer.add_connection(
                    topic,
                    kind,
                    typestore=bags.STORE,
                    offered_qos_profiles=offers.get(topic, [profile()]),
                )
            raw = bags.STORE.serialize_cdr(message, kind)
            writer.write(connections[topic, kind], log_ns, raw)
    return path


class Fault(NamedTuple):
    """One thing put out of order in the healthy drive, and what the doctor has to say to it."""

    code: str
    subject: str
    severity: str
    words: tuple[str, ...]
    rows: Callable[[Rows], Rows]
    settings: tuple[str, ...] = ()
    offered: dict[str, list[Qos]] | None = None

    def __str__(self) -> str:
        return f"{self.code}:{'-'.join(self.words)}".replace(" ", "_").replace("/", "")


def at(topic: str, how: Change) -> Callable[[Rows], Rows]:
    """A fault of one topic's messages."""
    return lambda rows: change(rows, topic, how)


def setting(**values: Any) -> Change:
    """A change that sets fields of every message, given as a__b for a.b."""

    def apply(message: Any, _: int, __: int) -> Any:
        for path, value in values.items():
            *parents, leaf = path.split("__")
            target = message
            for name in parents:
                target = getattr(target, name)
            assert hasattr(target, leaf)
            setattr(target, leaf, value)
        return message

    return apply
