"""What LIDAR odometry costs, how far it drifts, and what it leaves of a minute without GPS.

A street, a tunnel and an open field made of boxes, driven through by formula with a 64-beam LIDAR;
registration runs on one core. Where KISS-ICP is installed, it runs on the same sweeps, deskewed
with the true motion, which it is given for nothing.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from mm_fusion.bench import lidar_scenes as scenes
from mm_fusion.bench.drives import DATUM, T0_NS, Drive, Sensors, drawn, merge
from mm_fusion.config import load
from mm_fusion.geometry import FrameTree, RigidTransform
from mm_fusion.pose.lidar_odometry import LidarOdometry, SweepJob, SweepMotion
from mm_fusion.pose.pipeline import PosePipeline
from mm_fusion.samples import GnssFix, LidarSweep, PoseEstimate, Rejection, Sample

F64 = npt.NDArray[np.float64]

HELP = "what LIDAR odometry costs, how far it drifts, which surroundings it does not trust"
_ON = "pose.lidar_odometry=true"
_GPS_S, _ALONE_S = 30.0, 60.0
_PARTS = ("street", "without_gps_60_s", "tunnel", "field")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument(
        "--runs", type=int, default=1, help="seeded drives of a minute without GPS (default 1)"
    )
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of the street for cost and drift (default 15)"
    )
    parser.add_argument(
        "--only", action="append", choices=_PARTS, help="only this part (may be repeated)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "street": lambda: street(float(args.seconds)),
        "without_gps_60_s": lambda: without_gps(max(1, int(args.runs))),
        "tunnel": lambda: straight("tunnel"),
        "field": lambda: straight("field"),
    }
    return {name: parts[name]() for name in args.only or _PARTS}


class _Watched(LidarOdometry):
    """Notes what each registration took and answered."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.spent_ms: list[float] = []
        self.motions: list[SweepMotion] = []

    def register(self, job: SweepJob) -> SweepMotion | Rejection:
        """As the base class does."""
        start_s = time.process_time()
        outcome = super().register(job)
        self.spent_ms.append((time.process_time() - start_s) * 1e3)
        if isinstance(outcome, SweepMotion) and outcome.from_ns:
            self.motions.append(outcome)
        return outcome


def _through(
    samples: list[Sample], frames: FrameTree, on: bool
) -> tuple[PosePipeline, _Watched | None, list[PoseEstimate]]:
    frames.set("base_link", "lidar", scenes.BASE_FROM_LIDAR)
    config = load(assignments=[DATUM, *([_ON] if on else [])])
    watched = _Watched(config.pose) if on else None
    jobs: list[SweepJob] = []
    pipeline = PosePipeline(config, frames, jobs.append if on else None)
    out = []
    for sample in samples:
        out += [a for a in pipeline.add(sample) if isinstance(a, PoseEstimate)]
        while jobs and watched is not None:
            pipeline.add_motion(watched.register(jobs.pop(0)))
    return pipeline, watched, out


def street(seconds: float) -> dict[str, Any]:
    """Cost per sweep, errors of its motion against what they claim, drift over 100 m."""
    drive = Drive(duration_s=seconds + 6.0, speed=10.0, heading=0.5, turn=0.6)
    sensors = Sensors(seed=3)
    found = scenes.street(drive, 1)
    sweeps = scenes.sweeps(found, drive, scenes.Lidar(), 1, 2.0, drive.duration_s)
    samples = merge(sensors.imu(drive), sensors.wheels(drive), sensors.gps(drive), sweeps)
    pipeline, watched, _ = _through(samples, sensors.frames(), True)
    assert watched is not None
    errors, nees = motion_errors(drive, watched.motions)
    true = [scenes.motion_between(drive, m.from_ns, m.to_ns) for m in watched.motions]
    out = {
        "points": round(float(np.mean([len(s.points) for s in sweeps]))),
        "cpu_ms_median": round(float(np.median(watched.spent_ms)), 1),
        "cpu_ms_p95": round(float(np.percentile(watched.spent_ms, 95)), 1),
        "sweeps_per_s_of_one_core": round(1e3 / float(np.median(watched.spent_ms)), 1),
        "motion_sigma_mm": [round(1e3 * float(v), 2) for v in errors[:, :3].std(axis=0)],
        "motion_sigma_mrad": [round(1e3 * float(v), 3) for v in errors[:, 3:].std(axis=0)],
        "nees_per_element": round(float(np.mean(nees)), 2),
        "drift": _drift(true, [m.motion for m in watched.motions]),
        "sweeps": pipeline.sweep_counts(),
    }
    peer = _kiss_icp(drive, sweeps)
    return {**out, "kiss_icp": peer or "not installed"}


def motion_errors(drive: Drive, motions: list[SweepMotion]) -> tuple[F64, F64]:
    """Errors [N,6] of motions (m, rad), and their squares over their variances, per element."""
    errors, nees = [], []
    for m in motions:
        true = scenes.motion_between(drive, m.from_ns, m.to_ns)
        turned = Rotation.from_matrix(true.rotation.T @ m.motion.rotation).as_rotvec()
        error = np.concatenate([m.motion.translation - true.translation, turned])
        off = m.directions @ error
        errors.append(error)
        nees.append(float(off @ np.linalg.solve(m.variance, off)) / max(len(off), 1))
    return np.array(errors), np.array(nees)


