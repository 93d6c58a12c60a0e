"""Who moves: cars and cyclists that follow their lanes and keep their distance, and walkers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from mm_fusion.sim.layout import Path
from mm_fusion.sim.models import CAR, CYCLIST, PEDESTRIAN, ObjectModel
from mm_fusion.sim.town import Town

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

STEP_S = 0.1
_LOOK_M = np.arange(1.0, 28.0, 1.5)
_LATERAL_MS2 = 2.2
_BRAKE_MS2 = 2.0
_PATIENCE_S = 2.5  # then one goes on, whoever comes across
_CLEARANCE_M = {CAR: 1.9, CYCLIST: 1.4, PEDESTRIAN: 1.5}
_CIRCLES = 5  # that stand for a footprint
_EGO_SIZE = (4.6, 1.85, 1.5)


@dataclass(frozen=True, slots=True, eq=False)
class Mover:
    """One that moves: its model, its path, and the way it has gone at steps of STEP_S. It is in
    the world from ``first_s`` to ``last_s``."""

    model: ObjectModel
    path: Path
    way_m: F64
    first_s: float = -np.inf
    last_s: float = np.inf

    def pose(self, t: float) -> tuple[F64, float, F64, float]:
        """Position [3] of the bottom centre, heading, velocity [2], and way at a time."""
        position, yaw, velocity, way = self.poses(np.array([t]))
        return position[0], float(yaw[0]), velocity[0], float(way[0])

    def poses(self, times: F64) -> tuple[F64, F64, F64, F64]:
        """Positions [S,3], headings [S], velocities [S,2], and ways [S] at times [S]."""
        last = len(self.way_m) - 1
        around = np.concatenate([times - 0.05, times, times + 0.05]) / STEP_S
        step = np.minimum(np.maximum(around, 0.0), float(last))
        k = np.minimum(step.astype(np.int64), last - 1)
        before = self.way_m[k]
        way = before + (step - k) * (self.way_m[k + 1] - before)
        points, yaw = self.path.at(way)
        n = len(times)
        velocity = (points[2 * n :, :2] - points[:n, :2]) / 0.1
        here = slice(n, 2 * n)
        return points[here], yaw[here], velocity, way[here]

    def active(self, t: float) -> bool:
        """Whether it is in the world at a time: it leaves where its path ends."""
        if not self.first_s <= t <= self.last_s:
            return False
        k = min(int(t / STEP_S) + 1, len(self.way_m) - 1)
        return bool(self.way_m[k] < self.path.length_m - 0.6)


@dataclass(frozen=True, slots=True)
class Demand:
    """How many of each kind to send on their way, and how fast the ego vehicle would like to go."""

    cars: int
    cyclists: int
    walkers: int
    ego_speed_ms: float


@dataclass(eq=False)
class _Driver:
    model: ObjectModel | None  # None: the ego vehicle
    label: int
    path: Path
    way: float
    speed: float


def ego_route(town: Town, rng: Rng, length_m: float, turns: int) -> Path:
    """A lane route of at least ``length_m`` through the town, with a turn or more."""
    best: F64 | None = None
    for _ in range(60):
        plan = town.layout.lane_route(rng, turns, length_m + 30.0)
        if best is None or len(plan) > len(best):
            best = plan
        if 0.5 * len(plan) >= length_m:
            break
    assert best is not None
    return Path(town.layout, best, on_road=True)


def drive_traffic(
    town: Town, rng: Rng, ego_path: Path, demand: Demand, duration_s: float
) -> tuple[F64, list[Mover]]:
    """Let everyone move for ``duration_s``: the ego vehicle's way [T] at steps of STEP_S, and the
    movers. Movers that would run into someone are left out; standing objects the ego vehicle or
    a car would touch are taken out of ``town``."""
    near = cKDTree(ego_path.points[:, :2])
    drivers = [_Driver(None, CAR, ego_path, 8.0, demand.ego_speed_ms)]
    for label, count in ((CYCLIST, demand.cyclists), (CAR, demand.cars)):
        drivers += _spawn_drivers(town, rng, near, label, count)
    walkers = [_spawn_walker(town, rng, near, duration_s) for _ in range(demand.walkers)]
    ways = _simulate(drivers, walkers, duration_s)
    movers = [
        Mover(d.model, d.path, way)
        for d, way in zip(drivers[1:], ways[1:], strict=True)
        if d.model is not None
    ] + walkers
    ego = Mover(ObjectModel(CAR, _EGO_SIZE, ()), ego_path, ways[0])
    return ways[0], _without_collisions(town, ego, movers)


def _spawn_drivers(town: Town, rng: Rng, near: cKDTree, label: int, count: int) -> list[_Driver]:
    drivers = []
    models = town.traffic if label == CAR else town.cyclists
    for _ in range(count):
        offset = 0.0 if label == CAR else float(rng.uniform(0.5, 1.1))
        for _ in range(20):
            plan = town.layout.lane_route(rng, 2, 260.0, offset)
            start = int(rng.integers(0, max(1, len(plan) - 60)))
            here = town.layout.warp(plan[start : start + 1])[0]
            if near.query(here)[0] < (75.0 if label == CAR else 45.0):
                break
        else:
            continue
        path = Path(town.layout, plan[start:], on_road=True)
        speed = float(rng.uniform(4.0, 13.0) if label == CAR else rng.uniform(2.5, 6.5))
        if rng.random() < 0.06:
            speed = 0.0  # one that waits
        model = models[int(rng.integers(len(models)))]
        drivers.append(_Driver(model, label, path, 0.0, speed))
    return drivers


def _spawn_walker(town: Town, rng: Rng, near: cKDTree, duration_s: float) -> Mover:
    """Someone who walks along a pavement, or crosses the street."""
    layout = town.layout
    for _ in range(40):
        block = layout.blocks[int(rng.integers(len(layout.blocks)))]
        index = int(rng.integers(4))
        street = block.streets[index]
        if street is None:
            continue
        corner, along, inwards, length = block.side(index)
        s, d = float(rng.uniform(0, length)), float(rng.uniform(0.9, layout.pavement_m - 0.5))
        start = corner + s * along + d * inwards
        if near.query(layout.warp(start[None])[0])[0] < 32.0:
            break
    speed = float(np.clip(rng.normal(1.35, 0.3), 0.6, 2.2))
    way = speed * (duration_s + 4.0)
    along = along * float(rng.choice([-1, 1]))
    if street is not None and rng.random() < 0.3:
        first = float(rng.uniform(0.0, 0.5)) * way
        kerb = start + first * along
        beyond = kerb - inwards * (2 * street.half_m + 2 * d)
        corners = [start, kerb, beyond, beyond + along * way]
    else:
        corners = [start, start + along * (way + 2.0)]
    plan = _sampled(np.array(corners))
    path = Path(layout, plan, on_road=False, smooth_m=0.7)
    model = town.walkers[int(rng.integers(len(town.walkers)))]
    times = np.arange(round(duration_s / STEP_S) + 1) * STEP_S
    return Mover(model, path, np.asarray(times * speed, np.float64))


def _sampled(corners: F64) -> F64:
    steps = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    way = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.arange(0.0, way[-1], 0.5)
    return np.stack([np.interp(at, way, corners[:, k]) for k in range(2)], axis=1)


def _speed_limit(path: Path, speed: float) -> F64:
    """Speed at every point of a path that its curvature and the braking before it allow."""
    curve = np.sqrt(_LATERAL_MS2 / np.maximum(np.abs(path.curvature), 1e-4))
    limit = np.minimum(curve, speed)
    for k in range(len(limit) - 2, -1, -1):
        limit[k] = min(limit[k], np.sqrt(limit[k + 1] ** 2 + 2 * _BRAKE_MS2 * 0.5))
    return np.asarray(limit)


class _Flow:
    """The drivers' paths as arrays of equal length, points half a metre apart."""

    def __init__(self, drivers: list[_Driver], walkers: list[Mover]) -> None:
        longest = max(len(d.path.points) for d in drivers)

        def stacked(rows: list[F64]) -> F64:
            return np.stack([np.pad(v, (0, longest - len(v)), "edge") for v in rows])

        self.last = longest - 1
        x, y = (stacked([d.path.points[:, k] for d in drivers]) for k in range(2))
        self.points = np.stack([x, y], axis=-1)
        self.yaw = stacked([d.path.yaw for d in drivers])
        self.limit = stacked([_speed_limit(d.path, d.speed) for d in drivers])
        self.parked = np.array([d.speed == 0.0 for d in drivers])
        labels = [d.label for d in drivers] + [PEDESTRIAN] * len(walkers)
        models = [d.model for d in drivers] + [w.model for w in walkers]
        self.half = np.array([(m.size if m else _EGO_SIZE)[0] / 2 for m in models])
        self.clear = np.array([_CLEARANCE_M[k] for k in labels])
        self.row = np.arange(len(drivers))
        self.first = self.row[:, None] < self.row[None]  # who goes first where two ways cross

    def index(self, way: F64) -> npt.NDArray[np.int64]:
        """Where on their paths the drivers are."""
        return np.minimum((way / 0.5).astype(np.int64), self.last)

    def gaps(self, here: npt.NDArray[np.int64], walkers: F64, waited: F64) -> F64:
        """Free way [D] ahead of every driver, up to who it gives way to; inf: nobody."""
        count = len(self.row)
        position = np.concatenate([self.points[self.row, here], walkers])
        look = np.minimum(here[:, None] + (_LOOK_M / 0.5).astype(int), self.last)
        ahead = self.points[self.row[:, None], look]
        dx, dy = (ahead[:, :, None, k] - position[:, k] for k in range(2))
        distance = np.sqrt(dx * dx + dy * dy)
        turned = self.yaw[self.row, here][:, None] - self.yaw[self.row, here][None]
        other_way = np.cos(turned) < 0.8
        waives = np.zeros((count, len(position)), bool)
        waives[:, :count] = (np.abs(np.sin(turned)) > 0.5) & self.first
        waives[self.row, self.row] = True
        # the ego vehicle minds who is ahead in its lane and who walks; the rest minds it
        waives[0, :count] |= other_way[0]
        waives[:, :count] |= self.parked[None] | ((waited > _PATIENCE_S)[:, None] & other_way)
        blocked = (distance < self.clear) & ~waives[:, None, :]
        each = blocked[:, :, :count].any(axis=1)
        blocked[:, :, :count] &= ~(each & each.T & self.first)[:, None, :]
        free = np.full(count, np.inf)
        driver, step, other = np.nonzero(blocked)
        np.minimum.at(free, driver, _LOOK_M[step] - self.half[other])
        return np.asarray(free - self.half[:count] - 0.8)


