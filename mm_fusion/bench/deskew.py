"""What correcting a sweep for motion costs, and what error it leaves.

The peer is the usual way, in plain numpy and scipy: between the poses of the odometry every point
is turned by scipy's Slerp and moved by linear interpolation, then brought to the sweep's stamp.
``peer_by_column`` does that once per column of the sweep, whose points share their instant.
``ratio`` is the peer's time over ours, by wall clock or by CPU time of all threads, whichever
is smaller.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

from mm_fusion.bench import turn
from mm_fusion.config import Config, DeskewConfig, load
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.clouds import CloudPlacer, Mounted
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.network import read_contract
from mm_fusion.perception.staging import Staging
from mm_fusion.resources import share_path
from mm_fusion.samples import CameraFrame, CameraModel, LidarSweep, PoseEstimate, SyncedSet

F64 = npt.NDArray[np.float64]

HELP = "What correcting a sweep for motion costs, and what error it leaves"

SIZES = (30_000, 64_000, 120_000)
WARM_UP = 3
TRIALS = 20  # draws of noise for the remaining error
PLACES = {
    "lidar": (0.4, 0.1, 1.8, 0.01, -0.02, 0.5),
    "lidar_rear": (-1.0, 0.0, 1.6, 0.0, 0.03, 3.0),
    "camera": (1.0, 0.0, 1.5, -np.pi / 2, 0.0, -np.pi / 2),
}
IMAGE = (720, 1280)
LENS = (-0.28, 0.09, 0.0008, -0.0011, 0.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--rounds", type=int, default=31, help="measurements per figure [31]")
    parser.add_argument("--seed", type=int, default=1, help="seed of clouds and noise [1]")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    rng = np.random.default_rng(args.seed)
    return {
        "rounds": args.rounds,
        "ratio_is": "the peer's time over ours, wall or CPU, whichever is smaller",
        "deskew": {str(n): _deskew(n, rng, args.rounds) for n in SIZES},
        "staging": _staging(rng, args.rounds),
        "error_at_20m": _errors(rng),
    }


# ----------------------------------------------------------------------------------- cost


def medians(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Wall and CPU milliseconds of each way, measured in turns."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for n in range(WARM_UP + max(rounds, 1)):
        for name, way in ways.items():
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            way()
            taken = time.perf_counter() - wall_s, time.process_time() - cpu_s
            if n >= WARM_UP:
                spent[name].append(taken)
    out = {}
    for name, taken_s in spent.items():
        wall_ms, cpu_ms = np.median(np.array(taken_s), axis=0) * 1e3
        out[name] = {"wall_ms": round(float(wall_ms), 3), "cpu_ms": round(float(cpu_ms), 3)}
    return out


def _deskew(count: int, rng: np.random.Generator, rounds: int) -> dict[str, Any]:
    base_from_lidar = _place("lidar")
    sweep = turn.sweep(turn.ring(count, rng, None), base_from_lidar)
    poses = turn.perfect_poses()
    motion, placer = _buffer(poses), CloudPlacer()
    mounted = [Mounted(sweep, base_from_lidar, sweep.stamp_ns)]
    cost = medians(
        {
            "ours": lambda: placer.place(mounted, turn.T0_NS, motion),
            "peer": lambda: usual_way(sweep, base_from_lidar, poses, turn.T0_NS),
            "peer_by_column": lambda: usual_way(sweep, base_from_lidar, poses, turn.T0_NS, True),
            "placed_without_deskew": lambda: placer.place(mounted, turn.T0_NS, None),
        },
        rounds,
    )
    return {
        **cost,
        "ratio": _ratio(cost["peer"], cost["ours"]),
        "ratio_by_column": _ratio(cost["peer_by_column"], cost["ours"]),
    }


def _ratio(peer: Mapping[str, float], ours: Mapping[str, float]) -> float:
    return round(min(peer[name] / ours[name] for name in ("wall_ms", "cpu_ms")), 1)


def usual_way(
    sweep: LidarSweep,
    base_from_lidar: RigidTransform,
    poses: Sequence[PoseEstimate],
    stamp_ns: int,
    by_column: bool = False,
) -> F64:
    """The sweep's points [N,3] in base axes at the stamp, the way it is usually written."""
    points = np.stack([sweep.points[axis] for axis in "xyz"], axis=1).astype(np.float64)
    seconds = (sweep.stamp_ns - stamp_ns) * 1e-9 + sweep.points[sweep.time_field] * (
        sweep.time_unit_ns * 1e-9
    )
    points = points @ base_from_lidar.rotation.T + base_from_lidar.translation
    known_s = np.array([(p.stamp_ns - stamp_ns) * 1e-9 for p in poses])
    slerp = Slerp(known_s, Rotation.from_matrix([p.frame_from_base.rotation for p in poses]))
    places = np.array([p.frame_from_base.translation for p in poses])
    seconds = np.clip(seconds, known_s[0], known_s[-1])
    then, column = np.unique(seconds, return_inverse=True) if by_column else (seconds, None)
    rotations = slerp(then)
    moved = np.stack([np.interp(then, known_s, places[:, n]) for n in range(3)], axis=1)
    if column is None:
        in_odom = rotations.apply(points) + moved
    else:
        in_odom = np.einsum("nij,nj->ni", rotations.as_matrix()[column], points) + moved[column]
    now = np.clip(0.0, known_s[0], known_s[-1])
    here = np.array([np.interp(now, known_s, places[:, n]) for n in range(3)])
    return np.asarray(slerp(now).inv().apply(in_odom - here))


