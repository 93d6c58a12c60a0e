"""The main road: from synced sets of raw camera and LIDAR data to boxes and tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mm_fusion.config import Config, NetworkConfig
from mm_fusion.errors import ConfigError
from mm_fusion.health.timing import Stopwatch
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.contract import Contract
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.network import FusionNetwork, NetworkOutputs
from mm_fusion.perception.staging import Each, Staged, Staging
from mm_fusion.perception.tracker import Tracker
from mm_fusion.samples import (
    CameraFrame,
    Detection,
    FusionResult,
    LidarSweep,
    Mode,
    PoseEstimate,
    Reason,
    Rejection,
    SyncedSet,
)
from mm_fusion.sync import Synchronizer

Answers = list[FusionResult | Rejection]

MODES = {  # by whether the network got points, and whether it got an image
    (True, True): Mode.CAMERA_LIDAR,
    (True, False): Mode.LIDAR,
    (False, True): Mode.CAMERA,
    (False, False): Mode.NONE,
}


class PerceptionPipeline:
    """Samples in, results out. ``now_ns`` is a stopwatch for the stations, None to measure nothing.
    ``each`` is that of Staging.

    Where one thread receives and another runs the network, the first uses ``synchronizer`` and
    ``motion.add``, and the second ``process``.
    """

    def __init__(
        self,
        config: Config,
        network: FusionNetwork,
        calibration: Calibration,
        now_ns: Callable[[], int] | None = None,
        each: Each = map,
    ) -> None:
        self._config = config
        self._network = network
        self._now_ns = now_ns
        self._cameras = config.topics.camera_names()
        _check_fit(self._cameras, network.contract, config.network)
        self.synchronizer = Synchronizer(config.sync, config.topics.lidar_names(), self._cameras)
        self.motion = MotionBuffer(config.deskew, calibration.base_from)
        self._staging = Staging(network.contract, calibration, each)
        self._tracker = Tracker(config.tracker)

    # -------------------------------------------------------------------- what comes in

    def add_motion(self, estimate: PoseEstimate) -> Answers:
        """Take a local pose: it tells the ego motion, and that time moves on."""
        fallen = self.motion.add(estimate)
        answers: Answers = [] if fallen is None else [fallen]
        return answers + self.advance(estimate.stamp_ns)

    def add(self, sample: CameraFrame | LidarSweep) -> Answers:
        """Take a frame or a sweep; answer the sets that went out, and what fell out."""
        return self._answer(self.synchronizer.add(sample))

    def advance(self, stamp_ns: int) -> Answers:
        """Sensor time moved on to ``stamp_ns``, as a sensor outside this road says."""
        return self._answer(self.synchronizer.advance(stamp_ns))

    def flush(self) -> Answers:
        """The data ended: answer what still waits."""
        return self._answer(self.synchronizer.flush())

    def _answer(self, items: Iterable[SyncedSet | Rejection]) -> Answers:
        return [i if isinstance(i, Rejection) else self.process(i) for i in items]

    # --------------------------------------------------------------------- the main road

    def process(self, synced: SyncedSet) -> FusionResult:
        """One set through all stations."""
        watch = Stopwatch(self._now_ns)
        odom_from_base = self.motion.odom_from_base(synced.stamp_ns)
        staged = self._stage(synced)
        watch.lap("stage")
        detections = self._detect(staged, synced.stamp_ns)
        watch.lap("network")
        tracks = self._tracker.update(synced.stamp_ns, detections, odom_from_base)
        watch.lap("track")
        frames = self._config.frames
        return FusionResult(
            stamp_ns=synced.stamp_ns,
            frame_id=frames.base,
            mode=MODES[staged.has_points, any(staged.has_image)],
            missing=_missing(synced, staged),
            detections=detections,
            tracks=tracks,
            track_frame_id=frames.base if odom_from_base is None else frames.odom,
            ego_motion=odom_from_base is not None,
            rejections=tuple(staged.rejections),
            stage_ns=watch.laps("total"),
            dt_ns=dict(synced.dt_ns),
            remarks=tuple(staged.remarks),
        )

    def _stage(self, synced: SyncedSet) -> Staged:
        network = self._config.network
        staged = self._staging.fill(
            synced,
            self.motion,
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

    def _detect(self, staged: Staged, stamp_ns: int) -> tuple[Detection, ...]:
        """The network's boxes above the threshold, best first; none where it has no input."""
        if not (staged.has_points or any(staged.has_image)):
            return ()
        contract = self._network.contract
        threshold = self._config.network.score_threshold
        detections, impossible = boxes_above(
            self._network.run(self._staging.inputs),
            contract.classes,
            contract.score_threshold if threshold < 0.0 else threshold,
        )
        if impossible:
            detail = f"{impossible} boxes of impossible size, place or class"
            staged.rejections.append(Rejection("network", stamp_ns, Reason.NON_FINITE, detail))
        return detections


def boxes_above(
    outputs: NetworkOutputs, classes: Sequence[str], threshold: float
) -> tuple[tuple[Detection, ...], int]:
    """Detections with at least this score, and how many boxes were no boxes at all."""
    boxes, scores, labels = outputs
    wanted = ~(scores < threshold)  # a score that is no number is looked at, too
    sane = np.isfinite(boxes).all(axis=1) & (boxes[:, 3:6] > 0.0).all(axis=1)
    sane &= (scores >= 0.0) & (scores <= 1.0) & (labels >= 0) & (labels < len(classes))
    chosen = np.flatnonzero(wanted & sane)
    rows = boxes[chosen].astype(np.float64)
    numbers = (labels[chosen].tolist(), scores[chosen].tolist(), rows[:, 6].tolist())
    detections = tuple(
        Detection(classes[label], score, row[:3], row[3:6], yaw, row[7:9])
        for label, score, yaw, row in zip(*numbers, rows, strict=True)
    )
    return detections, int(np.count_nonzero(wanted & ~sane))


def _missing(synced: SyncedSet, staged: Staged) -> tuple[str, ...]:
    """The sensors without a part in the result: no partner, or refused while staging."""
    refused = [r.sensor for r in staged.rejections if r.sensor in synced.dt_ns]
    return (*synced.missing, *(s for s in refused if s not in synced.missing))


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
