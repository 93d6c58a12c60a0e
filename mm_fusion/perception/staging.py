"""A synced set into the network's input buffers, each point and pixel touched once.

What cannot be used becomes a Rejection, and the set goes on with what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.choosing import Chooser, ends_ns
from mm_fusion.perception.clouds import CloudPlacer, Mounted, PlacedCloud, mounted
from mm_fusion.perception.contract import Contract, NetworkInputs, Range
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.ground import Ground
from mm_fusion.perception.images import ImageError, ImageStager
from mm_fusion.samples import (
    NS_PER_S,
    CameraFrame,
    CameraModel,
    LidarSweep,
    Reason,
    Rejection,
    SyncedSet,
)

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

Each = Callable[[Callable[[int], "Rejection | None"], Iterable[int]], Iterable["Rejection | None"]]


@dataclass(slots=True, eq=False)
class Staged:
    """What became of one set: who takes part, what was refused, what was lessened. ``ground`` is
    that of all points of all sweeps in their order, where the detector has found it."""

    has_points: bool = False
    has_image: tuple[bool, ...] = ()
    rejections: list[Rejection] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    points_used: int = 0
    ground: Ground | None = None


class _Picture(NamedTuple):
    """A frame with its camera's intrinsics and ``base_from_camera``."""

    frame: CameraFrame
    model: CameraModel
    base_from_camera: RigidTransform


class _Aim(NamedTuple):
    """A camera's ``pixel_from_base`` [3,4] where nothing moves, for its lens and place."""

    model: CameraModel
    place: RigidTransform
    matrix: F64


class Coming(NamedTuple):
    """A sweep, or a picture with its slot, and the stamp that its set will have."""

    sample: LidarSweep | CameraFrame
    stamp_ns: int
    slot: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Ahead:
    """A sweep whose points are in the input already, and on what that rests."""

    mounted: Mounted
    mark: Any  # of the motion
    staged: Staged


