"""One synced set with everything that belongs into a picture of it, brought together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.config_sync import offsets_of
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.calibrating import calibration_of
from mm_fusion.evaluation.order import read_samples
from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.topics import find_inputs
from mm_fusion.evaluation.truth import Truth, TruthBox, pose_at
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.images import ImageError, ImageStager
from mm_fusion.samples import NS_PER_S, CameraFrame, LidarSweep

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

TIME_BINS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One set: ``points`` [N,3] m and ``detections``, ``truth`` boxes, all in the base frame.

    ``image`` uint8 RGB [H,W,3] is rectified; ``pixel_from_base`` [3,4] projects into it, the
    vehicle's motion between set and exposure included. None where there is no camera.
    """

    stamp_ns: int
    mode: str
    points: F64
    detections: Sequence[Mapping[str, Any]]
    truth: Sequence[TruthBox] = ()
    image: U8 | None = None
    pixel_from_base: F64 | None = None


def load_scenes(
    bag: Bag,
    config: Config,
    lines: Iterable[Mapping[str, Any]],
    local: Trajectory | None = None,
    truth: Truth | None = None,
) -> list[Scene]:
    """The scenes of some lines of ``detections.jsonl``, with the bag's points and images.

    ``local`` is the run's local trajectory: with it, points are put where they were at the set's
    stamp, and the projection where the camera was at its exposure.
    """
    wanted = {int(line["stamp_ns"]): line for line in lines}
    inputs = find_inputs(bag.topics, config, str(bag.path))
    calibration = calibration_of(bag, inputs, config)
    nearest: dict[tuple[int, str], CameraFrame | LidarSweep] = {}
    reach_ns = round(config.sync.max_dt_s * NS_PER_S)
    offsets_ns = _offsets_ns(inputs.config(config))
    camera = inputs.cameras[0].name.lstrip("/") if inputs.cameras[0] else ""
    lidars = wire.Lidars(config.lidar, inputs.config(config).topics.lidars)
    for arrival in read_samples(bag, inputs, lidars):
        sample = arrival.sample
        if not isinstance(sample, (LidarSweep, CameraFrame)):
            continue
        if isinstance(sample, CameraFrame) and sample.sensor != camera:
            continue
        moved = dataclasses.replace(
            sample, stamp_ns=sample.stamp_ns + offsets_ns.get(sample.sensor, 0)
        )
        for stamp in wanted:
            gap_ns = abs(moved.stamp_ns - stamp)
            best = nearest.get((stamp, sample.sensor))
            if gap_ns <= reach_ns and (best is None or gap_ns < abs(best.stamp_ns - stamp)):
                nearest[stamp, sample.sensor] = moved
    return [
        _scene(
            line,
            [
                member
                for (at, name), member in sorted(nearest.items(), key=lambda item: item[0])
                if at == s and name not in line.get("missing", ())
            ],
            calibration,
            local,
            truth,
        )
        for s, line in sorted(wanted.items())
    ]


def _offsets_ns(config: Config) -> dict[str, int]:
    """What the synchronizer adds to the stamps of each sensor."""
    lidars, cameras, sync = config.topics.lidar_names(), config.topics.camera_names(), config.sync
    offsets_s = (
        *offsets_of(sync.lidar_offsets_s, len(lidars), "sync.lidar_offsets_s", "LIDAR"),
        *offsets_of(sync.camera_offsets_s, len(cameras), "sync.camera_offsets_s", "camera"),
    )
    return {
        name: round(offset_s * NS_PER_S)
        for name, offset_s in zip((*lidars, *cameras), offsets_s, strict=True)
    }


def _scene(
    line: Mapping[str, Any],
    members: Sequence[CameraFrame | LidarSweep],
    calibration: Calibration,
    local: Trajectory | None,
    truth: Truth | None,
) -> Scene:
    """``members`` are the set's, their stamps on the common clock."""
    stamp_ns = int(line["stamp_ns"])
    image = pixel_from_base = None
    for frame in (m for m in members if isinstance(m, CameraFrame)):
        image, pixel_from_base = _camera(frame, frame.stamp_ns, stamp_ns, calibration, local)
    sweeps = (m for m in members if isinstance(m, LidarSweep))
    clouds = [_points(sweep, stamp_ns, calibration, local) for sweep in sweeps]
    return Scene(
        stamp_ns=stamp_ns,
        mode=str(line.get("mode", "")),
        points=np.concatenate([np.zeros((0, 3)), *clouds]),
        detections=line["detections"],
        truth=_truth_at(truth, stamp_ns),
        image=image,
        pixel_from_base=pixel_from_base,
    )


def _truth_at(truth: Truth | None, stamp_ns: int, tolerance_ns: int = 1_000_000) -> list[TruthBox]:
    stamps = list(truth.objects) if truth else []
    nearest = min(stamps, key=lambda s: abs(s - stamp_ns), default=None)
    if truth is None or nearest is None or abs(nearest - stamp_ns) > tolerance_ns:
        return []
    return truth.objects[nearest]


def _camera(
    frame: CameraFrame,
    exposure_ns: int,
    stamp_ns: int,
    calibration: Calibration,
    local: Trajectory | None,
) -> tuple[U8 | None, F64 | None]:
    """The rectified image in its own size, and its projection from the base at the set's stamp."""
    model = calibration.camera(frame.sensor)
    base_from_camera = calibration.base_from(frame.frame_id)
    if model is None or base_from_camera is None:
        return None, None
    slot = np.zeros((model.height, model.width, 3), np.uint8)
    stager = ImageStager(slot)
    try:
        stager.put(frame, model)
    except ImageError:  # the run has counted it; there is just nothing to show
        return None, None
    moved = _between(local, exposure_ns, stamp_ns)
    camera_from_base = base_from_camera.inverse() @ moved
    extrinsics = np.hstack([camera_from_base.rotation, camera_from_base.translation[:, None]])
    return slot, stager.network_k(model) @ extrinsics


def _points(
    sweep: LidarSweep,
    stamp_ns: int,
    calibration: Calibration,
    local: Trajectory | None,
) -> F64:
    """The sweep's finite points [N,3] in the base frame as it stood at the stamp."""
    base_from_lidar = calibration.base_from(sweep.frame_id)
    if base_from_lidar is None:
        return np.zeros((0, 3))
    points = np.stack([sweep.points[n].astype(np.float64) for n in "xyz"], axis=1)
    finite = np.isfinite(points).all(axis=1)
    points = base_from_lidar.apply(points[finite])
    if not sweep.time_field or local is None or not len(points):
        return points
    offset_ns = sweep.points[sweep.time_field][finite].astype(np.float64) * sweep.time_unit_ns
    instants = sweep.stamp_ns + sweep.time_offset_ns + offset_ns
    edges = np.linspace(instants.min(), instants.max() + 1.0, TIME_BINS + 1)
    which = np.digitize(instants, edges) - 1
    for step in np.unique(which):
        middle_ns = round(float(edges[step] + edges[min(step + 1, TIME_BINS)]) / 2)
        moved = _between(local, stamp_ns, middle_ns)
        points[which == step] = moved.apply(points[which == step])
    return points


def _between(local: Trajectory | None, target_ns: int, source_ns: int) -> RigidTransform:
    """``base(target)_from_base(source)``; where no motion is known, none is drawn."""
    if local is None or target_ns == source_ns:
        return RigidTransform.identity()
    target, source = pose_at(local, target_ns), pose_at(local, source_ns)
    if target is None or source is None:
        return RigidTransform.identity()
    return target.inverse() @ source
