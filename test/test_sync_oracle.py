"""The synchronizer against two oracles that share nothing with it, on randomized streams.

``best_of_all`` looks at the whole recording at once: for every sweep the nearest frame there is.
It holds where no deadline is reached. ``remember_everything`` follows the definition word by word
at every message, with the whole history and no queues: it holds for drops, deadlines, reordering
and dead sensors as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from mm_fusion.config import SyncConfig
from mm_fusion.samples import CameraFrame, LidarSweep, Reason, Rejection, SyncedSet
from mm_fusion.sync import Synchronizer

MS = 1_000_000
EPOCH_MS = 1_700_000_000_000
I64 = npt.NDArray[np.int64]
PIXEL = np.zeros((1, 1), np.uint8)
POINTS = np.zeros(1, np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")]))

Event = tuple[str, int]  # sensor, stamp in ms; "clock" stands for sensors that only tell time
Matched = tuple[int, bool, tuple[int | None, ...]]  # stamp, has a sweep, stamp of each frame


@dataclass
class Stream:
    """A recording: what each sensor gave, in the order in which it arrived."""

    cameras: tuple[str, ...]
    events: list[Event]
    stamps: dict[str, I64] = field(default_factory=dict)


def record(
    rng: np.random.Generator,
    seconds: float,
    cameras: int,
    *,
    drop: float = 0.05,
    lidar_period_ms: float = 100.0,
    latency_ms: float = 20.0,
    reorder: bool = False,
    silences: bool = False,
) -> Stream:
    """Sensors with their own rates, phases, jitter, latencies, losses and, if asked, outages."""
    names = tuple(f"camera{i}" for i in range(cameras))
    periods = {"lidar": lidar_period_ms, "clock": 10.0}
    periods.update({name: float(rng.choice([33.3, 50.0, 66.7, 100.0])) for name in names})
    arrivals: list[tuple[float, str, int]] = []
    stamps: dict[str, I64] = {}
    for name, period in periods.items():
        count = int(seconds * 1e3 / period)
        times = rng.uniform(0, period) + period * np.arange(count)
        times += rng.normal(0.0, 0.05 * period, count).clip(-0.2 * period, 0.2 * period)
        if name != "clock":
            times = times[rng.random(count) > drop]
            if silences:
                start = rng.uniform(0, 0.7) * seconds * 1e3
                length = rng.uniform(0.1, 0.3) * seconds * 1e3
                times = times[(times < start) | (times > start + length)]
        stamped = np.unique(np.round(times).astype(np.int64))
        stamped = stamped[stamped > 0] + EPOCH_MS
        arrived = stamped + rng.uniform(0.0, latency_ms, len(stamped))
        if not reorder:
            arrived = np.maximum.accumulate(arrived)
        stamps[name] = stamped
        arrivals += [(a, name, int(s)) for a, s in zip(arrived, stamped, strict=True)]
    arrivals.sort(key=lambda entry: entry[0])
    return Stream(names, [(name, stamp) for _, name, stamp in arrivals], stamps)


@dataclass
class Outcome:
    """What the synchronizer did with a recording."""

    matched: list[Matched] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


def synchronize(stream: Stream, config: SyncConfig, lidar: str = "lidar") -> Outcome:
    """The recording through the real synchronizer."""
    sync = Synchronizer(config, (lidar,) if lidar else (), stream.cameras)
    outcome = Outcome()

    def take(answers: list[SyncedSet | Rejection]) -> None:
        for answer in answers:
            if isinstance(answer, Rejection):
                outcome.rejected.append(answer)
                continue
            frames = tuple(None if f is None else f.stamp_ns // MS for f in answer.cameras)
            outcome.matched.append((answer.stamp_ns // MS, bool(answer.sweeps), frames))

    for name, stamp in stream.events:
        ns = stamp * MS
        if name == "clock":
            take(sync.advance(ns))
        elif name == "lidar":
            take(sync.add(LidarSweep(name, ns, name, POINTS)))
        else:
            take(sync.add(CameraFrame(name, ns, name, "mono8", 1, 1, 1, PIXEL)))
    take(sync.flush())
    return outcome


def best_of_all(stream: Stream, max_dt: int) -> list[Matched]:
    """For every sweep the nearest frame of each camera in the whole recording."""
    sweeps = stream.stamps["lidar"]
    partners: list[list[int | None]] = []
    for name in stream.cameras:
        frames = stream.stamps[name]
        distance = np.abs(sweeps[:, None] - frames[None, :])
        best = distance.argmin(axis=1)  # the first, which is the earlier, of equal ones
        near = distance[np.arange(len(sweeps)), best] <= max_dt
        partners.append([int(frames[b]) if ok else None for b, ok in zip(best, near, strict=True)])
    rows = list(zip(*partners, strict=True)) if partners else [()] * len(sweeps)
    return [(int(s), True, tuple(row)) for s, row in zip(sweeps, rows, strict=True)]


@dataclass
class Lead:
    """A camera frame that wants a set of its own, in the oracle's memory."""

    stamp: int
    slot: int


