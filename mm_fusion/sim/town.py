"""What stands still in a town: its kinds, and the ground with its kerbs and markings."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.layout import KERB_M, Block, Layout, Street
from mm_fusion.sim.materials import MaterialTable
from mm_fusion.sim.mesh import Mesh, grid, loft, merge, quads
from mm_fusion.sim.models import ObjectModel
from mm_fusion.sim.scenery import SceneryFactory

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

_CORNER_M = 4.5


@dataclass(frozen=True, slots=True, eq=False)
class StandingObject:
    """A labelled object that does not move: ``position`` [3] of its box's bottom centre."""

    model: ObjectModel
    position: F64
    yaw_rad: float


@dataclass(frozen=True, slots=True, eq=False)
class Decoy:
    """A thin thing that is easily taken for a person: its kind, where it stands [3], how far it
    reaches below 2.3 m, and its mesh's place in ``Town.scenery``."""

    kind: str
    position: F64
    radius_m: float
    mesh: int


@dataclass(frozen=True, slots=True)
class Style:
    """How a town is furnished: shares and densities."""

    parked: float  # share of parking places that are taken
    houses: float  # share of frontage that is houses
    trees: float  # share of streets' sides with a row of trees
    clutter_per_m: float
    standing_per_m: float  # people standing about
    markings: bool
    large_per_m: float = 0.0  # unlabelled things of a car's size
    green: float = 0.0  # share of gardens and open ground that is overgrown
    country: float = 0.0  # share of blocks' sides that are woods, fields and banks


@dataclass(eq=False)
class Town:
    """A furnished layout: the unlabelled mesh, the standing objects, and the model library.

    The first ``ground`` meshes of ``scenery`` are the ground; ``soil`` are its materials, which
    banks of earth and grass among the others share.
    """

    layout: Layout
    table: MaterialTable
    style: Style
    scenery: list[Mesh] = field(default_factory=list)
    ground: int = 0
    soil: tuple[int, ...] = ()
    lamps: list[F64] = field(default_factory=list)  # where street lamps shine from, [3] each
    decoys: list[Decoy] = field(default_factory=list)
    islands: list[tuple[float, float, float]] = field(default_factory=list)  # x, y, radius
    standing: list[StandingObject] = field(default_factory=list)
    cars: list[ObjectModel] = field(default_factory=list)
    trucks: list[ObjectModel] = field(default_factory=list)
    traffic: list[ObjectModel] = field(default_factory=list)  # cars, and trucks now and then
    walkers: list[ObjectModel] = field(default_factory=list)
    idlers: list[ObjectModel] = field(default_factory=list)
    cyclists: list[ObjectModel] = field(default_factory=list)


def lay_ground(town: Town, make: SceneryFactory, rng: Rng) -> None:
    """Road, raised blocks with their kerbs, and markings."""
    town.scenery += [
        _road(town.layout, make),
        *(_slab(town.layout, block, make, rng) for block in town.layout.blocks),
    ]
    if town.style.markings:
        town.scenery.append(_markings(town.layout, make, rng))
    town.ground = len(town.scenery)
    town.soil = (make.grass, make.earth)


# ------------------------------------------------------------------------------- ground


def _draped(layout: Layout, mesh: Mesh, lift_m: float) -> Mesh:
    """A mesh in plan coordinates laid over the ground of the world."""
    plan = mesh.vertices[:, :2]
    z = mesh.vertices[:, 2] + layout.road_z(plan) + lift_m
    return Mesh(np.column_stack([layout.warp(plan), z]), mesh.triangles, mesh.materials)


def _road(layout: Layout, make: SceneryFactory) -> Mesh:
    reach = layout.extent_m + 90.0
    ticks = np.linspace(-reach, reach, int(2 * reach / 4.0))
    return _draped(layout, grid(ticks, ticks, make.asphalt), 0.0)


def _ticks(low: float, high: float, pavement_m: float) -> F64:
    """Where a slab's vertices lie along one axis."""
    edges = [low, low + pavement_m, low + _CORNER_M, high - _CORNER_M, high - pavement_m, high]
    edges = sorted(set(edges))
    pieces = [
        np.linspace(a, b, max(2, int(np.ceil((b - a) / 5.0)) + 1))[:-1] for a, b in pairwise(edges)
    ]
    return np.concatenate([*pieces, [high]])


