"""Trajectory errors against motions whose error is known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.trajectory import at_truth, evaluate_trajectory
from mm_fusion.evaluation.truth import TruthBox, pose_at, with_velocities

S = 1_000_000_000


def circle(stamps_s: np.ndarray, shift=(0.0, 0.0, 0.0), start_ns: int = 0) -> Trajectory:
    """A circle of 20 m radius at 5 m/s, heading along it."""
    angle = stamps_s * 5.0 / 20.0
    places = np.stack([20 * np.sin(angle), 20 - 20 * np.cos(angle), 0 * angle], axis=1)
    quats = Rotation.from_rotvec(np.stack([0 * angle, 0 * angle, angle], axis=1)).as_quat()
    stamps = start_ns + np.round(stamps_s * S).astype(np.int64)
    return Trajectory(stamps, places + np.array(shift), quats)


def test_shifted_by_a_constant() -> None:
    times = np.arange(0, 20, 0.1)
    truth = circle(times)
    scores = evaluate_trajectory(circle(times, shift=(3.0, 4.0, 12.0)), truth)
    assert scores["ate_m"]["rmse"] == pytest.approx(13.0)
    assert scores["ate_horizontal_m"]["rmse"] == pytest.approx(5.0)
    assert scores["ate_aligned_m"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert scores["rpe_m"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert scores["heading_rmse_rad"] == pytest.approx(0.0, abs=1e-6)


def test_rmse_of_alternating_errors() -> None:
    times = np.arange(0, 20, 0.1)
    estimate = circle(times)
    estimate.positions[::2, 2] += 1.0
    scores = evaluate_trajectory(estimate, circle(times))
    assert scores["ate_m"]["rmse"] == pytest.approx(np.sqrt(0.5), abs=1e-5)
    assert scores["ate_m"]["mean"] == pytest.approx(0.5)
    assert scores["ate_m"]["max"] == pytest.approx(1.0)


def test_truth_is_interpolated_at_the_estimates_stamps() -> None:
    truth = circle(np.arange(0, 20, 0.02), start_ns=1_700_000_000 * S)
    late = circle(np.arange(0.01, 19, 0.1), start_ns=1_700_000_000 * S)  # between the truth's
    # At 5 m/s, taking the nearest truth would cost 5 cm; the sagitta of 0.1 m on 20 m is 0.06 mm.
    assert evaluate_trajectory(late, truth)["ate_m"]["max"] < 1e-3


def test_poses_outside_the_truth_do_not_count() -> None:
    truth = circle(np.arange(5, 10, 0.1))
    scores = evaluate_trajectory(circle(np.arange(0, 20, 0.1)), truth)
    assert scores["poses"] == 200
    assert scores["poses_with_truth"] == 50


def test_without_common_time_there_is_no_score() -> None:
    scores = evaluate_trajectory(circle(np.arange(0, 2, 0.1)), circle(np.arange(50, 52, 0.1)))
    assert scores["ate_m"] is None


def test_a_drive_shorter_than_the_distance_has_no_relative_error() -> None:
    times = np.arange(0, 1, 0.1)
    scores = evaluate_trajectory(circle(times), circle(times))
    assert scores["rpe_m"] is None
    assert scores["ate_m"]["rmse"] == pytest.approx(0.0, abs=1e-6)


def test_drift_shows_in_the_relative_error() -> None:
    # Scaled by 1.02, every 10 m of path come out 2 % too long.
    times = np.arange(0, 20, 0.05)
    estimate = circle(times)
    estimate.positions[:] *= 1.02
    assert evaluate_trajectory(estimate, circle(times))["rpe_m"]["mean"] == pytest.approx(
        0.2, rel=0.1
    )


def test_heading_error_wraps() -> None:
    times = np.arange(0, 20, 0.1)
    truth = circle(times)
    turned = Rotation.from_euler("z", 0.1) * Rotation.from_quat(truth.xyzw)
    estimate = Trajectory(truth.stamps_ns, truth.positions, turned.as_quat())
    assert evaluate_trajectory(estimate, truth)["heading_rmse_rad"] == pytest.approx(0.1, abs=1e-5)


def test_pose_at_respects_gaps() -> None:
    truth = circle(np.array([0.0, 0.1, 5.0, 5.1]))
    assert pose_at(truth, 50_000_000) is not None
    assert pose_at(truth, 2 * S) is None
    assert pose_at(truth, -1) is None
    assert pose_at(truth, 6 * S) is None
    found, _ = at_truth(circle(np.array([0.05, 2.0, 5.05])), truth)
    assert found.stamps_ns.tolist() == [50_000_000, 5_050_000_000]


def test_true_velocity_is_over_ground_in_the_bases_axes() -> None:
    # The base drives north (yaw 90 deg) at 5 m/s; a car 10 m ahead drives west at 2 m/s.
    stamps = [0, 100_000_000, 200_000_000]
    north = Rotation.from_euler("z", np.pi / 2).as_quat()
    base = Trajectory.of([(s, [0.0, 5.0 * s / S, 0.0], north) for s in stamps])
    objects = {}
    for stamp in stamps:
        t = stamp / S
        # In the map the car is at (-2 t, 10); the base at (0, 5 t) looks along +y.
        center = np.array([10.0 - 5.0 * t, 2.0 * t, 0.0])
        objects[stamp] = [TruthBox("7", "car", center, np.ones(3), 0.0)]
    for boxes in with_velocities(objects, base).values():
        np.testing.assert_allclose(boxes[0].velocity, [0.0, 2.0], atol=1e-9)