def remember_everything(stream: Stream, config: SyncConfig, lidar: str = "lidar") -> list[Matched]:
    """The definition of the matching, followed literally over the whole history."""
    deadline, max_dt = round(config.deadline_s * 1e3), round(config.max_dt_s * 1e3)
    lidar_timeout = round(config.lidar_timeout_s * 1e3)
    camera_timeout = round(config.camera_timeout_s * 1e3)
    history: list[tuple[str, int, int]] = []  # sensor, stamp, sensor time at arrival
    waiting_sweeps: list[int] = []
    waiting_leads: list[Lead] = []
    out: list[Matched] = []

    def last_heard(name: str) -> int:
        return next((now for n, _, now in reversed(history) if n == name), history[0][2])

    def came(name: str) -> list[int]:
        return [stamp for n, stamp, _ in history if n == name]

    def answer(stamp: int, lead: Lead | None) -> None:
        frames: list[int | None] = []
        for slot, name in enumerate(stream.cameras):
            reach = [(abs(f - stamp), f) for f in came(name) if abs(f - stamp) <= max_dt]
            own = lead is not None and lead.slot == slot
            frames.append(stamp if own else (min(reach)[1] if reach else None))
        out.append((stamp, lead is None, tuple(frames)))

    def settle(now: int, finished: bool) -> None:
        queue = [(s, None) for s in waiting_sweeps] + [(c.stamp, c) for c in waiting_leads]
        for stamp, lead in sorted(queue, key=lambda entry: entry[0]):
            complete = all(
                max(came(name), default=-1) >= stamp or now - last_heard(name) > camera_timeout
                for name in stream.cameras
            )
            if not (finished or complete or now >= stamp + deadline):
                return
            answer(stamp, lead)
            if lead is None:
                waiting_sweeps.remove(stamp)
            else:
                waiting_leads.remove(lead)

    for name, stamp in stream.events:
        now = max([stamp] + [t for _, _, t in history[-1:]])
        silent = not lidar or (bool(history) and now - last_heard(lidar) > lidar_timeout)
        history.append((name, stamp, now))
        last = out[-1][0] if out else -1
        if name == lidar:
            if stamp > last:
                waiting_leads = [c for c in waiting_leads if c.stamp < stamp - max_dt]
                waiting_sweeps.append(stamp)
        elif name in stream.cameras:
            live = [
                slot
                for slot, other in enumerate(stream.cameras)
                if came(other) and now - last_heard(other) <= camera_timeout
            ]
            slot = stream.cameras.index(name)
            if silent and slot == live[0] and stamp > last and stamp not in waiting_sweeps:
                waiting_leads.append(Lead(stamp, slot))
        settle(now, finished=False)
    settle(history[-1][2], finished=True)
    return out


