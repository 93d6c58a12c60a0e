"""What was observed on a graph or in a bag: the one thing that every check looks at.

Nothing here judges. Live collection and the reading of bags fill the same records, and tests make
them by hand.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mm_fusion.samples import CameraModel, GnssFix

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

FOREVER_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class Qos:
    """The policies that decide whether a publisher and a subscriber meet. Times in nanoseconds."""

    reliable: bool = False
    transient_local: bool = False
    deadline_ns: int = FOREVER_NS
    liveliness_manual: bool = False
    lease_ns: int = FOREVER_NS
    depth: int = 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One publisher or subscriber of a topic; ``node`` is "" where a bag does not tell."""

    node: str
    msgtype: str
    qos: Qos | None


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """A topic as the graph or the bag lists it. ``count`` is -1 where nobody counted (live)."""

    name: str
    msgtypes: tuple[str, ...]
    count: int = -1
    publishers: tuple[Endpoint, ...] = ()
    subscribers: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """One input of the configuration.

    ``role``: camera, camera_info, lidar, gps, imu, wheels, motion. ``name`` is the topic's full
    name, ``types`` the message types that serve, best first; ``chosen``: the user named it.
    """

    role: str
    slot: int
    parameter: str
    name: str
    types: tuple[str, ...]
    chosen: bool


@dataclass(frozen=True, slots=True)
class Input:
    """A wanted input and the topic that serves as it: ``by_type`` where the name did not fit."""

    wanted: Wanted
    topic: TopicSeen | None
    by_type: bool = False
    candidates: tuple[str, ...] = ()
    wrong_type: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CloudHead:
    """What a PointCloud2 says about itself, point data aside."""

    height: int
    width: int
    is_dense: bool
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CloudLook:
    """What the points of one cloud say.

    ``nan_share`` of the points have a coordinate that is not finite, ``zero_share`` are at the
    origin. ``span_ns`` are the first and last instant of the points against the stamp, None
    without a usable time field. ``range_m`` is the median distance. Intensities are the raw ones.
    """

    points: int
    nan_share: float
    zero_share: float
    range_m: float
    span_ns: tuple[float, float] | None
    remark: str
    intensity_field: str
    intensity_min: float
    intensity_max: float
    intensity_nan_share: float
    intensity_scale: float


@dataclass(slots=True)
class Stream:
    """All that was kept of one topic's messages.

    ``stamps_ns`` and ``arrivals_ns`` have one entry per message with a readable header (stamp 0
    included); ``clocks_ns`` the time on /clock at that moment, 0 where there was none. Samples of
    large messages are looked at and let go; of the others the numbers are kept, with stamps in
    seconds after the first stamp of all streams. ``meaning`` says how the times and intensities of
    a LIDAR's points were read in the end.
    """

    topic: str
    msgtype: str
    role: str
    slot: int = 0
    messages: int = 0
    lost_events: int = 0
    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    arrivals_ns: array[int] = field(default_factory=lambda: array("q"))
    clocks_ns: array[int] = field(default_factory=lambda: array("q"))
    bytes_total: int = 0
    bytes_max: int = 0
    frames: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    covariances: Counter[tuple[str, str]] = field(default_factory=Counter)
    heads: list[CloudHead] = field(default_factory=list)
    looks: list[CloudLook] = field(default_factory=list)
    meaning: str = ""
    image_sizes: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    models: list[CameraModel] = field(default_factory=list)
    fixes: list[GnssFix] = field(default_factory=list)
    inertial: array[float] = field(default_factory=lambda: array("d"))
    oriented: int = 0
    motion: array[float] = field(default_factory=lambda: array("d"))
    child_frames: Counter[str] = field(default_factory=Counter)

    def stamps(self) -> I64:
        """Stamps int64 [n], ns."""
        return np.array(self.stamps_ns, np.int64)

    def arrivals(self) -> I64:
        """Times of arrival int64 [n], ns."""
        return np.array(self.arrivals_ns, np.int64)

    def clocks(self) -> I64:
        """Times on /clock int64 [n], ns; 0: not known."""
        return np.array(self.clocks_ns, np.int64)

    def imu(self) -> F64:
        """float64 [n,7]: stamp (s), angular velocity (rad/s), specific force (m/s^2)."""
        return np.array(self.inertial).reshape(-1, 7)

    def velocities(self) -> F64:
        """float64 [n,4]: stamp (s), forward and lateral speed (m/s), yaw rate (rad/s)."""
        return np.array(self.motion).reshape(-1, 4)

    @property
    def frame(self) -> str:
        """The frame most messages are in."""
        return self.frames.most_common(1)[0][0] if self.frames else ""


@dataclass(frozen=True, slots=True)
class Link:
    """A transform as it was told: translation [3] m, quaternion x y z w."""

    parent: str
    child: str
    translation: tuple[float, float, float]
    xyzw: tuple[float, float, float, float]
    static: bool


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the kernel and the environment say. Sizes in bytes; 0 or "" where not known."""

    environment: dict[str, str]
    rmem_max: int = 0
    wmem_max: int = 0
    shm_size: int = 0
    shm_free: int = 0
    rmw: str = ""
    profile: str = ""
    receive_wanted: int = 0
    send_wanted: int = 0
    segment_wanted: int = 0
    stale_segments: int = 0
    stale_bytes: int = 0
    profile_error: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The network as it loaded, or the error with which it did not.

    ``camera_slots`` None: as many cameras as there are; ``point_budget`` 0: all points.
    """

    model: str
    asked: str
    provider: str = ""
    available: tuple[str, ...] = ()
    camera_slots: int | None = 0
    point_budget: int = 0
    error: str = ""


@dataclass(slots=True)
class Observations:
    """Everything, from one graph or bag.

    ``links`` holds every different transform that was told, ``bad_links`` why others could not be
    read. ``clock_publishers`` is the number of publishers on /clock, ``sim_time`` what nodes of
    this program that run say about use_sim_time.
    """

    source: str
    live: bool
    start_ns: int = 0
    end_ns: int = 0
    topics: tuple[TopicSeen, ...] = ()
    inputs: tuple[Input, ...] = ()
    streams: dict[str, Stream] = field(default_factory=dict)
    links: dict[Link, int] = field(default_factory=dict)
    bad_links: dict[str, str] = field(default_factory=dict)
    clock_publishers: int = 0
    sim_time: dict[str, bool] = field(default_factory=dict)
    host: HostFacts | None = None
    model: ModelFacts | None = None

    @property
    def duration_s(self) -> float:
        """How long was observed."""
        return max(self.end_ns - self.start_ns, 0) / 1e9

    def stream(self, role: str, slot: int = 0) -> Stream | None:
        """The stream that serves as an input; None where nothing came."""
        for given in self.inputs:
            if (given.wanted.role, given.wanted.slot) == (role, slot) and given.topic:
                return self.streams.get(given.topic.name)
        return None

    def of_role(self, role: str) -> list[Stream]:
        """Every stream of a role, by slot."""
        return sorted((s for s in self.streams.values() if s.role == role), key=lambda s: s.slot)
