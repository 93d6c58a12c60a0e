"""Which topics of a bag are inputs: by their configured names, else by their types."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from mm_fusion.config import WHEEL_TYPES, Config, TopicsConfig
from mm_fusion.errors import BagError
from mm_fusion.evaluation.bags import Topic

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
NAV_SAT_FIX = "sensor_msgs/msg/NavSatFix"
IMU = "sensor_msgs/msg/Imu"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
ODOMETRY = "nav_msgs/msg/Odometry"
DETECTIONS = "vision_msgs/msg/Detection3DArray"

TRUTH_OBJECTS = "truth/objects"
TRUTH_ODOMETRY = "truth/odometry"
TRUTH_DATUM = "truth/datum"

# What this program or a simulator publishes: never taken for an input by its type alone.
_OWN = ("odometry/local", "odometry/global", "gps/filtered", "obstacles", "debug", "truth")
# Commands have the type of a measured velocity, and are none.
_COMMANDS = ("cmd_vel",)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The topics of one bag, by full name; None where the bag has no such input.

    ``cameras`` has one entry per camera slot, ``camera_infos`` beside it; ``lidars`` has one per
    configured LIDAR. ``transforms`` are the TF topics, static ones first. ``notes`` says, per
    input, what was taken and why.
    """

    cameras: tuple[Topic | None, ...]
    camera_infos: tuple[Topic | None, ...]
    lidars: tuple[Topic | None, ...]
    gps: Topic | None
    imu: Topic | None
    wheels: Topic | None
    transforms: tuple[Topic, ...]
    notes: dict[str, str]

    def perception(self) -> bool:
        """Whether there is anything to detect objects from."""
        return any(self.lidars) or any(self.cameras)

    def pose(self) -> bool:
        """Whether there is anything to know motion from."""
        return any((self.gps, self.imu, self.wheels))

    def config(self, config: Config) -> Config:
        """The configuration with its topics replaced by the found ones, as sensor names."""
        t = config.topics
        cameras = [_bare(f) if f else w for f, w in zip(self.cameras, t.cameras, strict=True)]
        lidars = [_bare(f) if f else w for f, w in zip(self.lidars, t.lidars, strict=True)]
        found = dict(zip((*t.cameras, *t.lidars), (*cameras, *lidars), strict=True))
        sync = dataclasses.replace(
            config.sync,
            reference=found.get(config.sync.reference, config.sync.reference),
            required=tuple(found.get(name, name) for name in config.sync.required),
        )
        topics = dataclasses.replace(
            t,
            cameras=tuple(cameras),
            lidars=tuple(lidars),
            gps=_bare(self.gps) if self.gps else t.gps,
            imu=_bare(self.imu) if self.imu else t.imu,
            wheels=_bare(self.wheels) if self.wheels else t.wheels,
            wheels_type=self.wheels.msgtype if self.wheels else t.wheels_type,
        )
        return dataclasses.replace(config, topics=topics, sync=sync)


def _bare(topic: Topic) -> str:
    return topic.name.lstrip("/")


def find_inputs(available: Sequence[Topic], config: Config, source: str) -> Inputs:
    """Match a bag's topics with the configuration.

    A configured name is taken where the bag has it with a fitting type. Otherwise the only topic
    of the type is taken; of several, the one whose name ends in the configured name. Raises
    BagError, naming the candidates and the parameter, where the choice is open, where a name set
    by the user is not in the bag, and where the bag has no input at all.
    """
    finder = _Finder([t for t in available if t.count > 0], source)
    topics, default = config.topics, TopicsConfig()
    cameras = tuple(
        finder.find(
            f"topics.cameras[{slot}]",
            name,
            default.cameras[0] if len(topics.cameras) == 1 else "",
            (COMPRESSED_IMAGE, IMAGE) if topics.camera_compressed else (IMAGE, COMPRESSED_IMAGE),
        )
        for slot, name in enumerate(topics.cameras)
    )
    several = len(topics.lidars) > 1
    lidars = tuple(
        finder.find(
            f"topics.lidars[{slot}]" if several else "topics.lidars",
            name,
            "" if several else default.lidars[0],
            (POINT_CLOUD,),
        )
        for slot, name in enumerate(topics.lidars)
    )
    wheel_types = (topics.wheels_type, *(t for t in WHEEL_TYPES if t != topics.wheels_type))
    inputs = Inputs(
        cameras=cameras,
        camera_infos=tuple(
            finder.camera_info(slot, camera, config) for slot, camera in enumerate(cameras)
        ),
        lidars=lidars,
        gps=finder.find("topics.gps", topics.gps, default.gps, (NAV_SAT_FIX,)),
        imu=finder.find("topics.imu", topics.imu, default.imu, (IMU,)),
        wheels=finder.find("topics.wheels", topics.wheels, default.wheels, wheel_types),
        transforms=finder.transforms(),
        notes=finder.notes,
    )
    if not inputs.perception() and not inputs.pose():
        has = ", ".join(sorted({t.msgtype for t in available})) or "nothing"
        raise BagError(
            f"{source}: no input topic: needs an image, PointCloud2, NavSatFix, Imu or wheel"
            f" odometry topic, has {has}"
        )
    return inputs


