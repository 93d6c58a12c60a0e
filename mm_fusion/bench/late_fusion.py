"""What late fusion costs without the 2D network, and how many objects it boxes within a metre.

Simulated 64-beam sweeps of 120 000 points, or labelled frames of a folder. In place of a 2D
detector, the true boxes are projected into the picture, their edges moved by a share of their size
(``noise``); what is hidden for more than three quarters is left out. Everything else is what the
pipeline runs: placing the points, the picture onto the network's canvas, ground, clusters,
association, boxes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config, from_values
from mm_fusion.datasets.frame import LABELS, Cloud, LabelledFrame, read_frame
from mm_fusion.errors import ConfigError
from mm_fusion.geometry import box_corners, project
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.camera2d.contract import CameraContract, PictureInput
from mm_fusion.perception.camera2d.detector import CameraDetector
from mm_fusion.perception.camera2d.heads import Boxes2d
from mm_fusion.perception.camera2d.network import CameraNetwork
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.samples import CameraFrame, CameraModel, Detection, LidarSweep, SyncedSet

F64 = npt.NDArray[np.float64]

HELP = "What late fusion costs without the 2D network, and how many objects it finds"

DEVICE = "hdl64e"
FARTHEST_M = 40.0
NEAR_M = 1.0
LEAST_VISIBLE, LEAST_PIXELS = 0.25, 60
CLASSES = (*LABELS, "truck", "bus")
POINT = np.dtype([(axis, np.float32) for axis in "xyz"])


class Truth(NamedTuple):
    """An object with its camera box: the network's class, box in px, box in space [9]."""

    kind: int
    edges: F64
    box: F64


