"""A run's files against the truth of a bag: the scores of both roads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mm_fusion import config as configuration
from mm_fusion import wire
from mm_fusion.errors import BagError
from mm_fusion.evaluation import records
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.calibrating import calibration_of
from mm_fusion.evaluation.detection import Region, common_stamps, evaluate_detections
from mm_fusion.evaluation.pose_scores import read_pose_run, score
from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.topics import find_inputs
from mm_fusion.evaluation.tracking import evaluate_tracks, frames_of
from mm_fusion.evaluation.trajectory import evaluate_trajectory, statistics
from mm_fusion.evaluation.truth import Truth, pose_at, read_truth
from mm_fusion.geodesy import LocalTangentPlane
from mm_fusion.samples import GnssFix


def evaluate_run(directory: Path, bag: Path, tracks: bool = False) -> dict[str, Any]:
    """Score a run's directory against a bag that carries the truth; its ``tracks`` as well, if
    wanted, which takes longer.

    Writes ``evaluation.json`` and puts ``map``, ``pose_rmse_m`` and ``gps_rmse_m`` into the
    run's ``summary.json``. Raises RecordError where the directory is no run's, BagError where
    the bag carries no truth.
    """
    summary = records.read_summary(directory)
    with Bag(bag) as opened:
        truth = read_truth(opened)
        if not truth.objects and truth.trajectory is None:
            raise BagError(
                f"{bag}: carries no truth: neither truth/objects nor truth/odometry is in it"
            )
        raw = _gps(opened, truth, summary)
    scores = {
        "detection": _detection(directory, truth, _region(summary)),
        "pose": _pose(directory, truth, summary),
        "gps": raw,
    }
    if tracks:
        scores["tracking"] = _tracking(directory, truth, summary)
    (directory / records.EVALUATION).write_text(
        json.dumps(scores, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    records.write_summary(directory, {**summary, **headline(scores)})
    return scores


def evaluate_pose(directory: Path, bag: Path | None) -> dict[str, Any]:
    """Score a run's pose, with the truth of ``bag`` or without any; writes
    ``pose_evaluation.json`` and ``pose.png`` beside it. Raises RecordError where the directory is
    no run's or has no pose, BagError where the bag carries no true poses.
    """
    truth = None
    if bag is not None:
        with Bag(bag) as opened:
            known = read_truth(opened)
        if known.trajectory is None:
            raise BagError(f"{bag}: carries no truth/odometry")
        truth = _in_run_frame(known, records.read_summary(directory))
    run = read_pose_run(directory, truth)
    scores = score(run)
    (directory / records.POSE_EVALUATION).write_text(
        json.dumps(scores, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    from mm_fusion.evaluation.figures import png
    from mm_fusion.evaluation.pose_picture import pose_picture

    (directory / records.POSE_PICTURE).write_bytes(png(pose_picture(run)))
    return scores


def _in_run_frame(truth: Truth, summary: Mapping[str, Any]) -> Trajectory | None:
    """The true poses, moved to ENU about the run's own datum."""
    datum = summary.get("datum")
    if truth.trajectory is None or truth.datum is None or datum is None:
        return truth.trajectory
    own = LocalTangentPlane(datum["lat"], datum["lon"], datum["alt"])
    true = LocalTangentPlane(*truth.datum)
    moved = [own.to_enu(*true.to_geodetic(p)) for p in truth.trajectory.positions]
    return Trajectory(
        truth.trajectory.stamps_ns, np.array(moved).reshape(-1, 3), truth.trajectory.xyzw
    )


