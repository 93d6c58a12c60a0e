"""How the base moved between sweeps: registration with small_gicp, and what it is worth.

A sweep is deskewed to one instant with the filter's own motion, thinned, and aligned with a map of
the last sweeps (voxelized GICP: K. Koide et al., "Voxelized GICP for fast and accurate 3D point
cloud registration", 2021). The answer is the motion since the sweep registered before it, with the
directions in which the surroundings tell it. Which those are is read off the sweep's own surfaces:
each tells motion along its normal ``n`` only, so that the information about a small motion
(translation, rotation over ``LEVER_M``) is the sum of the outer products of ``(n, p x n)``. Along
an eigenvector with next to no information (along a tunnel, across an open field) registration
answers something all the same; there the prediction stands, and the motion has no weight. After
J. Zhang, M. Kaess and S. Singh, "On degeneracy of optimization-based state estimation" (2016).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.config import PoseConfig
from mm_fusion.errors import ConfigError
from mm_fusion.geometry import RigidTransform, rotation_exp
from mm_fusion.perception.clouds import CloudPlacer, Mounted
from mm_fusion.perception.deskew import MotionBuffer, se3_log
from mm_fusion.samples import LidarSweep, Reason, Rejection

F64 = npt.NDArray[np.float64]

LEVER_M = 10.0  # at which a rotation moves points about as much as it moves the surroundings
NEAR_M = 25.0  # farther off, a surface is hit by one beam alone, and its normal is a guess
FEWEST = 200  # points after thinning
AXES = ("forward", "sideways", "up", "roll", "pitch", "yaw")
_NEIGHBOURS = 10
_MAX_ITERATIONS = 20
_INLIERS = 0.5  # of the points must find their place in the map, else the sweep is lost in it
_MAP_SWEEPS = 100  # a voxel that the last so many sweeps did not meet is forgotten
_NEAREST_M = 1.5  # the vehicle itself


@dataclass(frozen=True, slots=True, eq=False)
class SweepJob:
    """A sweep to register: ``motion`` covers its points up to ``stamp_ns``, the instant it is
    deskewed to; ``odom_from_base`` is where dead reckoning has the base then. Another ``drive``
    than the last job's means that dead reckoning has begun anew."""

    drive: int
    sweep: LidarSweep
    stamp_ns: int
    base_from_lidar: RigidTransform
    motion: MotionBuffer
    odom_from_base: RigidTransform


@dataclass(frozen=True, slots=True, eq=False)
class SweepMotion:
    """How the base moved from ``from_ns`` to ``to_ns``.

    ``motion`` is base(from)_from_base(to). It is known along ``directions`` [r,6] of (translation
    in the first's axes, rotation in the second's) with ``variance`` [r,r]; r is less than 6 where
    the surroundings do not tell everything, and ``untold`` names the axes they do not. ``weakest``
    is the least information per point along any direction. ``from_ns`` 0: a first sweep, no motion.
    """

    sensor: str
    from_ns: int
    to_ns: int
    motion: RigidTransform
    directions: F64
    variance: F64
    untold: tuple[str, ...] = ()
    weakest: float = 0.0
    iterations: int = 0


def library() -> Any:
    """The registration library; ConfigError where it is not installed."""
    try:
        return importlib.import_module("small_gicp")
    except ImportError as error:
        raise ConfigError(
            "pose.lidar_odometry: needs the package small_gicp, which is not installed"
            f" (pip install small_gicp): {error}"
        ) from None


