"""Frames of a bag that carries the truth beside its sensors, as simulated drives do.

``truth/objects`` (vision_msgs/Detection3DArray, one message per sweep with the sweep's stamp, boxes
in the base frame) labels the sweeps; ``truth/odometry`` takes the motion out of them and, where it
is there, gives the objects' velocities. ``docs/evaluation.md`` describes these topics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.datasets.frame import (
    CONDITIONS,
    IGNORED,
    LABELS,
    NO_RING,
    Cloud,
    LabelledFrame,
    Objects,
    count_inside,
)
from mm_fusion.datasets.pictures import shrunk
from mm_fusion.errors import BagError
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.order import calibration_first, in_stamp_order, read_samples
from mm_fusion.evaluation.topics import Inputs, find_inputs
from mm_fusion.evaluation.truth import Truth, TruthBox, pose_at, read_truth
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.images import ImageError, rectified
from mm_fusion.samples import NS_PER_S, CameraFrame, CameraModel, LidarSweep
from mm_fusion.wire import FrameTransforms

F64 = npt.NDArray[np.float64]

PAIR_S = 0.06  # a picture further from a sweep than this is not its own
_STEP_S = 0.001  # poses are looked up for instants so far apart


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    sweep: LidarSweep
    camera: CameraFrame | None


def read_bag(path: Path, config: Config, pixels: int) -> Iterator[LabelledFrame]:
    """The labelled sweeps of a bag, in order. Raises BagError where it carries no labels, cannot be
    read, or nothing connects a sensor with the base frame."""
    with Bag(path) as bag:
        inputs = find_inputs(bag.topics, config, str(path))
        truth = read_truth(bag)
        if not truth.objects:
            raise BagError(f"{path}: no truth/objects (vision_msgs/Detection3DArray) to learn from")
        if not any(inputs.lidars):
            raise BagError(f"{path}: no point cloud to learn from")
        found = inputs.config(config)
        calibration = Calibration(found)
        for arrival in calibration_first(bag, inputs):
            _learn(calibration, arrival.sample)
        for pair in _pairs(bag, inputs, found, calibration, truth):
            yield _frame(path, pair, calibration, truth, pixels)


def _learn(calibration: Calibration, sample: wire.Decoded) -> None:
    if isinstance(sample, FrameTransforms):
        for link in sample.transforms:
            calibration.set_transform(link.parent, link.child, link.parent_from_child)
    elif isinstance(sample, CameraModel):
        calibration.set_camera(sample)


def _pairs(
    bag: Bag, inputs: Inputs, config: Config, calibration: Calibration, truth: Truth
) -> Iterator[_Pair]:
    """Labelled sweeps with the picture nearest in time, once the next picture is known."""
    lidars = wire.Lidars(config.lidar, config.topics.lidars)
    pictures: list[CameraFrame] = []
    waiting: list[LidarSweep] = []
    reach_ns = round(PAIR_S * NS_PER_S)

    def paired(sweep: LidarSweep) -> _Pair:
        near = [p for p in pictures if abs(p.stamp_ns - sweep.stamp_ns) <= reach_ns]
        nearest = min(near, key=lambda p: abs(p.stamp_ns - sweep.stamp_ns), default=None)
        return _Pair(sweep, nearest)

    for arrival in in_stamp_order(read_samples(bag, inputs, lidars), config):
        sample = arrival.sample
        _learn(calibration, sample)
        if isinstance(sample, CameraFrame):
            pictures = [*pictures[-3:], sample]
        elif isinstance(sample, LidarSweep) and sample.stamp_ns in truth.objects:
            waiting.append(sample)
        while waiting and arrival.stamp_ns > waiting[0].stamp_ns + reach_ns:
            yield paired(waiting.pop(0))
    yield from (paired(sweep) for sweep in waiting)


def _frame(
    path: Path, pair: _Pair, calibration: Calibration, truth: Truth, pixels: int
) -> LabelledFrame:
    sweep = pair.sweep
    base_from_lidar = calibration.base_from(sweep.frame_id)
    if base_from_lidar is None:
        raise BagError(f"{path}: nothing connects frame '{sweep.frame_id}' with the base frame")
    cloud = _cloud(sweep, base_from_lidar, truth)
    images, projections = _pictures(path, pair, calibration, truth, pixels)
    conditions = CONDITIONS | {
        "source": "bag",
        "lidar_height_m": round(float(base_from_lidar.translation[2]), 3),
        "beams": len(np.unique(cloud.ring)) if (cloud.ring != NO_RING).any() else 0,
        "stamp_ns": sweep.stamp_ns,
    }
    return LabelledFrame(
        cloud,
        images,
        projections,
        _objects(truth.objects[sweep.stamp_ns], cloud),
        conditions=conditions,
    )


def _cloud(sweep: LidarSweep, base_from_lidar: RigidTransform, truth: Truth) -> Cloud:
    """The sweep in the base frame at its stamp, every point corrected for its own instant."""
    points = sweep.points
    xyz = np.column_stack([points[axis] for axis in "xyz"]).astype(np.float64)
    finite = np.isfinite(xyz).all(axis=1)
    points, xyz = points[finite], base_from_lidar.apply(xyz[finite])
    seconds = np.zeros(len(xyz))
    if sweep.time_field:
        offset_ns = points[sweep.time_field].astype(np.float64) * sweep.time_unit_ns
        seconds = (offset_ns + sweep.time_offset_ns) / NS_PER_S
        xyz = _deskewed(xyz, seconds, sweep.stamp_ns, truth)
    intensity = np.zeros(len(xyz), np.float32)
    if sweep.intensity_field:
        raw = points[sweep.intensity_field].astype(np.float32) * np.float32(sweep.intensity_scale)
        intensity = np.clip(np.nan_to_num(raw), 0.0, 1.0).astype(np.float32)
    ring = np.full(len(xyz), NO_RING, np.uint8)
    if "ring" in (points.dtype.names or ()):
        ring = np.clip(points["ring"], 0, NO_RING - 1).astype(np.uint8)
    return Cloud(
        xyz.astype(np.float32), intensity, np.maximum(-seconds, 0.0).astype(np.float32), ring
    )


def _deskewed(xyz: F64, seconds: F64, stamp_ns: int, truth: Truth) -> F64:
    """Points [N,3] moved to the stamp by the true motion; as they are where it is not known."""
    here = None if truth.trajectory is None else pose_at(truth.trajectory, stamp_ns)
    if here is None or truth.trajectory is None:
        return xyz
    steps, which = np.unique(np.round(seconds / _STEP_S).astype(np.int64), return_inverse=True)
    base_from_map, out = here.inverse(), xyz.copy()
    for k, step in enumerate(steps):
        then = pose_at(truth.trajectory, stamp_ns + round(int(step) * _STEP_S * NS_PER_S))
        if then is not None:
            chosen = which == k
            out[chosen] = (base_from_map @ then).apply(xyz[chosen])
    return out


def _pictures(
    path: Path, pair: _Pair, calibration: Calibration, truth: Truth, pixels: int
) -> tuple[tuple[npt.NDArray[np.uint8], ...], npt.NDArray[np.float32]]:
    """The pair's picture, rectified and small, and its projection; empty where it has none."""
    frame, none = pair.camera, ((), np.zeros((0, 3, 4), np.float32))
    model = None if frame is None else calibration.camera(frame.sensor)
    if frame is None or model is None:
        return none
    mount = calibration.base_from(frame.frame_id or model.frame_id)
    if mount is None:
        raise BagError(f"{path}: nothing connects frame '{frame.frame_id}' with the base frame")
    moved = RigidTransform.identity()
    if truth.trajectory is not None:
        here = pose_at(truth.trajectory, pair.sweep.stamp_ns)
        there = pose_at(truth.trajectory, frame.stamp_ns)
        if here is not None and there is not None:
            moved = there.inverse() @ here
    try:
        image = rectified(frame, model)
    except ImageError as error:
        raise BagError(f"{path}: {frame.sensor}: {error}") from error
    projection = model.k @ (mount.inverse() @ moved).matrix()[:3]
    small, projection, _ = shrunk(image, projection, pixels)
    return (small,), projection.astype(np.float32)[None]


def _objects(truths: list[TruthBox], cloud: Cloud) -> Objects:
    """Truth boxes as labels; those of other classes count for nothing."""
    boxes = np.full((len(truths), 9), np.nan, np.float32)
    for box, one in zip(boxes, truths, strict=True):
        box[:7] = [*one.center, *one.size, one.yaw]
        if one.velocity is not None:
            box[7:] = one.velocity
    unknown = np.full((len(truths), 2), np.nan, np.float32)
    unknown[[not one.counted for one in truths]] = 0.0
    labels = [LABELS.index(t.label) if t.label in LABELS else IGNORED for t in truths]
    ids = [int(t.object_id) if t.object_id.isdigit() else -1 for t in truths]
    return Objects(
        boxes,
        np.array(labels, np.int64),
        count_inside(cloud.xyz, boxes),
        np.full(len(truths), -1, np.int32),
        unknown,
        tuple(t.label for t in truths),
        np.array(ids, np.int64),
    )