class Told(CameraNetwork):
    """A detector that sees what it is told, at no cost."""

    def __init__(self) -> None:
        picture = PictureInput("images", 640, 640)
        kinds = dict.fromkeys(CLASSES, "car") | {c: c for c in LABELS}
        self.contract = CameraContract(
            "bench", "none.onnx", "", "yolov8", picture, ("boxes",), CLASSES, kinds
        )
        self.told = Boxes2d(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))

    def run(self, canvas: npt.NDArray[np.uint8], threshold: float) -> Boxes2d:
        """What it was told."""
        del canvas, threshold
        return self.told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--frames", type=int, default=24, help="simulated frames [24]")
    parser.add_argument("--seed", type=int, default=700001, help="seed of town and noise [700001]")
    parser.add_argument("--noise", type=float, default=0.03, help="of the boxes' edges [0.03]")
    parser.add_argument("--rounds", type=int, default=5, help="times each frame is timed [5]")
    parser.add_argument(
        "--points", type=int, default=0, help="fill or thin every sweep to so many (as they are)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="labelled frames instead")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    if args.data is not None:
        paths = sorted(args.data.glob("*.npz"))[: args.frames]
        if not paths:
            raise ConfigError(f"--data: {args.data}: holds no frames")
        return _measure([read_frame(p) for p in paths], args)
    with tempfile.TemporaryDirectory() as folder:
        frames = _simulated(Path(folder), args.frames, args.seed)
    return _measure(frames, args)


def _simulated(folder: Path, count: int, seed: int) -> list[LabelledFrame]:
    from mm_fusion.sim.frames import FRAMES_PER_DRIVE, write_drive
    from mm_fusion.sim.rigs import Wanted

    wanted = Wanted(lidar=DEVICE, weather="dry", night=False, pixels=1242 * 375)
    for drive, first in enumerate(range(0, count, FRAMES_PER_DRIVE)):
        last = min(first + FRAMES_PER_DRIVE, count)
        write_drive(folder, drive, range(first, last), seed, wanted)
    return [read_frame(p) for p in sorted(folder.glob("*.npz"))]


def _measure(frames: list[LabelledFrame], args: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(args.seed)
    errors: dict[str, list[float]] = defaultdict(list)
    spent: dict[str, list[float]] = defaultdict(list)
    sources: dict[str, int] = defaultdict(int)
    squares, points = [], []
    for given in frames:
        truth = seen_objects(settled(given), rng, args.noise)
        frame = with_points(given, args.points, rng) if args.points > 0 else given
        detector, network, synced, motion = _road(frame)
        network.told = _told(truth, frame)
        found: tuple[Detection, ...] = ()
        for _ in range(max(args.rounds, 1)):
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            staged = detector.stage(synced, motion)
            found = detector.detect(staged, synced.stamp_ns)
            spent["wall_ms"].append(1e3 * (time.perf_counter() - wall_s))
            spent["cpu_ms"].append(1e3 * (time.process_time() - cpu_s))
        points.append(len(frame.cloud.xyz))
        for n, t in enumerate(truth):
            error, source, square = _judged(t, _score(n), found)
            sources[source] += 1
            errors["all"].append(error)
            errors[CLASSES[t.kind]].append(error)
            errors[f"to {10 * int(np.hypot(*t.box[:2]) // 10 + 1)} m"].append(error)
            squares += [square] if source == "camera2d" else []
    return {
        "frames": len(frames),
        "points": int(np.median(points)) if points else 0,
        "spent": {
            name: {
                "p50": round(float(np.median(v)), 2),
                "p90": round(float(np.quantile(v, 0.9)), 2),
            }
            for name, v in spent.items()
        },
        "within_1_m": {name: _share(v) for name, v in sorted(errors.items())},
        "sources": dict(sources),
        "nees_of_place": {
            "median": round(float(np.median(squares)), 2) if squares else None,
            "of_an_honest_one": 1.39,
        },
    }


def _told(truth: list[Truth], frame: LabelledFrame) -> Boxes2d:
    """The boxes as they would be on the canvas, every one with a score of its own."""
    factor, offset = _to_canvas(frame)
    edges = np.array([t.edges for t in truth], np.float64).reshape(-1, 4)
    scores = np.array([_score(n) for n in range(len(truth))], np.float64)
    kinds = np.array([t.kind for t in truth], np.int64)
    return Boxes2d(edges * factor + offset, scores, kinds)


def _score(n: int) -> float:
    return 0.9 - 1e-3 * n


def _share(errors: list[float]) -> dict[str, Any]:
    near = np.array(errors)
    return {
        "objects": len(errors),
        "share": round(float(np.mean(near < NEAR_M)), 3),
        "median_m": round(float(np.median(near)), 3),
    }


def _judged(t: Truth, score: float, found: tuple[Detection, ...]) -> tuple[float, str, float]:
    """Error in the plane, who boxed it, and the error's square in units of its covariance."""
    for d in found:
        share = 0.5 if d.source == "bearing" else 1.0
        if abs(d.score - share * score) < 1e-6 and d.covariance is not None:
            off = d.center[:2] - t.box[:2]
            square = float(off @ np.linalg.solve(d.covariance[:2, :2], off))
            return float(np.linalg.norm(off)), d.source, square
    return np.inf, "none", np.inf


def with_points(frame: LabelledFrame, count: int, rng: np.random.Generator) -> LabelledFrame:
    """The frame with so many points: some left out, or some twice, 2 cm beside themselves."""
    cloud = frame.cloud
    there = len(cloud.xyz)
    rows = rng.permutation(there)[:count]
    rows = np.sort(np.concatenate([rows, rng.integers(0, there, count - len(rows))]))
    xyz = cloud.xyz[rows]
    again = np.flatnonzero(np.diff(rows, prepend=-1) == 0)
    xyz[again] += rng.normal(scale=0.02, size=(len(again), 3)).astype(np.float32)
    told = Cloud(xyz, cloud.intensity[rows], cloud.seconds[rows], cloud.ring[rows])
    return replace(frame, cloud=told)


def settled(frame: LabelledFrame) -> LabelledFrame:
    """The frame with its moving objects where the points saw them: points are older than the
    stamp, and nobody corrects them for what others move."""
    xyz, boxes = frame.cloud.xyz, frame.objects.boxes
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0])
    for box in boxes:
        if np.isfinite(box[7:9]).all() and np.hypot(*box[7:9]) > 0.3:
            off = azimuth - np.arctan2(box[1], box[0])
            there = np.abs((off + np.pi) % (2 * np.pi) - np.pi) < 0.02
            if there.any():
                box[:2] -= box[7:9] * np.median(frame.cloud.seconds[there])
    return frame


