"""Movers become triangles only where rays come near them: what is met must be the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mm_fusion.sim.camera import CameraSpec, optical_mount, render
from mm_fusion.sim.lens import Lens
from mm_fusion.sim.raycast import packed
from mm_fusion.sim.shading import Light
from mm_fusion.sim.surfaces import LabelledScene, Surface
from mm_fusion.sim.world import World

NOW = np.array([4.0])


def all_movers(world: World, t: float) -> LabelledScene:
    """Every mover of a world as triangles."""
    here = [(k, m, m.pose(t)) for k, m in enumerate(world.movers) if m.active(t)]
    meshes = [m.model.mesh_at(way).placed(at, yaw) for _, m, (at, yaw, _, way) in here]
    return LabelledScene(meshes, [len(world.town.standing) + k for k, _, _ in here], 1)


def first_of(a: Surface, b: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Range and object of the nearer of two answers, ray by ray."""
    nearer = b.range_m < a.range_m
    return np.where(nearer, b.range_m, a.range_m), np.where(nearer, b.object_id, a.object_id)


@pytest.mark.parametrize("sweeping", [True, False])
@pytest.mark.parametrize("spread_m", [0.0, 0.4])
def test_rays_meet_what_they_meet_with_every_mover_there(
    town_world: World, sweeping: bool, spread_m: float
) -> None:
    """GIVEN a town with traffic WHEN rays leave in the order of a sweep, or in none, from one
    place or about one THEN their ranges and objects are those with all movers as triangles."""
    draw = np.random.default_rng(3)
    azimuth, elevation = np.meshgrid(np.linspace(-3.1, 3.1, 4000), np.linspace(-0.15, 0.05, 16))
    a, e = azimuth.ravel(), elevation.ravel()
    rays = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)
    if not sweeping:
        draw.shuffle(rays)
    met = 0
    for aside in (0.0, 6.0, -9.0):
        eye = town_world.pose(float(NOW[0])).apply(np.array([0.0, aside, 1.7]))
        start = eye + draw.uniform(-1, 1, (len(rays), 3)) * spread_m / 2
        bundle = packed(start.astype(np.float32), rays.astype(np.float32))
        moving = town_world.moving(NOW, eye[None], 500.0, None, spread_m)[0]
        found = town_world.cast(bundle, moving)
        empty = town_world.moving(NOW, eye[None], -1.0)[0]
        still = town_world.cast(bundle, empty)
        range_m, object_id = first_of(still, all_movers(town_world, float(NOW[0])).cast(bundle))
        np.testing.assert_array_equal(found.range_m, range_m)
        np.testing.assert_array_equal(found.object_id, object_id)
        met += int(np.count_nonzero(found.object_id >= len(town_world.town.standing)))
    assert met > 100


def test_what_a_wall_hides_stays_untouched(bare_world: Any) -> None:
    """GIVEN a mover behind a wall WHEN rays end at the wall THEN none is cast at the mover, and
    without the wall some meet it."""
    eye = np.array([0.0, 0.0, 1.5])
    y, z = np.meshgrid(np.linspace(-0.2, 0.2, 60), np.linspace(-0.1, 0.05, 40))
    ahead = np.stack([np.ones(y.size), y.ravel(), z.ravel()], axis=1)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    bundle = packed(eye.astype(np.float32), ahead.astype(np.float32))
    for walls in ([((8.0, 0.0, 2.5), (0.2, 12.0, 5.0))], []):
        world = bare_world(walls=walls, movers=[(20.0, -1.0, 0.0, 1.0)])
        moving = world.moving(np.array([1.0]), eye[None], 100.0)[0]
        still = world.cast(bundle, world.moving(np.array([1.0]), eye[None], 0.0)[0])
        answer = moving.cast(bundle, still.range_m)
        if walls:
            assert answer is None
        else:
            assert answer is not None
            assert (answer[1].object_id == 0).any()


def test_a_mover_outside_the_picture_throws_its_shadow_into_it(bare_world: Any) -> None:
    """GIVEN a low sun behind the camera's left shoulder and a mover there WHEN a picture is taken
    THEN the ground it shows is darker where the mover's shadow falls than without the mover."""
    spec = CameraSpec(
        320,
        200,
        np.array([[300.0, 0, 160.0], [0, 300.0, 60.0], [0, 0, 1]]),
        optical_mount((0.0, 0.0, 1.5), (0.0, 0.35, 0.0)),
        noise=0.0,
        lens=Lens(),
    )
    clear = Light.clear(np.random.default_rng(0))
    low = np.array([-0.75, 0.6, 0.28])
    light = Light(
        **{
            **{name: getattr(clear, name) for name in clear.__slots__},
            "to_sun": (low / np.linalg.norm(low)).astype(np.float32),
        }
    )
    place = (-0.8, 4.2, 0.01, 0.0)
    pictures = [
        render(bare_world(movers=movers), spec, 1.0, light, np.random.default_rng(1))
        for movers in ([], [place])
    ]
    assert (pictures[1].object_id == -1).all()
    for picture, dark in zip(pictures, (False, True), strict=True):
        brightness = picture.image.astype(float).mean(axis=2)
        assert (np.count_nonzero(brightness < 0.8 * brightness.max()) > 2000) == dark
