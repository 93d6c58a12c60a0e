"""The synchronizer: which camera frames belong to which LIDAR sweep.

Every sweep is a reference and makes one set. A set holds, per camera slot, the frame whose stamp
(after ``camera_offset_s``) is nearest to the sweep's, if within ``max_dt_s``. It goes out

* as soon as every camera has a frame at or after the sweep's stamp, because no better partner can
  then come; a camera that has been silent for ``camera_timeout_s`` is not waited for;
* at the latest when sensor time reaches the sweep's stamp plus ``deadline_s``.

Sets go out in the order of their stamps. Every sweep given is answered exactly once: by its set,
or by a Rejection (DUPLICATE, LATE, TIME_JUMP, ZERO_STAMP).

**Sensor time** is the newest stamp that the sensors gave, here or through :meth:`advance`. There
is no clock.

**Sharing.** Each sweep gets its own best frames, whatever other sweeps got: a camera slower than
the LIDAR serves several sweeps with one frame.

**Without LIDAR.** When no sweep has come for ``lidar_timeout_s`` of sensor time (by arrival, so
that a slow transport is no silence), cameras lead: every new frame of the first live camera slot
makes a set with ``lidar=None``, and the other cameras are its partners by the same rules. With
``lidar=""`` they lead from the first frame. When sweeps return they take over at once: camera
sets that still wait beside the sweep are withdrawn, their frames become the sweep's candidates.

**Frames** leave as soon as no later sweep could prefer them. Those never used are answered with
UNMATCHED, with LATE where they came after a set went out that they would have bettered, or with
OVERFLOW where ``queue_size`` was reached. Frames out of order are sorted in while still of use.

**Jumps.** A sensor whose stamp falls more than ``time_jump_s`` behind its own newest one (a bag
that loops) resets everything: waiting sets go out as they are, the message itself is answered
with TIME_JUMP, and matching begins anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from mm_fusion.config_sync import SyncConfig, offsets_of
from mm_fusion.errors import ConfigError
from mm_fusion.samples import (
    NS_PER_S,
    CameraFrame,
    LidarSweep,
    Reason,
    Rejection,
    SyncedSet,
)

Answers = list[SyncedSet | Rejection]


@dataclass(slots=True, eq=False)
class _Queued:
    """A frame that waits, with its stamp on the common clock and its fate so far."""

    stamp_ns: int
    frame: CameraFrame
    used: bool = False
    late: bool = False


@dataclass(slots=True, eq=False)
class _Reference:
    """What a set is built around: a sweep, or a frame of the camera that leads."""

    stamp_ns: int
    sweep: LidarSweep | None
    slot: int = -1
    lead: _Queued | None = None


class _CameraQueue:
    """Frames of one camera that a coming set may still want, sorted by stamp."""

    def __init__(self, sensor: str, size: int, max_dt_ns: int) -> None:
        self.sensor = sensor
        self._size = size
        self._max_dt_ns = max_dt_ns
        self._stamps: list[int] = []
        self._frames: list[_Queued] = []
        # The last set that went out: its stamp, and how far away this camera's partner was.
        self._answered_ns: int | None = None
        self._answered_dt_ns: int | None = None

    def put(self, queued: _Queued) -> Rejection | None:
        """Sort a frame in. The answer says which frame had to go for it, or why it stays out."""
        stamp_ns = queued.stamp_ns
        at = bisect_left(self._stamps, stamp_ns)
        if at < len(self._stamps) and self._stamps[at] == stamp_ns:
            return _reject(queued.frame, Reason.DUPLICATE, "a frame of this stamp is waiting")
        answered_ns = self._answered_ns
        if answered_ns is not None:
            if self._is_outdated(stamp_ns, at):
                return self._late(queued)
            dt_ns, best_ns = abs(stamp_ns - answered_ns), self._answered_dt_ns
            queued.late = dt_ns <= self._max_dt_ns and (best_ns is None or dt_ns < best_ns)
        self._stamps.insert(at, stamp_ns)
        self._frames.insert(at, queued)
        if len(self._stamps) <= self._size:
            return None
        del self._stamps[0]
        oldest = self._frames.pop(0)
        if oldest.used:
            return None
        return _reject(oldest.frame, Reason.OVERFLOW, f"more than {self._size} frames waiting")

    def nearest(self, stamp_ns: int) -> _Queued | None:
        """The frame nearest to a stamp and within reach of it; of two equally near the earlier."""
        at = bisect_left(self._stamps, stamp_ns)
        if at == len(self._stamps) or (
            at > 0 and stamp_ns - self._stamps[at - 1] <= self._stamps[at] - stamp_ns
        ):
            at -= 1
        if at < 0 or abs(self._stamps[at] - stamp_ns) > self._max_dt_ns:
            return None
        return self._frames[at]

    def answered(self, stamp_ns: int, partner: _Queued | None) -> list[Rejection]:
        """A set went out: let go what no later one could prefer, and say what was never used."""
        self._answered_ns = stamp_ns
        self._answered_dt_ns = None if partner is None else abs(partner.stamp_ns - stamp_ns)
        gone = 0
        while gone < len(self._stamps) and self._is_outdated(self._stamps[gone], gone + 1):
            gone += 1
        fallen = self._unused(self._frames[:gone])
        del self._stamps[:gone], self._frames[:gone]
        return fallen

    def _is_outdated(self, stamp_ns: int, following: int) -> bool:
        """Whether no set after the last one could prefer a frame to the one that follows it."""
        answered_ns = self._answered_ns
        if answered_ns is None:
            return False
        if stamp_ns <= answered_ns - self._max_dt_ns:
            return True
        # Later sets lie behind the middle between the two frames.
        return (
            following < len(self._stamps) and stamp_ns + self._stamps[following] <= 2 * answered_ns
        )

    def drain(self) -> list[Rejection]:
        """Let go of everything."""
        return self._unused(self._frames)

    def _unused(self, frames: Sequence[_Queued]) -> list[Rejection]:
        return [
            self._late(q)
            if q.late
            else _reject(q.frame, Reason.UNMATCHED, "no set wanted this frame")
            for q in frames
            if not q.used
        ]

    def _late(self, queued: _Queued) -> Rejection:
        return _reject(
            queued.frame, Reason.LATE, "came after the set it belonged to; see sync.deadline_s"
        )


def _reject(sample: LidarSweep | CameraFrame, reason: Reason, detail: str) -> Rejection:
    return Rejection(sample.sensor, sample.stamp_ns, reason, detail)


class Synchronizer:
    """Matches the sweeps of one LIDAR with the frames of any number of cameras.

    ``lidar`` and ``cameras`` are the names that samples carry in ``sensor``; the order of
    ``cameras`` is the order of the slots in the sets. Work per message is logarithmic in
    ``queue_size``, and no more than ``queue_size`` samples per sensor are held.
    """

    def __init__(self, config: SyncConfig, lidar: str, cameras: Sequence[str]) -> None:
        self._lidar = lidar
        self._lidars = (lidar,) if lidar else ()
        self._cameras = tuple(cameras)
        names = {lidar, *self._cameras}
        if len(names) != 1 + len(self._cameras) or "" in self._cameras:
            raise ConfigError(f"sync: sensor names must differ, got {[lidar, *cameras]}")
        self._slots = {name: slot for slot, name in enumerate(self._cameras)}
        self._queue_size = config.queue_size
        self._deadline_ns = round(config.deadline_s * NS_PER_S)
        self._max_dt_ns = round(config.max_dt_s * NS_PER_S)
        offsets_of(config.camera_offsets_s, len(self._cameras), "sync.camera_offsets_s", "camera")
        self._camera_offset_ns = round(config.camera_offsets_s[0] * NS_PER_S)
        self._lidar_timeout_ns = round(config.lidar_timeout_s * NS_PER_S)
        self._camera_timeout_ns = round(config.camera_timeout_s * NS_PER_S)
        self._time_jump_ns = round(config.time_jump_s * NS_PER_S)
        self._begin()

    def _begin(self) -> None:
        self._queues = [
            _CameraQueue(name, self._queue_size, self._max_dt_ns) for name in self._cameras
        ]
        self._pending: list[_Reference] = []  # sorted by stamp
        self._pending_stamps: list[int] = []
        self._answered_ns: int | None = None
        self._newest_ns: dict[str, int] = {}  # newest stamp of each sensor
        self._heard_ns: dict[str, int] = {}  # sensor time at each sensor's last arrival
        self._foreign_ns: int | None = None  # newest stamp told through advance()
        self._start_ns: int | None = None
        self._now_ns = 0

    # ------------------------------------------------------------------------ what comes in

    def add(self, sample: LidarSweep | CameraFrame) -> Answers:
        """Take a sweep or a frame; answer what went out and what fell out because of it."""
        is_frame = isinstance(sample, CameraFrame)
        if sample.sensor not in (self._slots if is_frame else self._lidars):
            kind = "camera" if is_frame else "LIDAR"
            return [_reject(sample, Reason.UNKNOWN_SENSOR, f"no {kind} of this name is expected")]
        if sample.stamp_ns <= 0:
            return [_reject(sample, Reason.ZERO_STAMP, "stamp must be positive")]
        stamp_ns = sample.stamp_ns + (self._camera_offset_ns if is_frame else 0)
        newest_ns = self._newest_ns.get(sample.sensor)
        if newest_ns is not None and stamp_ns < newest_ns - self._time_jump_ns:
            return self._jump(sample, stamp_ns, newest_ns)
        if stamp_ns == newest_ns:
            return [_reject(sample, Reason.DUPLICATE, "the stamp is that of the last message")]
        self._newest_ns[sample.sensor] = max(stamp_ns, newest_ns or stamp_ns)
        self._tell_time()
        self._heard_ns[sample.sensor] = self._now_ns
        if isinstance(sample, CameraFrame):
            fallen = self._take_frame(sample, stamp_ns, self._slots[sample.sensor])
        else:
            fallen = self._take_sweep(sample)
        answers: Answers = [] if fallen is None else [fallen]
        return answers + self._settle()

    def advance(self, stamp_ns: int) -> Answers:
        """Sensor time moved on to ``stamp_ns``, as another sensor says; answer what went out."""
        told_ns = self._foreign_ns
        if told_ns is None or not told_ns - self._time_jump_ns <= stamp_ns <= told_ns:
            self._foreign_ns = stamp_ns
        self._tell_time()
        return self._settle()

    def flush(self) -> Answers:
        """The data ended: answer every waiting sweep with what is there, and forget everything."""
        answers: Answers = []
        while self._pending:
            answers += self._answer()
        for queue in self._queues:
            answers += queue.drain()
        self._begin()
        return answers

    def _jump(self, sample: LidarSweep | CameraFrame, stamp_ns: int, newest_ns: int) -> Answers:
        answers = self.flush()
        self._newest_ns[sample.sensor] = stamp_ns
        self._tell_time()
        self._heard_ns[sample.sensor] = self._now_ns
        back_s = (newest_ns - stamp_ns) / NS_PER_S
        detail = f"time went back by {back_s:.3f} s: matching begins anew"
        return [*answers, _reject(sample, Reason.TIME_JUMP, detail)]

    def _tell_time(self) -> None:
        newest_ns = max(self._newest_ns.values(), default=None)
        if self._foreign_ns is not None:
            newest_ns = self._foreign_ns if newest_ns is None else max(newest_ns, self._foreign_ns)
        if newest_ns is not None:
            self._now_ns = newest_ns
            if self._start_ns is None:
                self._start_ns = newest_ns

    # ---------------------------------------------------------------------------- references

    def _take_sweep(self, sweep: LidarSweep) -> Rejection | None:
        stamp_ns = sweep.stamp_ns
        if self._answered_ns is not None and stamp_ns <= self._answered_ns:
            return _reject(sweep, Reason.LATE, f"a set of {self._answered_ns} ns has gone out")
        # The sweep takes the place of camera sets that still wait beside it.
        kept = [
            r
            for r in self._pending
            if r.sweep is not None or r.stamp_ns < stamp_ns - self._max_dt_ns
        ]
        if len(kept) < len(self._pending):
            self._pending, self._pending_stamps = kept, [r.stamp_ns for r in kept]
        if not self._wait(_Reference(stamp_ns, sweep)):
            return _reject(sweep, Reason.DUPLICATE, "a sweep of this stamp is waiting")
        return None

    def _take_frame(self, frame: CameraFrame, stamp_ns: int, slot: int) -> Rejection | None:
        queued = _Queued(stamp_ns, frame)
        fallen = self._queues[slot].put(queued)
        if fallen is not None and fallen.stamp_ns == frame.stamp_ns:
            return fallen
        is_new = self._answered_ns is None or stamp_ns > self._answered_ns
        if is_new and self._lidar_is_silent() and slot == self._leading_slot():
            self._wait(_Reference(stamp_ns, None, slot, queued))
        return fallen

    def _wait(self, reference: _Reference) -> bool:
        at = bisect_left(self._pending_stamps, reference.stamp_ns)
        if at < len(self._pending) and self._pending_stamps[at] == reference.stamp_ns:
            return False
        self._pending.insert(at, reference)
        self._pending_stamps.insert(at, reference.stamp_ns)
        return True

    def _lidar_is_silent(self) -> bool:
        return not self._lidar or self._silent_for_ns(self._lidar) > self._lidar_timeout_ns

    def _leading_slot(self) -> int:
        for slot, name in enumerate(self._cameras):
            if name in self._newest_ns and not self._is_dead(name):
                return slot
        return -1

    def _is_dead(self, camera: str) -> bool:
        return self._silent_for_ns(camera) > self._camera_timeout_ns

    def _silent_for_ns(self, sensor: str) -> int:
        heard_ns = self._heard_ns.get(sensor, self._start_ns)
        return 0 if heard_ns is None else self._now_ns - heard_ns

    # ------------------------------------------------------------------------ what goes out

    def _settle(self) -> Answers:
        answers: Answers = []
        while self._pending and self._is_due(self._pending[0]):
            answers += self._answer()
        return answers

    def _is_due(self, reference: _Reference) -> bool:
        if self._now_ns >= reference.stamp_ns + self._deadline_ns:
            return True
        if len(self._pending) > self._queue_size:
            return True
        return all(
            self._newest_ns.get(name, 0) >= reference.stamp_ns or self._is_dead(name)
            for name in self._cameras
        )

    def _answer(self) -> Answers:
        """Send out the set of the oldest reference."""
        reference = self._pending.pop(0)
        stamp_ns = self._pending_stamps.pop(0)
        missing = []
        dt_ns: dict[str, int] = {}
        if reference.sweep is not None:
            dt_ns[self._lidar] = 0
        elif self._lidar:
            missing.append(self._lidar)
        frames: list[CameraFrame | None] = []
        fallen: list[Rejection] = []
        for slot, queue in enumerate(self._queues):
            partner = reference.lead if slot == reference.slot else queue.nearest(stamp_ns)
            if partner is None:
                frames.append(None)
                missing.append(queue.sensor)
            else:
                partner.used = True
                frames.append(partner.frame)
                dt_ns[queue.sensor] = partner.stamp_ns - stamp_ns
            fallen += queue.answered(stamp_ns, partner)
        self._answered_ns = stamp_ns
        sweeps = (reference.sweep,) if self._lidar else ()
        answer = SyncedSet(stamp_ns, sweeps, tuple(frames), tuple(missing), dt_ns)
        return [answer, *fallen]
