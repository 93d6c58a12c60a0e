"""Labelled frames on the main road: each becomes a synced set, as if its messages had just come.

The answers are those of PerceptionPipeline, the object that the node and the replay drive: the
same staging, the same network, the same boxes. Frames are already straightened, so the ego motion
is not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mm_fusion import config as configuration
from mm_fusion.datasets.frame import Cloud, LabelledFrame
from mm_fusion.evaluation.detection import CLASSES, FrameMatch, match_frame
from mm_fusion.evaluation.frame_faults import Sensed
from mm_fusion.evaluation.truth import TruthBox
from mm_fusion.geometry import RigidTransform, project
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.contract import Contract
from mm_fusion.perception.network import FusionNetwork
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.samples import NS_PER_S, CameraFrame, CameraModel, Detection, LidarSweep, SyncedSet

F64 = npt.NDArray[np.float64]

MIN_SCORE = 0.02  # below, a detection only lengthens the tail of the curve
MIN_POINTS = 5  # an object with fewer, and with fewer pixels, is not asked for
MIN_PIXELS = 40  # of the network's picture
SCOPES = ("grid", "view")
FRAME_SPACING_NS = 10 * NS_PER_S  # so far apart that no track goes on from frame to frame
CAMERA, LIDAR, OPTICAL = "camera", "lidar", "camera_optical"
POINT = np.dtype([(name, np.float32) for name in ("x", "y", "z", "intensity", "seconds")])


@dataclass(frozen=True, slots=True)
class Setting:
    """A network and what it may see. ``provider`` and ``threads`` are FusionNetwork.open's;
    ``lidar`` and ``camera`` are its stand-ins, None where there is none."""

    model: Path
    use_camera: bool = True
    use_lidar: bool = True
    provider: str = "auto"
    threads: int = 1
    lidar: Path | None = None
    camera: Path | None = None


class FrameRunner:
    """One network over frames, whose sensors are named ``camera`` and ``lidar``."""

    def __init__(self, setting: Setting) -> None:
        self._config = configuration.from_values(
            {
                "topics.cameras": [CAMERA],
                "topics.lidars": [LIDAR],
                "deskew.enabled": False,
                "network.score_threshold": MIN_SCORE,
                "network.use_camera": setting.use_camera,
                "network.use_lidar": setting.use_lidar,
            }
        )
        network = FusionNetwork.open(setting.model, setting.provider, setting.threads)
        for sense, model in (("lidar", setting.lidar), ("camera", setting.camera)):
            if model is not None:
                stand_in = FusionNetwork.open(model, setting.provider, setting.threads)
                network.take_stand_in(sense, stand_in)
        self.contract: Contract = network.contract
        self.provider = network.provider
        self._calibration = Calibration(self._config)
        self._pipeline = PerceptionPipeline(self._config, network, self._calibration)
        self._stamp_ns = 0

    def run(self, sensed: Sensed) -> tuple[Detection, ...]:
        """The boxes with a score of MIN_SCORE or more, best first."""
        self._stamp_ns += FRAME_SPACING_NS
        if sensed.held_s > 0.0:  # the road has met this picture already
            before_ns = self._stamp_ns - round(sensed.held_s * NS_PER_S)
            self._pipeline.process(self._set(replace(sensed, cloud=None), before_ns))
        return self._pipeline.process(self._set(sensed, self._stamp_ns)).detections

    def _set(self, sensed: Sensed, stamp: int) -> SyncedSet:
        base = self._config.frames.base
        sweep = image = None
        if sensed.cloud is not None:
            sweep = _sweep(sensed.cloud, stamp, base)
        if sensed.image is not None and sensed.k is not None:
            height, width = sensed.image.shape[:2]
            self._calibration.set_camera(CameraModel(CAMERA, OPTICAL, height, width, sensed.k))
            placed = sensed.camera_from_base or RigidTransform.identity()
            self._calibration.set_transform(base, OPTICAL, placed.inverse())
            rows = np.ascontiguousarray(sensed.image).reshape(height, 3 * width)
            image = CameraFrame(CAMERA, stamp, OPTICAL, "rgb8", height, width, 3 * width, rows)
        there = {CAMERA: image is not None, LIDAR: sweep is not None}
        missing = tuple(name for name, is_there in there.items() if not is_there)
        return SyncedSet(
            stamp, (sweep,), (image,), missing, {n: 0 for n, here in there.items() if here}
        )


def _sweep(cloud: Cloud, stamp_ns: int, frame_id: str) -> LidarSweep:
    points = np.empty(len(cloud.xyz), POINT)
    for k, axis in enumerate("xyz"):
        points[axis] = cloud.xyz[:, k]
    points["intensity"], points["seconds"] = cloud.intensity, cloud.seconds
    # seconds are counted back from the stamp
    return LidarSweep(
        LIDAR, stamp_ns, frame_id, points, "intensity", 1.0, "seconds", -float(NS_PER_S)
    )


# ------------------------------------------------------------------------------- the truth


def truth_of(frame: LabelledFrame, contract: Contract) -> list[TruthBox]:
    """A frame's objects; those hardly seen by any sensor or outside the network's range are not
    asked for, whatever goes wrong later."""
    o = frame.objects
    share = 1.0
    if frame.images:
        height, width = frame.images[0].shape[:2]
        share = contract.image_width_px * contract.image_height_px / (width * height)
    (x_low, x_high), (y_low, y_high) = contract.range_m.x_m, contract.range_m.y_m
    out = []
    for n, box in enumerate(o.boxes.astype(np.float64)):
        if o.labels[n] < 0:
            continue
        pixels = max(int(o.num_pixels[n]), 0) * share
        seen = o.num_points[n] >= MIN_POINTS or pixels >= MIN_PIXELS
        inside = x_low <= box[0] < x_high and y_low <= box[1] < y_high
        velocity = box[7:9] if np.isfinite(box[7:9]).all() else None
        label = CLASSES[o.labels[n]]
        counted = bool(seen and inside)
        out.append(TruthBox(str(n), label, box[:3], box[3:6], box[6], velocity, counted))
    return out


def in_view(frame: LabelledFrame, centers: F64) -> npt.NDArray[np.bool_]:
    """Whose centre [N,3] the frame's first camera has within its picture, hidden or not."""
    if not frame.images or not len(centers):
        return np.zeros(len(centers), bool)
    return in_picture(frame.pixel_from_base[0], frame.images[0].shape[:2], centers)


