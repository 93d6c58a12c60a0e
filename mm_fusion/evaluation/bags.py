"""Bags: opening them, and finding which of their topics are this program's inputs.

A bag is a rosbag2 directory (sqlite3 or MCAP), a bare ``.mcap`` or ``.db3`` file, or a ROS 1
``.bag``. The reading itself is rosbags'; messages come out as CDR bytes in every case.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag1 import ReaderError as Ros1ReaderError
from rosbags.rosbag2 import ReaderError as Ros2ReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from mm_fusion.errors import BagError

BAG_SUFFIXES = (".mcap", ".db3", ".bag")

# Fields of vision_msgs 4.1, which bags without embedded definitions leave to the reader.
_VISION_MSGS = {
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id\n"
    ),
    "vision_msgs/msg/Detection3DArray": (
        "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n"
    ),
}
_ERRORS = (
    AnyReaderError,
    Ros1ReaderError,
    Ros2ReaderError,
    SerdeError,
    TypesysError,
    OSError,
    ValueError,
    KeyError,
)


@functools.cache
def typestore() -> Typestore:
    """The message types of ROS 2 Jazzy with the vision_msgs this program uses."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in _VISION_MSGS.items():
        store.register(get_types_from_msg(definition, name))
    return store


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as a bag lists it, by its full name."""

    name: str
    msgtype: str
    count: int


@dataclass(frozen=True, slots=True)
class BagMessage:
    """One recorded message: ``raw`` is CDR with its header, ``log_ns`` when it was recorded."""

    topic: str
    msgtype: str
    log_ns: int
    raw: bytes | memoryview


class Bag:
    """An open bag. A context manager; raises BagError, naming the path, for all that goes wrong."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._reader = AnyReader(_files(self.path), default_typestore=typestore())
            self._reader.open()
        except _ERRORS as error:
            raise BagError(f"{self.path}: not a readable bag: {_text(error)}") from error
        except AssertionError as error:  # rosbags states broken files so
            raise BagError(f"{self.path}: not a readable bag: it is damaged") from error

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reader.close()

    @property
    def topics(self) -> list[Topic]:
        """Every topic, by name; topics with more than one type are left out."""
        found = sorted(self._reader.topics.items())
        return [Topic(n, t.msgtype, t.msgcount) for n, t in found if t.msgtype is not None]

    @property
    def offers(self) -> dict[str, list[tuple[str, list[Qos]]]]:
        """Per topic, its types, each with the QoS that its publishers offered when recorded.

        None of them are known of ROS 1 bags and of recorders that wrote none down.
        """
        found: dict[str, list[tuple[str, list[Qos]]]] = {}
        for connection in self._reader.connections:
            profiles = list(getattr(connection.ext, "offered_qos_profiles", None) or [])
            found.setdefault(connection.topic, []).append((connection.msgtype, profiles))
        return found

    @property
    def counts(self) -> dict[str, int]:
        """Messages per topic, of all its types."""
        return {name: topic.msgcount for name, topic in self._reader.topics.items()}

    @property
    def start_ns(self) -> int:
        """When the first message was recorded."""
        return self._reader.start_time

    @property
    def end_ns(self) -> int:
        """When the last message was recorded."""
        return self._reader.end_time

    def messages(self, names: Collection[str], stop_ns: int | None = None) -> Iterator[BagMessage]:
        """The messages of the named topics in the order they were recorded, as CDR."""
        wanted = [c for c in self._reader.connections if c.topic in set(names)]
        if not wanted:
            return
        try:
            for connection, log_ns, raw in self._reader.messages(wanted, stop=stop_ns):
                yield BagMessage(
                    connection.topic, connection.msgtype, log_ns, self._cdr(connection, raw)
                )
        except _ERRORS as error:
            raise BagError(f"{self.path}: reading failed: {_text(error)}") from error

    def decode(self, message: BagMessage) -> Any:
        """The message as an object with ROS's field names, for the types that are not inputs."""
        store = self._reader.typestore if self._reader.is2 else typestore()
        try:
            return store.deserialize_cdr(message.raw, message.msgtype)
        except (*_ERRORS, AssertionError) as error:
            raise BagError(
                f"{self.path}: {message.topic}: bad {message.msgtype}: {_text(error)}"
            ) from error

    def _cdr(self, connection: Connection, raw: bytes) -> bytes | memoryview:
        if self._reader.is2:
            return raw
        # ROS 1 lays the same fields out without alignment and with a sequence number in headers.
        return typestore().ros1_to_cdr(raw, connection.msgtype)


def _files(path: Path) -> list[Path]:
    """What rosbags is to open for a path of the user's."""
    if not path.exists():
        raise BagError(f"{path}: no such bag")
    if path.is_file():
        if path.suffix not in BAG_SUFFIXES:
            raise BagError(
                f"{path}: not a bag: must be a rosbag2 directory or end in"
                f" {', '.join(BAG_SUFFIXES)}"
            )
        return [path]
    if (path / "metadata.yaml").exists():
        return [path]
    # A recorder that was killed leaves the data without metadata.yaml.
    files = sorted(f for f in path.iterdir() if f.suffix in BAG_SUFFIXES)
    if not files:
        raise BagError(f"{path}: holds neither metadata.yaml nor a {', '.join(BAG_SUFFIXES)} file")
    if len({f.suffix for f in files}) > 1:
        raise BagError(f"{path}: holds several kinds of bags without metadata.yaml; name one file")
    return files


def _text(error: BaseException) -> str:
    words = " ".join(str(a) for a in error.args) or type(error).__name__
    return " ".join(words.split())