class LidarOdometry:
    """Registers sweep after sweep. One thread at a time may use it."""

    def __init__(self, config: PoseConfig) -> None:
        self._gicp = library()
        self._config = config
        self._placer = CloudPlacer()
        self._map: Any = None
        self._pose = RigidTransform.identity()  # map_from_base of the last registered sweep
        self._last: SweepJob | None = None

    def register(self, job: SweepJob) -> SweepMotion | Rejection:
        """The motion since the last registered sweep, or why there is none."""
        cloud = self._thinned(job)
        if cloud.size() < FEWEST:
            detail = f"{cloud.size()} places hit within {self._config.lidar_range_m:g} m"
            return Rejection(job.sweep.sensor, job.stamp_ns, Reason.EMPTY_CLOUD, detail)
        self._gicp.estimate_normals_covariances(cloud, None, _NEIGHBOURS, 1)
        last = self._last
        if last is None or last.drive != job.drive:
            return self._begin(job, cloud)
        guess = last.odom_from_base.inverse() @ job.odom_from_base
        found = self._gicp.align(
            self._map,
            cloud,
            (self._pose @ guess).matrix(),
            max_correspondence_distance=self._config.lidar_map_voxel_m,
            num_threads=1,
            max_iterations=_MAX_ITERATIONS,
        )
        met = found.num_inliers / cloud.size()
        placed: F64 = np.asarray(found.T_target_source)
        if met < _INLIERS or not np.isfinite(placed).all():
            self._begin(job, cloud)
            detail = f"{100.0 * met:.0f} % of it fits the sweeps before: a new map begins with it"
            return Rejection(job.sweep.sensor, job.stamp_ns, Reason.OUTLIER, detail)
        answer = self._worth(job, last, guess, placed, cloud, found.iterations)
        self._keep(job, cloud, self._pose @ answer.motion)
        return answer

    # ----------------------------------------------------------------------------- steps

    def _thinned(self, job: SweepJob) -> Any:
        mounted = Mounted(job.sweep, job.base_from_lidar, job.sweep.stamp_ns)
        xyz = self._placer.place([mounted], job.stamp_ns, job.motion)[0].xyz
        with np.errstate(invalid="ignore", over="ignore"):
            distance2 = np.einsum("in,in->n", xyz, xyz)
            good = (distance2 > _NEAREST_M**2) & (distance2 < self._config.lidar_range_m**2)
        points = np.ascontiguousarray(xyz[:, good].T, dtype=np.float64)
        return self._gicp.voxelgrid_sampling(points, self._config.lidar_voxel_m, 1)

    def _begin(self, job: SweepJob, cloud: Any) -> SweepMotion:
        self._map = self._gicp.GaussianVoxelMap(self._config.lidar_map_voxel_m)
        self._map.set_lru(horizon=_MAP_SWEEPS)
        self._keep(job, cloud, RigidTransform.identity())
        still = RigidTransform.identity()
        nothing = np.zeros((0, 6)), np.zeros((0, 0))
        return SweepMotion(job.sweep.sensor, 0, job.stamp_ns, still, *nothing)

    def _keep(self, job: SweepJob, cloud: Any, pose: RigidTransform) -> None:
        self._map.insert(cloud, pose.matrix())
        self._pose, self._last = pose, job

    def _worth(
        self,
        job: SweepJob,
        last: SweepJob,
        guess: RigidTransform,
        placed: F64,
        cloud: Any,
        iterations: int,
    ) -> SweepMotion:
        """The motion, taken from the registration only where the surfaces tell it."""
        points, normals = cloud.points()[:, :3], cloud.normals()[:, :3]
        eigenvalues, basis, count = surroundings(points, normals)
        told = eigenvalues >= self._config.lidar_degenerate
        # Off the guess by a small motion in the base's axes; only its told part is taken.
        start = (self._pose @ guess).inverse()
        at = RigidTransform.trusted(placed[:3, :3], placed[:3, 3])
        linear, angular = se3_log(*(part[None] for part in _parts(start @ at)))
        off = np.concatenate([linear[0], angular[0] * LEVER_M])
        kept = basis[:, told]
        off = kept @ (kept.T @ off)
        turn = off[3:] / LEVER_M
        step = RigidTransform.trusted(rotation_exp(*turn.tolist()), off[:3])
        motion = guess @ step
        directions = np.zeros((kept.shape[1], 6))
        directions[:, :3] = kept[:3].T @ motion.rotation.T
        directions[:, 3:] = kept[3:].T * LEVER_M
        untold = {AXES[int(np.argmax(np.abs(basis[:, k])))] for k in np.flatnonzero(~told)}
        return SweepMotion(
            job.sweep.sensor,
            last.stamp_ns,
            job.stamp_ns,
            motion,
            directions,
            self._variance(eigenvalues[told], kept, count, motion),
            tuple(axis for axis in AXES if axis in untold),
            float(eigenvalues[0]),
            int(iterations),
        )

    def _variance(self, eigenvalues: F64, kept: F64, count: int, motion: RigidTransform) -> F64:
        config = self._config
        points: F64 = np.diag(config.lidar_sigma_m**2 / (count * eigenvalues))
        way_m = float(np.linalg.norm(motion.translation))
        # What no point tells: the map drifts along with the sweeps it is made of.
        place = config.lidar_floor_m**2 + (config.lidar_drift * way_m) ** 2
        turn = (LEVER_M * config.lidar_floor_rad) ** 2
        drift = np.array((place, place, place, turn, turn, turn))
        return np.asarray(points + (kept.T * drift) @ kept)


def surroundings(points: F64, normals: F64) -> tuple[F64, F64, int]:
    """What surfaces at ``points`` [N,3] m with ``normals`` [N,3] tell of a small motion of the
    base: per point, the information (1/m^2 of unit noise) along each eigenvector, ascending; the
    eigenvectors [6,6] as columns, of (translation, rotation times LEVER_M); how many were near
    enough to tell."""
    near = np.einsum("ni,ni->n", points[:, :2], points[:, :2]) < NEAR_M**2
    points, normals = points[near], normals[near]
    rows = np.hstack([normals, np.cross(points, normals) / LEVER_M])
    count = max(len(rows), 1)
    eigenvalues, basis = np.linalg.eigh(rows.T @ rows / count)
    return np.maximum(eigenvalues, 1e-9), basis, count


def _parts(t: RigidTransform) -> tuple[F64, F64]:
    return t.rotation, t.translation
