"""Where thin things stand that are easily taken for people, and people where it is hard to tell.

They are put up when all else is there, from a generator of their own: along the streets that the
ego vehicle sees, at kerbs and corners, before houses, in gardens, on traffic islands and where the
road is dug up; where nothing else stands and nobody passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from mm_fusion.sim.furnishing import Side
from mm_fusion.sim.layout import Path
from mm_fusion.sim.mesh import Mesh, box, merge
from mm_fusion.sim.models import ObjectModel
from mm_fusion.sim.people import PeopleFactory
from mm_fusion.sim.scenery import SceneryFactory
from mm_fusion.sim.shopfronts import ShopfrontFactory
from mm_fusion.sim.town import Decoy, StandingObject, Town
from mm_fusion.sim.traffic import Mover, footprint, footprint_radius

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

_REACH_M = 48.0  # from the ego vehicle's route
_LOW_M = 2.3  # what is higher stands in nobody's way
_GRAIN_M = 0.2  # of what is known of the scenery
_SHAPES = 3  # of a kind in one town
_WHERE = {
    "kerb": 0.40, "front": 0.34, "corner": 0.07, "island": 0.07, "works": 0.05, "garden": 0.07,
}  # fmt: skip
_WHERE_WILD = {"kerb": 0.35, "island": 0.05, "works": 0.1, "garden": 0.5}
_KINDS: dict[str, dict[str, float]] = {
    "kerb": {
        "bollard": 0.15, "mast": 0.15, "signpost": 0.11, "poster_post": 0.08, "trunk": 0.08,
        "litter_bin": 0.07, "staked_tree": 0.07, "beacon": 0.06, "cabinet": 0.06, "bicycle": 0.06,
        "keep_sign": 0.05, "stop": 0.05, "post_box": 0.05, "lamp_foot": 0.05, "machine": 0.05,
        "motorbike": 0.05, "reflector": 0.03, "hydrant": 0.03, "kick_scooter": 0.03, "cone": 0.02,
        "pushchair": 0.01,
    },
    "front": {
        "cafe": 0.10, "wheelie_bin": 0.10, "potted": 0.10, "pier": 0.09, "shrub": 0.08,
        "climber": 0.06, "bicycle": 0.06, "a_board": 0.06, "cabinet": 0.05, "shelves": 0.05,
        "crates": 0.05, "banner": 0.05, "clothes_rack": 0.04, "bust": 0.04, "motorbike": 0.04,
        "bench": 0.04, "scaffold": 0.03, "post_box": 0.03, "machine": 0.03, "pushchair": 0.02,
        "statue": 0.02, "litter_bin": 0.02,
    },
    "corner": {
        "mast": 0.45, "bollard": 0.2, "keep_sign": 0.1, "signpost": 0.1, "poster_post": 0.05,
        "litter_bin": 0.05, "post_box": 0.05,
    },
    "island": {"keep_sign": 0.5, "beacon": 0.2, "mast": 0.15, "bollard": 0.15},
    "works": {"beacon": 0.55, "cone": 0.3, "signpost": 0.15},
    "garden": {
        "shrub": 0.3, "trunk": 0.25, "staked_tree": 0.2, "potted": 0.08, "signpost": 0.06,
        "reflector": 0.05, "statue": 0.03, "pier": 0.03,
    },
}  # fmt: skip
_KINDS_WILD = {
    "reflector": 0.3, "trunk": 0.2, "signpost": 0.2, "staked_tree": 0.1, "beacon": 0.1,
    "mast": 0.05, "keep_sign": 0.05,
}  # fmt: skip
# Kinds that come in rows: how many at most, and how far apart.
_ROWS = {
    "bollard": (6, 1.1, 2.2), "beacon": (5, 1.2, 4.0), "cone": (6, 1.0, 3.0),
    "wheelie_bin": (5, 0.72, 0.95), "bicycle": (4, 0.65, 1.1), "post_box": (3, 0.6, 0.8),
    "potted": (4, 0.9, 2.0), "pier": (2, 1.1, 3.5), "shelves": (3, 0.9, 1.2),
    "crates": (3, 0.7, 1.0),
    "reflector": (2, 8.0, 12.0), "trunk": (3, 1.5, 6.0), "motorbike": (3, 1.1, 1.6),
    "kick_scooter": (3, 0.7, 0.9), "shrub": (3, 0.8, 2.5),
}  # fmt: skip


def stand_decoys(
    town: Town, rng: Rng, ego: tuple[Path, F64], movers: Sequence[Mover], density: float | None
) -> None:
    """Put things, and some people beside them, into a town whose traffic is known.

    ``ego`` is the ego vehicle's path and way, ``density`` how many things or rows of them to try a
    metre of pavement; None leaves it to chance.
    """
    drawn = float(rng.uniform(0.06, 0.5))
    _Placer(town, rng, ego, movers).fill(drawn if density is None else density)


class _Taken:
    """Where something stands, and where somebody passes."""

    def __init__(self, town: Town, ego: tuple[Path, F64], movers: Sequence[Mover]) -> None:
        circles, radii = [np.zeros((0, 2))], [np.zeros(0)]
        for item in town.standing:
            circles.append(footprint(item.model, item.position[None], np.array([item.yaw_rad]))[0])
            radii.append(np.full(5, footprint_radius(item.model) + 0.1))
        for mover in movers:
            points, yaw = mover.path.at(mover.way_m[::2])
            traced = footprint(mover.model, points, yaw).reshape(-1, 2)
            traced = np.unique(np.round(traced, 1), axis=0)
            circles.append(traced)
            radii.append(np.full(len(traced), footprint_radius(mover.model) + 0.15))
        path, way = ego
        own = path.points[path.way_m <= way[-1] + 8.0, :2]
        circles.append(own)
        radii.append(np.full(len(own), 1.5))
        self.route = cKDTree(own)
        self._objects, self._radii = cKDTree(np.concatenate(circles)), np.concatenate(radii)
        self._widest = float(self._radii.max())
        self._scenery = cKDTree(_standing_points(town, self.route))
        self._places = np.zeros((256, 3))  # x, y, radius of what was added
        self._added = 0

    def add(self, xy: F64, radius_m: float) -> None:
        """Something more stands there."""
        if self._added == len(self._places):
            self._places = np.concatenate([self._places, np.zeros_like(self._places)])
        self._places[self._added] = xy[0], xy[1], radius_m
        self._added += 1

    def free(self, xy: F64, radius_m: float) -> bool:
        """Whether a thing of a radius has room."""
        if self.route.query(xy)[0] > _REACH_M:
            return False
        if self._scenery.query(xy)[0] < radius_m + 0.75 * _GRAIN_M:
            return False
        if self._added:
            places = self._places[: self._added]
            if (np.hypot(*(places[:, :2] - xy).T) < places[:, 2] + radius_m + 0.05).any():
                return False
        near = self._objects.query_ball_point(xy, self._widest + radius_m)
        gaps = np.linalg.norm(self._objects.data[near] - xy, axis=1)
        return bool((gaps > self._radii[near] + radius_m).all())


def _standing_points(town: Town, route: cKDTree) -> F64:
    """Points [N,2] over the plan of all that stands on the ground near a route."""
    meshes = town.scenery[town.ground :]
    if not meshes:
        return np.full((1, 2), np.inf)
    vertices = np.concatenate([m.vertices for m in meshes])
    first = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    bottom, top = (f.reduceat(vertices, first, axis=0) for f in (np.minimum, np.maximum))
    middle = (bottom + top)[:, :2] / 2
    near = np.flatnonzero(route.query(middle)[0] < _REACH_M + 15.0)
    if not len(near):
        return np.full((1, 2), np.inf)
    chosen = [meshes[k] for k in near.tolist()]
    whole = merge(chosen)
    foot = np.repeat(bottom[near, 2], [len(m.triangles) for m in chosen])
    z = whole.vertices[:, 2][whole.triangles]
    low_m = np.minimum(np.minimum(z[:, 0], z[:, 1]), z[:, 2])
    low = whole.vertices[:, :2][whole.triangles[low_m < foot + _LOW_M]]
    a, b = low.reshape(-1, 2), np.roll(low, -1, axis=1).reshape(-1, 2)
    count = np.ceil(np.linalg.norm(b - a, axis=1) / _GRAIN_M).astype(int) + 1
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    share = (step / np.repeat(count, count))[:, None]
    points = np.repeat(a, count, axis=0) * (1 - share) + np.repeat(b, count, axis=0) * share
    cells = np.unique(np.round(points / _GRAIN_M).astype(np.int32).view(np.int64))
    return np.asarray(cells.view(np.int32).reshape(-1, 2) * _GRAIN_M, np.float64)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A mesh, and how far it reaches where it could be in the way."""

    mesh: Mesh
    radius_m: float


