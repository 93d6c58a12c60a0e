"""The main road: from synced sets of raw camera and LIDAR data to boxes and tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mm_fusion.config import Config
from mm_fusion.geometry import RigidTransform
from mm_fusion.health.timing import Stopwatch
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.detectors import Network, Preparing, detector_of
from mm_fusion.perception.staging import Coming, Each, Staged
from mm_fusion.perception.stills import StillPictures
from mm_fusion.perception.tracker import Tracker
from mm_fusion.samples import (
    CameraFrame,
    FusionResult,
    LidarSweep,
    Mode,
    PoseEstimate,
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


class _Place(NamedTuple):
    """Where the base is at a stamp, on which mark of the motion that rests."""

    stamp_ns: int
    mark: Any
    odom_from_base: RigidTransform | None


class PerceptionPipeline:
    """Samples in, results out. ``now_ns`` is a stopwatch for the stations, None to measure nothing.
    ``each`` is that of Staging.

    Where one thread receives and another runs the network, the first uses ``synchronizer`` and
    ``coming``, and the second ``motion.add``, ``process`` and, while there is no set to process,
    ``expect`` and ``prepare``.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        calibration: Calibration,
        now_ns: Callable[[], int] | None = None,
        each: Each = map,
    ) -> None:
        self._config = config
        self._now_ns = now_ns
        topics = config.topics
        self.synchronizer = Synchronizer(config.sync, topics.lidar_names(), topics.camera_names())
        self.motion = MotionBuffer(config.deskew, calibration.base_from)
        self._detector = detector_of(network, config, calibration, each)
        detector = self._detector
        self._prepare = detector.prepare if isinstance(detector, Preparing) else None
        self._slots = {name: slot for slot, name in enumerate(topics.camera_names())}
        self._coming: list[Coming] = []
        self._next_ns = 0
        self._place: _Place | None = None
        self._stills = StillPictures()
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

    # ------------------------------------------------------------- while a set still waits

    def coming(self, sample: CameraFrame | LidarSweep) -> Coming | None:
        """What ``expect`` may be told of a message that the synchronizer gets; None: nothing."""
        stamp_ns = None if self._prepare is None else self.synchronizer.foreseen_ns(sample)
        slot = self._slots.get(sample.sensor, 0)
        return None if stamp_ns is None else Coming(sample, stamp_ns, slot)

    def expect(self, coming: Coming) -> None:
        """A set with this message will come to ``process``."""
        self._coming = [c for c in self._coming if c.sample.sensor != coming.sample.sensor]
        self._coming.append(coming)
        self._next_ns = coming.stamp_ns

    @property
    def expecting(self) -> bool:
        """Whether something is not prepared yet: a further pose may make it possible."""
        return bool(self._coming)

    def prepare(self) -> None:
        """Do what can be done for the expected set before it goes out; no result changes by it."""
        self._tracker.settle()
        if not self._coming or self._prepare is None:
            return
        self._coming = [c for c in self._coming if not self._prepare(c, self.motion)]
        stamp_ns = self._next_ns
        mark = self.motion.settled(stamp_ns)
        if mark is not None and (self._place is None or self._place.stamp_ns != stamp_ns):
            self._place = _Place(stamp_ns, mark, self.motion.odom_from_base(stamp_ns))
            self._tracker.foresee(stamp_ns)

    def _odom_from_base(self, stamp_ns: int) -> RigidTransform | None:
        place = self._place
        if place is not None and place.stamp_ns == stamp_ns and self.motion.still(place.mark):
            return place.odom_from_base
        return self.motion.odom_from_base(stamp_ns)

    # --------------------------------------------------------------------- the main road

    def process(self, synced: SyncedSet) -> FusionResult:
        """One set through all stations."""
        watch = Stopwatch(self._now_ns)
        if self._coming:
            self._coming = [c for c in self._coming if c.stamp_ns > synced.stamp_ns]
        odom_from_base = self._odom_from_base(synced.stamp_ns)
        synced, repeated = self._stills.withdrawn(synced, self.motion)
        staged = self._detector.stage(synced, self.motion)
        staged.rejections.extend(repeated)
        watch.lap("stage")
        detections = self._detector.detect(staged, synced.stamp_ns)
        watch.lap("network")
        looked = staged.has_points or any(staged.has_image)  # else nothing could have been seen
        tracks = self._tracker.update(synced.stamp_ns, detections, odom_from_base, looked)
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
            ground=staged.ground,
        )


def _missing(synced: SyncedSet, staged: Staged) -> tuple[str, ...]:
    """The sensors without a part in the result: no partner, or refused while staging."""
    refused = [r.sensor for r in staged.rejections if r.sensor in synced.dt_ns]
    return (*synced.missing, *(s for s in refused if s not in synced.missing))
