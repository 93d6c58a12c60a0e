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
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.config import PoseConfig
from mm_fusion.errors import ConfigError
from mm_fusion.geometry import RigidTransform, rotation_exp
from mm_fusion.perception.clouds import CloudPlacer, Mounted
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.twist import twist_of
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
_SETTLED_M = 5e-4
_NEAREST_M = 1.5  # the vehicle itself


@dataclass(frozen=True, slots=True, eq=False)
class SweepJob:
    """A sweep to register: ``motion`` covers its points up to ``stamp_ns``, the instant it is
    deskewed to; ``odom_from_base`` is where dead reckoning has the base then. What deskewing may
    have left is told by ``span_s``, how long the sweep took, and ``twist_variance`` [6] of
    (linear, angular) velocity. Another ``drive`` than the last job's means that dead reckoning
    has begun anew."""

    drive: int
    sweep: LidarSweep
    stamp_ns: int
    base_from_lidar: RigidTransform
    motion: MotionBuffer
    odom_from_base: RigidTransform
    span_s: float
    twist_variance: F64


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
        guess = self._pose @ last.odom_from_base.inverse() @ job.odom_from_base
        told = surroundings(cloud.points()[:, :3], cloud.normals()[:, :3])
        found = self._align(cloud, guess, told)
        if found is None:
            self._begin(job, cloud)
            detail = f"most of it does not fit the {_MAP_SWEEPS} sweeps before: a new map begins"
            return Rejection(job.sweep.sensor, job.stamp_ns, Reason.OUTLIER, detail)
        answer = self._worth(job, last, self._pose.inverse() @ found[0], told, found[1])
        self._keep(job, cloud, found[0])
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

    def _align(
        self, cloud: Any, guess: RigidTransform, told: Surroundings
    ) -> tuple[RigidTransform, int] | None:
        """Where the cloud fits the map, and in how many steps; None where most of it does not.

        Where the surfaces do not tell everything, each step is taken in the told directions alone.
        """
        kept = told.basis[:, told.eigenvalues >= self._config.lidar_degenerate]
        whole = kept.shape[1] == len(AXES)
        pose, steps, found = guess, 0, None
        for _ in range(1 if whole else _MAX_ITERATIONS // 2):
            found = self._gicp.align(
                self._map,
                cloud,
                pose.matrix(),
                max_correspondence_distance=self._config.lidar_map_voxel_m,
                num_threads=1,
                max_iterations=_MAX_ITERATIONS if whole else 1,
            )
            steps += int(found.iterations) + 1
            placed: F64 = np.asarray(found.T_target_source)
            if not np.isfinite(placed).all():
                return None
            at = RigidTransform.trusted(placed[:3, :3].copy(), placed[:3, 3].copy())
            if whole:
                pose = at
                continue
            off = pose.inverse() @ at
            linear, angular = (np.array(v) for v in twist_of(off.rotation, off.translation))
            step = kept @ (kept.T @ np.concatenate([linear, angular * LEVER_M]))
            turn = (step[3:] / LEVER_M).tolist()
            pose = pose @ RigidTransform.trusted(rotation_exp(*turn), step[:3])
            if float(np.abs(step).max()) < _SETTLED_M:
                break
        if found is None or found.num_inliers < _INLIERS * cloud.size():
            return None
        return pose, steps

    def _worth(
        self,
        job: SweepJob,
        last: SweepJob,
        motion: RigidTransform,
        told: Surroundings,
        iterations: int,
    ) -> SweepMotion:
        enough = told.eigenvalues >= self._config.lidar_degenerate
        kept = told.basis[:, enough]
        directions = np.zeros((kept.shape[1], 6))
        directions[:, :3] = kept[:3].T @ motion.rotation.T
        directions[:, 3:] = kept[3:].T * LEVER_M
        untold = {AXES[int(np.argmax(np.abs(v)))] for v in told.basis.T[~enough]}
        points = self._config.lidar_sigma_m**2 / (told.near * told.eigenvalues[enough])
        return SweepMotion(
            job.sweep.sensor,
            last.stamp_ns,
            job.stamp_ns,
            motion,
            directions,
            np.diag(points) + (kept.T * self._shared(job, motion)) @ kept,
            tuple(axis for axis in AXES if axis in untold),
            float(told.eigenvalues[0]),
            iterations,
        )

    def _shared(self, job: SweepJob, motion: RigidTransform) -> F64:
        """Variances [6] of the motion that no point tells, rotations times LEVER_M: the map drifts
        along with the sweeps it is made of, and deskewing is as good as the velocity was known."""
        config = self._config
        way_m = float(np.linalg.norm(motion.translation))
        place = config.lidar_floor_m**2 + (config.lidar_drift * way_m) ** 2
        out = np.repeat((place, config.lidar_floor_rad**2), 3) + job.span_s**2 * job.twist_variance
        out[3:] *= LEVER_M**2
        return np.asarray(out)


class Surroundings(NamedTuple):
    """Per point, the information (1/m^2 for unit noise) along each eigenvector, ascending; the
    eigenvectors [6,6] as columns, of (translation, rotation times LEVER_M), in the base's axes;
    how many points were near enough to tell."""

    eigenvalues: F64
    basis: F64
    near: int


def surroundings(points: F64, normals: F64) -> Surroundings:
    """What surfaces at ``points`` [N,3] m with ``normals`` [N,3] tell of a small motion."""
    near = np.einsum("ni,ni->n", points[:, :2], points[:, :2]) < NEAR_M**2
    points, normals = points[near], normals[near]
    rows = np.hstack([normals, np.cross(points, normals) / LEVER_M])
    count = max(len(rows), 1)
    eigenvalues, basis = np.linalg.eigh(rows.T @ rows / count)
    return Surroundings(np.maximum(eigenvalues, 1e-9), basis, count)
