"""Tracks against the truth: CLEAR-MOT and IDF1 by motmetrics, AMOTA, speed and heading.

CLEAR-MOT: Bernardin and Stiefelhagen, Evaluating Multiple Object Tracking Performance, 2008. IDF1:
Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, 2016.
AMOTA as nuScenes defines it (Caesar et al., 2020, and Weng et al., 3D Multi-Object Tracking: A
Baseline and New Evaluation Metrics, 2020): the mean over 40 recalls from 0.1 to 1 of

    MOTAR = max(0, 1 - (switches + false positives + misses - (1 - r) P) / (r P)),

where P is the number of true boxes and r the recall that is reached with the tracks whose mean
score is at least what that recall asks for; a recall that is never reached gives 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_fusion.errors import MmFusionError
from mm_fusion.evaluation.detection import Region
from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.truth import TruthBox, pose_at
from mm_fusion.geometry import RigidTransform, wrap_angles_rad
from mm_fusion.samples import NS_PER_S

if TYPE_CHECKING:
    from motmetrics import MOTAccumulator

F64 = npt.NDArray[np.float64]

MATCH_M = 2.0  # distance of the centres in the ground plane, as nuScenes matches
RECALLS = np.linspace(0.1, 1.0, 40)
SETTLED_S = 1.0  # velocities are judged from this age of a track on
MOVING_MPS = 1.0
COUNTS = {
    "num_objects": "objects",
    "num_matches": "matches",
    "num_false_positives": "false_positives",
    "num_misses": "misses",
    "num_switches": "id_switches",
    "num_fragmentations": "fragmentations",
    "num_unique_objects": "true_tracks",
    "mostly_tracked": "mostly_tracked",
    "mostly_lost": "mostly_lost",
}
RATIOS = {"mota": "mota", "motp": "motp_m", "idf1": "idf1", "idp": "idp", "idr": "idr"}


@dataclass(frozen=True, slots=True, eq=False)
class TrackBox:
    """One track at one stamp, in the truth's frame; ``velocity`` None where not over ground."""

    track_id: int
    label: str
    score: float
    center: F64
    yaw: float
    velocity: F64 | None


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """What was tracked and what was there at one stamp."""

    stamp_ns: int
    tracks: Sequence[TrackBox]
    truth: Sequence[TruthBox]


