#!/usr/bin/env python3
"""How much the best of all cameras could add to the LIDAR network.

    .venv/bin/python scripts/perfect_camera.py --frames out/val64

Takes the LIDAR network's boxes and lets a camera that makes no mistake mend them where it looks:
every object that shows at least so many pixels in the network's picture (640 x 384) is found, with
a score of 1 and exactly where it is. In a second row this camera also strikes out every box in its
view that is none of any object. What remains is the LIDAR network's. Prints mAP (nuScenes, 0.5, 1,
2, 4 m) and its ratio to the LIDAR network's as one JSON object: what no network of both senses can
be expected to reach.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from mm_fusion.evaluation.detection import evaluate_detections
from mm_fusion.evaluation.frame_sets import in_picture
from mm_fusion.evaluation.truth import TruthBox
from mm_fusion.training.frames import Frame, list_frames
from mm_fusion.training.network_torch import FusionNet
from mm_fusion.training.train import lidar_network
from mm_fusion.training.validate import FRAME_SPACING_NS, batches, predict, summary, truth_of

LEAST_PX = (1, 40, 100, 200, 400, 800, 1600)
NEAR_M = 2.0
Found = list[dict[str, Any]]


def owners(found: Found, truth: list[TruthBox]) -> list[int]:
    """For each box, best first, the number of the nearest object of its class within NEAR_M that
    no better box has; -1 where there is none."""
    free, out = [True] * len(truth), []
    for box in found:
        gaps = [
            np.hypot(*(t.center[:2] - box["center"][:2]))
            if free[n] and t.label == box["class"]
            else np.inf
            for n, t in enumerate(truth)
        ]
        nearest = int(np.argmin(gaps)) if gaps else -1
        if nearest >= 0 and gaps[nearest] < NEAR_M:
            free[nearest] = False
            out.append(nearest)
        else:
            out.append(-1)
    return out


def mended(
    found: Found, truth: list[TruthBox], frame: Frame, cameras: list[tuple[float, bool]]
) -> list[Found]:
    """The boxes after each of some perfect cameras: what is the least that it sees (pixels), and
    whether it strikes out false boxes in its view."""
    centers = np.array([box["center"] for box in found]).reshape(-1, 3)
    looked_at = in_picture(frame.pixel_from_base, frame.image.shape[:2], centers)
    judged = list(zip(found, owners(found, truth), looked_at, strict=True))
    out = []
    for least_px, strike in cameras:
        seen = [t.counted and frame.num_pixels[int(t.object_id)] >= least_px for t in truth]
        kept = [
            box
            for box, owner, looked in judged
            if (not seen[owner] if owner >= 0 else not (strike and looked))
        ]
        out.append(kept + [told(t) for t, sees in zip(truth, seen, strict=True) if sees])
    return out


def told(t: TruthBox) -> dict[str, Any]:
    """An object as one that is sure of it tells it, but for its speed."""
    return {
        "class": t.label,
        "score": 1.0,
        "center": t.center.tolist(),
        "size": t.size.tolist(),
        "yaw": t.yaw,
        "velocity": [0.0, 0.0],
    }


def bounds(net: FusionNet, paths: list[Path]) -> dict[str, Any]:
    """mAP and its ratio to the LIDAR network's, for cameras that see less and less."""
    cameras = [(px, strike) for strike in (False, True) for px in (*LEAST_PX, float("inf"))]
    lines: dict[tuple[float, bool], Found] = {camera: [] for camera in cameras}
    truths = {}
    for first, frames in batches(paths):
        for n, (frame, found) in enumerate(zip(frames, predict(net, frames, "lidar"), strict=True)):
            stamp = (first + n) * FRAME_SPACING_NS
            truths[stamp] = truth = truth_of(frame, net.grid)
            for camera, boxes in zip(cameras, mended(found, truth, frame, cameras), strict=True):
                lines[camera].append({"stamp_ns": stamp, "detections": boxes})
    scores = {
        camera: summary(evaluate_detections(told_of, truths, None, None, 0))
        for camera, told_of in lines.items()
    }
    alone = scores[float("inf"), False]["map"]
    rows: dict[str, Any] = {}
    for (px, strike), score in scores.items():
        name = "finds and strikes out" if strike else "finds"
        what = "nothing" if np.isinf(px) else f"{px} px or more"
        row = {"map": round(score["map"], 4), "ratio": round(score["map"] / alone, 3)}
        rows.setdefault(name, {})[what] = row | {"ap": score["ap"]}
    return rows


def main() -> None:
    """Score, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True, help="folder of frames")
    parser.add_argument("--limit", type=int, help="of them, the first so many (all)")
    parser.add_argument("--model", type=Path, default=Path("models/lidar.pt"), help="its weights")
    args = parser.parse_args()
    paths = list_frames(args.frames)[: args.limit]
    said = {"frames": str(args.frames), "count": len(paths)}
    print(json.dumps(said | bounds(lidar_network(args.model), paths), indent=2))


if __name__ == "__main__":
    main()
