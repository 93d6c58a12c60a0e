"""The synchronizer against brute force that shares nothing with it, on randomized recordings.

The oracle knows the whole recording and all that had come by each deadline; the synchronizer must
choose the same without waiting for the deadline.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mm_fusion.bench.sync_streams import (
    CLOCK,
    Faults,
    Recording,
    best_possible,
    differences,
    record,
    sample_of,
    synchronize,
)
from mm_fusion.config_sync import SyncConfig
from mm_fusion.samples import NS_PER_S, Reason, Rejection, SyncedSet
from mm_fusion.sync import Synchronizer

# Nobody is silent in these recordings for so long that others would have to stand in.
PATIENT = SyncConfig(queue_size=100, lidar_timeout_s=2.0, camera_timeout_s=2.0)

ROBOTS = {
    "three topics": (1, 2, "lidar0", 700.0),
    "ten topics": (1, 9, "lidar0", 360.0),
    "two lidars": (2, 1, "lidar0", 800.0),
    "led by a camera": (1, 2, "camera0", 700.0),
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("robot", ROBOTS)
def test_matched_sets_are_the_best_that_could_be_known(robot: str, seed: int) -> None:
    # GIVEN about 100 000 messages with jitter, 5 % drops, and 2 % that come later, out of order
    lidars, cameras, reference, seconds = ROBOTS[robot]
    recording = record(seed, seconds, lidars, cameras)
    assert len(recording.events) > 80_000
    config = dataclasses.replace(PATIENT, reference=reference)
    # WHEN they are matched
    ours, best = (
        synchronize(recording, reference, config),
        best_possible(recording, reference, config),
    )
    # THEN every set has the partners that a look at everything known by its deadline would
    # choose; but at the very start, when nobody can know that sensors come out of order
    start_ns = min(stamp for _, stamp in recording.events)
    assert [s for s in differences(ours, best) if s > start_ns + NS_PER_S] == []
    # AND every reference is answered exactly once, none after its deadline
    given = {stamp for name, stamp in recording.events if name == reference}
    assert ours.matched.keys() | ours.late == given
    assert ours.answers == len(given)
    assert all(ours.answered_at[stamp] <= end for stamp, end in best.answered_at.items())


@pytest.mark.parametrize(
    "faults",
    [
        Faults(drops=0.0, delayed=0.0),
        Faults(drops=0.3, delayed=0.0),
        Faults(jitter=0.15),
        Faults(latency_s=0.06),
        Faults(delayed=0.2),
    ],
)
def test_other_faults_make_no_difference(faults: Faults) -> None:
    recording = record(5, 300.0, 1, 3, faults)
    ours = synchronize(recording, "lidar0", PATIENT)
    assert differences(ours, best_possible(recording, "lidar0", PATIENT)) == []


def test_the_oracle_sees_a_partner_that_was_not_waited_for() -> None:
    # GIVEN the same recording, and a synchronizer that is given half the time
    recording = record(6, 60.0, 1, 2)
    hasty = dataclasses.replace(PATIENT, deadline_s=0.02)
    # THEN the comparison finds what it missed
    found = differences(
        synchronize(recording, "lidar0", hasty), best_possible(recording, "lidar0", PATIENT)
    )
    assert len(found) > 20


def test_without_a_clock_the_sensors_tell_the_time_themselves() -> None:
    recording = record(7, 600.0, 1, 2, clock_hz=0.0)
    ours = synchronize(recording, "lidar0", PATIENT)
    assert differences(ours, best_possible(recording, "lidar0", PATIENT)) == []


# ------------------------------------------------------------------------- rough recordings


def with_outages(recording: Recording, rng: np.random.Generator) -> Recording:
    """Each sensor is silent for a while."""
    stamps = [stamp for _, stamp in recording.events]
    start, span = min(stamps), max(stamps) - min(stamps)
    silent = {}
    for name in (*recording.lidars, *recording.cameras):
        begin = start + rng.uniform(0.0, 0.7) * span
        silent[name] = (begin, begin + rng.uniform(0.1, 0.3) * span)
    events = [
        (name, stamp)
        for name, stamp in recording.events
        if name == CLOCK or not silent[name][0] < stamp < silent[name][1]
    ]
    return dataclasses.replace(recording, events=events)


def rough(seed: int) -> tuple[Recording, SyncConfig]:
    """Any robot with ways longer than the deadline, disorder, losses and outages."""
    rng = np.random.default_rng(1000 + seed)
    faults = Faults(
        drops=float(rng.choice([0.0, 0.05, 0.3])),
        jitter=float(rng.choice([0.01, 0.05, 0.15])),
        latency_s=float(rng.choice([0.001, 0.03, 0.12, 0.28])),
        delayed=float(rng.choice([0.0, 0.05, 0.5])),
        delay_s=float(rng.choice([0.02, 0.2])),
    )
    lidars = int(rng.integers(0, 4))
    recording = record(seed, 60.0, lidars, int(rng.integers(0 if lidars else 1, 4)), faults)
    names = (*recording.lidars, *recording.cameras)
    config = SyncConfig(
        reference=str(rng.choice(["", *names])),
        required=tuple(rng.choice(names, 1)) if rng.random() < 0.3 else ("",),
        deadline_s=float(rng.choice([0.0, 0.02, 0.06, 0.1, 0.3])),
        max_dt_s=float(rng.choice([0.01, 0.03, 0.06])),
        lidar_timeout_s=float(rng.choice([0.15, 0.25, 0.5])),
        camera_timeout_s=float(rng.choice([0.2, 0.5, 1.0])),
        queue_size=100,
        time_jump_s=2.0,
    )
    return (with_outages(recording, rng) if rng.random() < 0.5 else recording), config


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_is_answered_once_in_order_and_in_time(seed: int) -> None:
    # GIVEN a rough recording
    recording, config = rough(seed)
    names = (*recording.lidars, *recording.cameras)
    reference = config.reference or names[0]
    deadline_ns = round(config.deadline_s * NS_PER_S)
    max_dt_ns = round(config.max_dt_s * NS_PER_S)
    sync = Synchronizer(config, recording.lidars, recording.cameras)
    used: dict[str, list[int]] = {name: [] for name in names}
    rejected: list[tuple[str, int]] = []
    came: dict[str, list[int]] = {name: [] for name in names}
    set_stamps: list[int] = []
    waiting: list[int] = []
    refused: set[tuple[str, int]] = set()  # led a set that lacked a required sensor
    now_ns = 0

    def take(answer: SyncedSet | Rejection) -> None:
        if isinstance(answer, Rejection):
            rejected.append((answer.sensor, answer.stamp_ns))
            if answer.reason is Reason.REQUIRED_MISSING:
                refused.add(rejected[-1])
            if answer.sensor == reference:
                waiting.remove(answer.stamp_ns)
            return
        set_stamps.append(answer.stamp_ns)
        members = {m.sensor: m.stamp_ns for m in (*answer.lidars, *answer.cameras) if m}
        for name, stamp in members.items():
            used[name].append(stamp)
        if members.get(reference) == answer.stamp_ns:
            waiting.remove(answer.stamp_ns)
        # THEN each partner is the nearest of all that have come
        for name in set(names) - {reference}:
            usable = [s for s in came[name][-200:] if (name, s) not in refused]
            reach = [(abs(s - answer.stamp_ns), s) for s in usable]
            best = min((r for r in reach if r[0] <= max_dt_ns), default=(0, None))[1]
            assert members.get(name) == best
        # AND it says itself who is missing
        assert set(answer.missing) == set(names) - members.keys()
        assert not set(config.required) & set(answer.missing)

    # WHEN it is played
    for name, stamp in recording.events:
        now_ns = max(now_ns, stamp)
        if name != CLOCK:
            came[name].append(stamp)
            if name == reference:
                waiting.append(stamp)
        answers = sync.advance(stamp) if name == CLOCK else sync.add(sample_of(name, stamp))
        for answer in answers:
            take(answer)
        # THEN nothing waits beyond its deadline
        assert all(now_ns < s + deadline_ns for s in waiting)
    for answer in sync.flush():
        take(answer)
    # AND sets are in order; each reference is in one set or rejected once, the others in any
    # number of sets or rejected once
    assert set_stamps == sorted(set(set_stamps))
    assert waiting == []
    assert len(rejected) == len(set(rejected))
    assert len(used[reference]) == len(set(used[reference]))
    for name in names:
        lost = {s for n, s in rejected if n == name}
        assert lost | set(used[name]) == set(came[name])
        assert not lost & set(used[name])


def test_the_reasons_of_a_rough_recording_are_those_that_fit() -> None:
    recording, config = rough(3)
    sync = Synchronizer(config, recording.lidars, recording.cameras)
    reasons = set()
    for name, stamp in recording.events:
        answers = sync.advance(stamp) if name == CLOCK else sync.add(sample_of(name, stamp))
        reasons |= {a.reason for a in answers if isinstance(a, Rejection)}
    assert reasons <= {Reason.UNMATCHED, Reason.LATE, Reason.REQUIRED_MISSING, Reason.OVERFLOW}
