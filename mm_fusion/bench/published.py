"""Detections as published ones are: scores are logits, and weak false alarms come by the dozen.

Half of the false alarms stay where they are in the world, as hedges and posts do that a detector
takes for something again and again. Trackers are compared at the threshold on the tracks' scores
that is best for each, and over all recalls (AMOTA), as the tracking literature does it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mm_fusion.evaluation.tracking import TrackedFrame, evaluate_tracks
from mm_fusion.samples import Detection

NEAR_LOGIT, LOGIT_A_METRE, LOGIT_SIGMA = 6.0, 0.08, 2.0
SMALLER = 1.5  # logits less for people and cyclists
GHOSTS, GHOST_REACH_M, SEEN_M, GHOST_SEEN = 60, 120.0, 50.0, 0.5
STRAY, STRAY_LOGIT, GHOST_LOGIT = 4.0, -1.5, -1.0
THRESHOLDS = 12


def as_published(
    sweeps: Sequence[Any],
    detect: Callable[[Any, np.random.Generator], Detection | None],
    imagine: Callable[[np.random.Generator], Detection],
    rng: np.random.Generator,
) -> list[Any]:
    """The sweeps of a drive, each with other detections: what ``detect`` sees of the truth, ghosts,
    and what ``imagine`` makes up."""
    middle = sweeps[len(sweeps) // 2].odom_from_base.translation
    ghosts = []
    for _ in range(GHOSTS):
        at = np.append(middle[:2] + rng.uniform(-GHOST_REACH_M, GHOST_REACH_M, 2), middle[2] + 0.8)
        ghosts.append((imagine(rng), at, float(rng.normal(GHOST_LOGIT, 1.5))))
    out = []
    for s in sweeps:
        found = []
        for box in s.truth:
            seen = detect(box, rng)
            if seen is not None:
                logit = rng.normal(
                    NEAR_LOGIT - LOGIT_A_METRE * np.hypot(*box.center[:2]), LOGIT_SIGMA
                )
                logit -= 0.0 if box.label == "car" else SMALLER
                found.append(dataclasses.replace(seen, score=float(logit)))
        base_from_odom = s.odom_from_base.inverse()
        for ghost, place, mean in ghosts:
            at = base_from_odom.apply(place)
            if np.hypot(*at[:2]) < SEEN_M and rng.random() < GHOST_SEEN:
                score, center = float(rng.normal(mean, 0.7)), at + rng.normal(0.0, 0.2, 3)
                yaw = float(rng.uniform(-3, 3))
                found.append(dataclasses.replace(ghost, score=score, center=center, yaw=yaw))
        for _ in range(int(rng.poisson(STRAY))):
            score = float(rng.normal(STRAY_LOGIT, 1.3))
            found.append(dataclasses.replace(imagine(rng), score=score))
        out.append(dataclasses.replace(s, detections=found))
    return out


def at_best(frames: Sequence[TrackedFrame]) -> dict[str, Any]:
    """Scores at the threshold on the tracks' mean scores that gives the highest MOTA, and AMOTA."""
    given: dict[int, list[float]] = {}
    for frame in frames:
        for track in frame.tracks:
            given.setdefault(track.track_id, []).append(track.score)
    mean = {k: float(np.mean(v)) for k, v in given.items()}
    best: dict[str, Any] = {"mota": -np.inf}
    for least in np.quantile(list(mean.values()), np.linspace(0.0, 0.95, THRESHOLDS)):
        chosen = [
            TrackedFrame(f.stamp_ns, [t for t in f.tracks if mean[t.track_id] >= least], f.truth)
            for f in frames
        ]
        scores = evaluate_tracks(chosen, averaged=False)["all"]
        if scores["mota"] > best["mota"]:
            best = {
                k: scores[k] for k in ("mota", "idf1", "id_switches", "false_positives", "misses")
            }
    return {**best, "amota": evaluate_tracks(frames)["all"]["amota"]}