def check_everything_is_answered_once(stream: Stream, outcome: Outcome) -> None:
    """Every sweep: one set or one rejection. Every frame: some sets, or one rejection."""
    answered = [(r.sensor, r.stamp_ns // MS) for r in outcome.rejected]
    assert len(answered) == len(set(answered))
    in_sets = [("lidar", stamp) for stamp, has_sweep, _ in outcome.matched if has_sweep]
    assert len(in_sets) == len(set(in_sets))
    used = {
        (name, stamp)
        for _, _, frames in outcome.matched
        for name, stamp in zip(stream.cameras, frames, strict=True)
    }
    given = {event for event in stream.events if event[0] != "clock"}
    taken = (used | set(in_sets)) - {(name, None) for name in stream.cameras}
    assert taken | set(answered) == given
    assert not taken & set(answered)
    assert [m[0] for m in outcome.matched] == sorted({m[0] for m in outcome.matched})


@pytest.mark.parametrize("cameras", [1, 2, 6, 12])
def test_sets_are_the_best_of_the_whole_recording(cameras: int) -> None:
    # GIVEN 5 % drops, jitter and latencies, and a deadline that is never reached
    config = SyncConfig(deadline_s=1.0, lidar_timeout_s=10.0, camera_timeout_s=10.0)
    stream = record(np.random.default_rng(cameras), 60.0, cameras)
    outcome = synchronize(stream, config)
    # THEN every sweep has the frames that a look at all of them would choose
    assert outcome.matched == best_of_all(stream, 60)
    assert len(outcome.matched) == len(stream.stamps["lidar"])
    assert {r.reason for r in outcome.rejected} == {Reason.UNMATCHED}
    check_everything_is_answered_once(stream, outcome)


def test_a_hundred_thousand_messages_match_the_best_of_the_whole_recording() -> None:
    config = SyncConfig(deadline_s=1.0, lidar_timeout_s=10.0, camera_timeout_s=10.0)
    stream = record(np.random.default_rng(7), 700.0, 3)
    outcome = synchronize(stream, config)
    assert len(stream.events) > 100_000
    assert outcome.matched == best_of_all(stream, 60)
    check_everything_is_answered_once(stream, outcome)


@pytest.mark.parametrize("seed", range(60))
def test_sets_follow_the_definition_on_rough_streams(seed: int) -> None:
    # GIVEN any number of cameras, latencies beyond the deadline, reordering, outages of each sensor
    rng = np.random.default_rng(1000 + seed)
    config = SyncConfig(
        deadline_s=float(rng.choice([0.0, 0.02, 0.06, 0.1, 0.3])),
        max_dt_s=float(rng.choice([0.01, 0.03, 0.06])),
        lidar_timeout_s=float(rng.choice([0.15, 0.25, 0.5])),
        camera_timeout_s=float(rng.choice([0.2, 0.5, 1.0])),
        queue_size=100,
    )
    stream = record(
        rng,
        5.0,
        int(rng.integers(0, 4)),
        drop=float(rng.choice([0.0, 0.05, 0.3])),
        lidar_period_ms=float(rng.choice([20.0, 50.0, 100.0])),
        latency_ms=float(rng.choice([1.0, 30.0, 120.0, 280.0])),
        reorder=bool(rng.integers(2)),
        silences=bool(rng.integers(2)),
    )
    outcome = synchronize(stream, config)
    assert outcome.matched == remember_everything(stream, config)
    check_everything_is_answered_once(stream, outcome)


@pytest.mark.parametrize("seed", range(8))
def test_cameras_alone_follow_the_definition(seed: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    stream = record(rng, 5.0, int(rng.integers(1, 4)), reorder=bool(rng.integers(2)))
    stream.events = [event for event in stream.events if event[0] != "lidar"]
    outcome = synchronize(stream, SyncConfig(queue_size=100), lidar="")
    assert outcome.matched == remember_everything(stream, SyncConfig(), lidar="")
    assert outcome.matched
    check_everything_is_answered_once(stream, outcome)
