"""The town: streets free of houses, objects in their boxes, traffic that does not collide."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from mm_fusion.sim.furnishing import build_town
from mm_fusion.sim.layout import Layout, Path
from mm_fusion.sim.materials import MaterialTable
from mm_fusion.sim.mesh import Mesh
from mm_fusion.sim.models import CAR, CYCLIST, PEDESTRIAN
from mm_fusion.sim.people import PeopleFactory
from mm_fusion.sim.roadside import RoadsideFactory
from mm_fusion.sim.scenery import SceneryFactory
from mm_fusion.sim.vehicles import CarFactory
from mm_fusion.sim.world import World


@pytest.mark.parametrize("seed", range(3))
def test_models_fill_their_boxes(seed: int) -> None:
    table, rng = MaterialTable(), np.random.default_rng(seed)
    cars, people = CarFactory(table, rng), PeopleFactory(table, rng)
    for make in (cars.make, people.pedestrian, people.cyclist):
        model = make()
        points = np.concatenate([m.vertices for m in model.meshes])
        low, high = points.min(axis=0), points.max(axis=0)
        length, width, height = model.size
        mirrors = 0.15 if model.label == CAR else 1e-6  # a car's mirrors do not count
        assert high[2] == pytest.approx(height, abs=0.02)
        assert -0.05 < low[2] < 0.1
        assert max(high[0], -low[0]) == pytest.approx(length / 2, abs=0.03)
        assert width / 2 - 0.01 < max(high[1], -low[1]) <= width / 2 + mirrors


def test_people_are_of_human_size() -> None:
    people = PeopleFactory(MaterialTable(), np.random.default_rng(0))
    sizes = np.array([people.pedestrian().size for _ in range(20)])
    assert (sizes[:, 2] > 1.05).all()
    assert (sizes[:, 2] < 2.2).all()  # an umbrella counts
    assert 0.4 < sizes[:, 1].mean() < 0.9
    riders = np.array([people.cyclist().size for _ in range(5)])
    assert (riders[:, 0] > 1.6).all()


def test_a_walker_strides() -> None:
    model = PeopleFactory(MaterialTable(), np.random.default_rng(0)).pedestrian()
    widths = [np.ptp(m.vertices[:, 0]) for m in model.meshes]
    assert max(widths) > 1.3 * min(widths)
    assert model.mesh_at(0.0) is model.mesh_at(model.stride_m)
    assert model.mesh_at(0.0) is not model.mesh_at(0.5 * model.stride_m)


@pytest.mark.parametrize("seed", range(4))
def test_lane_routes_stay_on_the_streets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = Layout(rng, 110.0)
    plan = layout.lane_route(rng, turns=5, length_m=250.0)
    assert np.linalg.norm(np.diff(plan, axis=0), axis=1).max() < 0.51
    for block in layout.blocks:
        (x0, x1), (y0, y1) = block.x, block.y
        inside = (plan[:, 0] > x0) & (plan[:, 0] < x1) & (plan[:, 1] > y0) & (plan[:, 1] < y1)
        # only across a corner, which the kerb rounds off with a radius of 4.5 m
        corner = np.min(
            [np.hypot(plan[:, 0] - x, plan[:, 1] - y) for x in block.x for y in block.y], axis=0
        )
        assert (corner[inside] < 1.9).all()


def test_traffic_keeps_to_the_right() -> None:
    rng = np.random.default_rng(3)
    layout = Layout(rng, 110.0)
    plan = layout.lane_route(rng, turns=0, length_m=150.0)
    direction = (plan[-1] - plan[0]) / np.linalg.norm(plan[-1] - plan[0])
    right = np.array([direction[1], -direction[0]])
    streets = layout.rows if abs(direction[0]) > 0.5 else layout.columns
    axis = 1 if abs(direction[0]) > 0.5 else 0
    nearest = min((s.middle_m for s in streets), key=lambda m: abs(m - plan[5, axis]))
    assert (plan[5, axis] - nearest) * right[axis] > 1.0


def test_paths_do_not_jump() -> None:
    rng = np.random.default_rng(8)
    layout = Layout(rng, 110.0)
    path = Path(layout, layout.lane_route(rng, 4, 250.0), on_road=True)
    assert np.abs(path.curvature).max() < 0.35  # a car can turn that tightly
    points, yaw = path.at(np.array([10.0, 10.1]))
    assert np.linalg.norm(points[1] - points[0]) == pytest.approx(0.1, abs=0.01)
    assert abs(yaw[1] - yaw[0]) < 0.05


def footprint(center: np.ndarray, size: np.ndarray, yaw: float) -> np.ndarray:
    """Points over a box's ground area."""
    u = np.linspace(-0.45, 0.45, 9)
    local = np.stack(np.meshgrid(u * size[0], u * size[1]), -1).reshape(-1, 2)
    c, s = np.cos(yaw), np.sin(yaw)
    return center[:2] + local @ np.array([[c, s], [-s, c]])


