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
from mm_fusion.sim.mesh import Mesh, merge
from mm_fusion.sim.models import ObjectModel
from mm_fusion.sim.raycast import RayScene
from mm_fusion.sim.town import Town
from mm_fusion.sim.traffic import STEP_S, Demand, Mover, drive_traffic, ego_route

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """What rays met: ``range_m`` f32 [N] (inf: nothing), ``normal`` f32 [N,3] towards the origin,
    ``material`` i64 [N] and ``object_id`` i64 [N] (-1: nothing, or an unlabelled thing)."""

    range_m: F32
    normal: F32
    material: I64
    object_id: I64

    def put(self, index: I64, other: Surface) -> None:
        """Overwrite the rays of ``index`` with another answer."""
        for name in ("range_m", "normal", "material", "object_id"):
            getattr(self, name)[index] = getattr(other, name)

    @staticmethod
    def joined(parts: Sequence[Surface]) -> Surface:
        """One answer out of several, in their order."""
        return Surface(
            np.concatenate([p.range_m for p in parts]),
            np.concatenate([p.normal for p in parts]),
            np.concatenate([p.material for p in parts]),
            np.concatenate([p.object_id for p in parts]),
        )


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


class LabelledScene:
    """A ray-casting scene whose triangles know their material and object."""

    def __init__(self, meshes: Sequence[Mesh], ids: Sequence[int], threads: int) -> None:
        whole = merge(meshes)
        self.material = whole.materials.astype(np.int64)
        self.object_id = np.repeat(np.asarray(ids, np.int64), [len(m.triangles) for m in meshes])
        self.scene = RayScene(whole.vertices, whole.triangles, threads)


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

    def moving_scene(
        self,
        t: float,
        origin: F64,
        reach_m: float,
        sector: tuple[float, float] | None = None,
    ) -> LabelledScene | None:
        """The movers within ``reach_m`` of ``origin`` as they are at ``t``, None if there are none.

        ``sector`` (middle azimuth, half width; rad, world) leaves out those wholly outside of it.
        """
        meshes, ids = [], []
        for k, mover in enumerate(self.movers):
            if not mover.active(t):
                continue
            position, yaw, _, way = mover.pose(t)
            dx, dy = position[0] - origin[0], position[1] - origin[1]
            distance = float(np.hypot(dx, dy))
            if distance > reach_m:
                continue
            if sector is not None and distance > 5.0:
                off = abs((np.arctan2(dy, dx) - sector[0] + np.pi) % (2 * np.pi) - np.pi)
                if off > sector[1] + np.arcsin(min(1.0, 3.5 / distance)):
                    continue
            meshes.append(mover.model.mesh_at(way).placed(position, yaw))
            ids.append(self._first_mover + k)
        return LabelledScene(meshes, ids, self._threads) if meshes else None

    def cast(self, rays: F32, moving: LabelledScene | None) -> Surface:
        """First surfaces along ``packed`` rays [N,6] in world coordinates."""
        still = _surface(self._still, rays)
        if moving is None:
            return still
        found = _surface(moving, rays)
        nearer = found.range_m < still.range_m
        for name in ("range_m", "normal", "material", "object_id"):
            getattr(still, name)[nearer] = getattr(found, name)[nearer]
        return still

    def occluded(
        self, rays: F32, far_m: float, moving: LabelledScene | None
    ) -> npt.NDArray[np.bool_]:
        """Whether anything lies within ``far_m`` along ``packed`` rays."""
        blocked = self._still.scene.occluded(rays, far_m)
        if moving is not None:
            blocked |= moving.scene.occluded(rays, far_m)
        return blocked

    def pose(self, t: float) -> RigidTransform:
        """world_from_base of the ego vehicle."""
        return self.ego.pose(t)


def _surface(scene: LabelledScene, rays: F32) -> Surface:
    hits = scene.scene.cast(rays)
    material, object_id = scene.material[hits.triangle], scene.object_id[hits.triangle]
    nothing = hits.triangle < 0
    material[nothing] = -1
    object_id[nothing] = -1
    return Surface(hits.range_m, hits.normal, material, object_id)


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