def headline(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an evaluation that belong into ``summary.json``."""
    out: dict[str, Any] = {}
    if scores["detection"]:
        runs = ("fused", *records.SINGLE)
        out["map"] = {r: scores["detection"].get(r, {}).get("mean_ap") for r in runs}
    estimate = (scores["pose"] or {}).get("global")
    if estimate and estimate["ate_m"]:
        out["pose_rmse_m"] = estimate["ate_m"]["rmse"]
        out["pose_rmse_horizontal_m"] = estimate["ate_horizontal_m"]["rmse"]
    if scores["gps"]:
        out["gps_rmse_m"] = scores["gps"]["ate_m"]["rmse"]
        out["gps_rmse_horizontal_m"] = scores["gps"]["ate_horizontal_m"]["rmse"]
    return out


# ----------------------------------------------------------------------------- detection


def _region(summary: Mapping[str, Any]) -> Region | None:
    """What the network looks at; objects elsewhere cannot be asked of it."""
    range_m = (summary.get("network") or {}).get("range_m")
    if not range_m:
        return None
    return (*map(float, range_m["x"]), *map(float, range_m["y"]))  # type: ignore[return-value]


def _detection(directory: Path, truth: Truth, region: Region | None) -> dict[str, Any] | None:
    """Scores of the fused run and of those with one input, on the sets that all answered."""
    if not truth.objects or not (directory / records.DETECTIONS).is_file():
        return None
    runs = {"fused": records.read_lines(directory / records.DETECTIONS)}
    for kept, folder in records.SINGLE.items():
        path = directory / folder / records.DETECTIONS
        if path.is_file():
            runs[kept] = records.read_lines(path)
    if not runs["fused"]:
        return None
    common = common_stamps(list(runs.values()), truth.objects)
    return {
        name: evaluate_detections(lines, truth.objects, region, only_ns=common)
        for name, lines in runs.items()
    }


def _tracking(directory: Path, truth: Truth, summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Scores of the fused run's tracks."""
    if not truth.objects:
        return None
    lines = records.read_lines(directory / records.TRACKS, "tracks")
    path = directory / records.POSE_LOCAL
    local = records.read_tum(path) if path.is_file() else None
    base = configuration.from_values(_parameters(summary)).frames.base
    frames, unused = frames_of(lines, truth.objects, local, base, _region(summary))
    return {"unused_lines": unused, **evaluate_tracks(frames)}


# ---------------------------------------------------------------------------------- pose


def _pose(directory: Path, truth: Truth, summary: Mapping[str, Any]) -> dict[str, Any] | None:
    if truth.trajectory is None:
        return None
    out: dict[str, Any] = {"global": None, "local": None}
    estimate = in_truth_frame(directory, truth, summary)
    if estimate is not None and len(estimate):
        out["global"] = evaluate_trajectory(estimate, truth.trajectory)
    if (directory / records.POSE_LOCAL).is_file():
        local = records.read_tum(directory / records.POSE_LOCAL)
        if len(local):
            # The odometry frame starts anywhere: only what is aligned means something.
            scores = evaluate_trajectory(local, truth.trajectory)
            out["local"] = {
                k: scores[k] for k in ("poses", "ate_aligned_m", "rpe_m", "rpe_distance_m")
            }
    return out


def in_truth_frame(
    directory: Path, truth: Truth, summary: Mapping[str, Any], name: str = records.POSE
) -> Trajectory | None:
    """A trajectory of the run, moved from ENU about its own datum to ENU about the truth's."""
    path = directory / name
    if not path.is_file():
        return None
    estimate = records.read_tum(path)
    datum = summary.get("datum")
    if truth.datum is None or datum is None:
        return estimate
    own = LocalTangentPlane(datum["lat"], datum["lon"], datum["alt"])
    true = LocalTangentPlane(*truth.datum)
    moved = [true.to_enu(*own.to_geodetic(p)) for p in estimate.positions]
    # The axes of two planes a few kilometres apart differ by less than a milliradian.
    return Trajectory(estimate.stamps_ns, np.array(moved).reshape(-1, 3), estimate.xyzw)


def _gps(bag: Bag, truth: Truth, summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Errors of the raw fixes against where the antenna truly was."""
    if truth.trajectory is None or truth.datum is None:
        return None
    config = configuration.from_values(_parameters(summary))
    inputs = find_inputs(bag.topics, config, str(bag.path))
    if inputs.gps is None:
        return None
    calibration = calibration_of(bag, inputs, config)
    plane = LocalTangentPlane(*truth.datum)
    errors = []
    for message in bag.messages([inputs.gps.name]):
        fix = wire.decode(message.msgtype, message.raw, "gps")
        if not isinstance(fix, GnssFix) or fix.status < 0:
            continue
        base = pose_at(truth.trajectory, fix.stamp_ns)
        if base is None:
            continue
        lever = calibration.base_from(fix.frame_id)
        antenna = base.apply(lever.translation if lever else np.zeros(3))
        errors.append(plane.to_enu(fix.latitude_deg, fix.longitude_deg, fix.altitude_m) - antenna)
    if not errors:
        return None
    all_errors = np.array(errors)
    return {
        "fixes": len(errors),
        "ate_m": statistics(np.linalg.norm(all_errors, axis=1)),
        "ate_horizontal_m": statistics(np.linalg.norm(all_errors[:, :2], axis=1)),
    }


def _parameters(summary: Mapping[str, Any]) -> dict[str, Any]:
    return dict(summary.get("parameters") or {})
