"""Worlds for the simulator's tests: bare ones built by hand, and one drawn town."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from support.cubes import CUBE

from mm_fusion.sim.ego import EgoMotion
from mm_fusion.sim.layout import Layout, Path
from mm_fusion.sim.materials import MaterialTable
from mm_fusion.sim.mesh import Mesh, box, grid, merge
from mm_fusion.sim.models import CAR, ObjectModel
from mm_fusion.sim.town import StandingObject, Style, Town
from mm_fusion.sim.traffic import STEP_S, Demand, Mover
from mm_fusion.sim.world import World, build_world

Build = Callable[..., World]


class FlatLayout(Layout):
    """A plan without bends, waves or blocks: plan coordinates are world coordinates."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(0), 60.0)
        self.blocks = []
        self._bend_m = np.zeros(2)
        self._wave_m = np.zeros(3)
        self._hill_m = 0.0


def straight(layout: Layout, start: Sequence[float], end: Sequence[float]) -> Path:
    """A straight path from one point to another."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    steps = np.arange(0.0, np.linalg.norm(b - a), 0.5)[:, None]
    return Path(layout, a + steps * (b - a) / np.linalg.norm(b - a), True, smooth_m=0.0)


def cube_model(table: MaterialTable) -> ObjectModel:
    """A labelled plain box."""
    mesh = box((0, 0, CUBE[2] / 2), CUBE, table.add((0.9, 0.1, 0.1), 0.8))
    return ObjectModel(CAR, CUBE, (mesh,))


@pytest.fixture(scope="session")
def bare_world() -> Build:
    """Builds a plane with boxes: ``cubes`` (x, y, yaw) stand, ``walls`` (centre, size) hide,
    ``movers`` (x, y, vx, vy) move; the ego vehicle starts at the origin, ``speed_ms`` along x."""

    def build(
        cubes: Sequence[tuple[float, float, float]] = (),
        walls: Sequence[tuple[tuple[float, ...], tuple[float, ...]]] = (),
        movers: Sequence[tuple[float, float, float, float]] = (),
        speed_ms: float = 0.0,
        duration_s: float = 3.0,
    ) -> World:
        layout, table = FlatLayout(), MaterialTable()
        ground, grey = table.add((0.2, 0.2, 0.2), 0.5), table.add((0.5, 0.5, 0.5), 0.8)
        town = Town(layout, table, Style(0, 0, 0, 0, 0, False))
        scenery: list[Mesh] = [grid(np.linspace(-150, 150, 7), np.linspace(-150, 150, 7), ground)]
        scenery += [box(centre, size, grey) for centre, size in walls]
        town.scenery = [merge(scenery)]
        model = cube_model(table)
        town.standing = [StandingObject(model, np.array([x, y, 0.0]), yaw) for x, y, yaw in cubes]
        times = np.arange(round(duration_s / STEP_S) + 1) * STEP_S
        moving = []
        for x, y, vx, vy in movers:
            speed = float(np.hypot(vx, vy))
            end = (x + vx / speed * 200, y + vy / speed * 200)
            moving.append(Mover(model, straight(layout, (x, y), end), times * speed))
        path = straight(layout, (0, 0), (200, 0))
        return World(town, EgoMotion(layout, path, times * speed_ms, STEP_S), moving)

    return build


@pytest.fixture(scope="session")
def town_world() -> World:
    """A drawn town with traffic, for ten seconds."""
    return build_world(np.random.default_rng(11), 70.0, 10.0, Demand(8, 6, 8, 7.0))