class Staging:
    """Fills ``inputs`` from synced sets. One set at a time; nothing is kept between sets but what
    was prepared for the next one.

    ``each`` calls a function with each of some items and answers in their order, as ``map`` does;
    one that calls from several threads lets several pictures be decoded and resized at once.
    """

    def __init__(self, contract: Contract, calibration: Calibration, each: Each = map) -> None:
        self._each = each
        self.inputs = NetworkInputs.of(contract)
        self._budget = contract.point_budget
        self._range = contract.range_m
        self._calibration = calibration
        self._chooser = Chooser(contract.range_m, contract.point_budget)
        self._placer = CloudPlacer()
        self._images = [ImageStager(slot) for slot in self.inputs.images]
        self._ahead: _Ahead | None = None
        self._aims: dict[int, _Aim] = {}
        self._pictures: dict[int, _Picture] = {}  # that are in their slots ahead of their set

    def prepare(self, coming: Coming, motion: MotionBuffer) -> bool:
        """Stage a message while its set still waits for others.

        False: it cannot be done yet, because the next pose may change the motion during the sweep.
        :meth:`fill` takes what was prepared where it would come to the same, and else does it
        itself. To be called from the thread that calls ``fill``. Of sweeps, those that are alone in
        their set and are to be deskewed.
        """
        sample, stamp_ns, slot = coming
        if isinstance(sample, LidarSweep):
            return self._prepare_sweep(sample, stamp_ns, motion)
        picture = self._known(sample)
        if isinstance(picture, _Picture):
            self._pictures.pop(slot, None)
            if self._put(slot, picture) is None:
                self._pictures[slot] = picture
        return True

    def _prepare_sweep(self, sweep: LidarSweep, stamp_ns: int, motion: MotionBuffer) -> bool:
        self._ahead = None
        place = self._calibration.base_from(sweep.frame_id)
        if place is None or not sweep.time_field or not len(sweep.points):
            return True
        if motion.settled(stamp_ns + max(0, ends_ns(sweep)[1])) is None:
            return False
        mounted, staged = Mounted(sweep, place, stamp_ns), Staged()
        (cloud,) = self._stage_sweeps([mounted], stamp_ns, motion, staged)
        if staged.points_used and cloud.deskewed and cloud.seconds is not None:
            last_s = max(float(np.nanmax(cloud.seconds)), 0.0)
            mark = motion.settled(stamp_ns + math.ceil(last_s * NS_PER_S))
            if mark is not None:
                self._ahead = _Ahead(mounted, mark, staged)
        return True

    def fill(
        self,
        synced: SyncedSet,
        motion: MotionBuffer,
        deskew: bool,
        use_lidar: bool = True,
        use_camera: bool = True,
    ) -> Staged:
        """Stage a set. ``use_lidar`` and ``use_camera`` False withhold what the set has."""
        staged = Staged()
        ahead, self._ahead = self._ahead, None
        if use_lidar:
            sweeps, staged.rejections = mounted(synced, self._calibration)
            if ahead is not None and deskew and _is_for(ahead, sweeps, synced.stamp_ns, motion):
                staged = ahead.staged
            else:
                self._stage_sweeps(sweeps, synced.stamp_ns, motion if deskew else None, staged)
        self.inputs.set_points(staged.points_used)
        staged.has_points = staged.points_used > 0
        frames = synced.cameras if use_camera else ()
        refused = self._stage_images(frames, synced, motion, staged)
        flags = []
        for slot in range(len(self._images)):
            refusal = refused.get(slot)
            if refusal is not None:
                staged.rejections.append(refusal)
            there = slot < len(frames) and frames[slot] is not None and refusal is None
            self.inputs.set_image(slot, there)
            flags.append(there)
        staged.has_image = tuple(flags)
        self._pictures.clear()
        return staged

    # -------------------------------------------------------------------------- the sweeps

    def _stage_sweeps(
        self, sweeps: list[Mounted], stamp_ns: int, motion: MotionBuffer | None, staged: Staged
    ) -> list[PlacedCloud]:
        """All sweeps into one cloud; a bad one costs only itself."""
        chosen, thinned = self._chooser.chosen(sweeps, stamp_ns, motion)
        clouds = self._placer.place(chosen, stamp_ns, motion)
        for (whole, *_), (sweep, *_), cloud in zip(sweeps, chosen, clouds, strict=True):
            count = self._write(sweep, cloud, staged.points_used)
            if not count:
                staged.rejections.append(_nothing_of(whole))
                continue
            staged.points_used += count
            if motion is not None:
                staged.remarks += _undeskewed(sweep, cloud)
        if thinned:
            staged.remarks.append(f"cloud thinned to {self._budget} points")
        return clouds

    def _write(self, sweep: LidarSweep, cloud: PlacedCloud, start: int) -> int:
        """The points of a sweep that are inside, from row ``start`` on; how many they are."""
        inside = inside_range(cloud, self._range)
        rows = self.inputs.points[start : start + len(inside)]
        # Column by column, each made whole before: a third of the time of one transposed copy.
        for axis in range(3):
            rows[:, axis] = cloud.xyz[axis]
        if sweep.intensity_field:
            # float64 may be more than float32 can hold.
            with np.errstate(invalid="ignore", over="ignore"):
                intensity = sweep.points[sweep.intensity_field].astype(np.float32)
                intensity *= np.float32(sweep.intensity_scale)
            # fmax answers the number where the other one is NaN.
            np.fmax(intensity, 0.0, out=intensity)
            rows[:, 3] = np.minimum(intensity, 1.0, out=intensity)
        else:
            rows[:, 3] = 0.0
        if cloud.seconds is None:
            rows[:, 4] = max(-cloud.since_s, 0.0)
        else:
            age_s = np.negative(cloud.seconds)
            rows[:, 4] = np.fmax(age_s, 0.0, out=age_s)
        kept = np.flatnonzero(inside)
        if len(kept) < len(inside):
            # Whole rows at a time: column by column it takes several times as long.
            whole = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
            rows[: len(kept)] = whole[:, 0].take(kept).view(np.float32).reshape(-1, rows.shape[1])
        return len(kept)

    # -------------------------------------------------------------------------- the images

    def _stage_images(
        self,
        frames: Sequence[CameraFrame | None],
        synced: SyncedSet,
        motion: MotionBuffer,
        staged: Staged,
    ) -> dict[int, Rejection]:
        """Every frame into its slot; answers, by slot, why not."""
        refused: dict[int, Rejection] = {}
        wanted: dict[int, _Picture] = {}
        for slot, frame in enumerate(frames[: len(self._images)]):
            if frame is not None:
                known = self._known(frame)
                if isinstance(known, Rejection):
                    refused[slot] = known
                else:
                    wanted[slot] = known

        slots = [slot for slot in wanted if not self._is_there(slot, wanted[slot])]
        # One picture alone is nothing to share.
        each = self._each if len(slots) > 1 else map
        put = each(lambda slot: self._put(slot, wanted[slot]), slots)
        refused.update((s, r) for s, r in zip(slots, put, strict=True) if r is not None)
        for slot, picture in wanted.items():
            if slot not in refused:
                self._aim(slot, picture, synced, motion, staged)
        return refused

    def _is_there(self, slot: int, picture: _Picture) -> bool:
        had = self._pictures.get(slot)
        return had is not None and had.frame is picture.frame and had.model is picture.model

    def _put(self, slot: int, picture: _Picture) -> Rejection | None:
        """The pixels into their slot; why not, where that fails."""
        try:
            self._images[slot].put(picture.frame, picture.model)
        except ImageError as error:
            return _refuse(picture.frame, error.reason, error.detail)
        return None

    def _known(self, frame: CameraFrame) -> _Picture | Rejection:
        """The frame with its camera's lens and place."""
        model = self._calibration.camera(frame.sensor)
        if model is None:
            return _refuse(frame, Reason.NO_INTRINSICS, "no CameraInfo came for this camera")
        frame_id = frame.frame_id or model.frame_id
        base_from_camera = self._calibration.base_from(frame_id)
        if base_from_camera is None:
            detail = f"nothing connects frame '{frame_id}' with the base frame"
            return _refuse(frame, Reason.NO_EXTRINSICS, detail)
        return _Picture(frame, model, base_from_camera)

    def _aim(
        self, slot: int, picture: _Picture, synced: SyncedSet, motion: MotionBuffer, staged: Staged
    ) -> None:
        """Tell the network where the camera looked from when it exposed."""
        frame, model, base_from_camera = picture
        exposure_ns = synced.stamp_ns + synced.dt_ns.get(
            frame.sensor, frame.stamp_ns - synced.stamp_ns
        )
        moved = motion.base_from_base(exposure_ns, synced.stamp_ns)
        if moved is None:
            moved = RigidTransform.identity()
            if exposure_ns != synced.stamp_ns:
                staged.remarks.append(f"{frame.sensor}: no ego motion between exposure and set")
        known = self._aims.get(slot)
        if known is None or known.model is not model or known.place is not base_from_camera:
            k = self._images[slot].network_k(model)
            matrix = k @ base_from_camera.inverse().matrix()[:3]
            known = self._aims[slot] = _Aim(model, base_from_camera, matrix)
        self.inputs.pixel_from_base[slot] = known.matrix @ moved.matrix()


