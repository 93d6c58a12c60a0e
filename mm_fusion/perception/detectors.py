"""What finds objects in a synced set: one of several detectors behind the same two calls.

A network is loaded once and knows nothing of sensors. A detector is a network at work in one
pipeline, with that pipeline's calibration and buffers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from mm_fusion.config import Config
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.camera2d.detector import CameraDetector
from mm_fusion.perception.camera2d.network import CameraNetwork
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.ensemble import WEAK, EnsembleDetector, EnsembleNetwork
from mm_fusion.perception.fusion_detector import FusionDetector
from mm_fusion.perception.network import FusionNetwork, Show
from mm_fusion.perception.staging import Coming, Each, Staged
from mm_fusion.perception.two_stage import TwoStageNetwork
from mm_fusion.perception.two_stage_detector import TwoStageDetector
from mm_fusion.samples import Detection, SyncedSet


class Network(Protocol):
    """One or several networks, loaded and held against their contracts.

    ``provider`` is where they run and ``reason`` why there, ``model_path`` what was loaded.
    """

    @property
    def provider(self) -> str:
        """tensorrt, cuda or cpu."""

    @property
    def reason(self) -> str:
        """Why there."""

    @property
    def model_path(self) -> object:
        """The path of the file, for people to read."""

    def facts(self) -> dict[str, Any]:
        """What a summary says about it: at least model, sha256, classes, score_threshold, and
        range_m (x, y, z in the base frame; None: no such limits)."""


class Detector(Protocol):
    """A network at work. Called in turn, set by set."""

    def stage(self, synced: SyncedSet, motion: MotionBuffer) -> Staged:
        """Make the set ready; what cannot be used is among the rejections."""

    def detect(self, staged: Staged, stamp_ns: int) -> tuple[Detection, ...]:
        """Boxes of what was staged last, in the base frame at the stamp, best first. Rejections
        and remarks are added to ``staged``."""


@runtime_checkable
class Preparing(Protocol):
    """What a detector may do besides: get ready for a set before all of it is there."""

    def prepare(self, coming: Coming, motion: MotionBuffer) -> bool:
        """Do ahead what can be done; no result changes by it. False: not yet, because the next
        pose may change the motion during the sweep."""


def open_network(config: Config, show: Show | None = None) -> Network:
    """What the parameters name; ``show`` is told the share of the warm-up that is done. Raises
    ContractError where a file is missing or does not fit, ConfigError where a GPU was asked for and
    is not to be had."""
    if config.detector == "camera2d":
        return CameraNetwork.from_config(config)
    if config.detector == "lidar":
        return TwoStageNetwork.from_config(config)
    if config.detector == "ensemble":
        return EnsembleNetwork(FusionNetwork.from_config(config), CameraNetwork.from_config(config))
    return FusionNetwork.from_config(config, show)


def detector_of(
    network: Network, config: Config, calibration: Calibration, each: Each = map
) -> Detector:
    """The detector of a network; ``each`` is that of Staging. Raises ConfigError where network
    and sensors do not fit."""
    if isinstance(network, FusionNetwork):
        return FusionDetector(network, config, calibration, each)
    if isinstance(network, CameraNetwork):
        return CameraDetector(network, config, calibration, each)
    if isinstance(network, TwoStageNetwork):
        return TwoStageDetector(network, config, calibration)
    if isinstance(network, EnsembleNetwork):
        first, second = network.first, network.second
        contract = first.contract
        threshold = config.network.threshold_over(contract.score_threshold)
        weak = replace(
            config, network=replace(config.network, score_threshold=min(WEAK, threshold))
        )
        return EnsembleDetector(
            detector_of(first, weak, calibration, each),
            detector_of(second, config, calibration, each),
            threshold,
            contract.range_m,
        )
    raise TypeError(f"no detector for {type(network).__name__}")