def test_nobody_drives_through_anybody(town_world: World) -> None:
    first = len(town_world.town.standing)
    for t in np.arange(0.5, 9.5, 1.5):
        states = town_world.objects(float(t))
        for k in np.flatnonzero(states.ids >= first):
            points = footprint(states.center[k], states.size[k], states.yaw[k])
            for j in np.flatnonzero(states.ids != states.ids[k]):
                local = points - states.center[j, :2]
                c, s = np.cos(states.yaw[j]), np.sin(states.yaw[j])
                x, y = local @ [c, s], local @ [-s, c]
                half = 0.5 * 0.9 * states.size[j]
                assert not ((np.abs(x) < half[0]) & (np.abs(y) < half[1])).any()


def test_the_ego_vehicle_touches_nobody(town_world: World) -> None:
    for t in np.arange(0.5, 9.5, 0.5):
        states = town_world.objects_in_base(float(t))
        for k in range(len(states.ids)):
            points = footprint(states.center[k], states.size[k], states.yaw[k])
            assert not ((np.abs(points[:, 0]) < 2.0) & (np.abs(points[:, 1]) < 0.75)).any()


def test_velocities_are_the_boxes_motion(town_world: World) -> None:
    a, b = town_world.objects(4.0), town_world.objects(4.2)
    common, ia, ib = np.intersect1d(a.ids, b.ids, return_indices=True)
    moved = (b.center[ib, :2] - a.center[ia, :2]) / 0.2
    mean = (a.velocity[ia] + b.velocity[ib]) / 2
    assert len(common) > 10
    assert np.linalg.norm(mean, axis=1).max() > 0.5
    np.testing.assert_allclose(moved, mean, atol=0.35)


def test_boxes_in_the_base_frame_are_the_worlds(town_world: World) -> None:
    world, base = town_world.objects(5.0), town_world.objects_in_base(5.0)
    pose = town_world.pose(5.0)
    np.testing.assert_allclose(pose.apply(base.center), world.center, atol=1e-9)
    heading = np.stack([np.cos(base.yaw), np.sin(base.yaw), np.zeros(len(base.yaw))], axis=1)
    expected = np.stack([np.cos(world.yaw), np.sin(world.yaw)], axis=1)
    np.testing.assert_allclose((heading @ pose.rotation.T)[:, :2], expected, atol=0.05)


def test_all_classes_are_there(town_world: World) -> None:
    labels = set(town_world.objects(2.0).labels.tolist())
    assert labels == {CAR, PEDESTRIAN, CYCLIST}


@pytest.mark.parametrize("seed", range(3))
def test_what_grows_beside_a_country_road_leaves_the_road_free(seed: int) -> None:
    """GIVEN a town that is open country for a good part, THEN nothing stands where vehicles
    drive, AND much stands beside it."""
    town = build_town(np.random.default_rng(seed), 80.0, slope=0.0, country=1.0)
    assert town.style.country > 0
    plan = town.layout.lane_route(np.random.default_rng(seed), turns=2, length_m=150.0)
    lane = town.layout.warp(plan)
    standing = np.concatenate([m.vertices for m in town.scenery[town.ground :]])
    away, _ = cKDTree(lane).query(standing[:, :2])
    low = (standing[:, 2] > 0.4) & (standing[:, 2] < 2.5)
    assert away[low].min() > 1.0
    assert np.count_nonzero(away[low] < 12.0) > 1000


def test_a_town_is_the_same_whether_it_might_have_been_country_or_not() -> None:
    """GIVEN a seed whose draw keeps it a town, THEN nothing of it has changed."""
    for seed in range(20):
        maybe = build_town(np.random.default_rng(seed), 60.0, country=0.5)
        if maybe.style.country == 0.0:
            break
    town = build_town(np.random.default_rng(seed), 60.0)
    assert len(maybe.scenery) == len(town.scenery)
    assert all(
        np.array_equal(a.vertices, b.vertices)
        for a, b in zip(maybe.scenery, town.scenery, strict=True)
    )


def test_a_guard_rail_is_as_long_and_as_high_as_it_should_be() -> None:
    table, rng = MaterialTable(), np.random.default_rng(3)
    make = RoadsideFactory(table, rng, SceneryFactory(table, rng), PeopleFactory(table, rng))
    for _ in range(10):
        low, high = _extent(make.guard_rail(20.0))
        assert high[0] - low[0] == pytest.approx(20.0, abs=0.2)
        assert 0.55 < high[2] < 1.3
    low, high = _extent(make.bicycles())
    assert high[2] < 1.3


def _extent(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    return mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