def _slab(layout: Layout, block: Block, make: SceneryFactory, rng: Rng) -> Mesh:
    """A block's raised surface: pavement around an interior, kerbs down to the road."""
    xs, ys = _ticks(*block.x, layout.pavement_m), _ticks(*block.y, layout.pavement_m)
    sheet = grid(xs, ys, make.pavement)
    middle = sheet.vertices[sheet.triangles].mean(axis=1)
    depth = np.minimum.reduce(
        [
            middle[:, 0] - block.x[0],
            block.x[1] - middle[:, 0],
            middle[:, 1] - block.y[0],
            block.y[1] - middle[:, 1],
        ]
    )
    interior = int(rng.choice([make.grass, make.grass, make.earth, make.pavement, make.asphalt]))
    sheet.materials[depth > layout.pavement_m] = interior
    sheet.vertices[:, :2] = _rounded_corners(sheet.vertices[:, :2], block)
    nx, ny = len(xs), len(ys)
    index = np.arange(nx * ny).reshape(nx, ny)
    rim = np.concatenate([index[:, 0], index[-1, 1:], index[-2::-1, -1], index[0, -2:0:-1]])
    edge = sheet.vertices[rim]
    skirt = loft(np.stack([edge - [0, 0, KERB_M + 0.05], edge]), make.kerb, cap=False)
    return _draped(layout, merge([sheet, skirt]), KERB_M)


def _rounded_corners(points: F64, block: Block) -> F64:
    """Slab vertices [N,2] with the square corners squeezed into quarter circles."""
    rounded = points.copy()
    for sx, x_edge in ((1.0, block.x[0]), (-1.0, block.x[1])):
        for sy, y_edge in ((1.0, block.y[0]), (-1.0, block.y[1])):
            q = (
                1.0
                - np.stack([sx * (points[:, 0] - x_edge), sy * (points[:, 1] - y_edge)], 1)
                / _CORNER_M
            )
            inside = (q > 1e-9).all(axis=1)
            qi = q[inside]
            qi = qi * (qi.max(axis=1) / np.hypot(qi[:, 0], qi[:, 1]))[:, None]
            way = (1.0 - qi) * _CORNER_M
            rounded[inside] = np.column_stack([x_edge + sx * way[:, 0], y_edge + sy * way[:, 1]])
    return rounded


def _strip(start: float, end: float, across: float, width: float, dash: float, gap: float) -> F64:
    """Dashes along x as corners [N,4,2]."""
    a = np.arange(start, end - dash * 0.99, dash + gap)
    low, high = across - width / 2, across + width / 2
    ones = np.ones_like(a)
    return np.stack(
        [
            np.stack([a, low * ones], 1),
            np.stack([a + dash, low * ones], 1),
            np.stack([a + dash, high * ones], 1),
            np.stack([a, high * ones], 1),
        ],
        axis=1,
    )


def _markings(layout: Layout, make: SceneryFactory, rng: Rng) -> Mesh:
    """Lane lines, parking lines and zebra crossings on all streets."""
    patches = []
    for streets, others, swap in (
        (layout.rows, layout.columns, False),
        (layout.columns, layout.rows, True),
    ):
        for street in streets:
            for a, b in pairwise(others):
                start, end = a.middle_m + a.half_m + 3, b.middle_m - b.half_m - 3
                found = _street_patches(street, start, end, rng)
                patches.append(found[:, :, ::-1] if swap else found)
    flat = np.concatenate(patches)
    corners = np.concatenate([flat, np.zeros((*flat.shape[:2], 1))], axis=2)
    return _draped(layout, quads(corners, make.marking), 0.015)


def _street_patches(street: Street, start: float, end: float, rng: Rng) -> F64:
    """White patches [N,4,2] of one street between two crossings, the street along x."""
    m, parts = street.middle_m, []
    if rng.random() < 0.8:
        dashed = street.lanes == 1 and rng.random() < 0.8
        parts.append(_strip(start, end, m, 0.13, 3.0, 4.5 if dashed else 0.0))
    for lane in range(1, street.lanes):
        for side in (-1, 1):
            at = m + side * street.lane_m * lane / street.lanes
            parts.append(_strip(start, end, at, 0.13, 3.0, 4.5))
    if street.parking_m > 0 and rng.random() < 0.5:
        for side in (-1, 1):
            parts.append(_strip(start, end, m + side * street.lane_m, 0.1, 2.5, 0.0))
    for at in (start - 1.5, end - 1.5):
        if rng.random() < 0.4:
            for across in np.arange(m - street.half_m + 0.5, m + street.half_m - 0.4, 1.0):
                parts.append(_strip(at, at + 3.0, across, 0.5, 3.0, 1.0))
    return np.concatenate(parts) if parts else np.zeros((0, 4, 2))
