"""Synthetic recordings for the synchronizer, and the best matching there is, by brute force.

Nothing here is shared with the synchronizer. The oracle looks at a whole recording at once: for
every message of the reference it takes the moment at which sensor time reached the deadline, and
of each other sensor the message nearest in stamp among all that had come until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mm_fusion.config_sync import SyncConfig
from mm_fusion.samples import NS_PER_S, CameraFrame, LidarSweep, Rejection, SyncedSet
from mm_fusion.sync import Synchronizer

EPOCH_NS = 1_700_000_000 * NS_PER_S
CLOCK = "clock"  # stands for sensors that only tell time
I64 = npt.NDArray[np.int64]
Event = tuple[str, int]  # sensor, stamp
Partners = tuple[int | None, ...]  # the stamp of each other sensor's message

_PIXEL = np.zeros((1, 1), np.uint8)
_POINTS = np.zeros(1, np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")]))


@dataclass(frozen=True)
class Recording:
    """Who is in it, and what came from whom, in the order of arrival."""

    lidars: tuple[str, ...]
    cameras: tuple[str, ...]
    events: list[Event]


@dataclass(frozen=True)
class Faults:
    """What is wrong with a recording. Shares of messages, standard deviations of a period, s."""

    drops: float = 0.05
    jitter: float = 0.05  # of the period, cut off at four times this and a fifth of the period
    latency_s: float = 0.02
    delayed: float = 0.02  # come later by up to one and a half periods, out of order
    delay_s: float = 0.08  # but not by more than this


def record(
    seed: int,
    seconds: float,
    lidars: int,
    cameras: int,
    faults: Faults | None = None,
    camera_hz: Sequence[float] = (30.0, 20.0, 15.0, 10.0),
    clock_hz: float = 100.0,
) -> Recording:
    """LIDARs at 10 Hz and cameras of any of these rates, each with its own phase and faults."""
    rng = np.random.default_rng(seed)
    faults = faults or Faults()
    lidar_names = tuple(f"lidar{n}" for n in range(lidars))
    camera_names = tuple(f"camera{n}" for n in range(cameras))
    periods_s = dict.fromkeys(lidar_names, 0.1)
    periods_s |= {name: 1.0 / float(rng.choice(camera_hz)) for name in camera_names}
    if clock_hz:
        periods_s[CLOCK] = 1.0 / clock_hz
    arrivals: list[tuple[int, str, int]] = []
    for name, period_s in periods_s.items():
        count = int(seconds / period_s)
        at_s = rng.uniform(0.0, period_s) + period_s * np.arange(count)
        spread_s = min(4.0 * faults.jitter, 0.2) * period_s
        at_s += rng.normal(0.0, faults.jitter * period_s, count).clip(-spread_s, spread_s)
        kept = (rng.random(count) >= faults.drops) | (name == CLOCK)
        stamps = np.unique(EPOCH_NS + np.round(at_s[kept] * NS_PER_S).astype(np.int64))
        way_s = rng.uniform(0.0, faults.latency_s, len(stamps))
        came = np.maximum.accumulate(stamps + np.round(way_s * NS_PER_S).astype(np.int64))
        delayed = (rng.random(len(stamps)) < faults.delayed) & (name != CLOCK)
        delay_s = np.minimum(rng.uniform(0.5, 1.5, len(stamps)) * period_s, faults.delay_s)
        came = np.where(delayed, came + np.round(delay_s * NS_PER_S).astype(np.int64), came)
        arrivals += [(int(a), name, int(s)) for a, s in zip(came, stamps, strict=True)]
    arrivals.sort()
    return Recording(lidar_names, camera_names, [(name, stamp) for _, name, stamp in arrivals])


@dataclass
class Outcome:
    """What came of a recording.

    ``matched``: of every reference message with a set, its partners. ``late``: those without.
    ``answered_at``: the event at which each was answered. ``waits_ns``: how much sensor time
    passed from each reference's coming to its set. ``led``: sets led by another sensor.
    """

    matched: dict[int, Partners] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)
    answered_at: dict[int, int] = field(default_factory=dict)
    answers: int = 0
    led: int = 0
    waits_ns: dict[int, int] = field(default_factory=dict)


def sample_of(name: str, stamp_ns: int) -> CameraFrame | LidarSweep:
    """A sample with nothing in it."""
    if name.startswith("lidar"):
        return LidarSweep(name, stamp_ns, name, _POINTS)
    return CameraFrame(name, stamp_ns, name, "mono8", 1, 1, 1, _PIXEL)


def others(recording: Recording, reference: str) -> list[str]:
    """All but the reference, in the order of the sets."""
    return [n for n in (*recording.lidars, *recording.cameras) if n != reference]


def synchronize(recording: Recording, reference: str, config: SyncConfig) -> Outcome:
    """The recording through the synchronizer."""
    sync = Synchronizer(config, recording.lidars, recording.cameras)
    out = Outcome()
    names = others(recording, reference)
    now_ns = 0
    came_ns: dict[int, int] = {}

    def take(answers: list[SyncedSet | Rejection], at: int) -> None:
        for answer in answers:
            if isinstance(answer, Rejection):
                if answer.sensor != reference:
                    continue
                out.late.add(answer.stamp_ns)
            elif answer.dt_ns.get(reference) == 0:
                members = (m for m in (*answer.lidars, *answer.cameras) if m is not None)
                stamps = {m.sensor: m.stamp_ns for m in members}
                out.matched[answer.stamp_ns] = tuple(stamps.get(name) for name in names)
                out.waits_ns[answer.stamp_ns] = now_ns - came_ns[answer.stamp_ns]
            else:
                out.led += 1
                continue
            out.answers += 1
            out.answered_at[answer.stamp_ns] = at

    for at, (name, stamp_ns) in enumerate(recording.events):
        now_ns = max(now_ns, stamp_ns)
        if name == reference:
            came_ns[stamp_ns] = now_ns
        if name == CLOCK:
            take(sync.advance(stamp_ns), at)
        else:
            take(sync.add(sample_of(name, stamp_ns)), at)
    take(sync.flush(), len(recording.events))
    return out


def best_possible(recording: Recording, reference: str, config: SyncConfig) -> Outcome:
    """The nearest message of each sensor that had come by each deadline. Brute force."""
    deadline_ns = round(config.deadline_s * NS_PER_S)
    max_dt_ns = round(config.max_dt_s * NS_PER_S)
    every = np.array([stamp for _, stamp in recording.events])
    told = np.maximum.accumulate(every)
    names = np.array([name for name, _ in recording.events])
    came = {n: np.flatnonzero(names == n) for n in (reference, *others(recording, reference))}
    out = Outcome()
    final: list[tuple[int, int]] = []  # deadline's event and stamp of the references so far
    for at in came[reference]:
        stamp = int(every[at])
        if any(stamp <= other for end, other in final if end < at):
            out.late.add(stamp)
            continue
        end = int(np.searchsorted(told, stamp + deadline_ns))
        out.answered_at[stamp] = end = max(end, int(at))
        final = [*final[-20:], (end, stamp)]
        partners: list[int | None] = []
        for name in others(recording, reference):
            stamps = np.sort(every[came[name][came[name] <= end]])
            distance = np.abs(stamps - stamp)
            best = int(distance.argmin()) if len(stamps) else -1
            near = best >= 0 and distance[best] <= max_dt_ns
            partners.append(int(stamps[best]) if near else None)
        out.matched[stamp] = tuple(partners)
    return out


def differences(ours: Outcome, best: Outcome) -> list[int]:
    """The stamps of references that were not answered as the oracle would."""
    stamps = ours.matched.keys() | best.matched.keys() | (ours.late ^ best.late)
    return sorted(
        s
        for s in stamps
        if ours.matched.get(s) != best.matched.get(s) or (s in ours.late) != (s in best.late)
    )