def seen_objects(frame: LabelledFrame, rng: np.random.Generator, noise: float) -> list[Truth]:
    """The objects that a good detector would see, with the boxes that it would give."""
    height, width = frame.images[0].shape[:2]
    limit = np.array([width, height] * 2) - 0.5
    o, out = frame.objects, []
    for k, label in enumerate(o.labels.tolist()):
        box = o.boxes[k].astype(np.float64)
        if label < 0 or o.visible[k, 1] < LEAST_VISIBLE or o.num_pixels[k] < LEAST_PIXELS:
            continue
        corners = box_corners(box[:3], box[3:6], box[6])
        pixels, front = project(frame.pixel_from_base[0].astype(np.float64), corners)
        if np.hypot(box[0], box[1]) > FARTHEST_M or not front.all():
            continue
        whole = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
        size = np.tile(whole[2:] - whole[:2], 2)
        edges = np.clip(whole + noise * size * rng.normal(size=4), -0.5, limit)
        if np.prod(edges[2:] - edges[:2]) < 0.35 * size[0] * size[1]:
            continue
        kind = o.kinds[k].split("_")[0]
        out.append(Truth(CLASSES.index(kind) if kind in CLASSES else label, edges, box))
    return out


def _to_canvas(frame: LabelledFrame) -> tuple[F64, F64]:
    """Factor and offset [4] from picture pixels to those of the letterboxed canvas."""
    height, width = frame.images[0].shape[:2]
    scale = min(640 / width, 640 / height)
    size = np.array([max(round(width * scale), 1), max(round(height * scale), 1)])
    factor = size / [width, height]
    offset = (640 - size) // 2 + 0.5 * factor
    return np.tile(factor, 2), np.tile(offset, 2)


def _road(frame: LabelledFrame) -> tuple[CameraDetector, Told, SyncedSet, MotionBuffer]:
    """A detector calibrated as the frame says, and the frame as a synced set."""
    config = from_values({"topics.lidars": ["lidar"], "topics.cameras": ["camera"]})
    calibration = _calibration(frame, config)
    network = Told()
    points = np.zeros(len(frame.cloud.xyz), POINT)
    for n, axis in enumerate("xyz"):
        points[axis] = frame.cloud.xyz[:, n]
    image = frame.images[0]
    height, width = image.shape[:2]
    picture = CameraFrame(
        "camera", 1, "camera", "rgb8", height, width, 3 * width, image.reshape(height, -1)
    )
    synced = SyncedSet(
        1, (LidarSweep("lidar", 1, "lidar", points),), (picture,), dt_ns={"lidar": 0, "camera": 0}
    )
    detector = CameraDetector(network, config, calibration)
    return detector, network, synced, MotionBuffer(config.deskew)


def _calibration(frame: LabelledFrame, config: Config) -> Calibration:
    """Intrinsics and place of the camera from its projection, the LIDAR at the base."""
    from scipy.linalg import rq

    from mm_fusion.geometry import RigidTransform

    p = frame.pixel_from_base[0].astype(np.float64)
    k, rotation = rq(p[:, :3])
    signs = np.diag(np.sign(np.diag(k)))
    k, rotation = k @ signs, signs @ rotation
    translation = np.linalg.solve(k, p[:, 3])
    k /= k[2, 2]
    camera_from_base = RigidTransform(rotation, translation)
    calibration = Calibration(config)
    height, width = frame.images[0].shape[:2]
    base = config.frames.base
    calibration.set_transform(base, "camera", camera_from_base.inverse())
    calibration.set_transform(base, "lidar", RigidTransform.identity())
    calibration.set_camera(CameraModel("camera", "camera", height, width, k))
    return calibration
