"""A furnished town: houses, gardens, hedges, furniture, parked vehicles and people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.clutter import ClutterFactory
from mm_fusion.sim.layout import KERB_M, Block, Layout, Street
from mm_fusion.sim.materials import MaterialTable
from mm_fusion.sim.mesh import Mesh
from mm_fusion.sim.models import ObjectModel
from mm_fusion.sim.people import PeopleFactory
from mm_fusion.sim.roadside import RoadsideFactory
from mm_fusion.sim.scenery import SceneryFactory
from mm_fusion.sim.town import StandingObject, Style, Town, lay_ground
from mm_fusion.sim.trucks import TruckFactory
from mm_fusion.sim.vehicles import CarFactory

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator


def build_town(rng: Rng, extent_m: float, slope: float | None = None, country: float = 0.0) -> Town:
    """Draw a town within ``extent_m`` of the origin; ``slope`` as in Layout. ``country`` is the
    chance that it is open country for a good part; what it draws for that leaves ``rng`` alone."""
    wild = rng.spawn(1)[0]
    layout, table = Layout(rng, extent_m, slope), MaterialTable()
    style = Style(
        parked=float(rng.choice([0.05, 0.3, 0.6, 0.85])),
        houses=float(rng.uniform(0.4, 0.9)),
        trees=float(rng.uniform(0.0, 0.7)),
        clutter_per_m=float(rng.uniform(0.02, 0.12)),
        standing_per_m=float(rng.uniform(0.01, 0.07)),
        markings=bool(rng.random() < 0.75),
        large_per_m=float(rng.uniform(0.005, 0.06)),
        green=float(rng.choice([0.0, 0.3, 0.7, 0.95])),
        country=float(wild.choice([0.4, 0.8, 1.0])) if wild.random() < country else 0.0,
    )
    town = Town(layout, table, style)
    make, cars = SceneryFactory(table, rng), CarFactory(table, rng)
    people, clutter = PeopleFactory(table, rng), ClutterFactory(table, rng, make)
    trucks = TruckFactory(table, rng, cars.parts)
    town.cars = [cars.make() for _ in range(32)]
    town.trucks = [trucks.make() for _ in range(8)]
    town.traffic = town.cars + town.trucks[: int(rng.integers(0, 7))]
    town.walkers = [people.pedestrian() for _ in range(16)]
    town.idlers = [people.pedestrian(standing=True) for _ in range(16)]
    town.cyclists = [people.cyclist() for _ in range(10)]
    lay_ground(town, make, rng)
    roadside = None
    if style.country:
        plants = SceneryFactory(table, wild)
        roadside = RoadsideFactory(table, wild, plants, PeopleFactory(table, wild))
    for block in layout.blocks:
        for index, street in enumerate(block.streets):
            if street is not None:
                side = Side(town, block, index, street, rng)
                if roadside is not None and wild.random() < style.country:
                    Countryside(town, block, index, street, wild).grow(roadside)
                    continue
                side.furnish(make, people, clutter)
                if roadside is not None and wild.random() < 0.3:
                    side.stand_bicycles(roadside.bicycles())
    return town


class Side:
    """One side of a block, with its street: things are placed by (way along, depth inwards)."""

    def __init__(self, town: Town, block: Block, index: int, street: Street, rng: Rng) -> None:
        self._town, self.street, self._rng = town, street, rng
        self._corner, self._along, self._inwards, self.length_m = block.side(index)
        self._yaw = float(np.arctan2(self._along[1], self._along[0]))
        self._step = 0.1 * np.array([np.cos(self._yaw), np.sin(self._yaw)])
        # houses on the sides along y keep clear of those at the corners
        self._margin = 0.0 if index % 2 == 0 else 13.0

    def furnish(self, make: SceneryFactory, people: PeopleFactory, clutter: ClutterFactory) -> None:
        """Fill the side with everything but moving things."""
        self._frontage(make, clutter)
        self._furniture(make, people, clutter)
        self._large_things(clutter)
        self._park_cars()
        self._idle_people()

    def stand_bicycles(self, bicycles: Mesh) -> None:
        """A stand of bicycles somewhere along the pavement."""
        s = float(self._rng.uniform(0.2, 0.8)) * self.length_m
        self._put(bicycles, s, self._town.layout.pavement_m - 0.4)

    def pose(self, s: float, d: float, yaw: float) -> tuple[F64, float]:
        """Where a place of the side is in the world [3], and a heading there."""
        plan = self._corner + s * self._along + d * self._inwards
        layout = self._town.layout
        xy, heading = layout.warped(plan, self._step)
        z = float(layout.road_z(plan[None])[0]) + (KERB_M if d > 0 else 0.0)
        return np.array([xy[0], xy[1], z]), heading + yaw

    def _put(self, mesh: Mesh, s: float, d: float, yaw: float = 0.0) -> None:
        position, heading = self.pose(s, d, yaw)
        self._town.scenery.append(mesh.placed(position, heading))

    def _label(self, model: ObjectModel, s: float, d: float, yaw: float) -> None:
        position, heading = self.pose(s, d, yaw)
        self._town.standing.append(StandingObject(model, position, heading))

    def _frontage(self, make: SceneryFactory, clutter: ClutterFactory) -> None:
        """Houses, gardens, walls and gaps behind the pavement."""
        rng, pavement = self._rng, self._town.layout.pavement_m
        setback = float(rng.choice([0.05, 0.05, 1.5, 4.0])) + pavement
        if rng.random() < 0.8 * self._town.style.green:
            setback = float(rng.uniform(2.0, 8.0)) + pavement
        s = max(pavement, self._margin) + float(rng.uniform(0, 3))
        end = self.length_m - max(pavement, self._margin)
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
                self._open_ground(make, clutter, s, width)
            s += width + (float(rng.uniform(2.5, 6)) if rng.random() < 0.3 else 0.02)

    def _garden(self, make: SceneryFactory, s: float, width: float, pavement: float) -> None:
        """A boundary along the pavement, with a gap for the door, and bushes behind."""
        rng = self._rng
        if rng.random() < self._town.style.green:
            self._overgrown(make, s, width, pavement)
            return
        kind = float(rng.random())
        if kind < 0.75:
            build = make.hedge if kind < 0.35 else make.wall if kind < 0.55 else make.fence
            part = 0.6 * width
            self._put(build(part), s + part / 2, pavement + 0.3)
        for _ in range(int(rng.integers(0, 3))):
            self._put(make.bush(), s + float(rng.uniform(0.1, 0.9)) * width, pavement + 1.0)

    def _overgrown(self, make: SceneryFactory, s: float, width: float, pavement: float) -> None:
        """Shrubs behind the pavement in pieces, often behind a low wall or a fence, and trees whose
        crowns hang over it."""
        rng = self._rng
        if rng.random() < 0.4:
            build = make.wall if rng.random() < 0.4 else make.fence
            self._put(build(0.9 * width), s + width / 2, pavement + 0.15)
        at = s + float(rng.uniform(0.0, 1.5))
        while at < s + width - 1.5:
            part = min(float(rng.uniform(1.5, 9.0)), s + width - at)
            d = pavement + float(rng.uniform(0.5, 1.8))
            self._put(make.thicket(part), at + part / 2, d, float(rng.normal(scale=0.08)))
            at += part + float(rng.exponential(1.5))
        for _ in range(int(rng.integers(0, 3))):
            d = pavement + float(rng.uniform(0.6, 3.0))
            self._put(make.tree(), s + float(rng.uniform(0.1, 0.9)) * width, d)

    def _open_ground(
        self, make: SceneryFactory, clutter: ClutterFactory, s: float, width: float
    ) -> None:
        """Trees on grass, a parking lot, a garage, a slope, things that stand about, or a
        boundary with nothing behind."""
        rng, pavement = self._rng, self._town.layout.pavement_m
        if rng.random() < 0.6 * self._town.style.green:
            self._overgrown(make, s, width, pavement)
            return
        kind = float(rng.random())
        if kind < 0.28:
            for x in np.arange(s + 1.5, s + width - 1.2, 2.7):
                if rng.random() < 0.7:
                    yaw = np.pi / 2 * float(rng.choice([-1, 1])) + float(rng.normal(scale=0.04))
                    self._label(self._car(), float(x), pavement + 3.2, yaw)
        elif kind < 0.36:
            self._put(make.garage(), s + width / 2, pavement + 5)
        elif kind < 0.48:
            self._put(make.bank(width, float(rng.uniform(4, 12))), s + width / 2, pavement + 0.4)
        elif kind < 0.62:
            for x in np.arange(s + 2.0, s + width - 2.0, float(rng.uniform(3.5, 7.0))):
                yaw = float(rng.choice([0, 0, np.pi / 2])) + float(rng.normal(scale=0.2))
                self._put(clutter.large(), float(x), pavement + float(rng.uniform(1.5, 6)), yaw)
        else:
            if kind < 0.85:
                build = make.hedge if rng.random() < 0.5 else make.fence
                self._put(build(width - 0.5), s + width / 2, pavement + 0.4)
            for _ in range(int(rng.integers(1, 4))):
                at = s + float(rng.uniform(0.1, 0.9)) * width
                self._put(make.tree(), at, pavement + float(rng.uniform(1.5, 6)))

    def _car(self) -> ObjectModel:
        return self._town.cars[int(self._rng.integers(len(self._town.cars)))]

    def _large_things(self, clutter: ClutterFactory) -> None:
        """Things of a car's size on the pavement's far side, by the kerb, or where cars park."""
        rng, pavement = self._rng, self._town.layout.pavement_m
        for _ in range(rng.poisson(self._town.style.large_per_m * self.length_m)):
            place = float(rng.random())
            d = pavement - 0.2 if place < 0.5 else 1.0
            if place > 0.85 and self.street.parking_m > 0:
                d = -0.5 * self.street.parking_m
            yaw = float(rng.choice([0, 0, 0, np.pi / 2])) + float(rng.normal(scale=0.05))
            self._put(clutter.large(), float(rng.uniform(6, self.length_m - 6)), d, yaw)

    def _furniture(
        self, make: SceneryFactory, people: PeopleFactory, clutter: ClutterFactory
    ) -> None:
        """Lamps, trees, signs and clutter along the kerb."""
        rng, style, end = self._rng, self._town.style, self.length_m - 6.0
        for s in np.arange(float(rng.uniform(6, 15)), end, float(rng.uniform(18, 32))):
            self._put(make.lamp(), float(s), 0.45)
            self._town.lamps.append(self.pose(float(s), -0.5, 0.0)[0] + [0.0, 0.0, 6.0])
        if rng.random() < style.trees:
            for s in np.arange(float(rng.uniform(6, 12)), end, float(rng.uniform(7, 12))):
                self._put(make.tree(), float(s) + float(rng.normal(scale=0.4)), 0.6)
        for _ in range(rng.poisson(style.clutter_per_m * self.length_m)):
            d = 0.4 if rng.random() < 0.6 else self._town.layout.pavement_m - 0.25
            yaw = float(rng.choice([0, np.pi / 2, np.pi]))
            self._put(clutter.small(), float(rng.uniform(6, end)), d, yaw)
        for _ in range(rng.poisson(0.025 * self.length_m)):
            yaw = float(rng.choice([0, np.pi])) + float(rng.normal(scale=0.1))
            self._put(make.sign(), float(rng.uniform(5, end)), 0.35, yaw)
        for _ in range(rng.poisson(0.01 * self.length_m)):
            yaw = float(rng.uniform(-np.pi, np.pi))
            self._put(people.parked_bicycle(), float(rng.uniform(6, end)), 0.8, yaw)
        if rng.random() < 0.4:
            self._put(make.traffic_light(), self.length_m - 3.0, 0.6, float(rng.choice([0, np.pi])))

    def _park_cars(self) -> None:
        """A row of parked cars along the kerb, mostly facing the way of the near lane."""
        rng, street = self._rng, self.street
        share = self._town.style.parked * float(rng.uniform(0.4, 1.15))
        d = -0.5 * street.parking_m if street.parking_m > 0 else 0.35
        if street.parking_m == 0 and rng.random() < 0.6:
            return
        s = 8.0 + float(rng.uniform(0, 4))
        while s < self.length_m - 9:
            car = self._car()
            if rng.random() < 0.03:
                car = self._town.trucks[int(rng.integers(len(self._town.trucks)))]
                s += car.size[0] / 2
            if rng.random() < share and s + car.size[0] / 2 < self.length_m - 5:
                yaw = np.pi if rng.random() < 0.85 else 0.0
                yaw += float(rng.normal(scale=0.025))
                self._label(car, s, d + float(rng.normal(scale=0.08)), yaw)
            s += car.size[0] + 0.6 + float(rng.exponential(0.8)) + 0.4

    def _idle_people(self) -> None:
        """People who stand on the pavement, alone or in groups."""
        rng = self._rng
        for _ in range(rng.poisson(self._town.style.standing_per_m * self.length_m)):
            s, d = float(rng.uniform(4, self.length_m - 4)), float(rng.uniform(0.5, 1.6))
            for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
                model = self._town.idlers[int(rng.integers(len(self._town.idlers)))]
                self._label(model, s, d, float(rng.uniform(-np.pi, np.pi)))
                s, d = s + 0.8, d + float(rng.uniform(-0.3, 0.3))


class Countryside(Side):
    """One side of a block outside the town: woods, scrub, fields, banks, walls; no pavement's
    furniture, now and then a guard rail, seldom a parked car."""

    def grow(self, roadside: RoadsideFactory) -> None:
        """Fill the side."""
        make, rng = roadside.make, self._rng
        s, end = 3.0, self.length_m - 3.0
        while s < end - 4.0:
            width = min(float(rng.uniform(8.0, 40.0)), end - s)
            kind, near = float(rng.random()), float(rng.uniform(0.3, 4.0))
            if kind < 0.35:
                self._wood(roadside, (s, s + width), near)
            elif kind < 0.6:
                self._scrub(roadside, make, (s, s + width), near)
            elif kind < 0.75:
                deep = float(rng.uniform(4.0, 12.0))
                self._put(make.bank(width, deep), s + width / 2, near)
                self._scrub(roadside, make, (s, s + width), near + 0.2 * deep)
            elif kind < 0.87:
                self._put(roadside.ivy_wall(width), s + width / 2, near)
            elif kind < 0.92:
                self._put(roadside.noise_barrier(width), s + width / 2, near + 1.0)
            s += width
        if rng.random() < 0.45:
            first, last = np.sort(rng.uniform(3.0, self.length_m - 3.0, 2))
            if last - first > 6.0:
                rail = roadside.guard_rail(float(last - first))
                self._put(rail, float(first + last) / 2, float(rng.uniform(0.1, 0.8)))
        self._posts(make)
        if rng.random() < 0.4:
            self._park_cars()

    def _wood(self, roadside: RoadsideFactory, span: tuple[float, float], near: float) -> None:
        rng, width = self._rng, span[1] - span[0]
        for _ in range(int(width * rng.uniform(0.3, 0.8))):
            d = near + float(rng.exponential(3.5))
            self._put(roadside.trunk(), float(rng.uniform(*span)), d, float(rng.uniform(0, 6.3)))
        for _ in range(int(width * rng.uniform(0.3, 1.2))):
            d = near + float(rng.exponential(2.5)) - 0.5
            self._plant(roadside.undergrowth(), float(rng.uniform(*span)), d)

    def _scrub(
        self,
        roadside: RoadsideFactory,
        make: SceneryFactory,
        span: tuple[float, float],
        near: float,
    ) -> None:
        rng, width = self._rng, span[1] - span[0]
        for _ in range(int(width * rng.uniform(0.05, 0.7))):
            d = near + float(rng.exponential(2.0)) - 0.5
            grown = rng.random()
            plant = roadside.undergrowth() if grown < 0.8 else make.bush()
            if grown > 0.9:
                plant = make.thicket(float(rng.uniform(1.5, 6.0)))
            self._plant(plant, float(rng.uniform(*span)), d)

    def _plant(self, plant: Mesh, s: float, d: float) -> None:
        """Put it there, turned somehow, but no further out than where it grows over the kerb."""
        yaw = float(self._rng.uniform(-np.pi, np.pi))
        x, y = plant.vertices[:, 0], plant.vertices[:, 1]
        outwards = -float((np.sin(yaw) * x + np.cos(yaw) * y).min())
        self._put(plant, s, max(d, outwards - 0.3), yaw)

    def _posts(self, make: SceneryFactory) -> None:
        """Signs and lamps where a country road has them."""
        rng = self._rng
        for _ in range(rng.poisson(0.015 * self.length_m)):
            yaw = float(rng.choice([0, np.pi])) + float(rng.normal(scale=0.1))
            self._put(make.sign(), float(rng.uniform(5, self.length_m - 5)), 0.5, yaw)
        if rng.random() < 0.3:
            for s in np.arange(8.0, self.length_m - 6.0, 28.0):
                self._put(make.lamp(), float(s), 0.5)
