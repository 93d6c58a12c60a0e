"""What Nav2 (Jazzy) is told and given: its parameters, and the messages held against what its
obstacle layer, its collision monitor and its lifecycle manager do with them.

What Nav2 does is written down here from its sources, branch jazzy: nav2_costmap_2d
(obstacle_layer.cpp, observation_buffer.cpp), nav2_collision_monitor (pointcloud.cpp, source.cpp,
collision_monitor_node.cpp) and nav2_lifecycle_manager (lifecycle_manager.cpp).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from nav_msgs.msg import Odometry
from rclpy.qos import QoSCompatibility, qos_check_compatible, qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2, PointField
from vision_msgs.msg import Detection3DArray

from mm_fusion.config import Config, from_values
from mm_fusion.geometry import RigidTransform
from mm_fusion.nodes import messages, qos
from mm_fusion.nodes.fusion_outputs import FusionOutputs
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.samples import FusionResult, LidarSweep, Mode, PoseEstimate, SyncedSet, Track
from mm_fusion.wire.track_state import TRACK_STATE_DTYPE

ROOT = Path(__file__).resolve().parents[2]
STAMP_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
HIGH_M = 40.0  # the robot has climbed a hill since it was switched on
LIDAR_M = 1.8


def parameters(*nodes: str) -> dict[str, Any]:
    tree = yaml.safe_load((ROOT / "config" / "nav2.yaml").read_text())
    for node in nodes:
        tree = tree[node]
    return dict(tree["ros__parameters"])


COSTMAPS = [("local_costmap", "local_costmap"), ("global_costmap", "global_costmap")]

# Name, and type as Nav2 declares it: ROS 2 refuses an integer for a double.
SOURCE = {
    "topic": str,
    "sensor_frame": str,
    "observation_persistence": float,
    "expected_update_rate": float,
    "data_type": str,
    "min_obstacle_height": float,
    "max_obstacle_height": float,
    "inf_is_valid": bool,
    "marking": bool,
    "clearing": bool,
    "obstacle_max_range": float,
    "obstacle_min_range": float,
    "raytrace_max_range": float,
    "raytrace_min_range": float,
}
LAYER = {
    "plugin": str,
    "enabled": bool,
    "footprint_clearing_enabled": bool,
    "min_obstacle_height": float,
    "max_obstacle_height": float,
    "combination_method": int,
    "observation_sources": str,
}
COSTMAP = {
    "global_frame": str,
    "robot_base_frame": str,
    "rolling_window": bool,
    "width": int,
    "height": int,
    "resolution": float,
    "update_frequency": float,
    "publish_frequency": float,
    "transform_tolerance": float,
    "track_unknown_space": bool,
    "plugins": list,
}
MONITOR = {
    "base_frame_id": str,
    "odom_frame_id": str,
    "cmd_vel_in_topic": str,
    "cmd_vel_out_topic": str,
    "transform_tolerance": float,
    "source_timeout": float,
    "base_shift_correction": bool,
    "stop_pub_timeout": float,
    "polygons": list,
    "observation_sources": list,
}
MONITOR_SOURCE = {
    "type": str,
    "topic": str,
    "use_global_height": bool,
    "min_height": float,
    "max_height": float,
    "min_range": float,
    "enabled": bool,
}


def check(values: dict[str, Any], known: dict[str, type]) -> None:
    for name, value in values.items():
        assert type(value) is known[name], f"{name}: {value!r} is no {known[name].__name__}"


# ----------------------------------------------------------------------------- parameters


def test_the_file_is_one_that_ros_reads() -> None:
    text = (ROOT / "config" / "nav2.yaml").read_text()
    events = list(yaml.parse(text))
    assert not [e for e in events if isinstance(e, yaml.AliasEvent) or getattr(e, "anchor", None)]


@pytest.mark.parametrize("node", COSTMAPS, ids=lambda n: n[0])
def test_costmaps_are_told_what_their_defaults_get_wrong(node: tuple[str, str]) -> None:
    costmap = parameters(*node)
    layer = costmap.pop("obstacle_layer")
    costmap.pop("inflation_layer")
    check(costmap, COSTMAP)
    sources = {name: layer.pop(name) for name in layer["observation_sources"].split()}
    check(layer, LAYER)
    for source in sources.values():
        check(source, SOURCE)
        # Every key whose default is a trap is set, and otherwise.
        assert source["data_type"] == "PointCloud2"
        assert 0.0 < source["expected_update_rate"] <= 1.0
    # What stands on the highest hill and in the deepest valley is within the bands of heights.
    for band in (layer, *sources.values()):
        assert band["min_obstacle_height"] < -1000.0
        assert band["max_obstacle_height"] > 9000.0
    (marks,) = (s for s in sources.values() if s["marking"])
    (clears,) = (s for s in sources.values() if s["clearing"])
    assert marks["obstacle_max_range"] >= 10.0
    assert clears["raytrace_max_range"] > marks["obstacle_max_range"]
    assert costmap["width"] >= 2 * min(marks["obstacle_max_range"], 15.0)


def test_the_collision_monitor_is_told_what_its_defaults_get_wrong() -> None:
    monitor = parameters("collision_monitor")
    for polygon in monitor["polygons"]:
        monitor.pop(polygon)
    sources = {name: monitor.pop(name) for name in monitor["observation_sources"]}
    check(monitor, MONITOR)
    assert 0.0 < monitor["source_timeout"] < 1.0
    for source in sources.values():
        check(source, MONITOR_SOURCE)
        assert source["type"] == "pointcloud"
        assert source["use_global_height"]


def test_frames_and_topics_are_those_of_the_nodes() -> None:
    config = Config()
    frames = (config.frames.map, config.frames.odom, config.frames.base)
    assert frames == ("map", "odom", "base_link")  # REP-105
    local, world = (parameters(*node) for node in COSTMAPS)
    assert (local["global_frame"], world["global_frame"]) == ("odom", "map")
    monitor = parameters("collision_monitor")
    assert (monitor["odom_frame_id"], monitor["base_frame_id"]) == ("odom", "base_link")
    assert {c["robot_base_frame"] for c in (local, world)} == {"base_link"}
    node = Node()
    outputs(node, config)
    assert node.types["obstacles"] is PointCloud2
    for layer in (local["obstacle_layer"], world["obstacle_layer"]):
        assert layer["fused"]["topic"] == "/obstacles"
        assert layer["sweep"]["topic"] == f"/{config.topics.lidars[0]}"
    assert monitor["fused"]["topic"] == "/obstacles"
    for name in ("controller_server", "bt_navigator", "velocity_smoother"):
        assert parameters(name)["odom_topic"] == f"/{config.topics.motion}"


def test_the_lifecycle_manager_waits_for_no_bond() -> None:
    """GIVEN nodes that make no bond THEN their manager is told so, and manages no others."""
    manager = parameters("lifecycle_manager_fusion")
    assert manager["bond_timeout"] == 0.0
    assert isinstance(manager["bond_timeout"], float)
    assert manager["node_names"] == ["pose_node", "fusion_node"]
    sources = [p.read_text() for p in (ROOT / "mm_fusion" / "nodes").glob("*.py")]
    assert not any("bondpy" in text for text in sources)


def test_nav2_can_subscribe_to_everything() -> None:
    """GIVEN Nav2's best effort subscriptions for clouds, and its default ones for odometry THEN
    what the nodes offer is compatible."""
    for wanted in (qos_profile_sensor_data, qos.result()):
        compatible, reason = qos_check_compatible(qos.result(), wanted)
        assert compatible != QoSCompatibility.ERROR, reason


# ------------------------------------------------------------------------------- messages


class Publisher:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def get_subscription_count(self) -> int:
        return 1

    def publish(self, message: Any) -> None:
        self.sent.append(message)


class Node:
    """As much of a node as the outputs use."""

    def __init__(self) -> None:
        self.made: dict[str, Publisher] = {}
        self.types: dict[str, type] = {}

    def create_lifecycle_publisher(self, kind: type, topic: str, *_: Any, **__: Any) -> Publisher:
        self.made[topic], self.types[topic] = Publisher(), kind
        return self.made[topic]

    def get_fully_qualified_name(self) -> str:
        return "/fusion_node"


def config_with_lidar() -> Config:
    return from_values({"calibration.extrinsics": [f"lidar 0 0 {LIDAR_M} 0 0 0"]})


def outputs(node: Node, config: Config) -> FusionOutputs:
    motion = MotionBuffer(config.deskew)
    where = RigidTransform.from_rpy((100.0, -30.0, HIGH_M), (0.0, 0.05, 0.7))
    for n in range(-5, 40):
        stamp_ns = STAMP_NS + n * PERIOD_NS // 2
        still = (np.zeros(3), np.zeros(3), np.eye(6), np.eye(6))
        motion.add(PoseEstimate(stamp_ns, "odom", "base_link", where, *still))
    return FusionOutputs(node, config, Calibration(config), motion)  # type: ignore[arg-type]


def sweep(stamp_ns: int, post: bool) -> LidarSweep:
    """Level ground, and a post 8 m ahead, as a LIDAR 1.8 m up sees them; one broken point."""
    reach = (LIDAR_M / np.tan(np.deg2rad(np.linspace(2.0, 24.0, 40))))[:, None]
    azimuth = np.arange(360) * (np.pi / 180)
    x, y = (reach * np.cos(azimuth)).ravel(), (reach * np.sin(azimuth)).ravel()
    xyz = np.column_stack([x, y, np.full_like(x, -LIDAR_M)])[np.hypot(x, y) < 30.0]
    up = np.arange(-1.6, -0.6, 0.05)
    standing = np.column_stack([np.full_like(up, 8.0), np.zeros_like(up), up])
    xyz = np.concatenate([xyz, *([standing] * post), [[np.nan, 1.0, 1.0]]])
    points = np.zeros(len(xyz), [(axis, "<f4") for axis in "xyz"])
    for axis, column in zip("xyz", xyz.T, strict=True):
        points[axis] = column
    return LidarSweep("lidar", stamp_ns, "lidar", points)


def tracked() -> tuple[Track, ...]:
    place = (np.array([1.0, 2.0, HIGH_M]), np.array([4.0, 1.8, 1.5]), 0.3, np.array([3.0, -1.0]))
    covariance = np.arange(16.0).reshape(4, 4) + np.arange(16.0).reshape(4, 4).T
    return (Track(31, "car", 0.5, *place, covariance, 3, 0.1, 0.2, 0.01, 0.02, 0.97),)


def answered(
    made: FusionOutputs, n: int = 0, post: bool = True, lidar: bool = True, tracks: Any = ()
) -> None:
    stamp_ns = STAMP_NS + n * PERIOD_NS
    result = FusionResult(
        stamp_ns, "base_link", Mode.LIDAR, (), (), tracks, "odom", True, dt_ns={"lidar": 0}
    )
    made.publish(result)
    swept = (sweep(stamp_ns, post) if lidar else None,)
    made.publish_more(result, SyncedSet(stamp_ns, swept, (None,)))


def points_of(cloud: PointCloud2) -> np.ndarray:
    """The cloud as Nav2's iterators see it: by name, offset and datatype."""
    kinds = {PointField.FLOAT32: "<f4", PointField.UINT32: "<u4", PointField.UINT8: "u1"}
    dtype = np.dtype(
        {
            "names": [f.name for f in cloud.fields],
            "formats": [kinds[f.datatype] for f in cloud.fields],
            "offsets": [f.offset for f in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    assert cloud.row_step == cloud.width * cloud.point_step
    assert len(cloud.data) == cloud.height * cloud.row_step
    return np.frombuffer(bytes(cloud.data), dtype)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def made(node: Node) -> FusionOutputs:
    return outputs(node, config_with_lidar())


def clouds(node: Node, topic: str = "obstacles") -> list[PointCloud2]:
    return [deserialize_message(m, PointCloud2) for m in node.made[topic].sent]


def test_obstacles_are_what_the_layer_and_the_monitor_read(node: Node, made: FusionOutputs) -> None:
    """GIVEN a robot on a hill before a post WHEN its cloud goes through what Nav2 does with it
    THEN the post is marked, and nothing else."""
    answered(made)
    (cloud,) = clouds(node)
    assert cloud.header.frame_id == "base_link"
    assert messages.stamp_ns(cloud.header.stamp) == STAMP_NS  # the sensor's, not the node's
    assert {f.name: f.datatype for f in cloud.fields if f.name in "xyz"} == dict.fromkeys(
        "xyz", PointField.FLOAT32
    )
    assert not cloud.is_bigendian
    points = points_of(cloud)
    assert len(points) == 20  # the post's, and of the ground none
    assert all(np.isfinite(points[name]).all() for name in ("x", "y", "z", "height"))
    assert cloud.is_dense
    assert np.allclose(points["x"], 8.0)
    # The layer: into the costmap's frame, cut by the source's band and its range.
    source = parameters(*COSTMAPS[0])["obstacle_layer"]["fused"]
    odom_from_base = made._motion.odom_from_base(STAMP_NS)
    assert odom_from_base is not None
    z = odom_from_base.apply(np.column_stack([points[a] for a in "xyz"]).astype(float))[:, 2]
    assert z.min() > HIGH_M - 1.0
    kept = (z >= source["min_obstacle_height"]) & (z <= source["max_obstacle_height"])
    kept &= np.hypot(points["x"], points["y"]) <= source["obstacle_max_range"]
    assert kept.all()
    assert not ((z >= 0.0) & (z <= 0.0)).any(), "Nav2's defaults would keep nothing"
    # The monitor: by the field named height.
    source = parameters("collision_monitor")["fused"]
    height = points["height"]
    assert ((height >= source["min_height"]) & (height <= source["max_height"])).all()


def test_an_empty_road_has_its_message_too(node: Node, made: FusionOutputs) -> None:
    """GIVEN nothing but ground THEN an empty cloud of the same fields is sent: silence would be
    taken for a dead sensor."""
    answered(made, 0, post=True)
    answered(made, 1, post=False)
    full, empty = clouds(node)
    assert (empty.width, empty.height, empty.row_step, len(empty.data)) == (0, 1, 0, 0)
    assert empty.point_step == full.point_step
    assert empty.fields == full.fields
    assert len(points_of(empty)) == 0


def test_the_rate_does_not_depend_on_detections(node: Node, made: FusionOutputs) -> None:
    """GIVEN sets without detections and tracks, at times without a sweep THEN every sweep has its
    cloud, in order, and never later than expected_update_rate after the one before."""
    for n in range(12):
        answered(made, n, lidar=n not in (4, 5))
    stamps = [messages.stamp_ns(c.header.stamp) for c in clouds(node)]
    assert stamps == [STAMP_NS + n * PERIOD_NS for n in range(12) if n not in (4, 5)]
    longest_s = max(np.diff(stamps)) / 1e9
    assert longest_s < parameters(*COSTMAPS[0])["obstacle_layer"]["fused"]["expected_update_rate"]
    assert longest_s < parameters("collision_monitor")["source_timeout"]
    # Boxes and tracks have their messages all the same, empty ones.
    assert [len(node.made[t].sent) for t in ("detections", "tracks", "tracks/state")] == [12] * 3


def test_track_states_say_what_their_fields_are_named(node: Node, made: FusionOutputs) -> None:
    """GIVEN a track THEN its state has the tracks' stamp, frame and order, and the documented
    fields."""
    answered(made, 2, tracks=tracked())
    (cloud,) = clouds(node, "tracks/state")
    tracks = deserialize_message(node.made["tracks"].sent[0], Detection3DArray)
    assert (cloud.header.frame_id, cloud.header.stamp) == ("odom", tracks.header.stamp)
    (state,) = points_of(cloud)
    assert [f.name for f in cloud.fields] == list(TRACK_STATE_DTYPE.names or ())
    assert str(state["id"]) == tracks.detections[0].id == "31"
    (track,) = tracked()
    assert (state["vx"], state["vy"]) == (3.0, -1.0)
    assert state["yaw_rate"] == pytest.approx(0.2)
    for n, a in enumerate(("x", "y", "vx", "vy")):
        for m, b in enumerate(("x", "y", "vx", "vy")[n:], start=n):
            assert state[f"cov_{a}_{b}"] == track.covariance[n, m]
    assert state["existence"] == pytest.approx(0.97)
    assert state["unseen_s"] == pytest.approx(0.1)
    # Every field is in the page that describes it.
    page = (ROOT / "docs" / "nav2.md").read_text()
    for name in ("yaw_rate", "existence", "unseen_s", "var_yaw_rate", "height", "moving"):
        assert f"`{name}`" in page


def test_odometry_is_what_nav2_reads() -> None:
    """GIVEN a local pose THEN Odometry has odom and base_link, and the twist in the base frame."""
    where = RigidTransform.from_rpy((3.0, 4.0, 0.0), (0.0, 0.0, np.pi / 2))
    motion = (np.array([2.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.4]), np.eye(6), np.eye(6))
    sent = messages.odometry(PoseEstimate(STAMP_NS, "odom", "base_link", where, *motion))
    assert isinstance(sent, Odometry)
    assert (sent.header.frame_id, sent.child_frame_id) == ("odom", "base_link")
    assert (sent.twist.twist.linear.x, sent.twist.twist.angular.z) == (2.0, 0.4)


def test_markers_leave_nothing_stale(node: Node, made: FusionOutputs) -> None:
    """GIVEN a track and then none THEN what was drawn is deleted, and goes by itself otherwise."""
    answered(made, 0, tracks=tracked())
    answered(made, 1)
    first, second = node.made["markers"].sent
    shown = first.markers[1:]
    assert {m.ns for m in shown} == {"box", "velocity", "label"}
    assert all(0.0 < m.lifetime.sec + m.lifetime.nanosec * 1e-9 <= 2.0 for m in shown)
    assert {messages.stamp_ns(m.header.stamp) for m in shown} == {STAMP_NS}
    assert [m.action for m in second.markers] == [3]  # DELETEALL
