"""The bench of deskewing: its peer is a fair one, its truth is true, its figures are all there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mm_fusion.bench import deskew, turn
from mm_fusion.cli.main import main
from mm_fusion.geometry import RigidTransform


def test_the_truth_is_a_circle_at_ninety_degrees_a_second() -> None:
    # A quarter turn in a second, on a circle as long as four seconds of driving.
    rotations, places = turn.base_at(np.array([0.0, 1.0, 2.0]))
    radius = 4.0 * turn.SPEED_MPS / (2.0 * np.pi)
    np.testing.assert_allclose(
        places, [[0, 0, 0], [radius, radius, 0], [0, 2 * radius, 0]], atol=1e-9
    )
    np.testing.assert_allclose(rotations[1] @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-12)


def test_a_sweep_is_measured_point_by_point_as_the_robot_turns() -> None:
    # GIVEN a wall point 20 m ahead at 0 s, seen once at the sweep's start, and once at its end
    world = np.tile([[20.0, 0.0, 0.0]], (2 * turn.BEAMS, 1))
    found = turn.sweep(world, RigidTransform.identity()).points
    # THEN at the end it is there, and 0.1 s before it was seen from 9 degrees to the right
    assert found["t"].tolist() == [0] * turn.BEAMS + [100_000_000] * turn.BEAMS
    np.testing.assert_allclose([found[a][-1] for a in "xyz"], [20.0, 0.0, 0.0], atol=1e-6)
    angle = np.degrees(np.arctan2(found["y"][0], found["x"][0]))
    assert angle == pytest.approx(9.0, abs=0.2)  # and half a metre further behind
    assert np.hypot(found["x"][0], found["y"][0]) == pytest.approx(20.5, abs=0.01)


@pytest.mark.parametrize("by_column", [False, True])
def test_the_usual_way_is_done_right(by_column: bool) -> None:
    world = turn.ring(2000, np.random.default_rng(0))
    place = RigidTransform.from_rpy((0.4, 0.1, 1.8), (0.01, -0.02, 0.5))
    sweep = turn.sweep(world, place)
    found = deskew.usual_way(sweep, place, turn.perfect_poses(), turn.T0_NS, by_column)
    assert np.linalg.norm(found - world, axis=1).max() < 0.001


def test_every_figure_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deskew, "SIZES", (2000, 4000))
    monkeypatch.setattr(deskew, "TRIALS", 1)
    assert main(["bench", "deskew", "--json", "--rounds", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    for size in ("2000", "4000"):
        part = told["deskew"][size]
        assert part["ratio"] > 1.0
        assert all(part[way]["cpu_ms"] > 0.0 for way in ("ours", "peer", "peer_by_column"))
    assert told["staging"]["2_lidars_of_120000"]["cpu_ms"] > 0.0
    errors = told["error_at_20m"]
    assert errors["raw"]["median_cm"] > 100.0
    for poses in ("poses_without_error_50hz", "poses_with_noise_50hz", "poses_of_the_pose_road"):
        assert errors["ours"][poses]["max_cm"] < 2.0
