"""What fusion_node makes for whom: nothing for nobody, the next result for who comes late."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message
from support import live_drive as drive
from support.live import Bench, NodeProcess, wait_for
from vision_msgs.msg import Detection3DArray

from mm_fusion.config import Config
from mm_fusion.health.modes import Ladder
from mm_fusion.nodes.fusion_outputs import FusionOutputs
from mm_fusion.nodes.messages import stamp_ns
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.samples import Detection, FusionResult, Mode, SyncedSet, Track

STAMP_NS = 1_700_000_000_000_000_000


class Publisher:
    """Counts as a publisher; ``listeners`` is the test's to set."""

    def __init__(self) -> None:
        self.listeners = 0
        self.sent: list[Any] = []

    def get_subscription_count(self) -> int:
        return self.listeners

    def publish(self, message: Any) -> None:
        self.sent.append(message)


class Node:
    """As much of a node as the outputs use."""

    def __init__(self) -> None:
        self.made: dict[str, Publisher] = {}

    def create_lifecycle_publisher(self, *given: Any, **_: Any) -> Publisher:
        topic = given[1]
        self.made[topic] = Publisher()
        return self.made[topic]

    def get_fully_qualified_name(self) -> str:
        return "/fusion_node"


def answer() -> tuple[FusionResult, SyncedSet]:
    box = (np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), 0.5, np.array([7.0, 8.0]))
    detection = Detection("car", 0.75, *box)
    track = Track(31, "car", 0.5, *box, np.eye(4), 3, 0.0, source="camera2d")
    result = FusionResult(
        STAMP_NS, "base_link", Mode.LIDAR, ("camera",), (detection,), (track,), "odom", True
    )
    return result, SyncedSet(STAMP_NS, (None,), (None,))


def publish(outputs: FusionOutputs) -> None:
    result, synced = answer()
    outputs.publish(result)
    outputs.publish_more(result, synced)
    ladder = Ladder(Mode.LIDAR, STAMP_NS, 0.0, ())
    outputs.publish_status(result, {"network": 5_000_000}, "cpu", ladder)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def outputs(node: Node) -> FusionOutputs:
    config = Config()
    return FusionOutputs(node, config, Calibration(config), MotionBuffer(config.deskew))  # type: ignore[arg-type]


def test_nothing_is_made_for_nobody(node: Node, outputs: FusionOutputs) -> None:
    """GIVEN topics without listeners WHEN a set is answered THEN no message is given away."""
    publish(outputs)
    assert {"detections", "tracks", "fusion/status"} <= set(node.made)
    assert [topic for topic, p in node.made.items() if p.sent] == []


@pytest.mark.parametrize("topic", ["detections", "tracks", "fusion/status"])
def test_only_what_is_listened_to_is_made(node: Node, outputs: FusionOutputs, topic: str) -> None:
    """GIVEN one topic with a listener WHEN a set is answered THEN that one has a message."""
    node.made[topic].listeners = 1
    publish(outputs)
    assert [t for t, p in node.made.items() if p.sent] == [topic]
    assert isinstance(node.made[topic].sent[0], bytes)


def test_messages_say_what_the_result_says(node: Node, outputs: FusionOutputs) -> None:
    """GIVEN listeners WHEN a set is answered THEN ROS reads boxes, ids, frames and the status."""
    for publisher in node.made.values():
        publisher.listeners = 1
    publish(outputs)
    boxes = deserialize_message(node.made["detections"].sent[0], Detection3DArray)
    tracks = deserialize_message(node.made["tracks"].sent[0], Detection3DArray)
    status = deserialize_message(node.made["fusion/status"].sent[0], DiagnosticArray).status[0]
    assert (boxes.header.frame_id, tracks.header.frame_id) == ("base_link", "odom")
    assert stamp_ns(boxes.header.stamp) == stamp_ns(tracks.header.stamp) == STAMP_NS
    assert (boxes.detections[0].id, tracks.detections[0].id) == ("", "31")
    assert boxes.detections[0].results[0].hypothesis.class_id == "car"
    assert (status.name, status.hardware_id) == ("fusion_node: result", "/fusion_node")
    assert status.message == "lidar"
    values = {v.key: v.value for v in status.values}
    assert values["mode"] == "lidar"
    assert values["network_ms"] == "5.000"
    assert values["track_velocities_mps"] == "7.0000,8.0000"
    assert values["detection_sources"] == "fusion"
    assert values["track_sources"] == "camera2d"


def test_who_comes_late_gets_the_next_result(bench: Bench, domain: int, tmp_path: Any) -> None:
    """GIVEN a node that answers nobody WHEN somebody begins to listen THEN results come whole."""
    sensors = ("camera/image_raw", "camera/camera_info", "lidar/points")
    from sensor_msgs.msg import CameraInfo, Image, PointCloud2
    from tf2_msgs.msg import TFMessage

    for kind, topic in zip((Image, CameraInfo, PointCloud2), sensors, strict=True):
        bench.advertise(kind, topic)
    bench.advertise(TFMessage, "/tf_static", latched=True).publish(drive.static_transforms())
    with NodeProcess("fusion_node", domain, tmp_path, **{"nodes.autostart": "true"}):
        bench.wait_matched(*sensors)
        events = [e for e in drive.events(60.0) if e.topic in sensors]
        bench.play(e for e in events if e.stamp_ns < drive.START_NS + 1_000_000_000)
        bench.listen(Detection3DArray, "detections")
        bench.wait_published("detections")
        later = iter([e for e in events if e.stamp_ns >= drive.START_NS + 1_000_000_000])

        def heard() -> bool:
            event = next(later)
            bench.publishers[event.topic].publish(event.payload)
            stamps = [stamp_ns(m.header.stamp) for m in bench.received["detections"]]
            return any(s >= drive.START_NS + 1_000_000_000 for s in stamps)

        wait_for(heard, "detections for who came late")
        # What a busy machine had not answered yet is answered to the newcomer, too, and in order.
        stamps = [stamp_ns(m.header.stamp) for m in bench.received["detections"]]
        assert stamps == sorted(stamps)
        assert {m.header.frame_id for m in bench.received["detections"]} == {"base_link"}
