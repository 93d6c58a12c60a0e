"""What rays meet: triangles that know their material and object, standing or moving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.mesh import Mesh, merge
from mm_fusion.sim.raycast import RayScene, dots

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

_RUN = 16  # rays that are asked together whether they come near a mover
_SLACK_M, _SLACK_RAD = 0.02, 1e-3  # by far more than single precision loses


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

    def put_nearer(self, index: I64, other: Surface) -> None:
        """Overwrite those of the rays of ``index`` for which another answer is nearer."""
        nearer = np.flatnonzero(other.range_m < self.range_m[index])
        for name in ("range_m", "normal", "material", "object_id"):
            getattr(self, name)[index[nearer]] = getattr(other, name).take(nearer, axis=0)

    @staticmethod
    def joined(parts: Sequence[Surface]) -> Surface:
        """One answer out of several, in their order."""
        return Surface(
            np.concatenate([p.range_m for p in parts]),
            np.concatenate([p.normal for p in parts]),
            np.concatenate([p.material for p in parts]),
            np.concatenate([p.object_id for p in parts]),
        )


class LabelledScene:
    """A ray-casting scene whose triangles know their material and object."""

    def __init__(self, meshes: Sequence[Mesh], ids: Sequence[int], threads: int) -> None:
        whole = merge(meshes)
        self.lowest_m = float(whole.vertices[:, 2].min(initial=0.0))
        # one row more than there are triangles: what has met nothing reads the last one
        self._material = np.append(whole.materials, -1).astype(np.int64)
        counts = [len(m.triangles) for m in meshes]
        self._object_id = np.append(np.repeat(np.asarray(ids, np.int64), counts), -1)
        self.scene = RayScene(whole.vertices, whole.triangles, threads)

    def cast(self, rays: F32) -> Surface:
        """First surfaces along ``packed`` rays [N,6]."""
        hits = self.scene.cast(rays)
        return Surface(
            hits.range_m,
            hits.normal,
            self._material.take(hits.triangle),
            self._object_id.take(hits.triangle),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A mover where it is at one instant: its ``mesh``, ``position`` [3] of the bottom's centre,
    heading and object id. All of the mesh lies within ``radius_m`` of ``middle_m`` above it."""

    mesh: Mesh
    position: F64
    yaw_rad: float
    object_id: int
    middle_m: float
    radius_m: float


class Moving:
    """The movers near a place at one instant.

    To build a scene of triangles takes longer than to cast rays at it, so a mover becomes
    triangles only when a ray comes near the sphere around it before it meets something else.
    ``origin`` [3] is where rays begin, give or take ``spread_m``.
    """

    def __init__(
        self, movers: Sequence[Placed], origin: F64, threads: int, spread_m: float = 0.0
    ) -> None:
        self._movers, self._origin, self._threads = movers, origin, threads
        self._spread_m = spread_m
        position = np.array([m.position for m in movers]).reshape(-1, 3)
        self._center = position - origin
        self._center[:, 2] += [m.middle_m for m in movers]
        self._radius = np.array([m.radius_m for m in movers], np.float64) + _SLACK_M
        self._built = np.zeros(len(movers), np.bool_)
        self._scene: LabelledScene | None = None

    def __len__(self) -> int:
        return len(self._movers)

    def select(self, keep: Bool) -> Moving:
        """Those marked True."""
        chosen = [m for m, wanted in zip(self._movers, keep.tolist(), strict=True) if wanted]
        return Moving(chosen, self._origin, self._threads, self._spread_m)

    def in_cone(self, axis: F64, half_rad: float, margin_m: float, tail: F64) -> Bool:
        """Whose spheres [K], wider by ``margin_m`` and drawn out by ``tail`` [K,3], reach into a
        cone of sight from the origin along the unit ``axis``."""
        center = self._center + 0.5 * tail
        radius = self._radius + self._spread_m + margin_m + 0.5 * np.linalg.norm(tail, axis=1)
        distance = np.maximum(np.linalg.norm(center, axis=1), 1e-6)
        off = np.arccos(np.clip(center @ axis / distance, -1.0, 1.0))
        wide = np.arcsin(np.minimum(radius / distance, 1.0))
        return np.asarray((distance <= radius) | (off <= half_rad + wide + _SLACK_RAD))

    def above(self, height_m: float) -> F64:
        """How far [K] the movers' spheres reach above a height in the world."""
        return np.asarray(self._origin[2] + self._center[:, 2] + self._radius - height_m)

    def scene(self) -> LabelledScene | None:
        """All of them, None if there are none."""
        return self._scene_of(np.ones(len(self._movers), np.bool_)) if self._movers else None

    def cast(self, rays: F32, far_m: F32) -> tuple[I64, Surface] | None:
        """The rays that may meet a mover within ``far_m`` [N] of the origin, and what they meet.

        None where no ray of the ``packed`` ones [N,6] comes near any.
        """
        if not (self._movers and len(rays)):
            return None
        near = self._near(rays[:, 3:], far_m)
        runs = np.flatnonzero(near.any(axis=1))
        if not len(runs):
            return None
        scene = self._scene_of(np.asarray(near.any(axis=0)))
        index = (runs[:, None] * _RUN + np.arange(_RUN)).ravel()
        index = index[: np.searchsorted(index, len(rays))]
        return index, scene.cast(rays.take(index, axis=0))

    def _near(self, direction: F32, far_m: F32) -> Bool:
        """Which runs of _RUN rays [R,K] may meet the sphere of which mover."""
        count = len(direction)
        first = np.arange(0, count, _RUN)
        middle = direction[np.minimum(first + _RUN // 2, count - 1)]
        turned = dots(direction, np.repeat(middle, _RUN, axis=0)[:count])
        cosine = np.clip(np.minimum.reduceat(turned, first), -1.0, 1.0)[:, None]
        sine = np.sqrt(1.0 - cosine**2) + np.float32(_SLACK_RAD)
        radius = self._radius + self._spread_m
        square = (self._center**2).sum(axis=1)
        # a sphere is seen under asin(radius / distance) around its middle, a run is as wide as
        # the angle of its outermost ray: cos(a + b) = cos a cos b - sin a sin b
        edge = np.sqrt(np.maximum(square - radius**2, 0.0)).astype(np.float32)
        along = middle @ self._center.T.astype(np.float32)
        met = along >= edge * cosine - radius.astype(np.float32) * sine
        met |= square <= radius**2
        gap = (np.sqrt(square) - radius).astype(np.float32)
        met &= np.maximum.reduceat(far_m, first)[:, None] > gap
        return np.asarray(met)

    def _scene_of(self, wanted: Bool) -> LabelledScene:
        """A scene with those marked True at the least."""
        if self._scene is None or (wanted & ~self._built).any():
            self._built = self._built | wanted
            chosen = [m for m, built in zip(self._movers, self._built, strict=True) if built]
            meshes = [m.mesh.placed(m.position, m.yaw_rad) for m in chosen]
            self._scene = LabelledScene(meshes, [m.object_id for m in chosen], self._threads)
        return self._scene
