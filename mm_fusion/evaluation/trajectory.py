"""Trajectory errors by evo: absolute (with and without alignment) and relative over a distance.

The true pose is interpolated at every estimate's own stamp first, so that a stamp's distance to
its neighbour is not counted as an error of the estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.truth import pose_at
from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]


def at_truth(estimate: Trajectory, truth: Trajectory) -> tuple[Trajectory, Trajectory]:
    """The estimates whose instant the truth covers, and the truth at exactly these instants."""
    kept, rows = [], []
    for i, stamp in enumerate(estimate.stamps_ns):
        pose = pose_at(truth, int(stamp))
        if pose is not None:
            kept.append(i)
            rows.append((int(stamp), pose.translation, pose.quaternion_xyzw()))
    picked = Trajectory(estimate.stamps_ns[kept], estimate.positions[kept], estimate.xyzw[kept])
    return picked, Trajectory.of(rows)


def evaluate_trajectory(
    estimate: Trajectory, truth: Trajectory, rpe_distance_m: float = 10.0
) -> dict[str, Any]:
    """Errors of an estimate in the truth's own frame.

    ``ate_m`` are statistics of the distance between estimated and true positions as they stand,
    ``ate_aligned_m`` after the rigid motion that fits them best (Umeyama, no scale),
    ``ate_horizontal_m`` without the height. ``rpe_m`` is the translational error of the motion
    over ``rpe_distance_m`` of true path. None where fewer than three poses have a truth, where
    all lie on one line (nothing tells the alignment), or where the path is shorter.
    """
    found, true = at_truth(estimate, truth)
    out: dict[str, Any] = {"poses": len(estimate), "poses_with_truth": len(found)}
    if len(found) < 3:
        return {
            **out,
            "ate_m": None,
            "ate_aligned_m": None,
            "ate_horizontal_m": None,
            "rpe_m": None,
            "rpe_distance_m": rpe_distance_m,
            "heading_rmse_rad": None,
        }
    return {
        **out,
        "ate_m": _ape(_evo(found), _evo(true)),
        "ate_aligned_m": _aligned_ape(_evo(found), _evo(true)),
        "ate_horizontal_m": statistics(
            np.linalg.norm((found.positions - true.positions)[:, :2], axis=1)
        ),
        "rpe_m": _rpe(_evo(found), _evo(true), rpe_distance_m),
        "rpe_distance_m": rpe_distance_m,
        "heading_rmse_rad": _heading_rmse(found, true),
    }


def relative_errors(
    estimate: Trajectory, truth: Trajectory, distances_m: Sequence[float]
) -> dict[str, dict[str, float] | None]:
    """Translational errors of the motion over each of these lengths of true path, by evo; None
    where the path is shorter.
    """
    found, true = at_truth(estimate, truth)
    if len(found) < 3:
        return {f"{d:g}": None for d in distances_m}
    return {f"{d:g}": _rpe(_evo(found), _evo(true), d) for d in distances_m}


def laid_onto(estimate: Trajectory, reference: Trajectory) -> Trajectory:
    """The estimate after the rigid motion that brings it nearest to a reference (Umeyama).

    For pictures: the odometry frame starts anywhere. As it stands where the two share no time.
    """
    from evo.core.geometry import GeometryException, umeyama_alignment

    found, true = at_truth(estimate, reference)
    if len(found) < 3:
        return estimate
    try:
        rotation, translation, _ = umeyama_alignment(found.positions.T, true.positions.T)
    except GeometryException:  # no motion, no direction
        return estimate
    moved = estimate.positions @ rotation.T + translation
    return Trajectory(estimate.stamps_ns, moved, estimate.xyzw)


def statistics(errors: F64) -> dict[str, float]:
    """RMSE, mean, median and maximum of absolute errors [N]."""
    return {
        "rmse": round(float(np.sqrt(np.mean(errors**2))), 5),
        "mean": round(float(np.mean(errors)), 5),
        "median": round(float(np.median(errors)), 5),
        "max": round(float(np.max(errors)), 5),
    }


def _evo(trajectory: Trajectory) -> Any:
    # evo is slow to import and only wanted here.
    from evo.core.trajectory import PoseTrajectory3D

    xyzw = trajectory.xyzw
    return PoseTrajectory3D(
        positions_xyz=trajectory.positions.copy(),
        orientations_quat_wxyz=np.roll(xyzw, 1, axis=1),
        timestamps=(trajectory.stamps_ns - trajectory.stamps_ns[0]) / NS_PER_S,
    )


def _ape(estimate: Any, truth: Any) -> dict[str, float]:
    from evo.core import metrics

    ape = metrics.APE(metrics.PoseRelation.translation_part)
    ape.process_data((truth, estimate))
    return statistics(np.asarray(ape.error, dtype=np.float64))


def _aligned_ape(estimate: Any, truth: Any) -> dict[str, float] | None:
    from evo.core.geometry import GeometryException

    try:
        estimate.align(truth, correct_scale=False)
    except GeometryException:
        return None
    return _ape(estimate, truth)


def _rpe(estimate: Any, truth: Any, distance_m: float) -> dict[str, float] | None:
    from evo.core import filters, metrics

    rpe = metrics.RPE(
        metrics.PoseRelation.translation_part,
        delta=distance_m,
        delta_unit=metrics.Unit.meters,
        rel_delta_tol=0.1,
        all_pairs=False,
        pairs_from_reference=True,
    )
    try:
        rpe.process_data((truth, estimate))
    except filters.FilterException:  # the drive is shorter than the distance
        return None
    return statistics(np.asarray(rpe.error, dtype=np.float64))


def _heading_rmse(estimate: Trajectory, truth: Trajectory) -> float:
    error = _yaw(estimate.xyzw) - _yaw(truth.xyzw)
    wrapped = np.arctan2(np.sin(error), np.cos(error))
    return round(math.sqrt(float(np.mean(wrapped**2))), 6)


def _yaw(xyzw: F64) -> F64:
    x, y, z, w = xyzw.T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