def in_picture(
    pixel_from_base: npt.NDArray[np.floating], shape: tuple[int, ...], centers: F64
) -> npt.NDArray[np.bool_]:
    """Which of the points [N,3] a picture of ``shape`` (height, width) has, hidden or not."""
    height, width = shape
    pixel, front = project(pixel_from_base.astype(np.float64), centers)
    with np.errstate(invalid="ignore"):
        inside = ((pixel >= -0.5) & (pixel < np.array([width, height]) - 0.5)).all(axis=1)
    return np.asarray(front & inside)


def matches(
    detections: tuple[Detection, ...],
    truth: list[TruthBox],
    frame: LabelledFrame,
    contract: Contract,
) -> dict[tuple[str, str], FrameMatch]:
    """How detections met the truth, by scope and class.

    ``grid`` is all the network looks at; in ``view`` only what lies within the picture counts:
    objects elsewhere hide the detections near them, detections elsewhere are left out.
    """
    (x_low, x_high), (y_low, y_high) = contract.range_m.x_m, contract.range_m.y_m
    lines = [
        {"class": d.label, "score": d.score, "center": d.center, "size": d.size, "yaw": d.yaw}
        | {"velocity": d.velocity}
        for d in detections
        if x_low <= d.center[0] < x_high and y_low <= d.center[1] < y_high
    ]
    centers = np.array([line["center"] for line in lines], np.float64).reshape(-1, 3)
    shown = in_view(frame, centers)
    known = in_view(frame, np.array([t.center for t in truth], np.float64).reshape(-1, 3))
    viewed = [t if k else t.uncounted() for t, k in zip(truth, known, strict=True)]
    kept = [line for line, k in zip(lines, shown, strict=True) if k]
    out = {}
    for scope, found, objects in (("grid", lines, truth), ("view", kept, viewed)):
        for name in CLASSES:
            out[scope, name] = match_frame(
                [line for line in found if line["class"] == name],
                [t for t in objects if t.label == name],
            )
    return out
