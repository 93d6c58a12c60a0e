"""How well tracks are kept in simulated traffic, and how many updates a second one core makes.

The detector is made up: it sees what nothing hides, most of the time, with noise on every number,
one vehicle in six back to front, and now and then something that is not there. Its errors are drawn
independently of what the tracker assumes. ``nearest`` is the baseline: every detection to the
nearest track, the nearest pairs first; ``ab3dmot`` is that paper's recipe. Velocities are judged
from a second of a track's age on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.bench.ab3dmot import Ab3dmotTracker
from mm_fusion.bench.nearest import NearestTracker
from mm_fusion.bench.published import as_published, at_best
from mm_fusion.cli.options import Progress, add_config_arguments, load_config
from mm_fusion.config_objects import TrackerConfig
from mm_fusion.evaluation.tracking import TrackBox, TrackedFrame, evaluate_tracks
from mm_fusion.evaluation.truth import TruthBox
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.association import hidden
from mm_fusion.perception.tracker import Tracker
from mm_fusion.samples import NS_PER_S, Detection, Track

F64 = npt.NDArray[np.float64]
Update = Callable[[int, Sequence[Detection], RigidTransform], tuple[Track, ...]]

HELP = "how well tracks are kept in simulated traffic, and how fast"

RATE_HZ = 10.0
REACH_M = 50.0
T0_NS = 1_700_000_000 * NS_PER_S
LABELS = ("car", "pedestrian", "cyclist")
# The made-up detector.
SEEN = {"car": 0.9, "pedestrian": 0.8, "cyclist": 0.85}  # of what nothing hides
CENTER_SIGMA_M = {"car": 0.22, "pedestrian": 0.12, "cyclist": 0.18}
YAW_SIGMA_RAD = {"car": 0.06, "pedestrian": 0.7, "cyclist": 0.15}
REVERSED = 1 / 6
FALSE_ALARMS = 1.5  # a sweep
SPEED_OBJECTS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--drives", type=int, default=4, help="drives through towns [4]")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each [20]")
    parser.add_argument("--seed", type=int, default=1, help="seed of towns and detector [1]")
    parser.add_argument("--rounds", type=int, default=300, help="updates that are timed [300]")
    parser.add_argument(
        "--published",
        action="store_true",
        help="also with detections as published ones are, on the first two drives",
    )
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    config = load_config(args).tracker
    drives, show = [], Progress()
    for n in range(args.drives):
        drives.append(list(_drive(args.seed + n, args.seconds)))
        show((n + 1) / args.drives, "drives")
    ours = _scores(drives, lambda: Tracker(config).update)
    nearest = _scores(drives, lambda: NearestTracker().update)
    recipe = _scores(drives, lambda: Ab3dmotTracker().update)
    more = {"published": _published(drives[:2], config)} if args.published else {}
    return {
        "drives": args.drives,
        "sweeps": sum(map(len, drives)),
        "ours": ours,
        "nearest": nearest,
        "ab3dmot": recipe,
        "margin": {k: round(ours["all"][k] - nearest["all"][k], 4) for k in ("mota", "idf1")},
        "speed": _speed(config, args.rounds),
        **more,
    }


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One instant of a drive: what was detected, and what there was, in the base frame."""

    stamp_ns: int
    odom_from_base: RigidTransform
    detections: list[Detection]
    truth: list[TruthBox]


def _drive(seed: int, seconds: float) -> Iterator[Sweep]:
    from mm_fusion.sim.drive import lively_world

    world = lively_world(seed, seconds)
    rng = np.random.default_rng([seed, 77])
    for n in range(int(seconds * RATE_HZ)):
        t = n / RATE_HZ
        states = world.objects_in_base(t)
        near = np.hypot(states.center[:, 0], states.center[:, 1]) < REACH_M
        states = states.select(near)
        visible = ~hidden(states.center[:, :2], states.size, np.ones(len(states.ids), np.bool_))
        truth = [
            TruthBox(
                str(states.ids[k]),
                LABELS[states.labels[k]],
                states.center[k],
                states.size[k],
                float(states.yaw[k]),
                states.velocity[k],
                bool(visible[k]),
            )
            for k in range(len(states.ids))
        ]
        detections = [d for b in truth if (d := _detected(b, rng)) is not None]
        detections += [_imagined(rng) for _ in range(int(rng.poisson(FALSE_ALARMS)))]
        yield Sweep(T0_NS + round(t * NS_PER_S), world.pose(t), detections, truth)


def _detected(box: TruthBox, rng: np.random.Generator) -> Detection | None:
    chance = SEEN[box.label] if box.counted else 0.08
    if rng.random() > chance:
        return None
    sigma = CENTER_SIGMA_M[box.label]
    yaw = box.yaw + float(rng.normal(0.0, YAW_SIGMA_RAD[box.label]))
    yaw += np.pi * (rng.random() < REVERSED)
    return Detection(
        box.label,
        float(rng.beta(6.0, 2.5)),
        box.center + rng.normal(0.0, [sigma, sigma, 0.1]),
        box.size * np.exp(rng.normal(0.0, 0.05, 3)),
        yaw,
        np.zeros(2),
    )


