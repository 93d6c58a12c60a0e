"""From a bag's TF and CameraInfo to the calibration that both roads share."""

from __future__ import annotations

from mm_fusion.config import Config
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.order import calibration_first
from mm_fusion.evaluation.topics import Inputs
from mm_fusion.perception.calibration import Calibration
from mm_fusion.samples import CameraModel, Rejection
from mm_fusion.wire import FrameTransforms


def learn(
    calibration: Calibration, sample: FrameTransforms | CameraModel, config: Config
) -> list[Rejection]:
    """Take what one message says about the sensors; what of it could not be used.

    Links from odom and map say where the robot is, which the pose road finds out by itself.
    """
    if isinstance(sample, CameraModel):
        calibration.set_camera(sample)
        return []
    for t in sample.transforms:
        if t.parent not in (config.frames.odom, config.frames.map):
            calibration.set_transform(t.parent, t.child, t.parent_from_child)
    return list(sample.rejections)


def calibration_of(bag: Bag, inputs: Inputs, config: Config) -> Calibration:
    """What a run over this bag knows about the sensors at its start."""
    calibration = Calibration(inputs.config(config))
    for arrival in calibration_first(bag, inputs):
        if isinstance(arrival.sample, (FrameTransforms, CameraModel)):
            learn(calibration, arrival.sample, config)
    return calibration
