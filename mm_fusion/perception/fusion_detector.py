"""The fusion network at work: raw points and pictures into one graph, boxes out of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config, NetworkConfig
from mm_fusion.errors import ConfigError
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.contract import Contract
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.network import FusionNetwork, NetworkOutputs
from mm_fusion.perception.staging import Coming, Each, Staged, Staging
from mm_fusion.samples import Detection, LidarSweep, Reason, Rejection, SyncedSet

SPREADS = np.array([0, 0, 1, 3])  # of x, y, z and yaw, among what a network expects to be off by


class FusionDetector:
    """A fusion network with its buffers; see Detector."""

    def __init__(
        self, network: FusionNetwork, config: Config, calibration: Calibration, each: Each = map
    ) -> None:
        self._config = config
        self._network = network
        _check_fit(config.topics.camera_names(), network.contract, config.network)
        self._staging = Staging(network.contract, calibration, each)
        network.lock(self._staging.inputs)
        sweeps = config.network.use_lidar and config.deskew.enabled
        self._prepares_sweeps = sweeps and len(config.topics.lidar_names()) == 1

    def prepare(self, coming: Coming, motion: MotionBuffer) -> bool:
        """Stage a message whose set still waits for others; see Preparing."""
        is_sweep = isinstance(coming.sample, LidarSweep)
        wanted = self._prepares_sweeps if is_sweep else self._config.network.use_camera
        return not wanted or self._staging.prepare(coming, motion)

    def stage(self, synced: SyncedSet, motion: MotionBuffer) -> Staged:
        """Stage a set; what the network cannot do without and is not there takes the rest along."""
        network = self._config.network
        staged = self._staging.fill(
            synced,
            motion,
            deskew=self._config.deskew.enabled,
            use_lidar=network.use_lidar,
            use_camera=network.use_camera,
        )
        there = {"points": staged.has_points, "images": any(staged.has_image)}
        needed = {"points", "images"} - self._network.contract.may_be_absent
        lacking = sorted(name for name in needed if not there[name])
        if lacking:
            staged.remarks.append(f"the network cannot do without {', '.join(lacking)}")
            staged.has_points, staged.has_image = False, ()
        return staged

    def detect(self, staged: Staged, stamp_ns: int) -> tuple[Detection, ...]:
        """The network's boxes above the threshold, best first; none where it has no input."""
        has_image = any(staged.has_image)
        if not (staged.has_points or has_image):
            return ()
        network = self._network.for_senses(staged.has_points, has_image)
        contract = network.contract
        detections, impossible = boxes_above(
            network.run(self._staging.inputs),
            contract.classes,
            self._config.network.threshold_over(contract.score_threshold),
        )
        if impossible:
            detail = f"{impossible} boxes of impossible size, place or class"
            staged.rejections.append(Rejection("network", stamp_ns, Reason.NON_FINITE, detail))
        return detections


def boxes_above(
    outputs: NetworkOutputs, classes: Sequence[str], threshold: float
) -> tuple[tuple[Detection, ...], int]:
    """Detections with at least this score, and how many boxes were no boxes at all."""
    # A score that is no number is looked at, too.
    wanted = chosen = np.flatnonzero(~(outputs.scores < threshold))
    boxes, scores, labels = outputs.boxes[wanted], outputs.scores[wanted], outputs.labels[wanted]
    sane = np.isfinite(boxes).all(axis=1) & (boxes[:, 3:6] > 0.0).all(axis=1)
    sane &= (scores >= 0.0) & (scores <= 1.0) & (labels >= 0) & (labels < len(classes))
    if not sane.all():
        chosen = wanted[sane]
        boxes, scores, labels = boxes[sane], scores[sane], labels[sane]
    rows = boxes.astype(np.float64)
    numbers = (labels.tolist(), scores.tolist(), rows[:, 6].tolist())
    parts = (rows[:, :3], rows[:, 3:6], rows[:, 7:9], covariances(outputs.spreads, chosen))
    detections = tuple(
        Detection(classes[label], score, center, size, yaw, velocity, covariance=covariance)
        for label, score, yaw, center, size, velocity, covariance in zip(
            *numbers, *parts, strict=True
        )
    )
    return detections, len(wanted) - len(chosen)


def covariances(
    spreads: npt.NDArray[np.float32] | None, chosen: npt.NDArray[np.intp]
) -> Sequence[npt.NDArray[np.float64] | None]:
    """Covariances [4,4] of (x, y, z, yaw) of the chosen boxes, from the mean absolute errors that
    the network expects: of a Laplace distribution, the variance is twice their square."""
    if spreads is None:
        return [None] * len(chosen)
    errors = spreads[chosen].take(SPREADS, axis=1).astype(np.float64)
    # Sine and cosine of a heading of which nothing is known are off by about 0.9.
    variances = 2.0 * errors * errors
    np.minimum(variances[:, 3], np.pi**2 / 3.0, out=variances[:, 3])
    matrices = np.zeros((len(chosen), 4, 4))
    matrices.reshape(-1, 16)[:, ::5] = variances  # the diagonals
    finite = np.isfinite(variances)
    if finite.all():
        return list(matrices)
    return [m if f.all() else None for m, f in zip(matrices, finite, strict=True)]


def _check_fit(cameras: Sequence[str], contract: Contract, config: NetworkConfig) -> None:
    slots = contract.camera_slots
    if len(cameras) > slots:
        raise ConfigError(
            f"topics.cameras: the network has {slots} camera slots, got {len(cameras)} cameras"
        )
    for name, used, wanted in (
        ("points", config.use_lidar, "network.use_lidar"),
        ("images", config.use_camera, "network.use_camera"),
    ):
        if not used and name not in contract.may_be_absent:
            raise ConfigError(f"{wanted}: must be true: the network cannot do without {name}")
