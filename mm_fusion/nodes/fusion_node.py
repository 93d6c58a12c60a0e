"""The first road as a lifecycle node: camera and LIDAR in, detections, tracks and obstacles out.

Two threads. The receiving one decodes (views on the message's bytes), matches, and hands over;
the working one runs the network and publishes. Between them waits a short queue in which newer
sets win.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.errors import MmFusionError
from mm_fusion.nodes import qos
from mm_fusion.nodes.diagnostics import Report
from mm_fusion.nodes.fusion_outputs import FusionOutputs
from mm_fusion.nodes.handover import NewestWins
from mm_fusion.nodes.intake import Intake
from mm_fusion.nodes.managed import ManagedNode, run_process
from mm_fusion.nodes.silence import LOOK_EVERY_S, Silence
from mm_fusion.nodes.timings import Arrivals, Timings
from mm_fusion.nodes.transforms import TransformInput
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.detectors import open_network
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.perception.staging import Coming
from mm_fusion.samples import (
    CameraFrame,
    CameraModel,
    FusionResult,
    LidarSweep,
    PoseEstimate,
    Reason,
    Rejection,
    SyncedSet,
)
from mm_fusion.wire import StampedTransform

IMAGE_CLASSES: dict[bool, tuple[type, str]] = {
    False: (Image, "sensor_msgs/msg/Image"),
    True: (CompressedImage, "sensor_msgs/msg/CompressedImage"),
}
CLOUD = "sensor_msgs/msg/PointCloud2"
INFO = "sensor_msgs/msg/CameraInfo"
MOTIONS_AT_ONCE = 3
INFO_FROM = 12  # bytes of encapsulation and stamp


class Waiting(NamedTuple):
    """A set on its way to the network: when its reference came, when the last of its messages
    came, and when it was handed over."""

    synced: SyncedSet
    arrived_ns: int
    whole_ns: int
    queued_ns: int


Small = PoseEstimate | CameraModel | StampedTransform | Coming


class FusionNode(ManagedNode):
    """``detections``, ``tracks``, ``obstacles``, ``markers``, ``debug/camera_0``, diagnostics."""

    def __init__(self, **options: Any) -> None:
        super().__init__("fusion_node", **options)

    # ------------------------------------------------------------------------ transitions

    def build(self, config: Config) -> None:
        """Load the network and make the pipeline and the outputs."""
        self._config = config
        self._calibration = Calibration(config)
        self._network = open_network(config, self._say_warm_up)
        topics = config.topics
        # Pictures are decoded and resized side by side; no thread of it starts for one camera.
        helpers = max(min(len(topics.camera_names()), len(os.sched_getaffinity(0))), 1)
        self._helpers = ThreadPoolExecutor(helpers, thread_name_prefix="pictures")
        self._pipeline = PerceptionPipeline(
            config, self._network, self._calibration, time.perf_counter_ns, self._helpers.map
        )
        self._sensors = (*topics.lidar_names(), *topics.camera_names())
        self._names = (*topics.camera_names(), *topics.lidar_names(), topics.motion)
        self._lidars = wire.Lidars(config.lidar, topics.lidars)
        self._intake = Intake(self._names, config, self.now_ns)
        self._arrivals = Arrivals()
        self._motions: list[tuple[bytes, int]] = []  # poses not looked at yet, with their arrival
        self._unwatched: list[CameraFrame | LidarSweep] = []
        self._infos: dict[str, bytes] = {}  # the last CameraInfo by camera, behind its stamp
        self._timings = Timings()
        self._last: FusionResult | None = None
        self._broken = ""  # why the last set had no result
        self._given_up = self._told_up = 0  # sets, and how many of them /diagnostics has told
        self._outputs = FusionOutputs(self, config, self._calibration, self._pipeline.motion)
        self._inputs: list[Any] = []
        self._transforms: TransformInput | None = None
        self._silence = Silence(self._intake, self._sensors, config.sync)
        self.get_logger().info(
            f"network on {self._network.provider} ({self._network.reason}):"
            f" {self._network.model_path}"
        )

    def _say_warm_up(self, share: float) -> None:
        self.get_logger().info(f"network: warm-up {100 * share:.0f} %")

    def start(self) -> None:
        """Start the worker, then subscribe."""
        network = self._config.network
        self._queue: NewestWins[Small, Waiting] = NewestWins(network.queue_size, network.patience_s)
        self._worker = threading.Thread(target=self._work, name="network")
        self._worker.start()
        self._transforms = TransformInput(self, self._config, self._queue.note, self._reject)
        topics = self._config.topics
        for camera, info in zip(topics.cameras, self._config.camera_info_topics(), strict=True):
            if not camera:
                continue
            kind, name = IMAGE_CLASSES[topics.camera_compressed]
            self._open_raw(kind, name, camera)
            self._open(CameraInfo, info, lambda raw, s=camera: self._on_camera_info(raw, s))
        for lidar in topics.lidar_names():
            self._open_raw(PointCloud2, CLOUD, lidar)
        self._open(Odometry, topics.motion, self._on_motion, qos.fast_sensor())
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._listening = self.create_timer(LOOK_EVERY_S, self._listen, clock=steady)

    def stop(self) -> None:
        """Unsubscribe, let the worker finish what waits, end it."""
        self.destroy_timer(self._listening)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        # What still waits for a partner waited for the end, which is nobody's latency.
        self._arrivals.clear()
        self._take_motions()
        self._hand_over(self._pipeline.synchronizer.flush())
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None
        self._queue.close()
        self._worker.join()

    def release(self) -> None:
        """Close the outputs and let go of the network."""
        if hasattr(self, "_outputs"):
            self._outputs.close()
            self._helpers.shutdown()
            del self._outputs, self._pipeline, self._network

    def destroy_node(self) -> None:
        """End the worker, too, where an error in the receiving thread has left it waiting: the
        process would never end."""
        if hasattr(self, "_worker"):
            self._queue.close()
            self._worker.join()
        super().destroy_node()

    def _open_raw(self, kind: type, type_name: str, topic: str) -> None:
        self._inputs.append(
            self.create_subscription(
                kind,
                topic,
                lambda raw: self._on_raw(type_name, raw, topic),
                qos.sensor(),
                raw=True,
                qos_overriding_options=qos.overridable(),
            )
        )

    def _open(self, kind: type, topic: str, callback: Any, profile: Any = None) -> None:
        """Raw, like the large ones: a message object costs more than reading its bytes."""
        profile, options = profile or qos.sensor(), qos.overridable()
        self._inputs.append(
            self.create_subscription(
                kind, topic, callback, profile, raw=True, qos_overriding_options=options
            )
        )

    # ------------------------------------------------------------- callbacks: receiving thread

    def _on_raw(self, type_name: str, raw: bytes, sensor: str) -> None:
        came_ns = time.perf_counter_ns()
        arrival_ns = self._intake.arrived(sensor)
        self._take_motions()
        sample = wire.decode(type_name, raw, sensor, self._lidars, arrival_ns)
        for text in self._lidars.news():
            self.get_logger().info(text)
        if isinstance(sample, Rejection):
            self._reject(sample)
            return
        assert isinstance(sample, (CameraFrame, LidarSweep))
        self._need(sample.frame_id)
        self._arrivals.note(sensor, sample.stamp_ns, came_ns)
        coming = self._pipeline.coming(sample)
        if coming is not None:
            self._queue.note(coming, stir=True)
        self._hand_over(self._pipeline.synchronizer.add(sample))
        self._silence.heard(sample.stamp_ns)
        # The working thread now wants Python's lock: no more is done here than has to be.
        self._unwatched.append(sample)

    def _watch(self) -> None:
        """Look at the clocks and the pictures of what has come."""
        samples, self._unwatched = self._unwatched, []
        for sample in samples:
            self._intake.stamped(sample.sensor, sample.stamp_ns, sample.arrival_ns)
            if isinstance(sample, CameraFrame):
                self._intake.pictured(sample)

    def _on_motion(self, raw: bytes) -> None:
        arrival_ns = self._intake.arrived(self._config.topics.motion)
        self._motions.append((raw, arrival_ns))
        # Several at a time cost little more than one; where one is waited for, it is taken at once.
        pipeline = self._pipeline
        awaited = pipeline.expecting or pipeline.synchronizer.is_waiting
        if awaited or len(self._motions) >= MOTIONS_AT_ONCE:
            self._take_motions()
        self._watch()

    def _take_motions(self) -> None:
        """Look at the poses that have come, in their order."""
        motions, self._motions = self._motions, []
        sensor, synchronizer = self._config.topics.motion, self._pipeline.synchronizer
        for raw, arrival_ns in motions:
            motion = wire.decode_pose(raw, sensor)
            if isinstance(motion, Rejection):
                self._reject(motion)
                continue
            self._intake.stamped(sensor, motion.stamp_ns, arrival_ns)
            if motion.child_frame_id != self._config.frames.base.lstrip("/"):
                self._need(motion.child_frame_id)
            self._queue.note(motion, stir=self._pipeline.expecting)
            self._hand_over(synchronizer.advance(motion.stamp_ns, arrival_ns))

    def _on_camera_info(self, raw: bytes, sensor: str) -> None:
        self._watch()
        # One comes with every image, and says the same but for the stamp.
        told = raw[INFO_FROM:]
        if self._infos.get(sensor) == told:
            return
        model = wire.decode(INFO, raw, sensor)
        if isinstance(model, Rejection):
            self._reject(model)
        elif isinstance(model, CameraModel):
            self._infos[sensor] = told
            self._queue.note(model)

    def _need(self, frame_id: str) -> None:
        if self._transforms is not None and frame_id:
            self._transforms.needed.add(frame_id)

    def _hand_over(self, answers: list[SyncedSet | Rejection]) -> None:
        for answer in answers:
            if isinstance(answer, Rejection):
                self._reject(answer)
                continue
            now_ns = time.perf_counter_ns()
            waiting = Waiting(answer, *self._arrivals.of(answer, now_ns), now_ns)
            for given_up in self._queue.put(waiting):
                self._give_up(given_up.synced)

    def _listen(self) -> None:
        """Look whether cameras and LIDARs are all silent: no message would call then."""
        self._watch()
        silence = self._silence
        silence.look(self._queue.idle)
        if silence.due:
            self._hand_over(self._pipeline.synchronizer.advance(silence.deadline_ns))
        if silence.to_say:
            ladder, change = self._timings.silent(silence.now_ns, silence.sensors)
            self._outputs.publish_silence(silence.now_ns, ladder)
            if change is not None:
                self.get_logger().info(str(change))

    def _give_up(self, synced: SyncedSet) -> None:
        self._given_up += 1
        for sensor in synced.dt_ns:
            detail = "a newer set took its place: the network is slower than the sensors"
            self._reject(Rejection(sensor, synced.stamp_ns, Reason.SUPERSEDED, detail))

    def _reject(self, rejection: Rejection) -> None:
        if self._intake.reject(rejection):
            reason = rejection.reason.value
            text = f"{rejection.sensor}: {reason}: {rejection.detail} (said once, then counted)"
            self.get_logger().warning(text)

    # ------------------------------------------------------------------------ working thread

    def _work(self) -> None:
        try:
            self._queue.run(self._learn, self._process, self._pipeline.prepare)
        except BaseException:
            self.crashed = True  # the node ends: one that only seems to live is worse
            raise

    def _learn(self, item: Small) -> None:
        if isinstance(item, Coming):
            self._pipeline.expect(item)
        elif isinstance(item, CameraModel):
            self._calibration.set_camera(item)
        elif isinstance(item, StampedTransform):
            self._calibration.set_transform(item.parent, item.child, item.parent_from_child)
        else:
            fallen = self._pipeline.motion.add(item)
            if fallen is not None:
                self._reject(fallen)

    def _process(self, work: Waiting) -> None:
        started_ns = time.perf_counter_ns()
        try:
            result = self._pipeline.process(work.synced)
        except MmFusionError as error:
            self._broken = " ".join(str(error).split())
            self.get_logger().error(self._broken, throttle_duration_sec=10.0)
            return
        self._broken = ""
        for rejection in result.rejections:
            self._reject(rejection)
        answered_ns = time.perf_counter_ns()
        spent_ns = {
            **result.stage_ns,
            "sync_wait": work.queued_ns - work.arrived_ns,
            "queue": started_ns - work.queued_ns,
            "publish": 0,
            "since_whole": 0,
            "end_to_end": 0,
        }
        self._outputs.publish(result)
        published_ns = time.perf_counter_ns()
        spent_ns["publish"] = published_ns - answered_ns
        spent_ns["since_whole"] = published_ns - work.whole_ns
        spent_ns["end_to_end"] = published_ns - work.arrived_ns
        ladder, change = self._timings.add(result, spent_ns)
        self._outputs.publish_status(result, spent_ns, self._network.provider, ladder)
        self._last = result
        if change is not None:
            self.get_logger().info(str(change))
        self._outputs.publish_more(result, work.synced)
        self._timings.note("publish_more", time.perf_counter_ns() - published_ns)

    # --------------------------------------------------------------------------- diagnostics

    def reports(self) -> list[Report]:
        """Inputs, drops, latency, provider, mode."""
        self._take_motions()
        self._watch()
        report = Report("fusion")
        self._intake.report_to(report)
        self._timings.report_to(report)
        report.put("provider", self._network.provider)
        report.put("provider_reason", self._network.reason)
        for sensor, text in self._lidars.report().items():
            report.put(f"points/{sensor}", text)
        if self._transforms is None:
            report.message_ok = "not active"
            return [report]
        self._transforms.tend()
        self._report_state(report)
        return [report]

    def _report_state(self, report: Report) -> None:
        last, ladder = self._last, self._timings.ladder()
        if self._broken:
            report.error(self._broken)
        report.put("sets_given_up", self._given_up)
        told, self._told_up = self._told_up, self._given_up
        if self._given_up > told:
            count = self._given_up - told
            report.warn(f"{count} sets given up for newer ones: the network is too slow")
        report.put("mode", ladder.mode.value)
        report.put("missing", " ".join(a.sensor for a in ladder.absent))
        if self._silence.is_total:
            report.error(f"no camera and no LIDAR: {ladder}")
        elif last is None:
            report.error("no result yet")
        else:
            report.put("ego_motion", last.ego_motion)
            report.message_ok = ladder.mode.value
            for remark in last.remarks:
                report.warn(remark)
            if not ladder.whole:
                report.warn(str(ladder))
        silent = self._intake.silent()
        for sensor in silent:
            report.warn(f"no {sensor}")
        assert self._transforms is not None
        for frame in self._transforms.missing():
            report.warn(f"no transform from {self._config.frames.base} to {frame}")
        for camera in self._config.topics.camera_names():
            if camera not in self._infos and camera not in silent:
                report.warn(f"no CameraInfo for {camera}")


def main() -> None:
    """The fusion_node executable."""
    run_process(FusionNode)


if __name__ == "__main__":
    main()
