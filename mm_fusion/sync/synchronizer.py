"""The synchronizer's one object; the package says what it does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
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
from mm_fusion.sync.clock import SensorTime
from mm_fusion.sync.queues import Exteroceptive, PartnerQueue, Queued, reject
from mm_fusion.sync.sensor import NO_HOLD, Hold, Sensor

Answers = list[SyncedSet | Rejection]


@dataclass(slots=True, eq=False)
class _Reference:
    """What a set is built around: a message of the reference, or of the sensor that leads."""

    stamp_ns: int
    sensor: Sensor
    sample: Exteroceptive
    lead: Queued | None = None  # the same message in its own queue, where another leads


class Synchronizer:
    """Matches the messages of one reference sensor with those of all others.

    ``lidars`` and ``cameras`` are the names that samples carry in ``sensor``; their order is the
    order of the entries in the sets. Raises ConfigError for names that do not differ, and for
    parameters that do not fit these sensors. Work per message is logarithmic in ``queue_size``,
    and no more than ``queue_size`` samples per sensor are held.
    """

    def __init__(self, config: SyncConfig, lidars: Sequence[str], cameras: Sequence[str]) -> None:
        self._lidars, self._cameras = tuple(lidars), tuple(cameras)
        names = (*self._lidars, *self._cameras)
        if not names or len(set(names)) < len(names) or "" in names:
            raise ConfigError(
                f"sync: sensor names must differ, and there must be one, got {list(names)}"
            )
        config.check_sensors(self._lidars, self._cameras)
        self._config = config
        self._deadline_ns = round(config.deadline_s * NS_PER_S)
        self._max_dt_ns = round(config.max_dt_s * NS_PER_S)
        self._time_jump_ns = round(config.time_jump_s * NS_PER_S)
        self._required = {name for name in config.required if name}
        self._begin()

    def _begin(self) -> None:
        self._sensors = list(self._make_sensors())
        self._by_name = {sensor.name: sensor for sensor in self._sensors}
        name = self._config.reference or self._sensors[0].name
        self._reference = reference = self._by_name[name]
        reference.is_expected |= bool(self._config.reference)
        # Who leads, first to last.
        self._ranks = [reference, *(s for s in self._sensors if s is not reference)]
        self._partners = self._ranks[1:]
        self._foreign = len(self._sensors)
        ranks = [s.index for s in self._ranks]
        self._time = SensorTime(len(self._sensors) + 1, ranks, self._time_jump_ns)
        self._foreign_ns: int | None = None
        self._start_ns = 0  # sensor time when the first message came; only while someone is unheard
        self._now_ns = 0
        self._unheard = len(self._sensors)
        self._pending: list[_Reference] = []  # sorted by stamp
        self._pending_stamps: list[int] = []
        self._leads = 0  # how many of them are not the reference's own
        self._answered_ns: int | None = None
        self._slot_ns: int | None = None  # when the reference should come next
        self._blocker: Sensor | None = None  # whom the oldest set waits for

    def _make_sensors(self) -> Iterator[Sensor]:
        config = self._config
        kinds = (
            (self._lidars, config.lidar_offsets_s, config.lidar_timeout_s, "lidar", "LIDAR"),
            (self._cameras, config.camera_offsets_s, config.camera_timeout_s, "camera", "camera"),
        )
        index = 0
        for names, given_s, timeout_s, word, kind in kinds:
            offsets_s = offsets_of(given_s, len(names), f"sync.{word}_offsets_s", kind)
            for name, offset_s in zip(names, offsets_s, strict=True):
                yield Sensor(
                    name,
                    index,
                    is_lidar=word == "lidar",
                    offset_ns=round(offset_s * NS_PER_S),
                    timeout_ns=round(timeout_s * NS_PER_S),
                    partner_timeout_ns=round(config.camera_timeout_s * NS_PER_S),
                    queue=PartnerQueue(config.queue_size, self._max_dt_ns),
                )
                index += 1

    # ------------------------------------------------------------------------ what comes in

    def add(self, sample: Exteroceptive) -> Answers:
        """Take a sweep or a frame; answer what went out and what fell out because of it."""
        sensor = self._by_name.get(sample.sensor)
        if sensor is None or sensor.is_lidar != isinstance(sample, LidarSweep):
            kind = "LIDAR" if isinstance(sample, LidarSweep) else "camera"
            return [reject(sample, Reason.UNKNOWN_SENSOR, f"no {kind} of this name is expected")]
        if sample.stamp_ns <= 0:
            return [reject(sample, Reason.ZERO_STAMP, "stamp must be positive")]
        stamp_ns = sample.stamp_ns + sensor.offset_ns
        rhythm = sensor.rhythm
        if sensor is self._reference and self._answered_ns is not None:
            # What others led for it while it was away was on another clock.
            if stamp_ns < self._answered_ns - self._time_jump_ns:
                return self._jump(sample, stamp_ns, self._answered_ns)
        if rhythm.count:
            if stamp_ns < rhythm.newest_ns - self._time_jump_ns:
                return self._jump(sample, stamp_ns, rhythm.newest_ns)
            if stamp_ns == rhythm.newest_ns:
                return [reject(sample, Reason.DUPLICATE, "the stamp is that of the last message")]
        self._hear(sensor, stamp_ns, sample.arrival_ns)
        if sensor is self._reference:
            fallen = self._take_reference(sample, stamp_ns)
        else:
            fallen = sensor.queue.put(Queued(stamp_ns, sample))
        self._let_others_lead()
        answers: Answers = [] if fallen is None else [fallen]
        return answers + self._settle() if self._pending else answers

    @property
    def is_waiting(self) -> bool:
        """Whether a set waits: for a partner, or for time to pass."""
        return bool(self._pending)

    def foreseen_ns(self, sample: Exteroceptive) -> int | None:
        """The stamp of the set that a message will be in: its own, or, of a partner that comes
        before its reference, as far as their rates tell. None where that cannot be said."""
        sensor, reference = self._by_name.get(sample.sensor), self._reference
        if sensor is None:
            return None
        stamp_ns = sample.stamp_ns + sensor.offset_ns
        if sensor is reference:
            return stamp_ns
        period_ns, newest_ns = reference.rhythm.period_ns, reference.rhythm.newest_ns
        if not period_ns:
            return None
        due_ns = newest_ns + round((stamp_ns - newest_ns) / period_ns) * period_ns
        is_nearest = 2 * abs(stamp_ns - due_ns) <= sensor.rhythm.period_ns
        return due_ns if is_nearest and due_ns > newest_ns else None

    def advance(self, stamp_ns: int, arrival_ns: int = 0) -> Answers:
        """Sensor time moved on to ``stamp_ns``, as another sensor says; answer what went out.

        ``arrival_ns`` is when that sensor's message came, as on the samples; 0: not known.
        """
        told_ns = self._foreign_ns
        if told_ns is None or not told_ns - self._time_jump_ns <= stamp_ns <= told_ns:
            self._foreign_ns = stamp_ns
            self._tell(self._foreign, stamp_ns, arrival_ns)
        self._let_others_lead()
        return self._settle() if self._pending else []

    def flush(self) -> Answers:
        """The data ended: answer every waiting set with what is there, and forget everything."""
        answers: Answers = []
        while self._pending:
            answers += self._answer()
        for sensor in self._sensors:
            answers += sensor.queue.drain()
        self._begin()
        return answers

    def _jump(self, sample: Exteroceptive, stamp_ns: int, newest_ns: int) -> Answers:
        answers = self.flush()
        self._hear(self._by_name[sample.sensor], stamp_ns, sample.arrival_ns)
        back_s = (newest_ns - stamp_ns) / NS_PER_S
        detail = f"time went back by {back_s:.3f} s: matching begins anew"
        return [*answers, reject(sample, Reason.TIME_JUMP, detail)]

    def _hear(self, sensor: Sensor, stamp_ns: int, arrival_ns: int) -> None:
        rhythm = sensor.rhythm
        newest_ns = max(stamp_ns, rhythm.newest_ns) if rhythm.count else stamp_ns
        # An older message tells no time, and its long way is its own.
        self._tell(sensor.index, newest_ns, arrival_ns if newest_ns == stamp_ns else 0)
        self._unheard -= sensor.heard_ns is None
        sensor.heard(stamp_ns, self._now_ns)

    def _tell(self, source: int, stamp_ns: int, arrival_ns: int) -> None:
        self._now_ns = self._time.tell(source, stamp_ns, arrival_ns)
        if self._unheard:
            self._start_ns = self._now_ns - self._time.elapsed_ns()

    # ---------------------------------------------------------------------------- references

    def _take_reference(self, sample: Exteroceptive, stamp_ns: int) -> Rejection | None:
        if self._answered_ns is not None and stamp_ns <= self._answered_ns:
            return reject(sample, Reason.LATE, f"a set of {self._answered_ns} ns has gone out")
        if self._leads:  # it takes the place of those that led for it and still wait beside it
            earliest_ns = stamp_ns - self._max_dt_ns
            kept = [r for r in self._pending if r.lead is None or r.stamp_ns < earliest_ns]
            self._pending, self._pending_stamps = kept, [r.stamp_ns for r in kept]
            self._leads = sum(r.lead is not None for r in kept)
            self._blocker = None
        if not self._wait(_Reference(stamp_ns, self._reference, sample)):
            return reject(sample, Reason.DUPLICATE, "a message of this stamp is waiting")
        period_ns = self._reference.rhythm.period_ns
        self._slot_ns = max(stamp_ns + period_ns, self._slot_ns or 0) if period_ns else None
        return None

    def _wait(self, reference: _Reference) -> bool:
        at = bisect_left(self._pending_stamps, reference.stamp_ns)
        if at < len(self._pending) and self._pending_stamps[at] == reference.stamp_ns:
            return False
        self._pending.insert(at, reference)
        self._pending_stamps.insert(at, reference.stamp_ns)
        if at == 0:
            self._blocker = None
        return True

    def _let_others_lead(self) -> None:
        """Where the reference is silent, make sets of another sensor's messages, at its rate."""
        hold = self._reference.hold(self._start_ns, self._now_ns)
        if hold is None or self._is_held(0, hold):  # whoever it were
            return
        while self._lead_once(hold):
            pass

    def _lead_once(self, hold: Hold) -> bool:
        last_ns = self._pending_stamps[-1] if self._pending else self._answered_ns or 0
        for sensor in self._partners:
            if sensor.heard_ns is not None:
                first_ns = self._leads_from_ns(sensor)
                queued = sensor.queue.first_from(max(last_ns + 1, first_ns))
                if queued is not None:
                    if self._is_held(queued.stamp_ns, hold):
                        return False
                    self._leads += 1
                    self._wait(_Reference(queued.stamp_ns, sensor, queued.sample, queued))
                    self._move_slot(queued.stamp_ns, sensor)
                    return True
            own = sensor.hold(self._start_ns, self._now_ns)
            if own is None:
                return False
            if own is not NO_HOLD:
                after_stamp_ns = max(hold.after_stamp_ns, own.after_stamp_ns)
                hold = Hold(after_stamp_ns, max(hold.after_slot_ns, own.after_slot_ns))
        return False

    def _is_held(self, stamp_ns: int, hold: Hold) -> bool:
        if hold is NO_HOLD:
            return False
        slot_ns = stamp_ns if self._slot_ns is None else self._slot_ns
        held_ns = max(stamp_ns + hold.after_stamp_ns, slot_ns + hold.after_slot_ns)
        return self._now_ns <= held_ns

    def _leads_from_ns(self, sensor: Sensor) -> int:
        """Before this stamp a message of a sensor would come too early to lead."""
        if self._slot_ns is None:  # the reference's rate is not known: every new message leads
            return sensor.rhythm.newest_ns
        period_ns = min(sensor.rhythm.period_ns, self._reference.rhythm.period_ns)
        return self._slot_ns - period_ns // 2

    def _move_slot(self, stamp_ns: int, sensor: Sensor) -> None:
        """The next set is due one period of the reference later."""
        period_ns, own_ns = self._reference.rhythm.period_ns, sensor.rhythm.period_ns
        if self._slot_ns is None or not period_ns:
            return
        if 4 * own_ns >= 3 * period_ns:  # hardly faster than the reference: leave none out
            self._slot_ns = stamp_ns + min(own_ns, period_ns)
        elif abs(stamp_ns - self._slot_ns) <= period_ns // 2:
            self._slot_ns += period_ns
        else:
            self._slot_ns = stamp_ns + period_ns

    # ------------------------------------------------------------------------ what goes out

    def _settle(self) -> Answers:
        answers: Answers = []
        while self._pending and self._is_due(self._pending[0]):
            answers += self._answer()
        return answers

    def _is_due(self, reference: _Reference) -> bool:
        if self._now_ns >= reference.stamp_ns + self._deadline_ns:
            return True
        if len(self._pending) > self._config.queue_size:
            return True
        if self._blocker is not None and self._may_gain(reference, self._blocker):
            return False
        for sensor in self._partners:
            if sensor is not reference.sensor and self._may_gain(reference, sensor):
                self._blocker = sensor
                return False
        self._blocker = None
        return reference.lead is not None or not reference.sensor.rhythm.hides_before(
            reference.stamp_ns, self._now_ns
        )

    def _may_gain(self, reference: _Reference, sensor: Sensor) -> bool:
        """Whether a better partner of this sensor may still come before the deadline."""
        stamp_ns, now_ns, rhythm = reference.stamp_ns, self._now_ns, sensor.rhythm
        # A set without a required sensor is none: there is nothing to lose by waiting for it.
        if sensor.name not in self._required and sensor.is_dead(self._start_ns, now_ns):
            return False
        if not rhythm.count:
            return True
        best = sensor.queue.nearest(stamp_ns)
        reach_ns = self._max_dt_ns + 1 if best is None else abs(best.stamp_ns - stamp_ns)
        if reach_ns == 0:
            return False
        if rhythm.newest_ns >= stamp_ns:
            return rhythm.hides(stamp_ns, reach_ns, now_ns)
        next_ns = rhythm.next_ns(now_ns)
        if next_ns >= stamp_ns + reach_ns:
            return False
        # One whose messages always take longer than the deadline cannot help any more.
        soonest_ns = max(next_ns, stamp_ns - reach_ns) + rhythm.late_low_ns
        return not rhythm.trusted or soonest_ns < stamp_ns + self._deadline_ns

    def _answer(self) -> Answers:
        """Send out the set of the oldest reference, or say why it is none."""
        reference = self._pending.pop(0)
        stamp_ns = self._pending_stamps.pop(0)
        self._blocker = None
        self._leads -= reference.lead is not None
        self._answered_ns = stamp_ns
        found: list[Queued | None] = []
        for sensor in self._sensors:
            if sensor is reference.sensor:
                found.append(reference.lead or Queued(stamp_ns, reference.sample))
            else:
                found.append(sensor.queue.nearest(stamp_ns))
        missing = tuple(s.name for s, q in zip(self._sensors, found, strict=True) if q is None)
        lacking = [name for name in missing if name in self._required]
        answers: Answers = []
        if lacking:
            detail = f"no set without {', '.join(lacking)}; see sync.required"
            answers.append(reject(reference.sample, Reason.REQUIRED_MISSING, detail))
            if reference.lead is not None:
                reference.sensor.queue.remove(reference.lead)
        else:
            answers.append(self._make_set(stamp_ns, found, missing))
        for sensor, partner in zip(self._sensors, found, strict=True):
            answers += sensor.queue.answered(stamp_ns, partner)
        return answers

    def _make_set(
        self, stamp_ns: int, found: Sequence[Queued | None], missing: tuple[str, ...]
    ) -> SyncedSet:
        sweeps: list[LidarSweep | None] = []
        frames: list[CameraFrame | None] = []
        dt_ns: dict[str, int] = {}
        for sensor, queued in zip(self._sensors, found, strict=True):
            sample = None
            if queued is not None:
                queued.used = True
                sample = queued.sample
                dt_ns[sensor.name] = queued.stamp_ns - stamp_ns
            if sensor.is_lidar:
                assert sample is None or isinstance(sample, LidarSweep)
                sweeps.append(sample)
            else:
                assert sample is None or isinstance(sample, CameraFrame)
                frames.append(sample)
        return SyncedSet(stamp_ns, tuple(sweeps), tuple(frames), missing, dt_ns)