class _Placer:
    def __init__(
        self, town: Town, rng: Rng, ego: tuple[Path, F64], movers: Sequence[Mover]
    ) -> None:
        self._town, self._rng = town, rng
        self._taken = _Taken(town, ego, movers)
        people = PeopleFactory(town.table, rng)
        plants = SceneryFactory(town.table, rng)
        self._make = ShopfrontFactory(town.table, rng, plants, people)
        self._people = [people.pedestrian(standing=True) for _ in range(10)]
        self._sitting = [people.seated(0.45) for _ in range(4)]
        self._shapes: dict[str, list[_Shape]] = {}
        self._cumulated: dict[int, tuple[list[str], F64]] = {}  # by the identity of a table above

    def fill(self, density: float) -> None:
        """Go along all sides of all streets."""
        rng, wild = self._rng, self._town.style.country
        for block in self._town.layout.blocks:
            for index, street in enumerate(block.streets):
                if street is None:
                    continue
                side = Side(self._town, block, index, street, rng)
                open_country = wild > 0.0 and rng.random() < wild
                where = _WHERE_WILD if open_country else _WHERE
                count = rng.poisson(density * side.length_m * (0.4 if open_country else 1.0))
                for _ in range(count):
                    place = self._choice(where)
                    kinds = _KINDS[place]
                    if open_country and place == "kerb":
                        kinds = _KINDS_WILD
                    self._row(side, place, self._choice(kinds))
                for _ in range(rng.poisson(0.04 * density * side.length_m)):
                    self._somebody(side)

    def _choice(self, shares: dict[str, float]) -> str:
        if id(shares) not in self._cumulated:
            share = np.array(list(shares.values()))
            summed = (share / share.sum()).cumsum()
            self._cumulated[id(shares)] = list(shares), summed / summed[-1]
        names, summed = self._cumulated[id(shares)]
        return names[int(summed.searchsorted(self._rng.random(), side="right"))]

    def _shape(self, kind: str) -> _Shape:
        """One of the town's few shapes of a kind."""
        made = self._shapes.setdefault(kind, [])
        if len(made) < _SHAPES:
            mesh: Mesh = getattr(self._make, kind)()
            low = mesh.vertices[mesh.vertices[:, 2] < _LOW_M, :2]
            made.append(_Shape(mesh, float(np.hypot(*low.T).max())))
            return made[-1]
        return made[int(self._rng.integers(len(made)))]

    def _spot(self, side: Side, place: str) -> tuple[float, float, float] | None:
        """Way along, depth inwards and heading of a place, None if the side has none such."""
        rng, pavement, street = self._rng, self._town.layout.pavement_m, side.street
        if side.length_m < 26.0 or (place == "works" and street.parking_m == 0):
            return None
        s = float(rng.uniform(5.0, side.length_m - 5.0))
        yaw = float(rng.choice([0.0, 0.0, np.pi / 2, -np.pi / 2])) + float(rng.normal(scale=0.12))
        if place == "kerb":
            d = float(rng.uniform(0.25, 0.65))
        elif place == "front":
            d, yaw = pavement - float(rng.uniform(0.15, 0.9)), float(rng.normal(scale=0.15))
        elif place == "garden":
            d = pavement + float(rng.uniform(0.2, 3.0))
            yaw = float(rng.uniform(-np.pi, np.pi))
        elif place == "corner":
            near, d = (float(v) for v in rng.uniform((1.7, 1.7), (4.0, 3.2)))
            s = near if rng.random() < 0.5 else side.length_m - near
        else:
            yaw = float(rng.choice([np.pi / 2, -np.pi / 2])) + float(rng.normal(scale=0.1))
            d = -float(rng.uniform(0.3, max(street.parking_m, 0.4)))
            if place == "island":
                s = float(rng.uniform(11.0, side.length_m - 11.0))
                d = -street.half_m + float(rng.normal(scale=0.05))
        return s, d, yaw

    def _row(self, side: Side, place: str, kind: str) -> None:
        """A thing, or a row of them, or a group, at a place of a side."""
        rng, spot = self._rng, self._spot(side, place)
        if spot is None:
            return
        s, d, yaw = spot
        if kind == "cafe":
            self._cafe(side, s, d)
            return
        if kind == "bench":
            self._bench(side, s, d)
            return
        most, low, high = _ROWS.get(kind, (1, 0.0, 0.0))
        count = int(rng.integers(1, most + 1)) if place not in ("corner", "island") else 1
        shape, gap = self._shape(kind), float(rng.uniform(low, high))
        if kind == "bicycle" and rng.random() < 0.6:
            yaw += np.pi / 2
        for k in range(count):
            at = s + k * gap
            if at > side.length_m - 2.0:
                break
            self._put(side, kind, shape, at, d, yaw + float(rng.normal(scale=0.05)))
        if place in ("kerb", "front") and rng.random() < 0.12:
            self._label(side, s + float(rng.uniform(-0.9, 0.9)), d - float(rng.uniform(0.4, 0.9)))

    def _put(self, side: Side, kind: str, shape: _Shape, s: float, d: float, yaw: float) -> bool:
        """Put a thing up if it has room there, on an island's slab if it stands on the road's
        middle."""
        position, heading = side.pose(s, d, yaw)
        if not self._taken.free(position[:2], shape.radius_m):
            return False
        mesh = shape.mesh
        if d < -side.street.half_m + 0.5:
            self._town.islands.append((*position[:2], max(shape.radius_m, 0.45)))
            if self._rng.random() < 0.6:
                slab = box((0, 0, 0.03), (0.6, 0.6, 0.2), self._make.stone)
                mesh = merge([mesh.placed((0, 0, 0.12)), slab])
        self._taken.add(position[:2], shape.radius_m)
        self._town.decoys.append(Decoy(kind, position, shape.radius_m, len(self._town.scenery)))
        self._town.scenery.append(mesh.placed(position, heading))
        return True

    def _label(self, side: Side, s: float, d: float, yaw: float | None = None) -> None:
        """Put somebody there who stands, if there is room."""
        model = self._people[int(self._rng.integers(len(self._people)))]
        turned = float(self._rng.uniform(-np.pi, np.pi)) if yaw is None else yaw
        self._person(side, model, s, d, turned, 0.5 * max(model.size[:2]))

    def _person(
        self, side: Side, model: ObjectModel, s: float, d: float, yaw: float, radius_m: float
    ) -> None:
        position, heading = side.pose(s, d, yaw)
        if self._taken.free(position[:2], radius_m):
            self._taken.add(position[:2], radius_m)
            self._town.standing.append(StandingObject(model, position, heading))

    def _somebody(self, side: Side) -> None:
        """Somebody close to a wall, or between parked vehicles."""
        rng, pavement, s = self._rng, self._town.layout.pavement_m, 5.0
        s += float(rng.uniform(0.0, max(side.length_m - 10.0, 0.1)))
        if side.street.parking_m > 0 and rng.random() < 0.4:
            self._label(side, s, -float(rng.uniform(0.3, side.street.parking_m - 0.2)))
        else:
            self._label(side, s, pavement - float(rng.uniform(0.3, 0.5)))

    def _cafe(self, side: Side, s: float, d: float) -> None:
        """Tables with chairs, and guests on some of them."""
        rng = self._rng
        table, chair = self._shape("cafe_table"), self._shape("chair")
        for k in range(int(rng.integers(1, 4))):
            at = s + 2.1 * k
            if at > side.length_m - 5.0 or not self._put(side, "cafe_table", table, at, d, 0.0):
                continue
            far = table.radius_m + chair.radius_m + 0.06
            for turn in rng.choice(4, int(rng.integers(1, 4)), replace=False) * np.pi / 2:
                x, y = at + far * np.cos(turn), d + far * np.sin(turn)
                if not self._put(side, "chair", chair, float(x), float(y), turn - np.pi / 2):
                    continue
                if rng.random() < 0.3:
                    self._sit(side, float(x), float(y), float(turn) + np.pi)

    def _bench(self, side: Side, s: float, d: float) -> None:
        """A bench with its back to the houses, with or without somebody on it."""
        rng = self._rng
        if self._put(side, "seat", self._shape("seat"), s, d, 0.0):
            for x in (-0.4, 0.4):
                if rng.random() < 0.3:
                    self._sit(side, s + x, d, -np.pi / 2)

    def _sit(self, side: Side, s: float, d: float, yaw: float) -> None:
        """Somebody on a seat that was found to have room."""
        model = self._sitting[int(self._rng.integers(len(self._sitting)))]
        forwards = 0.5 * model.size[0] - 0.2  # from the hip to the box's middle
        s, d = s + forwards * float(np.cos(yaw)), d + forwards * float(np.sin(yaw))
        position, heading = side.pose(s, d, yaw)
        self._town.standing.append(StandingObject(model, position, heading))