def _staging(rng: np.random.Generator, rounds: int) -> dict[str, Any]:
    """Whole sets into the packaged network's input buffers."""
    config = load(
        assignments=[
            "topics.lidars=[lidar, lidar_rear]",
            "calibration.extrinsics=["
            + ", ".join(f"'{n} {' '.join(map(str, p))}'" for n, p in PLACES.items())
            + "]",
        ]
    )
    contract = read_contract(share_path("models/fusion.onnx"))
    staging = Staging(contract, _calibration(config))
    motion = _buffer(turn.perfect_poses())
    sweeps = tuple(
        turn.sweep(turn.ring(SIZES[-1], rng, None), _place(name), name)
        for name in ("lidar", "lidar_rear")
    )
    height, width = IMAGE
    image = rng.integers(0, 256, (height, width * 3), dtype=np.uint8)
    frame = CameraFrame("camera", turn.T0_NS, "camera", "bgr8", height, width, width * 3, image)
    sets = {
        "1_lidar_of_120000": _set(sweeps[:1], None),
        "2_lidars_of_120000": _set(sweeps, None),
        "1_lidar_of_120000_1_camera_720p": _set(sweeps[:1], frame),
    }
    ways = {n: (lambda s=s: staging.fill(s, motion, deskew=True)) for n, s in sets.items()}
    out: dict[str, Any] = dict(medians(ways, rounds))
    out["point_budget"] = contract.point_budget
    return out


def _set(sweeps: tuple[LidarSweep, ...], frame: CameraFrame | None) -> SyncedSet:
    there = (*sweeps, *(() if frame is None else (frame,)))
    dt_ns = {s.sensor: s.stamp_ns - turn.T0_NS for s in there}
    return SyncedSet(turn.T0_NS, sweeps, (frame,), dt_ns=dt_ns)


def _calibration(config: Config) -> Calibration:
    known = Calibration(config)
    height, width = IMAGE
    k = np.array([[0.7 * width, 0, width / 2], [0, 0.7 * width, height / 2], [0, 0, 1.0]])
    known.set_camera(CameraModel("camera", "camera", height, width, k, "plumb_bob", np.array(LENS)))
    return known


def _place(name: str) -> RigidTransform:
    return RigidTransform.from_rpy(PLACES[name][:3], PLACES[name][3:])


def _buffer(poses: Sequence[PoseEstimate]) -> MotionBuffer:
    motion = MotionBuffer(DeskewConfig())
    for pose in poses:
        motion.add(pose)
    return motion


# ---------------------------------------------------------------------------------- error


def _errors(rng: np.random.Generator) -> dict[str, Any]:
    """Centimetres between points 20 m away and where they stand, at 90 degrees a second."""
    world = turn.ring(6400, rng)
    base_from_lidar = _place("lidar")
    sweep = turn.sweep(world, base_from_lidar)
    mounted = [Mounted(sweep, base_from_lidar, sweep.stamp_ns)]

    def ours(poses: Sequence[PoseEstimate] | None) -> F64:
        motion = None if poses is None else _buffer(poses)
        return CloudPlacer().place(mounted, turn.T0_NS, motion)[0].xyz.T.astype(np.float64)

    def peer(poses: Sequence[PoseEstimate]) -> F64:
        return usual_way(sweep, base_from_lidar, poses, turn.T0_NS)

    def drawn(
        way: Callable[[Sequence[PoseEstimate]], F64], make: Callable[..., list[PoseEstimate]]
    ) -> dict[str, float]:
        seeds = range(TRIALS)
        return _centimetres([_off(way(make(np.random.default_rng(s))), world) for s in seeds])

    def of(way: Callable[[Sequence[PoseEstimate]], F64]) -> dict[str, Any]:
        wheels = turn.perfect_poses(10.0, twist=False)
        return {
            "poses_without_error_50hz": _centimetres([_off(way(turn.perfect_poses()), world)]),
            "poses_without_error_10hz_no_twist": _centimetres([_off(way(wheels), world)]),
            "poses_with_noise_50hz": drawn(way, turn.shaken_poses),
            "poses_of_the_pose_road": drawn(way, turn.filtered_poses),
        }

    return {
        "raw": _centimetres([_off(ours(None), world)]),
        "ours": of(ours),
        "peer": of(peer),
        "draws_of_noise": TRIALS,
    }


def _off(found: F64, truth: F64) -> F64:
    # The base is at the world's origin at the stamp, so that base axes are the world's.
    return np.asarray(np.linalg.norm(found - truth, axis=1) * 100.0)


def _centimetres(errors_cm: Sequence[F64]) -> dict[str, float]:
    every = np.concatenate(errors_cm)
    return {
        "median_cm": round(float(np.median(every)), 3),
        "p95_cm": round(float(np.percentile(every, 95)), 3),
        "max_cm": round(float(every.max()), 3),
    }
