"""Camera pictures with LIDAR points and boxes drawn into them, pixel by pixel (OpenCV)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.evaluation.scenes import Scene
from mm_fusion.evaluation.style import CLASS_COLORS, TRUTH_COLOR, rgb
from mm_fusion.geometry import box_corners, project

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

FARTHEST_M = 50.0
NEAR_M = 0.3
LABEL_PX = 60
# Corners of geometry.box_corners that are joined by an edge; the first one of each face last.
EDGES = (
    *((0, 1), (1, 2), (2, 3), (3, 0)),
    *((4, 5), (5, 6), (6, 7), (7, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)


def camera_picture(scene: Scene, points: bool = True, truth: bool = False) -> U8:
    """The scene's image, RGB uint8, with points coloured by distance and boxes by class.

    Drawn at least 1280 pixels wide, so that thin lines stay thin. Raises ValueError for a scene
    without an image.
    """
    if scene.image is None or scene.pixel_from_base is None:
        raise ValueError("camera_picture: the scene has no image")
    scale = max(1, -(-1280 // scene.image.shape[1]))
    canvas = cv2.resize(
        scene.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC
    ).astype(np.uint8)
    matrix = scaled(scene.pixel_from_base, scale)
    if points:
        draw_points(canvas, matrix, scene.points)
    if truth:
        for box in scene.truth:
            if box.counted:
                corners = box_corners(box.center, box.size, box.yaw)
                draw_box(canvas, matrix, corners, rgb(TRUTH_COLOR), 1)
    # Far boxes first, so that near labels stay readable.
    by_distance = sorted(scene.detections, key=lambda d: -float(np.hypot(*d["center"][:2])))
    for found in by_distance:
        color = rgb(CLASS_COLORS.get(found["class"], "#000000"))
        corners = box_corners(found["center"], found["size"], found["yaw"])
        corner = draw_box(canvas, matrix, corners, color, 2)
        if corner is not None:
            pixels, _ = project(matrix, corners)
            wide = float(np.ptp(np.nan_to_num(pixels[:, 0]))) > LABEL_PX
            # The colour says the class; small boxes have no room for its name.
            name = f"{found['class']} " if wide else ""
            draw_label(canvas, f"{name}{found['score']:.2f}", corner, color)
    return canvas


def scaled(pixel_from_base: F64, scale: float) -> F64:
    """The projection into an image ``scale`` times as large; pixel centres are at integers."""
    matrix = pixel_from_base.copy()
    # u' = scale * (u + 0.5) - 0.5, in homogeneous coordinates
    matrix[:2] = scale * pixel_from_base[:2] + (scale - 1) / 2 * pixel_from_base[2]
    return matrix


def draw_points(canvas: U8, pixel_from_base: F64, points: F64) -> None:
    """Draw points [N,3] of the base frame, coloured by distance, the nearest on top."""
    pixels, front = project(pixel_from_base, points)
    height, width = canvas.shape[:2]
    u, v = np.nan_to_num(pixels, nan=-1.0).round().astype(np.int64).T
    seen = np.nonzero(front & (u >= 1) & (v >= 1) & (u < width - 1) & (v < height - 1))[0]
    distance = np.hypot(points[seen, 0], points[seen, 1])
    order = seen[np.argsort(-distance)]
    level = np.clip(np.hypot(points[order, 0], points[order, 1]) / FARTHEST_M, 0.0, 1.0)
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    table = cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS).reshape(256, 3)[:, ::-1]
    colors = table[255 - (level * 255).astype(np.uint8)]
    for du, dv in ((0, 0), (1, 0), (0, 1), (1, 1)):
        canvas[v[order] + dv, u[order] + du] = colors


def draw_box(
    canvas: U8, pixel_from_base: F64, corners: F64, color: Sequence[int], thickness: int
) -> tuple[int, int] | None:
    """Draw a box of eight corners [8,3]; its upper left pixel, or None where nothing is seen."""
    ends = []
    for one, two in EDGES:
        segment = _clipped(pixel_from_base, corners[one], corners[two])
        if segment is not None:
            ends.append((one, two, segment))
    visible = [
        (one, two, segment)
        for one, two, segment in ends
        if cv2.clipLine((0, 0, canvas.shape[1], canvas.shape[0]), *_ints(segment))[0]
    ]
    if not visible:
        return None
    for one, two, segment in visible:
        front = {one, two} <= {0, 1, 4, 5}  # the face that shows the heading
        cv2.line(canvas, *_ints(segment), color, thickness + front, cv2.LINE_AA)
    left_top = np.min([np.min(segment, axis=0) for _, _, segment in visible], axis=0)
    return int(np.clip(left_top[0], 0, canvas.shape[1])), int(np.clip(left_top[1], 0, 1e4))


def _clipped(pixel_from_base: F64, one: F64, two: F64) -> F64 | None:
    """Pixels [2,2] of an edge's ends, cut off in front of the camera; None where it is behind."""
    h = np.stack([one, two]) @ pixel_from_base[:, :3].T + pixel_from_base[:, 3]
    depth = h[:, 2]
    if (depth < NEAR_M).all():
        return None
    if (depth < NEAR_M).any():
        behind = int(np.argmin(depth))
        share = (NEAR_M - depth[behind]) / (depth[1 - behind] - depth[behind])
        h[behind] += share * (h[1 - behind] - h[behind])
    return np.clip(h[:, :2] / h[:, 2:3], -30_000, 30_000)


def _ints(segment: F64) -> tuple[tuple[int, int], tuple[int, int]]:
    (u0, v0), (u1, v1) = np.round(segment).astype(int).tolist()
    return (u0, v0), (u1, v1)


def draw_label(canvas: U8, text: str, corner: tuple[int, int], color: Sequence[int]) -> None:
    """Text on a plate of the colour, kept inside the picture."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    left = int(np.clip(corner[0], 0, max(canvas.shape[1] - width - 6, 0)))
    bottom = int(np.clip(corner[1] - 3, height + 6, canvas.shape[0] - 1))
    top_left, bottom_right = (left, bottom - height - 6), (left + width + 6, bottom)
    cv2.rectangle(canvas, top_left, bottom_right, color, cv2.FILLED)
    ink = (0, 0, 0) if sum(color) > 420 else (255, 255, 255)
    cv2.putText(canvas, text, (left + 3, bottom - 4), font, size, ink, 1, cv2.LINE_AA)
