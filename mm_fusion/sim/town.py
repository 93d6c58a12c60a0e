"""Everything that stands still in a town: ground, markings, houses, furniture, parked cars."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.layout import KERB_M, Block, Layout, Street
from mm_fusion.sim.materials import MaterialTable
from mm_fusion.sim.mesh import Mesh, grid, loft, merge, quads
from mm_fusion.sim.models import ObjectModel
from mm_fusion.sim.people import PeopleFactory
from mm_fusion.sim.scenery import SceneryFactory
from mm_fusion.sim.vehicles import CarFactory

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

_CORNER_M = 4.5


@dataclass(frozen=True, slots=True, eq=False)
class StandingObject:
    """A labelled object that does not move: ``position`` [3] of its box's bottom centre."""

    model: ObjectModel
    position: F64
    yaw_rad: float


@dataclass(frozen=True, slots=True)
class Style:
    """How a town is furnished: shares and densities."""

    parked: float  # share of parking places that are taken
    houses: float  # share of frontage that is houses
    trees: float  # share of streets' sides with a row of trees
    clutter_per_m: float
    standing_per_m: float  # people standing about
    markings: bool


@dataclass(eq=False)
class Town:
    """A furnished layout: the unlabelled mesh, the standing objects, and the model library."""

    layout: Layout
    table: MaterialTable
    style: Style
    scenery: list[Mesh] = field(default_factory=list)
    standing: list[StandingObject] = field(default_factory=list)
    cars: list[ObjectModel] = field(default_factory=list)
    walkers: list[ObjectModel] = field(default_factory=list)
    idlers: list[ObjectModel] = field(default_factory=list)
    cyclists: list[ObjectModel] = field(default_factory=list)


def build_town(rng: Rng, extent_m: float) -> Town:
    """Draw a town within ``extent_m`` of the origin."""
    layout, table = Layout(rng, extent_m), MaterialTable()
    style = Style(
        parked=float(rng.choice([0.05, 0.3, 0.6, 0.85])),
        houses=float(rng.uniform(0.4, 0.9)),
        trees=float(rng.uniform(0.0, 0.7)),
        clutter_per_m=float(rng.uniform(0.02, 0.12)),
        standing_per_m=float(rng.uniform(0.01, 0.07)),
        markings=bool(rng.random() < 0.75),
    )
    town = Town(layout, table, style)
    make, cars = SceneryFactory(table, rng), CarFactory(table, rng)
    people = PeopleFactory(table, rng)
    town.cars = [cars.make() for _ in range(28)]
    town.walkers = [people.pedestrian() for _ in range(16)]
    town.idlers = [people.pedestrian(standing=True) for _ in range(16)]
    town.cyclists = [people.cyclist() for _ in range(10)]
    town.scenery += [
        _road(layout, make),
        *(_slab(layout, block, make, rng) for block in layout.blocks),
    ]
    if style.markings:
        town.scenery.append(_markings(layout, make, rng))
    for block in layout.blocks:
        for index, street in enumerate(block.streets):
            if street is not None:
                _Side(town, block, index, street, rng).furnish(make, people)
    return town


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
        dashed = rng.random() < 0.8
        parts.append(_strip(start, end, m, 0.13, 3.0, 4.5 if dashed else 0.0))
    if street.parking_m > 0 and rng.random() < 0.5:
        for side in (-1, 1):
            parts.append(_strip(start, end, m + side * street.lane_m, 0.1, 2.5, 0.0))
    for at in (start - 1.5, end - 1.5):
        if rng.random() < 0.4:
            for across in np.arange(m - street.half_m + 0.5, m + street.half_m - 0.4, 1.0):
                parts.append(_strip(at, at + 3.0, across, 0.5, 3.0, 1.0))
    return np.concatenate(parts) if parts else np.zeros((0, 4, 2))


# ------------------------------------------------------------------------------ furnishing