def _simulate(drivers: list[_Driver], walkers: list[Mover], duration_s: float) -> list[F64]:
    """The ways [T] of all drivers: everyone keeps to the limit and brakes for who is ahead."""
    count, steps = len(drivers), round(duration_s / STEP_S) + 1
    flow = _Flow(drivers, walkers)
    walked = np.array([w.path.at(w.way_m)[0][:, :2] for w in walkers])
    walked = walked.reshape(len(walkers), steps, 2)
    lengths = np.array([d.path.length_m for d in drivers])
    way = np.array([d.way for d in drivers])
    speed = flow.limit[flow.row, flow.index(way)].copy()
    ways, waited = np.zeros((steps, count)), np.zeros(count)
    for k in range(steps):
        ways[k] = way
        here = flow.index(way)
        gap = flow.gaps(here, walked[:, k], waited)
        braking = np.sqrt(2 * _BRAKE_MS2 * np.maximum(gap, 0.0))
        wanted = np.minimum(flow.limit[flow.row, here], braking)
        speed = np.clip(wanted, speed - 5.0 * STEP_S, speed + 1.6 * STEP_S)
        waited = np.where(speed < 0.3, waited + STEP_S, 0.0)
        way = np.minimum(way + np.maximum(speed, 0.0) * STEP_S, lengths)
    return [ways[:, i] for i in range(count)]


