"""Things that are easily taken for people: they are there, both sensors see them, and nobody and
nothing is in them."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.sim import decoys, frames
from mm_fusion.sim.camera import render
from mm_fusion.sim.companions import companions
from mm_fusion.sim.lidar import sweep
from mm_fusion.sim.materials import MaterialTable
from mm_fusion.sim.models import CYCLIST, PEDESTRIAN
from mm_fusion.sim.people import PeopleFactory
from mm_fusion.sim.rigs import Wanted, random_rig
from mm_fusion.sim.scenery import SceneryFactory
from mm_fusion.sim.shopfronts import ShopfrontFactory
from mm_fusion.sim.traffic import Demand, footprint, footprint_radius
from mm_fusion.sim.world import World, build_world

LOW_M = 2.3
DEMAND = Demand(8, 6, 10, 7.0)
GROUPS = {"cafe": ("cafe_table", "chair"), "bench": ("seat",)}


def built(seed: int, density: float | None = 0.4, named: bool = False) -> World:
    rng = np.random.default_rng(seed)
    return build_world(rng, 70.0, 10.0, DEMAND, named_scenery=named, decoys=density)


@pytest.fixture(scope="module")
def crowded() -> World:
    return built(5, 0.6)


def kinds() -> list[str]:
    named = {kind for shares in decoys._KINDS.values() for kind in shares}
    return sorted({part for kind in named for part in GROUPS.get(kind, (kind,))})


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_is_as_high_and_as_thin_as_it_should_be(kind: str) -> None:
    table, rng = MaterialTable(), np.random.default_rng(1)
    scenery = SceneryFactory(table, rng)
    make = ShopfrontFactory(table, rng, scenery, PeopleFactory(table, rng))
    for _ in range(6):
        mesh = getattr(make, kind)()
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        assert -0.25 < low[2] < 0.15, "it stands on the ground"
        assert 0.3 < high[2] < 8.0
        waist = mesh.vertices[mesh.vertices[:, 2] < LOW_M, :2]
        narrow = np.ptp(waist, axis=0).min()
        assert narrow < 1.35
        assert (mesh.materials < len(table.arrays().albedo)).all()


def test_they_are_at_least_as_frequent_as_people() -> None:
    """WHEN counting within 40 m of the ego vehicle, as densities come by chance."""
    things = people = 0
    for seed in range(4):
        world = built(seed, None)
        here = world.ego.position(5.0)
        at = np.array([d.position for d in world.town.decoys]).reshape(-1, 3)
        things += int((np.linalg.norm(at - here, axis=1) < 40.0).sum())
        found = world.objects(5.0)
        near = np.linalg.norm(found.center - here, axis=1) < 40.0
        people += int((near & (found.labels == PEDESTRIAN)).sum())
    assert things >= people > 0


def test_without_them_all_else_is_the_same() -> None:
    """GIVEN the same seed, THEN what stood and moved before they were put up stands and moves."""
    bare, full = built(3, 0.0), built(3, 0.6)
    assert not bare.town.decoys
    assert len(full.town.decoys) > 20
    assert len(full.town.scenery) == len(bare.town.scenery) + len(full.town.decoys)
    for a, b in zip(bare.town.scenery, full.town.scenery, strict=False):
        np.testing.assert_array_equal(a.vertices, b.vertices)
    for one, two in zip(bare.town.standing, full.town.standing, strict=False):
        np.testing.assert_array_equal(one.position, two.position)
    assert len(bare.movers) == len(full.movers)
    for mover, same in zip(bare.movers, full.movers, strict=True):
        np.testing.assert_array_equal(mover.way_m, same.way_m)


# ------------------------------------------------------------------------------ sensors


def test_both_sensors_see_them_and_no_class_is_theirs() -> None:
    """GIVEN two copies of a world, one whose rays say which thing they met, THEN points and pixels
    fall on decoys, no object has them, and the image's classes have nothing there."""
    named, plain = built(5, 0.6, named=True), built(5, 0.6)
    meshes = np.array([-2 - d.mesh for d in named.town.decoys])
    rig = random_rig(np.random.default_rng(1), Wanted("hdl64e", "dry", False))
    points, told = 0, 0
    for t in (2.0, 5.0, 8.0):
        seen = sweep(named, rig.lidar, t, np.random.default_rng(2), rig.weather)
        same = sweep(plain, rig.lidar, t, np.random.default_rng(2), rig.weather)
        on_decoys = np.isin(seen.object_id, meshes)
        points += int(on_decoys.sum())
        np.testing.assert_array_equal(seen.points, same.points)
        assert (same.object_id[on_decoys] == -1).all()
        shown = render(named, rig.camera, t, rig.light, np.random.default_rng(2))
        picture = render(plain, rig.camera, t, rig.light, np.random.default_rng(2))
        on_decoys = np.isin(shown.object_id, meshes)
        h, w = (n // 4 * 4 for n in on_decoys.shape)
        whole = on_decoys[:h, :w].reshape(h // 4, 4, w // 4, 4).all(axis=(1, 3))
        classes = frames.class_map(picture, plain.objects_in_base(t))[: h // 4, : w // 4]
        assert (classes[whole] == 0).all()
        told += int(whole.sum())
    assert points > 300
    assert told > 20


# -------------------------------------------------------------------------------- room


def in_box(points: np.ndarray, center: np.ndarray, size: np.ndarray, yaw: float) -> np.ndarray:
    local = points - center
    c, s = np.cos(yaw), np.sin(yaw)
    x, y = local[:, :2] @ [c, s], local[:, :2] @ [-s, c]
    return (
        (np.abs(x) < size[0] / 2) & (np.abs(y) < size[1] / 2) & (np.abs(local[:, 2]) < size[2] / 2)
    )


def test_nothing_of_them_is_in_an_object_at_any_time(crowded: World) -> None:
    """But in the boxes of those who sit on them."""
    town = crowded.town
    points = np.concatenate([town.scenery[d.mesh].vertices for d in town.decoys])
    checked = 0
    for t in np.arange(0.0, 9.9, 0.3):
        found = crowded.objects(float(t))
        for k, one in enumerate(found.ids):
            model = crowded.model(int(one))
            if model.kind == "sitting" or (t > 0 and one < len(town.standing)):
                continue
            near = points[np.abs(points - found.center[k]).max(axis=1) < 7.0]
            assert not in_box(near, found.center[k], found.size[k], found.yaw[k]).any()
            checked += 1
    assert checked > 300


def test_the_ego_vehicle_passes_all_of_them(crowded: World) -> None:
    town = crowded.town
    points = np.concatenate([town.scenery[d.mesh].vertices for d in town.decoys])
    points = points[points[:, 2] < points[:, 2].min() + 30.0]
    for t in np.arange(0.0, 9.9, 0.2):
        local = crowded.pose(float(t)).inverse().apply(points)
        low = local[local[:, 2] < 1.8]
        assert not ((np.abs(low[:, 0]) < 2.3) & (np.abs(low[:, 1]) < 0.95)).any()


def plan_of(world: World, xy: np.ndarray) -> np.ndarray:
    """Where in the straight plan the warp has taken points from: its inverse by iteration."""
    layout, plan = world.town.layout, xy.copy()
    for _ in range(60):
        plan = plan - (layout.warp(plan) - xy)
    np.testing.assert_allclose(layout.warp(plan), xy, atol=1e-6)
    return plan


@pytest.mark.parametrize("seed", range(3))
def test_none_stands_in_a_lane_or_on_a_crossing(seed: int) -> None:
    """On the carriageway only its very middle, between the directions, and the parking strip are
    allowed; and no middle of a crossing."""
    world = built(seed, 0.6)
    at = np.array([d.position for d in world.town.decoys])
    plan, layout = plan_of(world, at[:, :2]), world.town.layout
    assert len(plan) > 20
    on_road = 0
    for streets, axis in ((layout.columns, 0), (layout.rows, 1)):
        for street in streets:
            off = np.abs(plan[:, axis] - street.middle_m)
            inside = off < street.half_m - 1e-6
            allowed = (off < 0.3) | (off > street.lane_m - 1e-6)
            assert (allowed | ~inside).all()
            on_road += int(inside.sum())
            for other in layout.rows if axis == 0 else ():
                across = np.abs(plan[:, 1] - other.middle_m) < other.half_m - 1e-6
                assert not (inside & across).any()
    assert len(world.town.islands) <= on_road < len(plan) / 2


def test_vehicles_put_around_the_ego_vehicle_mind_the_islands() -> None:
    tried = blocked = 0
    for seed in range(4):
        world = built(seed, 1.5)
        islands = np.array(world.town.islands).reshape(-1, 3)
        assert len(islands) > 0
        for draw in range(10):
            for mover in companions(world, 5.0, np.random.default_rng(draw)):
                position, yaw, *_ = mover.pose(5.0)
                own = footprint(mover.model, position[None], np.array([yaw]))[0]
                gap = np.linalg.norm(own[:, None] - islands[None, :, :2], axis=-1) - islands[:, 2]
                assert gap.min() > footprint_radius(mover.model)
                tried += 1
        world.town.islands = []
        for draw in range(10):
            for mover in companions(world, 5.0, np.random.default_rng(draw)):
                position, yaw, *_ = mover.pose(5.0)
                own = footprint(mover.model, position[None], np.array([yaw]))[0]
                gap = np.linalg.norm(own[:, None] - islands[None, :, :2], axis=-1) - islands[:, 2]
                blocked += int(gap.min() < footprint_radius(mover.model))
    assert tried > 50
    assert blocked > 0, "not to be minded, some would stand on them"


# ------------------------------------------------------------------------------ people


def test_those_who_sit_are_lower_and_above_their_seat() -> None:
    people = PeopleFactory(MaterialTable(), np.random.default_rng(0))
    for _ in range(10):
        model = people.seated(0.45)
        assert (model.label, model.kind) == (PEDESTRIAN, "sitting")
        assert 1.0 < model.size[2] < 1.6
        assert 0.5 < model.size[0] < 1.2
        middle = model.meshes[0].vertices
        assert middle[:, :2].max(axis=0) == pytest.approx(-middle[:, :2].min(axis=0), abs=1e-6)


def test_riders_sit_on_bicycles_and_now_and_then_on_motorcycles() -> None:
    people = PeopleFactory(MaterialTable(), np.random.default_rng(0))
    riders = [people.cyclist() for _ in range(60)]
    assert {r.label for r in riders} == {CYCLIST}
    motor = [r for r in riders if r.kind == "motorcyclist"]
    assert 1 <= len(motor) < 20
    for rider in motor:
        assert 1.3 < rider.size[2] < 1.9
        assert 1.5 < rider.size[0] < 2.1


def test_people_differ_in_what_they_wear_and_carry() -> None:
    people = PeopleFactory(MaterialTable(), np.random.default_rng(0))
    models = [people.pedestrian(standing=k % 2 == 0) for k in range(60)]
    assert len({len(m.meshes[0].triangles) for m in models}) >= 8
    worn = [np.unique(m.meshes[0].materials, return_counts=True)[1] for m in models]
    assert len({tuple(sorted(counts)) for counts in worn}) >= 20
    assert any(m.kind == "child" for m in models)