def _imagined(rng: np.random.Generator) -> Detection:
    label = str(rng.choice(LABELS))
    center = np.array([*rng.uniform(-REACH_M, REACH_M, 2), 0.8])
    size = np.array([4.2, 1.8, 1.5]) if label == "car" else np.array([0.7, 0.7, 1.7])
    score = float(0.2 + 0.8 * rng.beta(1.2, 6.0))
    return Detection(label, score, center, size, float(rng.uniform(-3, 3)), np.zeros(2))


def _published(drives: Sequence[Sequence[Sweep]], config: TrackerConfig) -> dict[str, Any]:
    """All tracks of logits, at the threshold that is best for each tracker; without ego motion, the
    likelier detections only."""
    told = [
        as_published(d, _detected, _imagined, np.random.default_rng(n))
        for n, d in enumerate(drives)
    ]
    every = replace(config, min_score=-100.0, min_existence=0.0)
    likely = [
        [replace(s, detections=[d for d in s.detections if d.score > 0.5]) for s in d] for d in told
    ]

    def alone(update: Any) -> Update:
        still = RigidTransform.identity()
        return lambda stamp_ns, detections, _: update(stamp_ns, detections, still)

    def blind() -> Update:
        update = Tracker(config).update
        return lambda stamp_ns, detections, _: update(stamp_ns, detections, None)

    return {
        "ours": at_best(_frames(told, lambda: Tracker(every).update)),
        "ab3dmot": at_best(_frames(told, lambda: Ab3dmotTracker().update)),
        "ours_without_ego_motion": at_best(_frames(likely, blind, False)),
        "ab3dmot_without_ego_motion": at_best(
            _frames(likely, lambda: alone(Ab3dmotTracker().update), False)
        ),
    }


def _scores(drives: Sequence[Sequence[Sweep]], make: Callable[[], Update]) -> dict[str, Any]:
    return evaluate_tracks(_frames(drives, make), averaged=False)


def _frames(
    drives: Sequence[Sequence[Sweep]], make: Callable[[], Update], over_ground: bool = True
) -> list[TrackedFrame]:
    """All drives as one, whose objects and tracks have names of their own. The tracks are in the
    odometry frame, or, unless ``over_ground``, in the base frame."""
    frames = []
    for k, sweeps in enumerate(drives):
        update = make()
        for s in sweeps:
            tracks = update(s.stamp_ns, s.detections, s.odom_from_base)
            there = s if over_ground else replace(s, odom_from_base=RigidTransform.identity())
            frames.append(_frame(there, tracks, k))
    return frames


def _frame(s: Sweep, tracks: Sequence[Track], drive: int) -> TrackedFrame:
    base_from_odom = s.odom_from_base.inverse()
    yaw = base_from_odom.yaw_rad()
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    boxes = [
        TrackBox(
            drive * 1_000_000 + t.track_id,
            t.label,
            t.score,
            base_from_odom.apply(t.center),
            t.yaw + yaw,
            turn @ t.velocity,
        )
        for t in tracks
    ]
    truth = [
        TruthBox(
            f"{drive}/{b.object_id}", *(b.label, b.center, b.size, b.yaw, b.velocity, b.counted)
        )
        for b in s.truth
    ]
    return TrackedFrame(s.stamp_ns + drive * 1000 * NS_PER_S, boxes, truth)


def _speed(config: TrackerConfig, rounds: int) -> dict[str, Any]:
    """Updates a second with SPEED_OBJECTS objects, each detected every time."""
    rng = np.random.default_rng(0)
    place = rng.uniform(-60.0, 60.0, (SPEED_OBJECTS, 2))
    velocity = rng.normal(0.0, 5.0, (SPEED_OBJECTS, 2))
    tracker, spent = Tracker(config), []
    for n in range(rounds):
        now = place + velocity * (n / RATE_HZ)
        detections = [
            Detection(
                LABELS[k % 3],
                0.8,
                np.array([*(now[k] + rng.normal(0, 0.1, 2)), 0.8]),
                np.array([4.0, 1.8, 1.5]),
                float(np.arctan2(velocity[k, 1], velocity[k, 0])),
                np.zeros(2),
            )
            for k in range(SPEED_OBJECTS)
        ]
        cpu_s = time.process_time()
        tracks = tracker.update(T0_NS + n * 100_000_000, detections, RigidTransform.identity())
        spent.append(time.process_time() - cpu_s)
    median_s = float(np.median(spent))
    return {
        "objects": SPEED_OBJECTS,
        "tracks": len(tracks),
        "update_ms_cpu": round(median_s * 1e3, 3),
        "updates_per_s": round(1.0 / median_s),
    }
