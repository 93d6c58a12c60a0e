"""Both roads over one stream of samples, joined as the two nodes join them, without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.evaluation.calibrating import learn
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.detectors import Network
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.pose.pipeline import PosePipeline
from mm_fusion.samples import (
    CameraFrame,
    CameraModel,
    FusionResult,
    LidarSweep,
    PoseEstimate,
    Rejection,
)
from mm_fusion.wire import FrameTransforms

Answer = FusionResult | PoseEstimate | Rejection


class Roads:
    """The perception road (where there is a network) and the pose road, fed sample by sample."""

    def __init__(
        self,
        config: Config,
        network: Network | None,
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        self.calibration = Calibration(config)
        self.pose = PosePipeline(config, self.calibration.frames)
        self.perception = (
            PerceptionPipeline(config, network, self.calibration, now_ns) if network else None
        )
        self._config = config

    def add(self, sample: wire.Decoded) -> list[Answer]:
        """Take one sample, in the order of time; what both roads answer to it."""
        if isinstance(sample, Rejection):
            return [sample]
        if isinstance(sample, (FrameTransforms, CameraModel)):
            return list(learn(self.calibration, sample, self._config))
        answers: list[Answer] = []
        if isinstance(sample, (CameraFrame, LidarSweep)):
            if self.perception:
                answers += self.perception.add(sample)
            if not (isinstance(sample, LidarSweep) and self._registered(sample.sensor)):
                return answers
        for estimate in self.pose.add(sample):
            answers.append(estimate)
            if self.perception and isinstance(estimate, PoseEstimate):
                if estimate.frame_id == self._config.frames.odom:
                    answers += self.perception.add_motion(estimate)
        return answers

    def _registered(self, lidar: str) -> bool:
        """Whether the pose road measures motion with this LIDAR."""
        return self._config.pose.lidar_odometry and lidar == self._config.topics.lidars[0]

    def finish(self) -> list[Answer]:
        """What is still waiting, at the end of the data."""
        return list(self.perception.flush()) if self.perception else []

    def warnings(self) -> list[str]:
        """What was assumed because nothing said better."""
        return list(dict.fromkeys(self.pose.warnings()))


def rejections_of(answers: Iterable[Answer]) -> Iterable[Rejection]:
    """Every rejection among answers, also those that results carry."""
    for answer in answers:
        if isinstance(answer, Rejection):
            yield answer
        elif isinstance(answer, FusionResult):
            yield from answer.rejections