class _Side:
    """One side of a block, with its street: things are placed by (way along, depth inwards)."""

    def __init__(self, town: Town, block: Block, index: int, street: Street, rng: Rng) -> None:
        self._town, self._street, self._rng = town, street, rng
        self._corner, self._along, self._inwards, self._length = block.side(index)
        self._yaw = float(np.arctan2(self._along[1], self._along[0]))
        # houses on the sides along y keep clear of those at the corners
        self._margin = 0.0 if index % 2 == 0 else 13.0

    def furnish(self, make: SceneryFactory, people: PeopleFactory) -> None:
        """Fill the side with everything but moving things."""
        self._frontage(make)
        self._furniture(make, people)
        self._park_cars()
        self._idle_people()

    def _pose(self, s: float, d: float, yaw: float) -> tuple[F64, float]:
        plan = self._corner + s * self._along + d * self._inwards
        layout = self._town.layout
        xy = layout.warp(plan[None])[0]
        z = float(layout.road_z(plan[None])[0]) + (KERB_M if d > 0 else 0.0)
        return np.array([xy[0], xy[1], z]), layout.warp_yaw(plan, self._yaw) + yaw

    def _put(self, mesh: Mesh, s: float, d: float, yaw: float = 0.0) -> None:
        position, heading = self._pose(s, d, yaw)
        self._town.scenery.append(mesh.placed(position, heading))

    def _label(self, model: ObjectModel, s: float, d: float, yaw: float) -> None:
        position, heading = self._pose(s, d, yaw)
        self._town.standing.append(StandingObject(model, position, heading))

    def _frontage(self, make: SceneryFactory) -> None:
        """Houses, gardens, walls and gaps behind the pavement."""
        rng, pavement = self._rng, self._town.layout.pavement_m
        setback = float(rng.choice([0.05, 0.05, 1.5, 4.0])) + pavement
        s = max(pavement, self._margin) + float(rng.uniform(0, 3))
        end = self._length - max(pavement, self._margin)
        while s < end - 6:
            width = min(float(rng.uniform(7, 20)), end - s)
            kind = float(rng.random())
            if kind < self._town.style.houses:
                depth = float(rng.uniform(7, 12))
                d = setback + float(rng.choice([0.0, 0.0, 0.6, 1.2]))
                self._put(make.house(width, depth), s + width / 2, d)
                if setback > pavement + 1:
                    self._garden(make, s, width, pavement)
            else:
                self._open_ground(make, s, width, pavement)
            s += width + (float(rng.uniform(2.5, 6)) if rng.random() < 0.3 else 0.02)

    def _garden(self, make: SceneryFactory, s: float, width: float, pavement: float) -> None:
        """A boundary along the pavement, with a gap for the door, and bushes behind."""
        rng = self._rng
        kind = float(rng.random())
        if kind < 0.75:
            build = make.hedge if kind < 0.35 else make.wall if kind < 0.55 else make.fence
            part = 0.6 * width
            self._put(build(part), s + part / 2, pavement + 0.3)
        for _ in range(int(rng.integers(0, 3))):
            self._put(make.bush(), s + float(rng.uniform(0.1, 0.9)) * width, pavement + 1.0)

    def _open_ground(self, make: SceneryFactory, s: float, width: float, pavement: float) -> None:
        """Trees on grass, a parking lot, a garage, or a boundary with nothing behind."""
        rng = self._rng
        kind = float(rng.random())
        if kind < 0.35:
            for x in np.arange(s + 1.5, s + width - 1.2, 2.7):
                if rng.random() < 0.7:
                    car = self._town.cars[int(rng.integers(len(self._town.cars)))]
                    yaw = np.pi / 2 * float(rng.choice([-1, 1])) + float(rng.normal(scale=0.04))
                    self._label(car, float(x), pavement + 3.2, yaw)
        elif kind < 0.5:
            self._put(make.garage(), s + width / 2, pavement + 5)
        else:
            if kind < 0.85:
                build = make.hedge if rng.random() < 0.5 else make.fence
                self._put(build(width - 0.5), s + width / 2, pavement + 0.4)
            for _ in range(int(rng.integers(1, 4))):
                at = s + float(rng.uniform(0.1, 0.9)) * width
                self._put(make.tree(), at, pavement + float(rng.uniform(1.5, 6)))

    def _furniture(self, make: SceneryFactory, people: PeopleFactory) -> None:
        """Lamps, trees, signs and clutter along the kerb."""
        rng, style, end = self._rng, self._town.style, self._length - 6.0
        turn = -np.pi / 2 + np.pi / 2  # a lamp's arm already points at the street
        for s in np.arange(float(rng.uniform(6, 15)), end, float(rng.uniform(18, 32))):
            self._put(make.lamp(), float(s), 0.45, turn)
        if rng.random() < style.trees:
            for s in np.arange(float(rng.uniform(6, 12)), end, float(rng.uniform(7, 12))):
                self._put(make.tree(), float(s) + float(rng.normal(scale=0.4)), 0.6)
        for _ in range(rng.poisson(style.clutter_per_m * self._length)):
            d = 0.4 if rng.random() < 0.6 else self._town.layout.pavement_m - 0.25
            yaw = float(rng.choice([0, np.pi / 2, np.pi]))
            self._put(make.clutter(), float(rng.uniform(6, end)), d, yaw)
        for _ in range(rng.poisson(0.025 * self._length)):
            yaw = float(rng.choice([0, np.pi])) + float(rng.normal(scale=0.1))
            self._put(make.sign(), float(rng.uniform(5, end)), 0.35, yaw)
        for _ in range(rng.poisson(0.01 * self._length)):
            yaw = float(rng.uniform(-np.pi, np.pi))
            self._put(people.parked_bicycle(), float(rng.uniform(6, end)), 0.8, yaw)
        if rng.random() < 0.4:
            self._put(make.traffic_light(), self._length - 3.0, 0.6, float(rng.choice([0, np.pi])))

    def _park_cars(self) -> None:
        """A row of parked cars along the kerb, mostly facing the way of the near lane."""
        rng, street = self._rng, self._street
        share = self._town.style.parked * float(rng.uniform(0.4, 1.15))
        d = -0.5 * street.parking_m if street.parking_m > 0 else 0.35
        if street.parking_m == 0 and rng.random() < 0.6:
            return
        s = 8.0 + float(rng.uniform(0, 4))
        while s < self._length - 9:
            car = self._town.cars[int(rng.integers(len(self._town.cars)))]
            if rng.random() < share:
                yaw = np.pi if rng.random() < 0.85 else 0.0
                yaw += float(rng.normal(scale=0.025))
                self._label(car, s, d + float(rng.normal(scale=0.08)), yaw)
            s += car.size[0] + 0.6 + float(rng.exponential(0.8)) + 0.4

    def _idle_people(self) -> None:
        """People who stand on the pavement, alone or in groups."""
        rng = self._rng
        for _ in range(rng.poisson(self._town.style.standing_per_m * self._length)):
            s, d = float(rng.uniform(4, self._length - 4)), float(rng.uniform(0.5, 1.6))
            for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
                model = self._town.idlers[int(rng.integers(len(self._town.idlers)))]
                self._label(model, s, d, float(rng.uniform(-np.pi, np.pi)))
                s, d = s + 0.8, d + float(rng.uniform(-0.3, 0.3))