def find_named(available: Sequence[Topic], name: str, msgtype: str) -> Topic | None:
    """The topic of this relative name and type, in whatever namespace; None where there is none."""
    fitting = [t for t in available if t.msgtype == msgtype and t.count > 0 and _ends(t, name)]
    exact = [t for t in fitting if _bare(t) == name]
    return exact[0] if exact else (fitting[0] if len(fitting) == 1 else None)


def candidates(typed: Sequence[Topic], name: str, types: Sequence[str]) -> list[list[Topic]]:
    """Of topics of fitting types, who could be an input whose name none of them has.

    Groups, the better ones first; the first non-empty one decides, if it has one member.
    """
    free = [t for t in typed if not _is_own(t)]
    ending = [t for t in free if _ends(t, name)]
    rounds = [ending] if len(ending) == 1 else []
    return rounds + [[t for t in free if t.msgtype == kind] for kind in types]


def _ends(topic: Topic, name: str) -> bool:
    return f"/{_bare(topic)}".endswith("/" + name.lstrip("/"))


class _Finder:
    """Finds one topic after the other and notes what it took."""

    def __init__(self, available: Sequence[Topic], source: str) -> None:
        self.available = available
        self.source = source
        self.notes: dict[str, str] = {}

    def find(self, parameter: str, name: str, default: str, types: Sequence[str]) -> Topic | None:
        """One input; ``types`` in order of preference, ``default`` the name nobody chose."""
        typed = [t for t in self.available if t.msgtype in types]
        named = [t for t in typed if _bare(t) == name.lstrip("/")]
        if named:
            return self._take(parameter, named[0], "named")
        if name != default:
            have = _listed(typed) or "none"
            raise BagError(
                f"{self.source}: no topic {name} of type {' or '.join(types)} ({parameter});"
                f" topics of that type: {have}"
            )
        for group in candidates(typed, name, types):
            if len(group) == 1:
                why = f"the only {group[0].msgtype}"
                return self._take(parameter, group[0], why)
            if len(group) > 1:
                option = parameter.partition("[")[0]
                value = "[NAME]" if option in ("topics.cameras", "topics.lidars") else "NAME"
                raise BagError(
                    f"{self.source}: {len(group)} topics could be {option}:"
                    f" {_listed(group)}; choose with --set {option}={value}"
                )
        self.notes[parameter] = "none in the bag"
        return None

    def _take(self, parameter: str, topic: Topic, why: str) -> Topic:
        self.notes[parameter] = f"{topic.name} ({why})"
        return topic

    def camera_info(self, slot: int, camera: Topic | None, config: Config) -> Topic | None:
        """The CameraInfo of a camera: configured, beside its images, or the only one there is."""
        parameter = f"topics.camera_infos[{slot}]"
        infos = [t for t in self.available if t.msgtype == CAMERA_INFO]
        configured = config.topics.camera_infos
        if configured != ("",) and configured[slot]:
            return self.find(parameter, configured[slot], "", (CAMERA_INFO,))
        if camera is None:
            return None
        only = Config(topics=TopicsConfig(cameras=(_bare(camera),)))
        beside = only.camera_info_topics()[0]
        for topic in infos:
            if _bare(topic) == beside:
                return self._take(parameter, topic, "beside the images")
        if len(infos) == 1 and len(config.topics.cameras) == 1:
            return self._take(parameter, infos[0], "the only CameraInfo")
        self.notes[parameter] = f"none beside {camera.name}"
        return None

    def transforms(self) -> tuple[Topic, ...]:
        """TF topics, the static ones first."""
        found = [t for t in self.available if t.msgtype == TF_MESSAGE]
        return tuple(sorted(found, key=lambda t: (not is_static(t.name), t.name)))


def is_static(topic: str) -> bool:
    """Whether a TF topic carries transforms that never change."""
    return topic.rpartition("/")[2] == "tf_static"


def _is_own(topic: Topic) -> bool:
    path = f"/{_bare(topic)}/"
    return any(f"/{own}/" in path for own in _OWN) or any(c in path for c in _COMMANDS)


def _listed(topics: Sequence[Topic]) -> str:
    return ", ".join(t.name for t in topics)