def _is_for(ahead: _Ahead, sweeps: list[Mounted], stamp_ns: int, motion: MotionBuffer) -> bool:
    """Whether what was prepared is what these sweeps would give now, to the last bit."""
    had = ahead.mounted
    if len(sweeps) != 1 or sweeps[0].sweep is not had.sweep:
        return False
    have = sweeps[0]
    places = (have.base_from_lidar, had.base_from_lidar)
    return (
        have.stamp_ns == had.stamp_ns == stamp_ns
        and places[0].rotation.tobytes() == places[1].rotation.tobytes()
        and places[0].translation.tobytes() == places[1].translation.tobytes()
        and motion.still(ahead.mark)
    )


def _nothing_of(sweep: LidarSweep) -> Rejection:
    """Why a sweep gave no point."""
    points = sweep.points
    if np.logical_and.reduce([np.isfinite(points[axis]) for axis in "xyz"]).any():
        detail = f"none of {len(points)} points is where the network looks"
        return _refuse(sweep, Reason.OUT_OF_RANGE, detail)
    reason = Reason.NON_FINITE if len(points) else Reason.EMPTY_CLOUD
    return _refuse(sweep, reason, f"{len(points)} points, none finite")


def _undeskewed(sweep: LidarSweep, cloud: PlacedCloud) -> list[str]:
    """What was not corrected although it should have been, and why."""
    if cloud.deskewed:
        return []
    why = "no ego motion" if sweep.time_field else (sweep.remark or "no time per point")
    remarks = [f"{sweep.sensor}: not deskewed: {why}"]
    if not cloud.moved:
        remarks.append(f"{sweep.sensor}: no ego motion between sweep and set")
    return remarks


def inside_range(cloud: PlacedCloud, volume: Range) -> npt.NDArray[np.bool_]:
    """Which points [N] are inside the volume. Comparisons with NaN are false."""
    limits = ((v[0], v[1]) for v in (volume.x_m, volume.y_m, volume.z_m))
    inside: npt.NDArray[np.bool_] | None = None
    for row, (low, high) in zip(cloud.xyz, limits, strict=True):
        for part in (row >= np.float32(low), row < np.float32(high)):
            inside = part if inside is None else np.logical_and(inside, part, out=inside)
    assert inside is not None
    return inside


def _refuse(sample: CameraFrame | LidarSweep, reason: Reason, detail: str) -> Rejection:
    return Rejection(sample.sensor, sample.stamp_ns, reason, detail)