def footprint_radius(model: ObjectModel) -> float:
    """Radius of the circles that stand for a model's footprint."""
    return 0.55 * min(model.size[:2])


def footprint(model: ObjectModel, points: F64, yaw: F64) -> F64:
    """Centres [T,5,2] of the circles that stand for a model's footprint at places [T,3]."""
    spread = max(0.0, model.size[0] / 2 - footprint_radius(model))
    along = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    return points[:, None, :2] + along[:, None, :] * np.linspace(-spread, spread, _CIRCLES)[:, None]


def _without_collisions(town: Town, ego: Mover, movers: list[Mover]) -> list[Mover]:
    """Drop movers that touch one before them in the list (the ego vehicle first), or a standing
    object; and standing objects that the ego vehicle touches."""
    times = np.arange(0, len(ego.way_m), 2)

    def trace(mover: Mover) -> F64:
        points, yaw = mover.path.at(mover.way_m[times])
        circles = footprint(mover.model, points, yaw)
        gone = mover.way_m[times] >= mover.path.length_m - 0.6
        circles[gone] = np.nan
        return circles

    own = trace(ego)
    clearing = cKDTree(_finite(own))
    standing = []
    for item in town.standing:
        circles = footprint(item.model, item.position[None], np.array([item.yaw_rad]))[0]
        if clearing.query(circles)[0].min() > footprint_radius(item.model) + 1.15:
            standing.append((item, circles))
    town.standing = [item for item, _ in standing]
    trees: dict[float, cKDTree] = {}
    for radius in {round(footprint_radius(item.model), 1) for item, _ in standing}:
        found = [c for item, c in standing if round(footprint_radius(item.model), 1) == radius]
        trees[radius] = cKDTree(np.concatenate(found))
    kept: list[Mover] = []
    prints: list[tuple[F64, float]] = [(own, 1.0)]
    for mover in movers:
        radius, mine = footprint_radius(mover.model), trace(mover)
        flat = _finite(mine)
        hits = len(flat) > 0 and any(
            tree.query(flat)[0].min() < radius + other for other, tree in trees.items()
        )
        for theirs, other in prints:
            if hits:
                break
            hits = _meet(mine, theirs, radius + other)
        if not hits:
            kept.append(mover)
            prints.append((mine, radius))
    return kept


def _finite(circles: F64) -> F64:
    flat = circles.reshape(-1, 2)
    return np.asarray(flat[np.isfinite(flat).all(axis=1)])


def _meet(mine: F64, theirs: F64, reach_m: float) -> bool:
    """Whether two traces [T,5,2] come within ``reach_m`` of each other at the same time."""
    near = np.abs(mine[:, 2] - theirs[:, 2]).max(axis=1) < reach_m + 16.0
    gap = mine[near][:, :, None] - theirs[near][:, None]
    return bool((np.einsum("tijk,tijk->tij", gap, gap) < reach_m**2).any())
