"""The LIDAR against geometry worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from support.cubes import CUBE

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.devices import beam_table
from mm_fusion.sim.lidar import LidarSpec, sweep

SPEC = LidarSpec(
    np.deg2rad(np.linspace(-20, 2, 24)),
    720,
    RigidTransform.from_rpy((0.4, 0.1, 1.8), (0.01, -0.02, 0.03)),
    range_sigma_m=0.0,
    dropout=0.0,
    min_range_m=0.5,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def slab_range(origin: np.ndarray, ray: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """Range at which rays [N,3] from one origin enter an axis-aligned box, inf where they miss."""
    with np.errstate(divide="ignore"):
        a, b = (np.asarray(low) - origin) / ray, (np.asarray(high) - origin) / ray
    near, far = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
    return np.where((near < far) & (near > 0), near, np.inf)


def test_ranges_are_those_of_plane_and_box(bare_world: Any) -> None:
    world = bare_world(cubes=[(12.0, 3.0, 0.0)])
    found = sweep(world, SPEC, 1.0, rng())
    pose = world.pose(1.0) @ SPEC.base_from_lidar
    measured = np.linalg.norm(found.points, axis=1)
    ray = (found.points / measured[:, None]) @ pose.rotation.T
    half = np.array(CUBE) / 2
    middle = np.array([12.0, 3.0, half[2]])
    to_box = slab_range(pose.translation, ray, middle - half, middle + half)
    to_plane = np.where(ray[:, 2] < 0, -pose.translation[2] / np.minimum(ray[:, 2], -1e-9), np.inf)
    expected = np.minimum(to_box, to_plane)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(measured, expected, atol=2e-3)
    on_box = to_box < to_plane
    assert on_box.sum() > 50
    np.testing.assert_array_equal(found.object_id == 0, on_box)


def test_noise_is_along_the_ray_and_as_large_as_said(bare_world: Any) -> None:
    world = bare_world(walls=[((20.0, 0.0, 5.0), (0.2, 60.0, 10.0))])
    noisy = dataclasses.replace(SPEC, range_sigma_m=0.03, base_from_lidar=RigidTransform.identity())
    mount = RigidTransform.from_rpy((0, 0, 1.8), (0, 0, 0))
    noisy = dataclasses.replace(noisy, base_from_lidar=mount)
    found = sweep(world, noisy, 1.0, rng())
    azimuth = np.arctan2(found.points[:, 1], found.points[:, 0])
    ahead = (np.abs(azimuth) < 0.2) & (found.ring >= 20)
    ray = found.points[ahead] / np.linalg.norm(found.points[ahead], axis=1, keepdims=True)
    error = np.linalg.norm(found.points[ahead], axis=1) - 19.9 / ray[:, 0]
    assert error.std() == pytest.approx(0.03, rel=0.15)
    assert abs(error.mean()) < 0.01


def test_what_stands_behind_a_wall_is_not_hit(bare_world: Any) -> None:
    hidden = bare_world(cubes=[(15.0, 0.0, 0.0)], walls=[((8.0, 0.0, 2.5), (0.2, 12.0, 5.0))])
    free = bare_world(cubes=[(15.0, 0.0, 0.0)])
    assert (sweep(hidden, SPEC, 1.0, rng()).object_id == 0).sum() == 0
    assert (sweep(free, SPEC, 1.0, rng()).object_id == 0).sum() > 30


def test_the_sweep_turns_clockwise_and_ends_at_the_stamp(bare_world: Any) -> None:
    found = sweep(bare_world(), SPEC, 1.0, rng())
    assert found.seconds.max() == 0.0
    assert -0.1 < found.seconds.min() < -0.099
    flat = np.abs(found.points[:, 2]) > 0  # every point
    azimuth = np.arctan2(found.points[flat, 1], found.points[flat, 0])
    expected = np.pi - (found.seconds[flat] + 0.1) / 0.1 * 2 * np.pi + 2 * np.pi / 720
    difference = (azimuth - expected + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(difference).max() < 1e-3


def test_a_moving_vehicle_bends_a_wall_and_its_own_motion_straightens_it(bare_world: Any) -> None:
    world = bare_world(walls=[((0.0, 12.0, 3.0), (260.0, 0.2, 6.0))], speed_ms=15.0)
    post = bare_world(walls=[((30.0, 0.0, 3.0), (0.2, 40.0, 6.0))], speed_ms=15.0)
    level = dataclasses.replace(
        SPEC, base_from_lidar=RigidTransform.from_rpy((0, 0, 1.8), (0, 0, 0)), columns=1440
    )
    for case in (world, post):
        found = sweep(case, level, 1.5, rng())
        assert len(found.points) > 1000
    found = sweep(post, level, 1.5, rng())
    ahead = (found.ring == 22) & (found.points[:, 0] > 3) & (np.abs(found.points[:, 1]) < 10)
    points, seconds = found.points[ahead], found.seconds[ahead]
    assert np.ptp(points[:, 0]) > 0.3  # the vehicle went on while the beam crossed the wall
    place = case_position(post, 1.5 + seconds)
    assert np.ptp(points[:, 0] + place) < 0.01


def case_position(world: Any, times: np.ndarray) -> np.ndarray:
    return world.ego.position(times.astype(float))[:, 0]


def test_movers_are_met_where_they_are_at_the_beams_instant(bare_world: Any) -> None:
    # it drives past on the left at 12 m/s: its flank is at y = 5 all the time, its nose moves
    world = bare_world(movers=[(2.0, 6.0, 12.0, 0.0)])
    found = sweep(world, SPEC, 1.0, rng())
    on = found.object_id == 0
    points = SPEC.base_from_lidar.apply(found.points[on].astype(float))
    nose = 2.0 + 12.0 * (1.0 + found.seconds[on]) + CUBE[0] / 2
    assert on.sum() > 30
    assert (points[:, 0] <= nose + 0.06).all()
    assert (points[:, 0] >= nose - CUBE[0] - 0.06).all()
    assert points[:, 1].min() == pytest.approx(5.0, abs=0.01)


def test_weak_returns_fade_with_range(bare_world: Any) -> None:
    weak = dataclasses.replace(SPEC, strength=2.0)
    found = sweep(bare_world(), weak, 1.0, rng())
    strong = sweep(bare_world(), dataclasses.replace(SPEC, strength=1e-4), 1.0, rng())
    share = [
        ((r := np.linalg.norm(f.points, axis=1)) > 25).sum() / max((r < 10).sum(), 1)
        for f in (found, strong)
    ]
    assert share[0] < 0.6 * share[1]
    assert found.intensity.min() >= 0.0
    assert found.intensity.max() <= 1.0


@pytest.mark.parametrize("name", ["16", "32", "32u", "64", "64u", "128"])
def test_beam_tables_rise(name: str) -> None:
    table = beam_table(name)
    assert len(table) == int(name.rstrip("u"))
    assert (np.diff(table) > 0).all()


def test_the_same_seed_gives_the_same_sweep(town_world: Any) -> None:
    a, b = sweep(town_world, SPEC, 4.0, rng(3)), sweep(town_world, SPEC, 4.0, rng(3))
    np.testing.assert_array_equal(a.points, b.points)
    assert not np.array_equal(a.intensity[:50], sweep(town_world, SPEC, 4.0, rng(4)).intensity[:50])
