"""The second road as a lifecycle node: GPS, IMU and wheels in, odometry and TF out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from geometry_msgs.msg import (
    PoseWithCovarianceStamped,
    TransformStamped,
    TwistStamped,
    TwistWithCovarianceStamped,
)
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, NavSatFix, PointCloud2
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.geometry import FrameTree
from mm_fusion.nodes import messages, qos
from mm_fusion.nodes.diagnostics import Report
from mm_fusion.nodes.geodetic_services import GeodeticServices
from mm_fusion.nodes.intake import Intake
from mm_fusion.nodes.managed import ManagedNode, run_process
from mm_fusion.nodes.sweep_worker import SweepWorker
from mm_fusion.nodes.transforms import TransformInput
from mm_fusion.pose.ahead import ahead
from mm_fusion.pose.lidar_odometry import SweepJob
from mm_fusion.pose.pipeline import PosePipeline
from mm_fusion.samples import NS_PER_S, PoseEstimate, Rejection, Sample
from mm_fusion.wire import StampedTransform

CLOUD = "sensor_msgs/msg/PointCloud2"
WHEEL_CLASSES: dict[str, type] = {
    "nav_msgs/msg/Odometry": Odometry,
    "geometry_msgs/msg/TwistStamped": TwistStamped,
    "geometry_msgs/msg/TwistWithCovarianceStamped": TwistWithCovarianceStamped,
}


class Pacer:
    """Lets through at most ``rate_hz`` of a stream, by the stamps; 0 lets all through."""

    def __init__(self, rate_hz: float) -> None:
        self._step_ns = round(NS_PER_S / rate_hz) if rate_hz > 0 else 0
        self._last_ns = 0

    def __call__(self, stamp_ns: int) -> bool:
        # A little early counts as due: at 100 Hz in and 50 Hz out every second one shall pass.
        ahead_ns = stamp_ns - self._last_ns
        if 0 <= ahead_ns < 0.9 * self._step_ns:
            return False
        self._last_ns = stamp_ns
        return True


class PoseNode(ManagedNode):
    """``odometry/local``, ``odometry/global``, ``gps/filtered``, ``/tf`` and ``/diagnostics``."""

    _outputs: tuple[Any, ...] | list[Any] = ()

    def __init__(self, **options: Any) -> None:
        super().__init__("pose_node", **options)
        # There as long as the node is: a service that goes away within a transition stalls the
        # answer to the transition itself.
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._geodetic = GeodeticServices(self, lambda: self._pipeline if self._outputs else None)

    def build(self, config: Config) -> None:
        """Make the pipeline and the outputs."""
        self._config = config
        frames = FrameTree()
        self._frames = frames
        self._lidar = config.topics.lidars[0] if config.pose.lidar_odometry else ""
        hand_over = self._hand_over if self._lidar else None
        self._pipeline = PosePipeline(config, frames, hand_over)
        self._worker: SweepWorker | None = None
        self._lidars = wire.Lidars(config.lidar, config.topics.lidars)
        topics = config.topics
        self._intake = Intake(
            (topics.gps, topics.imu, topics.wheels, *filter(None, (self._lidar,))),
            config,
            self.now_ns,
        )
        self._published = {"local": 0, "global": 0, "ahead": 0}
        self._pace = {
            config.frames.odom: Pacer(config.nodes.pose_rate_hz),
            config.frames.map: Pacer(config.nodes.pose_rate_hz),
        }
        self._outputs = [
            self.create_lifecycle_publisher(
                kind, topic, profile, qos_overriding_options=qos.overridable()
            )
            for kind, topic, profile in (
                (Odometry, "odometry/local", qos.result()),
                (Odometry, "odometry/global", qos.result()),
                (NavSatFix, "gps/filtered", qos.result()),
                (TFMessage, "/tf", qos.transforms()),
                *self._outputs_ahead(),
            )
        ]
        self._local, self._global, self._fix, self._tf = self._outputs[:4]
        self._clock_work: Any = None
        self._inputs: list[Any] = []
        self._transforms: TransformInput | None = None

    def _outputs_ahead(self) -> list[tuple[type, str, Any]]:
        if self._config.nodes.pose_ahead_hz <= 0.0:
            return []
        kinds = ("odometry/local_ahead", "odometry/global_ahead")
        return [(Odometry, topic, qos.result()) for topic in kinds]

    def start(self) -> None:
        """Subscribe to TF and the three sensors."""
        if self._config.nodes.pose_ahead_hz > 0.0:
            period_s = 1.0 / self._config.nodes.pose_ahead_hz
            self._clock_work = self.create_timer(period_s, self._say_ahead)
        topics = self._config.topics
        self._transforms = TransformInput(self, self._config, self._on_transform, self._reject)
        for kind, topic in (
            (NavSatFix, topics.gps),
            (Imu, topics.imu),
            (WHEEL_CLASSES[topics.wheels_type], topics.wheels),
        ):
            self._inputs.append(
                self.create_subscription(
                    kind,
                    topic,
                    lambda message, sensor=topic: self._on_sample(message, sensor),
                    qos.fast_sensor(),
                    qos_overriding_options=qos.overridable(),
                )
            )

        if self._lidar:
            self._worker = SweepWorker(self._config.pose, self.get_logger().error)
            self._inputs.append(
                self.create_subscription(
                    PointCloud2,
                    self._lidar,
                    self._on_cloud,
                    qos.sensor(),
                    raw=True,
                    qos_overriding_options=qos.overridable(),
                )
            )
        self._inputs.append(
            self.create_subscription(
                PoseWithCovarianceStamped, "initialpose", self._on_initial_pose, qos.result()
            )
        )

    def stop(self) -> None:
        """Close the inputs."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._clock_work is not None:
            self.destroy_timer(self._clock_work)
            self._clock_work = None
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None
        self._close_worker()

    def _close_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def destroy_node(self) -> None:
        """End the worker, too, where an error in the receiving thread has left it waiting."""
        if self._outputs:
            self._close_worker()
        super().destroy_node()

    def release(self) -> None:
        """Close the outputs."""
        for publisher in getattr(self, "_outputs", []):
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = []

    # ------------------------------------------------------------------------- callbacks

    def _on_sample(self, message: Any, sensor: str) -> None:
        arrival_ns = self._intake.arrived(sensor)
        sample = wire.from_message(message, sensor)
        if isinstance(sample, Sample):
            self._intake.stamped(sensor, sample.stamp_ns, arrival_ns)
        for answer in [sample] if isinstance(sample, Rejection) else self._add(sample):
            self._answer(answer)

    def _on_cloud(self, raw: bytes) -> None:
        arrival_ns = self._intake.arrived(self._lidar)
        sample = wire.decode(CLOUD, raw, self._lidar, self._lidars, arrival_ns)
        for text in self._lidars.news():
            self.get_logger().info(text)
        if isinstance(sample, Sample):
            self._intake.stamped(self._lidar, sample.stamp_ns, arrival_ns)
        for answer in [sample] if isinstance(sample, Rejection) else self._add(sample):
            self._answer(answer)

    def _hand_over(self, job: SweepJob) -> None:
        if self._worker is None:
            return
        given_up = self._worker.put(job)
        if given_up is not None:
            self._reject(self._pipeline.give_up(given_up))

    def _take_outcomes(self) -> None:
        """What has come of the sweeps meanwhile."""
        if self._worker is not None:
            for outcome in self._worker.outcomes():
                for answer in self._pipeline.add_motion(outcome):
                    self._answer(answer)

    def _add(self, sample: Any) -> list[PoseEstimate | Rejection]:
        assert isinstance(sample, Sample)
        if self._transforms is not None and sample.frame_id:
            self._transforms.needed.add(sample.frame_id)
        self._take_outcomes()
        return self._pipeline.add(sample)  # type: ignore[arg-type]

    def _on_initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        name, where = self._config.frames.map, message.header.frame_id.lstrip("/")
        p, q = message.pose.pose.position, message.pose.pose.orientation
        yaw = math.atan2(2.0 * (q.w * q.z + q.x * q.y), 1.0 - 2.0 * (q.y**2 + q.z**2))
        refused = f"its frame is '{where}', not '{name}'"
        if where in ("", name):
            covariance = np.array(message.pose.covariance).reshape(6, 6)
            refused = self._pipeline.set_pose(np.array((p.x, p.y, p.z)), yaw, covariance)
        if refused:
            self.get_logger().warning(f"initialpose: {refused}")

    def _on_reset(self, _: Trigger.Request, answer: Trigger.Response) -> Trigger.Response:
        if not self._outputs:
            answer.success, answer.message = False, "not configured"
            return answer
        self._pipeline.reset()
        answer.success, answer.message = True, "both estimates begin anew; the datum stays"
        self.get_logger().info(answer.message)
        return answer

    def _on_transform(self, t: StampedTransform) -> None:
        self._frames.set(t.parent, t.child, t.parent_from_child)

    # --------------------------------------------------------------------------- answers

    def _answer(self, answer: PoseEstimate | Rejection) -> None:
        if isinstance(answer, Rejection):
            self._reject(answer)
        elif self._pace[answer.frame_id](answer.stamp_ns):
            self._publish(answer)

    def _reject(self, rejection: Rejection) -> None:
        if self._intake.reject(rejection):
            reason = rejection.reason.value
            text = f"{rejection.sensor}: {reason}: {rejection.detail} (said once, then counted)"
            self.get_logger().warning(text)

    def _publish(self, estimate: PoseEstimate) -> None:
        frames, message = self._config.frames, messages.odometry(estimate)
        if estimate.frame_id == frames.odom:
            self._published["local"] += 1
            self._local.publish(message)
            self._publish_transform(messages.transform_of(message))
            return
        self._published["global"] += 1
        self._global.publish(message)
        self._publish_fix(estimate)
        map_from_odom = self._pipeline.map_from_odom
        if map_from_odom is not None:
            self._publish_transform(
                messages.transform(estimate.stamp_ns, frames.map, frames.odom, map_from_odom)
            )

    def _say_ahead(self) -> None:
        """Both poses as of now, and TF, on the timer."""
        now_ns, limit_s = self.now_ns(), self._config.nodes.pose_ahead_limit_s
        found = [
            estimate and ahead(estimate, now_ns, limit_s)
            for estimate in (self._pipeline.local, self._pipeline.global_)
        ]
        for estimate, output in zip(found, self._outputs[4:], strict=True):
            if estimate is None:
                continue
            message = messages.odometry(estimate)
            output.publish(message)
            self._published["ahead"] += 1
            if output is self._outputs[4]:
                self._publish_transform(messages.transform_of(message))
        joined, frames = self._pipeline.map_from_odom, self._config.frames
        if joined is not None and found[0] is not None:
            self._publish_transform(messages.transform(now_ns, frames.map, frames.odom, joined))

    def _publish_transform(self, entry: TransformStamped) -> None:
        if self._config.nodes.publish_tf:
            self._tf.publish(TFMessage(transforms=[entry]))

    def _publish_fix(self, estimate: PoseEstimate) -> None:
        if self._fix.get_subscription_count() == 0:
            return
        geodetic = self._pipeline.to_geodetic(estimate.frame_from_base.translation)
        if geodetic is None:
            return
        covariance = estimate.pose_covariance[:3, :3]
        self._fix.publish(messages.fix(estimate, geodetic, covariance))

    # ----------------------------------------------------------------------- diagnostics

    def reports(self) -> list[Report]:
        """Inputs and the state of the estimate."""
        report = Report("pose", "local and global pose known")
        self._intake.report_to(report)
        report.put_all("published", self._published)
        report.put("services.refused", self._geodetic.refused)
        report.put_all("lidar_odometry", self._pipeline.sweep_counts())
        report.put("warnings", "; ".join(self._pipeline.warnings()))
        self._report_accuracy(report)
        if self._transforms is None:
            report.message_ok = "not active"
            return [report]
        self._transforms.tend()
        if self._pipeline.local is None:
            report.error("no local pose yet")
        elif self._pipeline.global_ is None:
            report.warn("no global pose yet")
        for sensor in self._intake.silent():
            report.warn(f"no {sensor}")
        for warning in self._pipeline.warnings():
            report.warn(warning)
        return [report]

    def _report_accuracy(self, report: Report) -> None:
        if self._pipeline.datum is not None:
            report.put("datum", " ".join(f"{v:.12g}" for v in self._pipeline.datum))
        estimate = self._pipeline.global_
        if estimate is not None:
            variances = estimate.pose_covariance.diagonal()
            report.put("global.sigma_east_m", float(variances[0] ** 0.5))
            report.put("global.sigma_north_m", float(variances[1] ** 0.5))
            report.put("global.sigma_yaw_rad", float(variances[5] ** 0.5))


def main() -> None:
    """The pose_node executable."""
    run_process(PoseNode)


if __name__ == "__main__":
    main()
