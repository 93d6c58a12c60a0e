"""A town in motion: one ray-casting scene for what stands, a small one for what moves."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.decoys import stand_decoys
from mm_fusion.sim.ego import EgoMotion
from mm_fusion.sim.furnishing import build_town
from mm_fusion.sim.layout import Path
from mm_fusion.sim.materials import MaterialArrays
from mm_fusion.sim.mesh import Mesh
from mm_fusion.sim.models import ObjectModel
from mm_fusion.sim.surfaces import LabelledScene, Moving, Placed, Surface
from mm_fusion.sim.town import Town
from mm_fusion.sim.traffic import STEP_S, Demand, Mover, drive_traffic, ego_route

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectStates:
    """The labelled objects at one instant, in the frame its maker says.

    ``ids`` i64 [N] stable over a drive, ``labels`` i64 [N], ``center`` f64 [N,3] of the box,
    ``size`` f64 [N,3] (length, width, height), ``yaw`` f64 [N], ``velocity`` f64 [N,2].
    """

    ids: I64
    labels: I64
    center: F64
    size: F64
    yaw: F64
    velocity: F64

    def select(self, keep: npt.NDArray[np.bool_] | I64) -> ObjectStates:
        """Those marked True, or those of some rows."""
        return ObjectStates(
            self.ids[keep],
            self.labels[keep],
            self.center[keep],
            self.size[keep],
            self.yaw[keep],
            self.velocity[keep],
        )

    def boxes(self) -> F32:
        """f32 [N,9]: centre, size, yaw, velocity."""
        columns = (self.center, self.size, self.yaw[:, None], self.velocity)
        return np.concatenate(columns, axis=1).astype(np.float32)


class World:
    """A town, its traffic and the ego vehicle. Times are seconds since the drive's start.

    ``route`` is the ego vehicle's path and its way [T] at steps of STEP_S, None if not known.
    With ``named_scenery`` the meshes of ``town.scenery`` have the ids -2, -3, ... in their order
    instead of -1, so that a ray says which it met.
    """

    def __init__(
        self,
        town: Town,
        ego: EgoMotion,
        movers: Sequence[Mover],
        threads: int = 1,
        route: tuple[Path, F64] | None = None,
        named_scenery: bool = False,
    ) -> None:
        self.town, self.ego, self.movers, self.route = town, ego, list(movers), route
        self.materials: MaterialArrays = town.table.arrays()
        self._threads = threads
        self._first_mover = len(town.standing)
        meshes = list(town.scenery)
        ids = [-2 - k if named_scenery else -1 for k in range(len(meshes))]
        for k, item in enumerate(town.standing):
            meshes.append(item.model.meshes[0].placed(item.position, item.yaw_rad))
            ids.append(k)
        self._still = LabelledScene(meshes, ids, threads)
        self.lowest_m = self._still.lowest_m
        self._spheres: dict[Mesh, tuple[float, float]] = {}

    def with_movers(self, more: Sequence[Mover]) -> World:
        """The same world with more movers in it; what is known of the others stays as it is."""
        other = copy.copy(self)
        other.movers = [*self.movers, *more]
        return other

    def model(self, object_id: int) -> ObjectModel:
        """What an object of ``objects`` is made of."""
        if object_id < self._first_mover:
            return self.town.standing[object_id].model
        return self.movers[object_id - self._first_mover].model

    def objects(self, t: float) -> ObjectStates:
        """All labelled objects in world coordinates."""
        rows = [
            (k, s.model, s.position, s.yaw_rad, np.zeros(2))
            for k, s in enumerate(self.town.standing)
        ]
        for k, mover in enumerate(self.movers):
            if mover.active(t):
                position, yaw, velocity, _ = mover.pose(t)
                rows.append((self._first_mover + k, mover.model, position, yaw, velocity))
        size = np.array([m.size for _, m, *_ in rows]).reshape(-1, 3)
        center = np.array([p for _, _, p, *_ in rows]).reshape(-1, 3) + [0, 0, 0.5] * size
        return ObjectStates(
            np.array([r[0] for r in rows], np.int64),
            np.array([r[1].label for r in rows], np.int64),
            center,
            size,
            np.array([r[3] for r in rows], np.float64),
            np.array([r[4] for r in rows], np.float64).reshape(-1, 2),
        )

    def objects_in_base(self, t: float) -> ObjectStates:
        """All labelled objects in the base frame at the same time. Velocities are over ground,
        turned into the base frame's axes."""
        found = self.objects(t)
        base_from_world = self.ego.pose(t).inverse()
        turn = base_from_world.yaw_rad()
        c, s = np.cos(turn), np.sin(turn)
        velocity = found.velocity @ np.array([[c, s], [-s, c]])
        yaw = (found.yaw + turn + np.pi) % (2 * np.pi) - np.pi
        return ObjectStates(
            found.ids, found.labels, base_from_world.apply(found.center), found.size, yaw, velocity
        )

    def in_world(self, states: ObjectStates, t: float) -> ObjectStates:
        """States of ``objects_in_base`` at ``t`` in world coordinates again."""
        pose = self.ego.pose(t)
        turn = pose.yaw_rad()
        c, s = np.cos(turn), np.sin(turn)
        velocity = states.velocity @ np.array([[c, s], [-s, c]])
        center = pose.apply(states.center)
        yaw = states.yaw + turn
        return ObjectStates(states.ids, states.labels, center, states.size, yaw, velocity)

    def moving(
        self,
        times: F64,
        origins: F64,
        reach_m: float,
        sectors: F64 | None = None,
        spread_m: float = 0.0,
    ) -> list[Moving]:
        """The movers within ``reach_m`` of ``origins`` [S,3] as they are at ``times`` [S].

        ``sectors`` [S,2] (middle azimuth, half width; rad, world) leave out those wholly outside
        of them; rays may begin ``spread_m`` away from their origin.
        """
        there = np.array([[m.active(t) for t in times.tolist()] for m in self.movers], np.bool_)
        some = np.flatnonzero(there.any(axis=1)) if self.movers else np.zeros(0, np.int64)
        if not len(some):
            return [Moving([], origin, self._threads, spread_m) for origin in origins]
        ways = [self.movers[k].poses(times) for k in some.tolist()]
        position, yaw, way = (np.array([w[i] for w in ways]) for i in (0, 1, 3))
        there = there[some] & _in_reach(position, origins, reach_m, sectors)
        return [
            Moving(
                [
                    self._placed(int(some[k]), position[k, at], float(yaw[k, at]), way[k, at])
                    for k in np.flatnonzero(there[:, at]).tolist()
                ],
                origin,
                self._threads,
                spread_m,
            )
            for at, origin in enumerate(origins)
        ]

    def _placed(self, mover: int, position: F64, yaw: float, way: float) -> Placed:
        mesh = self.movers[mover].model.mesh_at(way)
        if mesh not in self._spheres:
            self._spheres[mesh] = mesh.sphere()
        return Placed(mesh, position, yaw, self._first_mover + mover, *self._spheres[mesh])

    def cast(self, rays: F32, moving: Moving, way_m: F32 | float = 0.0) -> Surface:
        """First surfaces along ``packed`` rays [N,6] in world coordinates.

        ``way_m`` is how far behind the origin of ``moving`` the rays begin, along themselves.
        """
        found = self._still.cast(rays)
        met = moving.cast(rays, found.range_m + np.float32(way_m))
        if met is not None:
            found.put_nearer(*met)
        return found

    def occluded(self, rays: F32, far_m: float, moving: Moving) -> npt.NDArray[np.bool_]:
        """Whether anything lies within ``far_m`` along ``packed`` rays."""
        blocked = self._still.scene.occluded(rays, far_m)
        scene = moving.scene()
        if scene is not None:
            blocked |= scene.scene.occluded(rays, far_m)
        return blocked

    def pose(self, t: float) -> RigidTransform:
        """world_from_base of the ego vehicle."""
        return self.ego.pose(t)


