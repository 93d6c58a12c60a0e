"""What fusion_node publishes: each topic only while somebody listens, and never by the element.

Who comes late misses nothing by it: what a topic without a listener would carry goes nowhere, and
a listener is counted before the first message can reach it. The next set is answered to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image, PointCloud2
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from mm_fusion.config import Config
from mm_fusion.health.modes import Ladder
from mm_fusion.health.status import result_values
from mm_fusion.nodes import messages, qos
from mm_fusion.nodes.diagnostics import Report
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.obstacles import obstacle_points
from mm_fusion.perception.overlay import draw_overlay
from mm_fusion.samples import Detection, FusionResult, SyncedSet, Track
from mm_fusion.wire import answers, encode
from mm_fusion.wire.track_state import track_states


class FusionOutputs:
    """The publishers of fusion_node. Used from the working thread."""

    def __init__(
        self,
        node: LifecycleNode,
        config: Config,
        calibration: Calibration,
        motion: MotionBuffer,
    ) -> None:
        self._node = node
        self._config = config
        self._calibration = calibration
        self._motion = motion
        made = []
        for kind, topic in (
            (Detection3DArray, "detections"),
            (Detection3DArray, "tracks"),
            (PointCloud2, "tracks/state"),
            (PointCloud2, "obstacles"),
            (MarkerArray, "markers"),
            (DiagnosticArray, "fusion/status"),
            *((Image, f"debug/camera_{slot}") for slot in range(len(config.topics.cameras))),
        ):
            publisher = node.create_lifecycle_publisher(
                kind, topic, qos.result(), qos_overriding_options=qos.overridable()
            )
            made.append(publisher)
        self._made = made
        self._detections, self._tracks, self._states = made[:3]
        self._obstacles, self._markers, self._status = made[3:6]
        self._debug = made[6:]

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._made:
            self._node.destroy_lifecycle_publisher(publisher)
        self._made = []

    def publish(self, result: FusionResult) -> None:
        """The answer to one set: boxes and tracks."""
        stamp_ns, frame_id = result.stamp_ns, result.frame_id
        if self._detections.get_subscription_count():
            boxes = answers.encode_boxes(result.detections, stamp_ns, frame_id)
            self._detections.publish(boxes)
        if self._tracks.get_subscription_count():
            tracks = answers.encode_boxes(result.tracks, stamp_ns, result.track_frame_id)
            self._tracks.publish(tracks)
        if self._states.get_subscription_count():
            states = encode.encode_pointcloud2(
                track_states(result.tracks), stamp_ns, result.track_frame_id, dense=True
            )
            self._states.publish(states)

    def publish_more(self, result: FusionResult, synced: SyncedSet) -> None:
        """What takes longer to make, and nobody waits for as for the boxes."""
        if self._obstacles.get_subscription_count():
            self._publish_obstacles(result, synced)
        if self._markers.get_subscription_count():
            self._markers.publish(messages.markers(result))
        for slot, publisher in enumerate(self._debug):
            if publisher.get_subscription_count():
                self._publish_debug(result, synced, slot)

    def _publish_obstacles(self, result: FusionResult, synced: SyncedSet) -> None:
        """The cloud, empty or not; none without a sweep, since nobody knows then what is free."""
        moved = self._motion.odom_from_base(synced.stamp_ns) if result.ego_motion else None
        points = obstacle_points(
            *(synced, self._calibration, self._config, self._motion),
            tracks=result.tracks,
            tracks_from_base=moved,
            ground=result.ground,
        )
        if points is not None:
            cloud = encode.encode_pointcloud2(points, result.stamp_ns, result.frame_id, dense=True)
            self._obstacles.publish(cloud)

    def _publish_debug(self, result: FusionResult, synced: SyncedSet, slot: int) -> None:
        frame = synced.cameras[slot]
        if frame is None:
            return
        picture = draw_overlay(result, frame, self._calibration, self._motion)
        if picture is not None:
            raw = encode.encode_image(picture, "rgb8", frame.stamp_ns, frame.frame_id)
            self._debug[slot].publish(raw)

    def publish_status(
        self, result: FusionResult, spent_ns: Mapping[str, int], provider: str, ladder: Ladder
    ) -> None:
        """One status per set: what took part, what is missing since when, and how long each
        station took."""
        if not self._status.get_subscription_count():
            return
        timed = dataclasses.replace(result, stage_ns=dict(spent_ns))
        report = Report("result", result.mode.value, result_values(timed, provider, ladder))
        # vision_msgs has no place for velocities.
        report.put("detection_velocities_mps", _velocities(result.detections))
        report.put("track_velocities_mps", _velocities(result.tracks))
        # Nor for who saw what.
        report.put("detection_sources", " ".join(d.source for d in result.detections))
        report.put("track_sources", " ".join(t.source for t in result.tracks))
        if not ladder.whole:
            report.warn(str(ladder))
        self._publish_report(result.stamp_ns, report)

    def publish_silence(self, stamp_ns: int, ladder: Ladder) -> None:
        """The status while no result can come, with the sensors' time."""
        if not self._status.get_subscription_count():
            return
        missing = " ".join(a.sensor for a in ladder.absent)
        values = {"mode": ladder.mode.value, "missing": missing, **ladder.values()}
        report = Report("result", ladder.mode.value, values)
        report.error(str(ladder))
        self._publish_report(stamp_ns, report)

    def _publish_report(self, stamp_ns: int, report: Report) -> None:
        level, message = report.verdict()
        name, hardware_id = report.texts(self._node.get_fully_qualified_name())
        texts = (name, message, hardware_id)
        frame_id = self._config.frames.base
        self._status.publish(
            answers.encode_diagnostics(stamp_ns, frame_id, level[0], texts, report.values)
        )


def _velocities(items: Sequence[Detection | Track]) -> str:
    """``vx,vy`` of every box, in their order, with blanks between."""
    return " ".join(f"{i.velocity[0]:.4f},{i.velocity[1]:.4f}" for i in items)