def _drift(true: list[RigidTransform], found: list[RigidTransform]) -> dict[str, float]:
    """Errors over stretches of 100 m: percent of the way, and degrees."""
    way = np.cumsum([float(np.linalg.norm(t.translation)) for t in true])
    shares, turns = [], []
    for first in range(0, len(true), 5):
        last = int(np.searchsorted(way, way[first] + 100.0))
        if last >= len(true):
            break
        a = b = RigidTransform.identity()
        for n in range(first + 1, last + 1):
            a, b = a @ true[n], b @ found[n]
        off = a.inverse() @ b
        shares.append(float(np.linalg.norm(off.translation)))
        turns.append(float(np.degrees(Rotation.from_matrix(off.rotation).magnitude())))
    if not shares:
        return {}
    return {
        "percent_per_100_m": round(float(np.mean(shares)), 3),
        "degrees_per_100_m": round(float(np.mean(turns)), 3),
    }


def without_gps(runs: int) -> dict[str, Any]:
    """A minute at 10 m/s after GPS has ended: the final error over the way, with and without."""
    shares: dict[str, list[float]] = {"wheels_imu": [], "with_sweeps": []}
    nees = []
    for seed in range(runs):
        drive = Drive(
            duration_s=_GPS_S + _ALONE_S, rest_s=2.0, speed=10.0, heading=0.3 * seed, turn=0.6
        )
        sensors = drawn(seed)
        gps = [f for f in sensors.gps(drive) if _second(f) < _GPS_S]
        samples = merge(sensors.imu(drive), sensors.wheels(drive), gps)
        scene = scenes.street(drive, seed)
        sweeps = scenes.sweeps(scene, drive, scenes.Lidar("32", 1024), seed, 2.0, drive.duration_s)
        for name, every in (("wheels_imu", samples), ("with_sweeps", merge(samples, sweeps))):
            _, _, out = _through(every, sensors.frames(), name == "with_sweeps")
            last = [e for e in out if e.frame_id == "map"][-1]
            off = last.frame_from_base.translation[:2] - drive.at(last.stamp_ns)[:2]
            shares[name].append(100.0 * float(np.linalg.norm(off)) / (10.0 * _ALONE_S))
        nees.append(float(off @ np.linalg.solve(last.pose_covariance[:2, :2], off)) / 2.0)
    return {
        **{
            name: {
                "median_percent": round(float(np.median(v)), 3),
                "max_percent": round(max(v), 3),
            }
            for name, v in shares.items()
        },
        "runs": runs,
        "nees_per_element_with_sweeps": round(float(np.mean(nees)), 2),
    }


def _second(fix: Sample) -> float:
    assert isinstance(fix, GnssFix)
    return (fix.stamp_ns - T0_NS) / 1e9


def straight(kind: str) -> dict[str, Any]:
    """Seven seconds through surroundings that do not tell everything."""
    drive = Drive(duration_s=9.0, speed=10.0, heading=0.5, turn=0.0)
    sensors = Sensors(seed=3)
    scene = scenes.tunnel(drive) if kind == "tunnel" else scenes.field()
    sweeps = scenes.sweeps(scene, drive, scenes.Lidar("32", 1024), 1, 2.0, drive.duration_s)
    samples = merge(sensors.imu(drive), sensors.wheels(drive), sensors.gps(drive), sweeps)
    pipeline, watched, _ = _through(samples, sensors.frames(), True)
    assert watched is not None
    return {
        "weakest_direction_most": round(max(m.weakest for m in watched.motions), 4),
        "sweeps": pipeline.sweep_counts(),
    }


def _kiss_icp(drive: Drive, sweeps: list[LidarSweep]) -> dict[str, Any] | None:
    """KISS-ICP with its defaults, one thread, on sweeps without motion in them."""
    try:
        kiss = importlib.import_module("kiss_icp.kiss_icp")
        config = importlib.import_module("kiss_icp.config").KISSConfig()
    except ImportError:
        return None
    config.data.deskew, config.mapping.voxel_size = False, 1.0
    config.registration.max_num_threads = 1
    odometry, spent_ms, poses = kiss.KissICP(config), [], []
    for sweep in sweeps:
        points = _still(drive, sweep)
        start_s = time.process_time()
        odometry.register_frame(points, np.zeros(0))
        spent_ms.append((time.process_time() - start_s) * 1e3)
        pose = np.asarray(odometry.last_pose)
        poses.append(RigidTransform.trusted(pose[:3, :3].copy(), pose[:3, 3].copy()))
    stamps = [s.stamp_ns for s in sweeps]
    still = RigidTransform.identity()
    true = [
        still,
        *(scenes.motion_between(drive, a, b) for a, b in pairwise(stamps)),
    ]
    found = [
        still,
        *(a.inverse() @ b for a, b in pairwise(poses)),
    ]
    return {
        "cpu_ms_median": round(float(np.median(spent_ms)), 1),
        "cpu_ms_p95": round(float(np.percentile(spent_ms, 95)), 1),
        "drift": _drift(true, found),
    }


def _still(drive: Drive, sweep: LidarSweep) -> F64:
    """A sweep's points [N,3] in base axes at its stamp, by the true motion."""
    seconds = sweep.points["time"].astype(np.float64)
    instants, index = np.unique(seconds, return_inverse=True)
    end_s = (sweep.stamp_ns - T0_NS) / 1e9
    rotations, places = scenes.pose_at(drive, np.concatenate([end_s + instants, [end_s]]))
    turns = rotations[-1].T @ rotations[:-1]
    shifts = (places[:-1] - places[-1]) @ rotations[-1]
    xyz = np.stack([sweep.points[a] for a in "xyz"], axis=1).astype(np.float64)
    in_base = scenes.BASE_FROM_LIDAR.apply(xyz)
    return np.asarray(np.einsum("nij,nj->ni", turns[index], in_base) + shifts[index])