def _in_reach(
    position: F64, origins: F64, reach_m: float, sectors: F64 | None
) -> npt.NDArray[np.bool_]:
    """Who [K,S] of ``position`` [K,S,3] is near ``origins`` [S,3] and in its sector [S,2]."""
    dx, dy = np.moveaxis(position[..., :2] - origins[:, :2], -1, 0)
    distance = np.hypot(dx, dy)
    near = np.asarray(distance <= reach_m)
    if sectors is None:
        return near
    off = np.abs((np.arctan2(dy, dx) - sectors[:, 0] + np.pi) % (2 * np.pi) - np.pi)
    wide = np.arcsin(np.minimum(1.0, 3.5 / np.maximum(distance, 1e-9)))
    return near & ((distance <= 5.0) | (off <= sectors[:, 1] + wide))


def build_world(
    rng: np.random.Generator,
    extent_m: float,
    duration_s: float,
    demand: Demand,
    turns: int = 3,
    threads: int = 1,
    slope: float | None = None,
    named_scenery: bool = False,
    country: float = 0.0,
    decoys: float | None = None,
) -> World:
    """Draw a town, a route for the ego vehicle of up to ``turns`` turns, and its traffic.

    ``slope`` is that of Layout, ``named_scenery`` that of World, ``country`` that of build_town,
    ``decoys`` the density of stand_decoys.
    """
    town = build_town(rng, extent_m, slope, country)
    path = ego_route(town, rng, demand.ego_speed_ms * duration_s + 20.0, turns)
    way, movers = drive_traffic(town, rng, path, demand, duration_s)
    stand_decoys(town, rng.spawn(1)[0], (path, way), movers, decoys)
    ego = EgoMotion(town.layout, path, way, STEP_S)
    return World(town, ego, movers, threads, (path, way), named_scenery)
