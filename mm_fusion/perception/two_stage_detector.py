"""A two-stage LIDAR network at work in one pipeline; see Detector."""

from __future__ import annotations

import numpy as np

from mm_fusion.config import Config
from mm_fusion.errors import ConfigError
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.staging import Staged
from mm_fusion.perception.two_stage import Boxes3d, TwoStageNetwork
from mm_fusion.perception.whole_cloud import CloudJoiner, WholeCloud
from mm_fusion.samples import Detection, Reason, Rejection, SyncedSet


class TwoStageDetector:
    """Boxes from the LIDAR alone. Pictures have no part in them."""

    def __init__(self, network: TwoStageNetwork, config: Config, calibration: Calibration) -> None:
        self._network = network
        self._config = config
        self._joiner = CloudJoiner(calibration, features=True)
        self._cloud = WholeCloud()
        if not config.network.use_lidar:
            raise ConfigError("network.use_lidar: must be true: detector lidar has nothing else")

    def stage(self, synced: SyncedSet, motion: MotionBuffer) -> Staged:
        """Place the sweeps."""
        staged = Staged(has_image=tuple(False for _ in synced.cameras))
        deskew = motion if self._config.deskew.enabled else None
        self._cloud = self._joiner.join(synced, deskew, staged)
        staged.has_points = staged.points_used > 0
        return staged

    def detect(self, staged: Staged, stamp_ns: int) -> tuple[Detection, ...]:
        """The network's boxes above the threshold, best first; none without points."""
        if not staged.has_points:
            return ()
        cloud, contract = self._cloud, self._network.contract
        threshold = self._config.network.threshold_over(contract.score_threshold)
        found, left_out = self._network.run(cloud.xyz, cloud.intensity, cloud.age_s, threshold)
        if left_out:
            staged.remarks.append(f"{left_out} far pillars more than the network has room for")
        sane = np.isfinite(found.boxes).all(axis=1)
        if not sane.all():
            detail = f"{int((~sane).sum())} boxes that are no numbers"
            staged.rejections.append(Rejection("network", stamp_ns, Reason.NON_FINITE, detail))
        return self._named(Boxes3d(found.boxes[sane], found.scores[sane], found.classes[sane]))

    def _named(self, found: Boxes3d) -> tuple[Detection, ...]:
        contract = self._network.contract
        labels = [contract.class_map.get(name) for name in contract.classes]
        rows = zip(found.boxes, found.scores.tolist(), found.classes.tolist(), strict=True)
        return tuple(
            Detection(label, score, b[:3], b[3:6], float(b[6]), b[7:9], "lidar")
            for b, score, index in rows
            if (label := labels[index]) is not None
        )
