"""What beams meet on their way: panes, drops, fog; and how devices differ."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.devices import DEVICES
from mm_fusion.sim.lidar import Channels, LidarSpec, sweep
from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import box, merge
from mm_fusion.sim.models import CAR, ObjectModel
from mm_fusion.sim.shading import window_panes
from mm_fusion.sim.surfaces import Surface
from mm_fusion.sim.trucks import KINDS, TruckFactory
from mm_fusion.sim.vehicles import _SHAPES, CarFactory
from mm_fusion.sim.weather import Weather
from mm_fusion.sim.world import World

SPEC = LidarSpec(
    np.deg2rad(np.linspace(-20, 2, 24)),
    720,
    RigidTransform.from_rpy((0.0, 0.0, 1.8), (0.0, 0.0, 0.0)),
    range_sigma_m=0.0,
    dropout=0.0,
    min_range_m=0.5,
    strength=1e-4,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ranges(found: Any) -> np.ndarray:
    return np.asarray(np.linalg.norm(found.points, axis=1))


# ----------------------------------------------------------------------------- devices


def test_the_hdl_64e_has_two_blocks_and_its_beams_leave_above_its_origin(bare_world: Any) -> None:
    device = DEVICES["hdl64e"]
    steps = np.diff(device.elevations_deg)
    np.testing.assert_allclose(steps[:31], 0.5, atol=1e-9)
    np.testing.assert_allclose(steps[32:], 1 / 3, atol=1e-3)
    # on level ground a ring's radius is (mount + height) / tan(depression)
    spec = dataclasses.replace(
        SPEC,
        elevations_rad=np.deg2rad(device.elevations_deg),
        heights_m=device.heights_m,
        base_from_lidar=RigidTransform.from_rpy((0, 0, 1.7), (0, 0, 0)),
    )
    found = sweep(bare_world(), spec, 1.0, rng())
    for ring in (0, 31, 32, 50):
        on = found.points[found.ring == ring].astype(float)
        expected = (1.7 + device.heights_m[ring]) / np.tan(-spec.elevations_rad[ring])
        np.testing.assert_allclose(np.hypot(on[:, 0], on[:, 1]), expected, rtol=1e-4)
        np.testing.assert_allclose(on[:, 2], -1.7, atol=2e-3)


@pytest.mark.parametrize("device", DEVICES.values(), ids=lambda d: d.name)
def test_devices_have_as_many_beams_as_they_say(device: Any) -> None:
    said = int("".join(c for c in device.name.split("-")[-1] if c.isdigit()))
    assert device.beams == len(device.heights_m) == said
    assert (np.diff(device.elevations_deg) > 0).all()


def test_channels_differ_as_said(bare_world: Any) -> None:
    beams = len(SPEC.elevations_rad)
    gain, offset, bias = np.ones(beams), np.zeros(beams), np.zeros(beams)
    gain[3], offset[5], bias[7] = 0.5, -1.0, 0.25
    plain = sweep(bare_world(), SPEC, 1.0, rng())
    odd = dataclasses.replace(SPEC, channels=Channels(bias, gain, offset, 0.01))
    found = sweep(bare_world(), odd, 1.0, rng())
    for ring, factor in ((3, 0.5), (4, 1.0), (5, 0.0)):
        mean = found.intensity[found.ring == ring].mean()
        assert mean == pytest.approx(factor * plain.intensity[plain.ring == ring].mean(), abs=0.01)
    longer = [ranges(f)[f.ring == 7].mean() for f in (plain, found)]
    assert longer[1] - longer[0] == pytest.approx(0.25, abs=1e-3)
    steps = found.intensity * 100
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)


# ------------------------------------------------------------------------------- panes


def behind_glass(bare_world: Any, through: float, thick: int) -> World:
    """A world whose labelled cubes are panes, one or more before a wall."""
    world = bare_world(walls=[((10.0, 0.0, 2.0), (0.2, 6.0, 4.0))])
    town = world.town
    glass = town.table.add((0, 0, 0), 0.9, Texture.GLASS, lidar_through=through)
    panes = [box((6.0 + 0.5 * k, 0, 1.5), (0.01, 4.0, 3.0), glass) for k in range(thick)]
    town.scenery.append(merge(panes))
    return World(town, world.ego, [])


def share_on(found: Any, x: float) -> float:
    """Of the returns ahead, which share lies on the plane at ``x``."""
    azimuth = np.arctan2(found.points[:, 1], found.points[:, 0])
    ahead = (np.abs(azimuth) < 0.15) & (found.ring >= 16)
    return float((np.abs(found.points[ahead, 0] - x) < 0.1).mean())


@pytest.mark.parametrize(("through", "panes"), [(0.0, 1), (0.7, 1), (0.7, 2)])
def test_panes_let_their_share_through(bare_world: Any, through: float, panes: int) -> None:
    found = sweep(behind_glass(bare_world, through, panes), SPEC, 1.0, rng())
    assert share_on(found, 9.9) == pytest.approx(through**panes, abs=0.06)
    assert share_on(found, 6.0) == pytest.approx(1 - through, abs=0.06)


def test_beams_reach_the_seats_of_a_car() -> None:
    table = MaterialTable()
    factory = CarFactory(table, rng(1))
    model = factory.make("sedan")
    glass = model.meshes[0].materials == factory.parts.glass
    assert glass.sum() >= 12  # a windscreen, a rear window, four at the sides
    assert (model.meshes[0].materials == factory.parts.cloth).any()
    assert table.arrays().lidar_through[factory.parts.glass] > 0.5


def test_painted_windows_are_found_where_they_are_painted() -> None:
    table = MaterialTable()
    wall = table.add((0.5, 0.5, 0.5), 0.5, Texture.FACADE, (3.0, 2.0, 0.5, 0.0))
    plain = table.add((0.5, 0.5, 0.5), 0.5)
    z, y = (g.ravel() for g in np.meshgrid(np.linspace(0, 9, 90), np.linspace(-10, 10, 200)))
    count = len(z)
    rays = np.column_stack([np.zeros(count), y, z, np.ones(count), 0 * z, 0 * z])
    rays = rays.astype(np.float32)
    normal = np.tile(np.array([-1, 0, 0], np.float32), (count, 1))
    for material, low, high in ((wall, 0.1, 0.5), (plain, 0.0, 0.0)):
        found = Surface(
            np.full(count, 5.0, np.float32), normal, np.full(count, material), np.full(count, -1)
        )
        panes = window_panes(table.arrays(), found, rays)
        assert low <= panes.mean() <= high
        assert not panes[z < 0.5].any()  # none at the ground


# ----------------------------------------------------------------------------- weather


def test_fog_swallows_what_is_far(bare_world: Any) -> None:
    weak = dataclasses.replace(SPEC, strength=0.3)
    thick = Weather("fog", extinction_per_m=0.06, visibility_m=50.0)
    clear = ranges(sweep(bare_world(), weak, 1.0, rng()))
    foggy = ranges(sweep(bare_world(), weak, 1.0, rng(), thick))
    near = [(r < 8).sum() for r in (clear, foggy)]
    far = [(r > 25).sum() for r in (clear, foggy)]
    assert near[1] > 0.9 * near[0]
    assert far[1] < 0.5 * far[0]
    np.testing.assert_allclose(thick.transmission(np.float32([10.0])), np.exp(-1.2), rtol=1e-5)


def test_drops_answer_early_and_belong_to_nobody(bare_world: Any) -> None:
    world = bare_world(cubes=[(8.0, 0.0, 0.0)])
    rain = Weather("rain", drops_per_m=0.01)
    dry, wet = sweep(world, SPEC, 1.0, rng()), sweep(world, SPEC, 1.0, rng(), rain)
    expected = np.array([len(SPEC.elevations_rad) * SPEC.columns])
    floating = wet.points[:, 2] > 0.3  # above the LIDAR there is nothing but drops
    assert (dry.points[:, 2] > 0.3).sum() == 0
    assert floating.sum() > 20
    assert (wet.object_id[floating] == -1).all()
    assert wet.intensity[floating].max() < 0.1
    # on their way to the cube, whose near side is 6 m away, some beams met a drop
    assert ranges(wet)[wet.object_id == 0].min() > 5.9
    assert ranges(wet)[floating].max() < 100.0
    assert len(wet.points) < expected[0]
    assert (wet.object_id == 0).sum() < (dry.object_id == 0).sum()


def test_water_on_the_ground_darkens_it_and_not_the_walls(bare_world: Any) -> None:
    world = bare_world(walls=[((12.0, 0.0, 3.0), (0.2, 20.0, 6.0))])
    dry, wet = (sweep(world, SPEC, 1.0, rng(), Weather(wet=w)) for w in (0.0, 1.0))
    for on_wall, low, high in ((False, 0.3, 0.5), (True, 0.97, 1.03)):
        means = []
        for found in (dry, wet):
            wall = found.points[:, 2] > -1.5
            means.append(found.intensity[wall == on_wall].mean())
        assert low < means[1] / means[0] < high


@pytest.mark.parametrize("kind", ["rain", "fog", "snow"])
def test_weathers_are_drawn_within_reason(kind: str) -> None:
    drawn = [Weather.random(rng(k), kind) for k in range(40)]
    sights = [w.visibility_m for w in drawn]
    assert min(sights) > 50
    assert max(sights) > 2.5 * min(sights)
    assert all(w.drops_per_m > 0 and w.extinction_per_m > 0 for w in drawn)
    assert Weather.random(rng(0), "dry").drops_per_m == 0.0


# ------------------------------------------------------------------------------ models


@pytest.mark.parametrize("kind", [*_SHAPES, *KINDS])
def test_vehicles_of_every_kind_fill_their_boxes(kind: str) -> None:
    for seed in range(3):
        table = MaterialTable()
        cars = CarFactory(table, rng(seed))
        make = cars.make if kind in _SHAPES else TruckFactory(table, rng(seed), cars.parts).make
        model: ObjectModel = make(kind)
        assert model.label == CAR
        assert kind in model.kind
        low = model.meshes[0].vertices.min(axis=0)
        high = model.meshes[0].vertices.max(axis=0)
        length, width, height = model.size
        assert high[2] == pytest.approx(height, abs=0.02)
        assert -0.02 < low[2] < 0.1
        for axis, side, slack in ((0, length, 0.09), (1, width, 0.32)):
            assert side - 0.06 < high[axis] - low[axis] < side + slack
            assert abs(high[axis] + low[axis]) < 0.1  # the box's middle is the origin
    shapes = {"city": (0, 3.7), "bus": (8.4, 13.1), "semitrailer": (9.4, 15.6)}
    if kind in shapes:
        assert shapes[kind][0] < length < shapes[kind][1]