def evaluate_tracks(frames: Sequence[TrackedFrame], averaged: bool = True) -> dict[str, Any]:
    """Scores of a drive's tracks by class, and all classes together. Unless ``averaged``, AMOTA,
    which costs forty times as much as all the rest, is left out.

    An object that nobody can have seen is not asked for: a track on it counts neither way. Raises
    MmFusionError where motmetrics is not installed.
    """
    labels = sorted({b.label for f in frames for b in f.truth if b.counted})
    classes = {label: _class(frames, label, averaged) for label in labels}
    amota = [c["amota"] for c in classes.values()] if averaged else []
    total = {name: sum(c[name] for c in classes.values()) for name in COUNTS.values()}
    objects = total["objects"]
    found = total["false_positives"] + total["matches"] + total["id_switches"]
    right = sum(c["id_true_positives"] for c in classes.values())
    errors = total["false_positives"] + total["misses"] + total["id_switches"]
    return {
        "frames": len(frames),
        "match_m": MATCH_M,
        "all": {
            **total,
            "mota": _ratio(objects - errors, objects),
            "idf1": _ratio(2 * right, objects + found),
            "amota": round(float(np.mean(amota)), 4) if amota else None,
        },
        "classes": classes,
    }


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _class(frames: Sequence[TrackedFrame], label: str, averaged: bool) -> dict[str, Any]:
    parts = [_Part.of(f, label) for f in frames]
    whole = _accumulated(parts)
    scores = _counted(whole)
    return {
        **{ours: int(scores[name]) for name, ours in COUNTS.items()},
        "id_true_positives": int(scores["idtp"]),
        **{o: None if np.isnan(v := float(scores[n])) else round(v, 4) for n, o in RATIOS.items()},
        **(_averaged(parts, whole) if averaged else {}),
        **_motion(parts, whole),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One class at one stamp, without the tracks on objects that do not count."""

    stamp_ns: int
    tracks: list[TrackBox]
    truth: list[TruthBox]
    distance: F64  # [truth, tracks], NaN where they are too far apart

    @staticmethod
    def of(frame: TrackedFrame, label: str) -> _Part:
        truth = [b for b in frame.truth if b.label == label]
        tracks = [t for t in frame.tracks if t.label == label]
        distance = _distances(truth, tracks)
        counted = np.array([b.counted for b in truth], np.bool_)
        near = distance < MATCH_M
        asked = np.asarray(near[counted].any(axis=0) | ~near[~counted].any(axis=0))
        there = distance[np.ix_(counted, asked)]
        return _Part(
            frame.stamp_ns,
            [t for t, wanted in zip(tracks, asked.tolist(), strict=True) if wanted],
            [b for b in truth if b.counted],
            np.where(there < MATCH_M, there, np.nan),
        )

    def above(self, kept: set[int]) -> _Part:
        """The same with some tracks only."""
        chosen = [n for n, t in enumerate(self.tracks) if t.track_id in kept]
        tracks = [self.tracks[n] for n in chosen]
        return _Part(self.stamp_ns, tracks, self.truth, self.distance[:, chosen])


def _distances(truth: Sequence[TruthBox], tracks: Sequence[TrackBox]) -> F64:
    a = np.array([b.center[:2] for b in truth], float).reshape(-1, 1, 2)
    b = np.array([t.center[:2] for t in tracks], float).reshape(1, -1, 2)
    return np.asarray(np.linalg.norm(a - b, axis=2))


# ----------------------------------------------------------------------------- CLEAR-MOT


def _accumulated(parts: Sequence[_Part]) -> MOTAccumulator:
    try:
        import motmetrics
    except ImportError as error:
        raise MmFusionError(
            "evaluate --tracks: needs motmetrics: pip install motmetrics"
        ) from error
    whole = motmetrics.MOTAccumulator()
    numbers = _numbers(parts)
    for frame, part in enumerate(parts):
        ids = [numbers[b.object_id] for b in part.truth]
        whole.update(ids, [t.track_id for t in part.tracks], part.distance, frameid=frame)
    return whole


def _numbers(parts: Sequence[_Part]) -> dict[str, int]:
    """motmetrics wants numbers for names."""
    names = dict.fromkeys(b.object_id for p in parts for b in p.truth)
    return {name: number for number, name in enumerate(names)}


def _counted(whole: MOTAccumulator) -> Mapping[str, float]:
    import motmetrics

    wanted = [*COUNTS, *RATIOS, "idtp"]
    found = motmetrics.metrics.create().compute(whole, metrics=wanted, return_dataframe=False)
    return {name: float(found[name]) for name in wanted}


# --------------------------------------------------------------------------------- AMOTA


def _averaged(parts: Sequence[_Part], whole: MOTAccumulator) -> dict[str, Any]:
    """AMOTA, and the recall of all tracks together."""
    objects = sum(len(p.truth) for p in parts)
    scores: dict[int, list[float]] = {}
    for part in parts:
        for track in part.tracks:
            scores.setdefault(track.track_id, []).append(track.score)
    mean = {track_id: float(np.mean(s)) for track_id, s in scores.items()}
    events = whole.mot_events
    matched = events[events["Type"].isin(("MATCH", "SWITCH"))]["HId"].tolist()
    best = np.sort([mean[int(track_id)] for track_id in matched])[::-1]
    if not len(best):
        return {"amota": 0.0, "recall": 0.0}
    reached = np.arange(1, len(best) + 1) / objects
    known: dict[frozenset[int], float] = {}
    values = []
    for recall in RECALLS:
        if recall > reached[-1]:
            values.append(0.0)
            continue
        least = float(np.interp(recall, reached, best))
        kept = frozenset(i for i, s in mean.items() if s >= least)
        if kept not in known:
            known[kept] = _motar([p.above(set(kept)) for p in parts])
        values.append(known[kept])
    return {"amota": round(float(np.mean(values)), 4), "recall": round(float(reached[-1]), 4)}


def _motar(parts: Sequence[_Part]) -> float:
    kinds = _accumulated(parts).mot_events["Type"].value_counts()
    match, miss, false, switch = (float(kinds.get(k, 0)) for k in ("MATCH", "MISS", "FP", "SWITCH"))
    objects = match + miss + switch
    recall = (match + switch) / objects if objects else 0.0
    if recall == 0.0:
        return 0.0
    errors = switch + false + miss - (1.0 - recall) * objects
    return max(0.0, 1.0 - errors / (recall * objects))


# -------------------------------------------------------------------------------- motion


def _motion(parts: Sequence[_Part], whole: MOTAccumulator) -> dict[str, Any]:
    """Errors of velocity and heading where a track was on an object, from SETTLED_S of its age."""
    born: dict[int, int] = {}
    for part in parts:
        for track in part.tracks:
            born.setdefault(track.track_id, part.stamp_ns)
    velocity, moving, heading = [], [], []
    for part, track, box in _pairs(parts, whole):
        if part.stamp_ns - born[track.track_id] < SETTLED_S * NS_PER_S:
            continue
        heading.append(float(abs(wrap_angles_rad(np.array(track.yaw - box.yaw)))))
        if box.velocity is not None and track.velocity is not None:
            off = float(np.hypot(*(track.velocity - box.velocity)))
            velocity.append(off)
            moving += [off] if float(np.hypot(*box.velocity)) > MOVING_MPS else []
    off_rad = np.array(heading)
    return {
        "velocity_rmse_mps": _rms(velocity),
        "velocity_rmse_moving_mps": _rms(moving),
        "heading_median_rad": round(float(np.median(off_rad)), 4) if heading else None,
        "heading_reversed": round(float((off_rad > np.pi / 2).mean()), 4) if heading else None,
        "judged": len(velocity),
        "judged_moving": len(moving),
    }


def _pairs(
    parts: Sequence[_Part], whole: MOTAccumulator
) -> Iterator[tuple[_Part, TrackBox, TruthBox]]:
    """The tracks that were on an object, frame by frame."""
    names = list(_numbers(parts))
    events = whole.mot_events
    on = events[events["Type"].isin(("MATCH", "SWITCH"))]
    for (frame, _), number, track_id in zip(on.index, on["OId"], on["HId"], strict=True):
        part = parts[frame]
        track = next(t for t in part.tracks if t.track_id == track_id)
        box = next(b for b in part.truth if b.object_id == names[int(number)])
        yield part, track, box


def _rms(values: Sequence[float]) -> float | None:
    return round(float(np.sqrt(np.mean(np.square(values)))), 4) if values else None


# --------------------------------------------------------------------------------- a run


def frames_of(
    lines: Sequence[Mapping[str, Any]],
    truth: Mapping[int, Sequence[TruthBox]],
    local: Trajectory | None,
    base_frame: str,
    region: Region | None = None,
) -> tuple[list[TrackedFrame], int]:
    """The frames of a run from the lines of ``tracks.jsonl``, in the base frame at each stamp.

    ``local`` is the run's own local trajectory, which says where the base was in the tracks' frame.
    What lies outside ``region`` (x min, x max, y min, y max; m) does not count. The second answer
    is how many lines could not be used: without truth, or without a pose.
    """
    frames, unused = [], 0
    for line in sorted(lines, key=lambda record: int(record["stamp_ns"])):
        stamp = int(line["stamp_ns"])
        over_ground = line["frame_id"] != base_frame
        pose = pose_at(local, stamp) if over_ground and local is not None else None
        if stamp not in truth or (over_ground and pose is None):
            unused += 1
            continue
        move = RigidTransform.identity() if pose is None else pose.inverse()
        tracks = [_box(t, move, over_ground) for t in line["tracks"]]
        boxes = [b if _within(b.center, region) else b.uncounted() for b in truth[stamp]]
        inside = [t for t in tracks if _within(t.center, region)]
        frames.append(TrackedFrame(stamp, inside, boxes))
    return frames, unused


def _within(center: F64, region: Region | None) -> bool:
    if region is None:
        return True
    x0, x1, y0, y1 = region
    return bool(x0 <= center[0] < x1 and y0 <= center[1] < y1)


def _box(track: Mapping[str, Any], move: RigidTransform, over_ground: bool) -> TrackBox:
    velocity = move.rotation[:2, :2] @ np.array(track["velocity"], float)
    return TrackBox(
        int(track["id"]),
        str(track["class"]),
        float(track["score"]),
        move.apply(np.array(track["center"], float)),
        float(track["yaw"]) + move.yaw_rad(),
        velocity if over_ground else None,
    )


def table(scores: Mapping[str, Any]) -> str:
    """The scores as a small table."""
    columns = ("mota", "idf1", "amota", "id_switches", "false_positives", "misses", "objects")
    more = ("velocity_rmse_mps", "heading_median_rad")
    head = ("MOTA", "IDF1", "AMOTA", "switches", "false", "missed", "objects", "v RMSE", "heading")
    lines = [f"{'tracks':<14}" + "".join(f"{h:>10}" for h in head)]
    for name, row in (*scores["classes"].items(), ("all", scores["all"])):
        cells = [row.get(c) for c in (*columns, *more)]
        lines.append(f"{name:<14}" + "".join(f"{_cell(c):>10}" for c in cells))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
