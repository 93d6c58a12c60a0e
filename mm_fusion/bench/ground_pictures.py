"""Sweeps of a recording with ground and obstacles apart: from above, and in the camera's image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.scenes import Scene, load_scenes
from mm_fusion.evaluation.style import GREEN, VERMILLION, rgb
from mm_fusion.evaluation.topics import find_inputs
from mm_fusion.geometry import project
from mm_fusion.perception.ground import Ground, find_ground
from mm_fusion.samples import LidarSweep
from mm_fusion.wire import decode

U8 = npt.NDArray[np.uint8]

SWEEPS = 5
WIDTH_PX = 1242
REACH_M = 40.0
QUALITY = 60


def draw_bag(bag: Path, out: Path, config: Config) -> list[dict[str, Any]]:
    """Write a JPEG for each of the first sweeps of a bag; what is in them."""
    out.mkdir(parents=True, exist_ok=True)
    with Bag(bag) as opened:
        scenes = load_scenes(opened, config, _lines(opened, config))
    written = []
    for n, scene in enumerate(scenes):
        found = find_ground(np.ascontiguousarray(scene.points.T, np.float32), config.ground)
        path = out / f"ground_{n}.jpg"
        picture = cv2.cvtColor(_picture(scene, found), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        share = round(float(found.is_ground.mean()), 4) if len(scene.points) else None
        written.append({"picture": str(path), "points": len(scene.points), "ground": share})
    return written


def _lines(bag: Bag, config: Config) -> list[dict[str, Any]]:
    """The instants of the first sweeps, as lines of a run that found nothing."""
    topics = [t.name for t in find_inputs(bag.topics, config, str(bag.path)).lidars if t]
    lines: list[dict[str, Any]] = []
    for message in bag.messages(topics[:1]):
        sweep = decode(message.msgtype, message.raw, "lidar")
        if isinstance(sweep, LidarSweep):
            lines.append({"stamp_ns": sweep.stamp_ns, "mode": "", "detections": []})
        if len(lines) == SWEEPS:
            break
    return lines


def _picture(scene: Scene, found: Ground) -> U8:
    parts = [_from_above(scene, found)]
    if scene.image is not None and scene.pixel_from_base is not None:
        parts.insert(0, _in_image(scene, found))
    return np.concatenate(parts)


def _colors(found: Ground) -> U8:
    return np.where(found.is_ground[:, None], rgb(GREEN), rgb(VERMILLION)).astype(np.uint8)


def _in_image(scene: Scene, found: Ground) -> U8:
    assert scene.image is not None
    assert scene.pixel_from_base is not None
    scale = WIDTH_PX / scene.image.shape[1]
    canvas = cv2.resize(scene.image, None, fx=scale, fy=scale).astype(np.uint8)
    pixels, front = project(scene.pixel_from_base, scene.points)
    with np.errstate(invalid="ignore"):
        spots = np.nan_to_num(pixels * scale, nan=-1.0).clip(-1e6, 1e6).round().astype(np.int64)
    inside = front & (spots >= 0).all(axis=1) & (spots < canvas.shape[1::-1]).all(axis=1)
    u, v = spots[inside].T
    canvas[v, u] = _colors(found)[inside]
    canvas[np.maximum(v - 1, 0), u] = _colors(found)[inside]
    return canvas


def _from_above(scene: Scene, found: Ground) -> U8:
    """x to the right, y up, the robot in the middle; obstacles over ground."""
    scale = WIDTH_PX / (2 * REACH_M)
    high = WIDTH_PX // 2
    canvas = np.full((high, WIDTH_PX, 3), 255, np.uint8)
    u = (scene.points[:, 0] + REACH_M) * scale
    v = high / 2 - scene.points[:, 1] * scale
    inside = (u >= 0) & (u < WIDTH_PX) & (v >= 0) & (v < high)
    for ground in (True, False):
        chosen = inside & (found.is_ground == ground)
        canvas[v[chosen].astype(int), u[chosen].astype(int)] = _colors(found)[chosen]
    return canvas
