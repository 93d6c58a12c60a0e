"""A camera detector and the LIDAR at work in one pipeline; see Detector."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config
from mm_fusion.errors import ConfigError
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.camera2d.associate import Seen
from mm_fusion.perception.camera2d.bodies import Glance, Look
from mm_fusion.perception.camera2d.heads import Boxes2d
from mm_fusion.perception.camera2d.locate import Unnamed, locate, prior_of
from mm_fusion.perception.camera2d.network import CameraNetwork, Eye
from mm_fusion.perception.camera2d.riders import with_riders
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.ground import find_ground
from mm_fusion.perception.images import ImageError
from mm_fusion.perception.staging import Each, Staged
from mm_fusion.perception.whole_cloud import CloudJoiner, WholeCloud
from mm_fusion.samples import CameraFrame, Detection, Reason, Rejection, SyncedSet

F64 = npt.NDArray[np.float64]
FAINT = 0.5  # of the threshold: what scores less is as good as not seen


class _Aimed(NamedTuple):
    """A camera whose picture is on its canvas, with the projection of the rectified picture."""

    sensor: str
    eye: Eye
    pixel_from_base: F64


class CameraDetector:
    """A 2D detector with LIDAR clusters; see Detector."""

    def __init__(
        self, network: CameraNetwork, config: Config, calibration: Calibration, each: Each = map
    ) -> None:
        self._network = network
        self._config = config
        self._calibration = calibration
        self._each = each
        self._joiner = CloudJoiner(calibration)
        self._eyes: dict[str, Eye] = {}
        self._cloud = WholeCloud()
        self._aimed: list[_Aimed] = []
        self.glances: list[Glance] = []  # what the pictures of the last set showed
        self.labels = frozenset(network.contract.class_map.values())
        if not (config.network.use_camera or config.network.use_lidar):
            raise ConfigError("network.use_camera: must be true where network.use_lidar is false")

    def stage(self, synced: SyncedSet, motion: MotionBuffer) -> Staged:
        """Place the sweeps, and put the pictures on the network's canvases."""
        staged = Staged()
        used = self._config.network
        deskew = motion if self._config.deskew.enabled else None
        join = self._joiner.join
        self._cloud = join(synced, deskew, staged) if used.use_lidar else WholeCloud()
        staged.has_points = staged.points_used > 0
        frames = synced.cameras if used.use_camera else ()
        self._aimed = []
        staged.has_image = tuple(
            frame is not None and self._look(frame, synced, motion, staged) for frame in frames
        )
        return staged

    def detect(self, staged: Staged, stamp_ns: int) -> tuple[Detection, ...]:
        """Boxes of all cameras, in the base frame at the stamp, best first."""
        del stamp_ns  # what was staged is at the stamp already
        threshold = self._config.network.threshold_over(self._network.contract.score_threshold)
        self.glances = [self._glance(aimed, threshold) for aimed in self._aimed]
        looks = [glance.look for glance in self.glances]
        settings = self._config.camera2d
        unnamed = Unnamed(range_m=settings.unknown_range_m) if settings.unknown else None
        cloud = self._cloud
        ground = find_ground(cloud.xyz, self._config.ground)
        staged.ground = ground if cloud.complete else None
        found = locate(looks, cloud.xyz, ground, settings.range_m, cloud.sensor, unnamed)
        bearings = sum(d.source == "bearing" for d in found)
        if bearings and staged.has_points:
            staged.remarks.append(f"{bearings} camera boxes without points: their range is guessed")
        return tuple(found)

    def _glance(self, aimed: _Aimed, threshold: float) -> Glance:
        size = aimed.eye.model.width, aimed.eye.model.height
        found = self._network.run(aimed.eye.canvas, FAINT * threshold)
        boxes = aimed.eye.in_camera(found.boxes)
        faint = self._named(found._replace(boxes=boxes))
        seen = with_riders([s for s in faint if s.score >= threshold])
        return Glance(Look(seen, aimed.pixel_from_base, size), faint)

    def _named(self, found: Boxes2d) -> list[Seen]:
        """The boxes whose class means something here."""
        contract, out = self._network.contract, []
        rows = zip(found.boxes, found.scores.tolist(), found.classes.tolist(), strict=True)
        for box, score, index in rows:
            kind = contract.classes[index]
            label = contract.class_map.get(kind)
            if label is not None and box[2] - box[0] >= 2.0 and box[3] - box[1] >= 2.0:
                out.append(Seen(box, min(score, 1.0), label, kind, prior_of(label, kind)))
        return out

    # -------------------------------------------------------------------------- the pictures

    def _look(
        self, frame: CameraFrame, synced: SyncedSet, motion: MotionBuffer, staged: Staged
    ) -> bool:
        """Put a frame on its canvas; False where it cannot be used."""
        model = self._calibration.camera(frame.sensor)
        if model is None:
            detail = "no CameraInfo came for this camera"
            return _refused(staged, frame, Reason.NO_INTRINSICS, detail)
        frame_id = frame.frame_id or model.frame_id
        base_from_camera = self._calibration.base_from(frame_id)
        if base_from_camera is None:
            detail = f"nothing connects frame '{frame_id}' with the base frame"
            return _refused(staged, frame, Reason.NO_EXTRINSICS, detail)
        eye = self._eyes.get(frame.sensor)
        if eye is None or eye.model is not model:
            eye = self._eyes[frame.sensor] = Eye(self._network.contract, model)
        try:
            eye.put(frame)
        except ImageError as error:
            return _refused(staged, frame, error.reason, error.detail)
        after_ns = synced.dt_ns.get(frame.sensor, frame.stamp_ns - synced.stamp_ns)
        moved = motion.base_from_base(synced.stamp_ns + after_ns, synced.stamp_ns)
        if moved is None:
            moved = RigidTransform.identity()
            if after_ns:
                staged.remarks.append(f"{frame.sensor}: no ego motion between exposure and set")
        camera_from_base = base_from_camera.inverse() @ moved
        pixel_from_base = model.k @ camera_from_base.matrix()[:3]
        self._aimed.append(_Aimed(frame.sensor, eye, pixel_from_base))
        return True


def _refused(staged: Staged, sample: CameraFrame, reason: Reason, detail: str) -> bool:
    staged.rejections.append(Rejection(sample.sensor, sample.stamp_ns, reason, detail))
    return False
