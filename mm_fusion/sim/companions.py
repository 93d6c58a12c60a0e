"""Vehicles put around the ego vehicle for one instant: queues, neighbours, oncoming traffic.

A drive's own traffic thins out soon, and a camera at the front sees far more vehicles from behind
and close by than it would hold. For each training frame a new set is drawn: they drive along the
lanes of the ego vehicle's street for a few tenths of a second, where nobody else is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.layout import KERB_M, Path
from mm_fusion.sim.models import ObjectModel
from mm_fusion.sim.traffic import STEP_S, Mover, footprint, footprint_radius
from mm_fusion.sim.world import World

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

_BEHIND_M, _AHEAD_M = 25.0, 75.0
_BEFORE_S, _AFTER_S = 0.45, 0.25
_EGO_HALF_M = 2.3


def companions(world: World, t: float, rng: Rng) -> list[Mover]:
    """Movers for the time around ``t``: none, a stream, or queues as at a traffic light."""
    if world.route is None or rng.random() < 0.25:
        return []
    path, ways = world.route
    way = float(np.interp(t, np.arange(len(ways)) * STEP_S, ways))
    dense = rng.random() < 0.55
    placed = _Placed(world, t)
    lane_m = float(rng.uniform(2.9, 3.6))
    found: list[Mover] = []
    for lane in (0, 1, -1, 2, -2):
        if lane and rng.random() < 0.3:
            continue
        oncoming = lane > 0 and rng.random() < 0.45
        row = _Row(world, path, way, lane * lane_m, oncoming)
        speed = float(rng.uniform(0.0, 6.0) if dense and not oncoming else rng.uniform(3.0, 14.0))
        found += row.fill(placed, rng, t, speed, dense and not oncoming)
    return found


class _Placed:
    """The footprints of all that is there already, and what stands on the road."""

    def __init__(self, world: World, t: float) -> None:
        here = world.ego.position(t)
        self._circles = [np.zeros((0, 2))]
        self._radii = [np.zeros(0)]
        standing = [(s.model, s.position, s.yaw_rad) for s in world.town.standing]
        moving = [(m.model, *m.pose(t)[:2]) for m in world.movers if m.active(t)]
        for model, position, yaw in standing + moving:
            if np.hypot(*(position - here)[:2]) < _AHEAD_M + 20.0:
                self.add(model, position, yaw)
        islands = np.array(world.town.islands).reshape(-1, 3)
        self._circles.append(islands[:, :2])
        self._radii.append(islands[:, 2])
        forward = world.ego.rotation(t)[:2, 0]
        ego = here[:2] + forward * np.linspace(-1.6, 1.6, 5)[:, None]
        self._circles.append(ego)
        self._radii.append(np.full(5, 1.2))

    def add(self, model: ObjectModel, position: F64, yaw: float) -> None:
        """Put one more."""
        self._circles.append(footprint(model, position[None], np.array([yaw]))[0])
        self._radii.append(np.full(5, footprint_radius(model)))

    def free(self, model: ObjectModel, position: F64, yaw: float) -> bool:
        """Whether a model has room, with a hand's breadth around it."""
        circles, radii = np.concatenate(self._circles), np.concatenate(self._radii)
        own = footprint(model, position[None], np.array([yaw]))[0]
        gap = np.linalg.norm(own[:, None] - circles[None], axis=-1) - radii[None]
        return bool(gap.min() > footprint_radius(model) + 0.25)


class _Row:
    """One lane beside the ego vehicle's path, ``aside_m`` to its left."""

    def __init__(self, world: World, path: Path, way: float, aside_m: float, back: bool) -> None:
        self._world, self._back = world, back
        along = np.gradient(path.plan, axis=0)
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        plan = path.plan + aside_m * np.stack([-along[:, 1], along[:, 0]], axis=1)
        at = int(np.argmin(np.abs(path.way_m - way)))
        first = max(0, at - int(2 * _BEHIND_M))
        part = slice(first, min(len(plan), at + int(2 * _AHEAD_M)))
        here = plan[at]
        chosen = plan[part][::-1] if back else plan[part]
        self._path = Path(world.town.layout, chosen, on_road=True, smooth_m=0.5)
        distance = np.linalg.norm(chosen - here, axis=1)
        self._here = float(self._path.way_m[int(np.argmin(distance))])
        self._own = aside_m == 0.0

    def fill(self, placed: _Placed, rng: Rng, t: float, speed: float, dense: bool) -> list[Mover]:
        """Vehicles along the row, from its rear end on."""
        town, found = self._world.town, []
        ahead = _EGO_HALF_M + float(rng.uniform(2.5, 14.0) if dense else rng.uniform(8.0, 40.0))
        s = self._here + ahead if self._own else float(rng.uniform(3.0, 25.0))
        left = int(rng.integers(1, 10) if dense else rng.integers(1, 5))
        while left > 0 and s < self._path.length_m - 4.0:
            pool = town.trucks if rng.random() < 0.09 else town.cars
            model = pool[int(rng.integers(len(pool)))]
            middle = s + model.size[0] / 2
            position, yaw = self._path.at(middle)
            heading = float(yaw) + float(rng.normal(scale=0.02))
            if self._on_road(middle, model) and placed.free(model, position, heading):
                placed.add(model, position, heading)
                found.append(self._mover(model, middle, t, speed))
                left -= 1
            gap = float(rng.uniform(1.2, 8.0) if dense else rng.uniform(8.0, 40.0))
            s += model.size[0] + gap
        return found

    def _on_road(self, way: float, model: ObjectModel) -> bool:
        """Whether a vehicle stands on the road from its nose to its tail."""
        reach = model.size[0] / 2
        ways = np.array([way - reach, way, way + reach])
        if ways[0] < 0.5 or ways[2] > self._path.length_m - 1.0:
            return False
        plan = np.stack([np.interp(ways, self._path.way_m, self._path.plan[:, k]) for k in (0, 1)])
        layout = self._world.town.layout
        return bool((layout.ground_z(plan.T) - layout.road_z(plan.T) < 0.5 * KERB_M).all())

    def _mover(self, model: ObjectModel, way: float, t: float, speed: float) -> Mover:
        duration = self._world.ego.duration_s
        times = np.arange(round(duration / STEP_S) + 1) * STEP_S
        ways = np.clip(way + speed * (times - t), 0.0, self._path.length_m - 0.7)
        return Mover(model, self._path, ways, t - _BEFORE_S, t + _AFTER_S)
