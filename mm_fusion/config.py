"""Every parameter of mm_fusion with its default, unit, range and meaning: the only such place.

``config/fusion.yaml``, the ROS parameters of the nodes and the README table come from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mm_fusion import parameters
from mm_fusion.config_detectors import Camera2dConfig
from mm_fusion.config_health import HealthConfig
from mm_fusion.config_lidar import DeskewConfig, LidarConfig
from mm_fusion.config_objects import GroundConfig, ObstaclesConfig, TrackerConfig
from mm_fusion.config_pose import PoseConfig
from mm_fusion.config_sync import SyncConfig
from mm_fusion.errors import ConfigError
from mm_fusion.geometry import RigidTransform
from mm_fusion.parameters import param

WHEEL_TYPES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/TwistWithCovarianceStamped",
)


@dataclass(frozen=True)
class FramesConfig:
    """Names of the frames of REP-105."""

    base: str = param("base_link", "Frame of the robot's body; detections and obstacles are in it")
    odom: str = param(
        "odom", "Continuous local frame: GPS never moves the position or heading in it"
    )
    map: str = param("map", "Global frame: east-north-up about the datum")


@dataclass(frozen=True)
class TopicsConfig:
    """Input topics. In a bag, an absent topic is found by its type where only one has it."""

    cameras: tuple[str, ...] = param(
        ("camera/image_raw",), "Image topics, one per camera slot of the network"
    )
    camera_infos: tuple[str, ...] = param(
        ("",), "CameraInfo topics in the same order; empty: camera_info beside the image topic"
    )
    camera_compressed: bool = param(False, "The camera topics carry CompressedImage (JPEG or PNG)")
    lidars: tuple[str, ...] = param(
        ("lidar/points",), "PointCloud2 topics, merged into one cloud in the base frame"
    )
    gps: str = param("gps/fix", "NavSatFix topic")
    imu: str = param("imu/data", "Imu topic")
    wheels: str = param("wheel/odometry", "Topic with the body velocity from the wheels")
    wheels_type: str = param(
        "nav_msgs/msg/Odometry", "Message type of the wheel topic", choices=WHEEL_TYPES
    )
    motion: str = param("odometry/local", "Odometry that gives the fusion node its ego motion")

    def lidar_names(self) -> tuple[str, ...]:
        """The LIDARs; none where the parameter is ``[""]``."""
        return tuple(name for name in self.lidars if name)

    def camera_names(self) -> tuple[str, ...]:
        """The cameras; none where the parameter is ``[""]``."""
        return tuple(name for name in self.cameras if name)


@dataclass(frozen=True)
class CalibrationConfig:
    """What overrides or completes /tf_static and CameraInfo."""

    extrinsics: tuple[str, ...] = param(
        ("",),
        "Sensor poses in the base frame that override TF, each 'frame x y z roll pitch yaw'"
        " (metres, radians)",
    )


@dataclass(frozen=True)
class NetworkConfig:
    """Where the fusion network is and where it runs."""

    model: str = param("", "The ONNX file, its contract beside it; empty: the packaged network")
    lidar_model: str = param(
        "auto",
        "The network that answers where no picture can be had, its contract beside it; auto: the"
        " packaged one, where model is the packaged one; empty: none, model answers alone",
    )
    camera_model: str = param("auto", "The same where no points can be had")
    provider: str = param(
        "auto",
        "auto: CUDA where it works, else CPU, said in diagnostics; another: an error without it",
        choices=("auto", "tensorrt", "cuda", "cpu"),
    )
    cuda_graph: bool = param(
        False,
        "On a GPU, record the network's run once and replay it: every run takes the contract's full"
        " number of points, those that are not there as NaN",
    )
    engine_cache: str = param(
        "",
        "Folder for TensorRT's engines, which take minutes; empty: built at every start",
    )
    threads: int = param(0, "Threads of the network on CPU; 0: one per core", low=0, high=256)
    score_threshold: float = param(
        -1.0, "Detections below are not published; negative: the contract's own", low=-1.0, high=1.0
    )
    use_camera: bool = param(True, "False withholds images from the network (ablation)")
    use_lidar: bool = param(True, "False withholds points from the network (ablation)")
    queue_size: int = param(
        4,
        "Synced sets waiting for the network; the oldest is given up for a newer:"
        " bursts of load cost latency up to here, and results from here on",
        low=1,
        high=100,
    )
    patience_s: float = param(
        1.0,
        "A network that has not been without a set for this long, and takes longer than the sets"
        " are apart, is too slow: only the newest waits for it, until it has caught up",
        unit="s",
        low=0.1,
        high=1000.0,
    )

    def threshold_over(self, contracts: float) -> float:
        """The score from which on boxes are told: the user's, where there is none a contract's."""
        return contracts if self.score_threshold < 0.0 else self.score_threshold


@dataclass(frozen=True)
class NodesConfig:
    """What only concerns the running nodes."""

    autostart: bool = param(
        False, "The node configures and activates itself; a lifecycle manager does it otherwise"
    )
    diagnostics_period_s: float = param(
        1.0, "Time between two messages on /diagnostics", unit="s", low=0.1, high=60.0
    )
    publish_tf: bool = param(True, "The pose node publishes map -> odom -> base on /tf")
    pose_rate_hz: float = param(
        50.0,
        "Poses of one kind published at most this often; 0: every one",
        unit="Hz",
        low=0.0,
        high=1000.0,
    )
    pose_ahead_hz: float = param(
        0.0,
        "So often the pose node also says where the robot is now, beyond its last sample:"
        " odometry/local_ahead, odometry/global_ahead and TF; 0: never",
        unit="Hz",
        low=0.0,
        high=1000.0,
    )
    pose_ahead_limit_s: float = param(
        0.2,
        "Beyond the last sample by at most this much; then nothing is said",
        unit="s",
        low=0.0,
        high=2.0,
    )
    input_timeout_s: float = param(
        1.0,
        "An input silent for this long is announced as missing",
        unit="s",
        low=0.1,
        high=60.0,
    )


@dataclass(frozen=True)
class SimulatorConfig:
    """Parameters of simulator_node, which plays a bag, or a drive simulated for it."""

    bag: str = param("", "The bag to play; empty: simulate a drive first")
    seed: int = param(1, "Seed of the simulated drive", low=0, high=2**31 - 1)
    duration_s: float = param(30.0, "Length of the simulated drive", unit="s", low=1.0, high=3600.0)
    scenario: str = param("town", "Scenario of the simulated drive")
    rate: float = param(1.0, "Speed of the playback against real time", low=0.01, high=100.0)
    loop: bool = param(False, "Start again at the end of the bag")
    topics: tuple[str, ...] = param(("",), "Topics to play; empty: all whose types are installed")
    wait_for: tuple[str, ...] = param(
        ("",),
        "Topics that must have a subscriber before the playback starts; any: one of those played",
    )
    wait_s: float = param(
        60.0, "Longest wait for these subscribers", unit="s", low=0.0, high=3600.0
    )
    clock_hz: float = param(
        20.0, "Rate of /clock; 0: none is published", unit="Hz", low=0.0, high=1000.0
    )
    progress: bool = param(False, "Say twice a second on stdout, as JSON, how far it is")


DETECTORS = ("fusion", "camera2d", "lidar", "ensemble")


@dataclass(frozen=True)
class Config:
    """The whole configuration."""

    detector: str = param(
        "fusion",
        "What finds objects: the fusion network; a camera detector with LIDAR clusters (camera2d);"
        " a two-stage LIDAR network (lidar); camera2d and the fusion network together (ensemble)",
        choices=DETECTORS,
    )
    model: str = param(
        "",
        "The ONNX file of that detector (ensemble: of its camera detector), its contract beside it"
        " unless it is a usual export; empty: network.model, which only fusion can do with",
    )
    frames: FramesConfig = field(default_factory=FramesConfig)
    topics: TopicsConfig = field(default_factory=TopicsConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    lidar: LidarConfig = field(default_factory=LidarConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    camera2d: Camera2dConfig = field(default_factory=Camera2dConfig)
    deskew: DeskewConfig = field(default_factory=DeskewConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    ground: GroundConfig = field(default_factory=GroundConfig)
    obstacles: ObstaclesConfig = field(default_factory=ObstaclesConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    nodes: NodesConfig = field(default_factory=NodesConfig)

    def __post_init__(self) -> None:
        topics = self.topics
        for what, names in (("lidars", topics.lidars), ("cameras", topics.cameras)):
            if names != ("",) and ("" in names or len(set(names)) < len(names)):
                raise ConfigError(f"topics.{what}: names must differ, got {list(names)}")
        self.sync.check_sensors(topics.lidar_names(), topics.camera_names())
        self.lidar.check_count(len(self.topics.lidars))
        infos = self.topics.camera_infos
        if infos != ("",) and len(infos) != len(self.topics.cameras):
            raise ConfigError(
                f"topics.camera_infos: must have one entry per camera"
                f" ({len(self.topics.cameras)}), got {len(infos)}"
            )
        if self.detector != "fusion" and not self.model:
            raise ConfigError(f"model: must name an ONNX file where detector is {self.detector}")
        self.extrinsics()

    def extrinsics(self) -> dict[str, RigidTransform]:
        """``base_from_sensor`` by frame name, from ``calibration.extrinsics``."""
        return dict(_extrinsic(text) for text in self.calibration.extrinsics if text.strip())

    def camera_info_topics(self) -> tuple[str, ...]:
        """The CameraInfo topic of every camera slot."""
        given = self.topics.camera_infos
        if given == ("",):
            given = ("",) * len(self.topics.cameras)
        return tuple(
            info or _info_beside(image)
            for image, info in zip(self.topics.cameras, given, strict=True)
        )


def _info_beside(image_topic: str) -> str:
    """image_transport's rule: camera_info in the image topic's namespace."""
    base = image_topic.removesuffix("/compressed")
    namespace, slash, _ = base.rpartition("/")
    return f"{namespace}{slash}camera_info"


def _extrinsic(text: str) -> tuple[str, RigidTransform]:
    words = text.split()
    rule = "must be 'frame x y z roll pitch yaw'"
    if len(words) != 7:
        raise ConfigError(f"calibration.extrinsics: {rule}, got '{text}'")
    try:
        numbers = [float(w) for w in words[1:]]
    except ValueError as error:
        raise ConfigError(f"calibration.extrinsics: {rule}, got '{text}'") from error
    return words[0], RigidTransform.from_rpy(numbers[:3], numbers[3:])


def from_values(values: Mapping[str, Any]) -> Config:
    """A configuration from dotted names. Raises ConfigError, naming the parameter and the rule."""
    return cast(Config, parameters.build(Config, values))


def load(yaml_text: str = "", source: str = "", assignments: Iterable[str] = ()) -> Config:
    """A configuration from the text of a parameter file and ``key=value`` overrides."""
    values = parameters.parse_yaml(yaml_text, source or "configuration")
    values.update(parameters.parse_assignment(a) for a in assignments)
    return from_values(values)
