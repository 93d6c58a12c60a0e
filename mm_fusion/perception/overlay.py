"""Boxes and points drawn into a camera's picture, to see whether things are where they should be.

Pictures are uint8 RGB [h,w,3] at the camera's own size, rectified. A matrix ``pixel_from_base``
float64 [3,4] maps base metres to (u*w, v*w, w).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform, box_corners, project
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.images import ImageError, rectified
from mm_fusion.samples import CameraFrame, Detection, FusionResult, Reason, Rejection, Track

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

COLOURS = {"car": (255, 140, 0), "pedestrian": (60, 220, 60), "cyclist": (80, 170, 255)}
OTHER_COLOUR = (235, 235, 235)
NEAR_M = 0.3
BOX_EDGES = (
    (0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)
)  # fmt: skip
FRONT_CROSS = ((0, 5), (1, 4))


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture, and the projection from the base frame at ``stamp_ns`` into it."""

    image: U8
    pixel_from_base: F64


def view_of(
    frame: CameraFrame,
    calibration: Calibration,
    stamp_ns: int,
    motion: MotionBuffer | None = None,
    exposure_ns: int | None = None,
) -> View | Rejection:
    """The rectified picture of a frame and how to project into it what is known at ``stamp_ns``.

    ``motion`` accounts for what the robot moved between ``stamp_ns`` and the exposure, which is
    the frame's own stamp unless ``exposure_ns`` says better (a corrected camera clock).
    """
    model = calibration.camera(frame.sensor)
    if model is None:
        return _refuse(frame, Reason.NO_INTRINSICS, "no CameraInfo came for this camera")
    base_from_camera = calibration.base_from(frame.frame_id or model.frame_id)
    if base_from_camera is None:
        detail = f"nothing connects frame '{frame.frame_id}' with the base frame"
        return _refuse(frame, Reason.NO_EXTRINSICS, detail)
    try:
        image = rectified(frame, model)
    except ImageError as error:
        return _refuse(frame, error.reason, error.detail)
    exposed_ns = frame.stamp_ns if exposure_ns is None else exposure_ns
    moved = None if motion is None else motion.base_from_base(exposed_ns, stamp_ns)
    camera_from_base = base_from_camera.inverse() @ (moved or RigidTransform.identity())
    return View(image, model.k @ camera_from_base.matrix()[:3])


def draw_overlay(
    result: FusionResult,
    frame: CameraFrame,
    calibration: Calibration,
    motion: MotionBuffer | None = None,
) -> U8 | None:
    """The frame with the result's detections drawn in; None where the frame cannot be shown."""
    dt_ns = result.dt_ns.get(frame.sensor, frame.stamp_ns - result.stamp_ns)
    view = view_of(frame, calibration, result.stamp_ns, motion, result.stamp_ns + dt_ns)
    if isinstance(view, Rejection):
        return None
    draw_boxes(view.image, view.pixel_from_base, result.detections)
    return view.image


def draw_boxes(image: U8, pixel_from_base: F64, boxes: Iterable[Detection | Track]) -> None:
    """Draw boxes given in base axes into ``image``, the far ones first; the front has a cross."""
    ordered = sorted(boxes, key=lambda b: -float(pixel_from_base[2] @ np.append(b.center, 1.0)))
    for box in ordered:
        text = f"{box.label} {box.score:.2f}"
        colour = COLOURS.get(box.label, OTHER_COLOUR)
        draw_box(image, pixel_from_base, box.center, box.size, box.yaw, colour, text)


def draw_box(
    image: U8,
    pixel_from_base: F64,
    center: npt.ArrayLike,
    size: npt.ArrayLike,
    yaw_rad: float,
    colour: tuple[int, int, int],
    text: str = "",
) -> None:
    """Draw one box, cut off at the camera's own plane, with a text at its highest corner."""
    corners = box_corners(center, size, yaw_rad)
    h = corners @ pixel_from_base[:, :3].T + pixel_from_base[:, 3]
    if not (h[:, 2] > NEAR_M).any():
        return
    width = max(1, round(image.shape[0] / 350))
    for edges, thickness in ((BOX_EDGES, width), (FRONT_CROSS, 1)):
        for a, b in edges:
            _draw_edge(image, h[a], h[b], colour, thickness)
    visible = h[h[:, 2] > NEAR_M]
    top = (visible[:, :2] / visible[:, 2:])[np.argmin(visible[:, 1] / visible[:, 2])]
    inside = 0 <= top[0] < image.shape[1] and -20 <= top[1] < image.shape[0]
    if text and inside:
        scale = max(0.35, image.shape[0] / 1100)
        at = (int(top[0]), max(int(top[1]) - 4, 10))
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def _draw_edge(image: U8, a: F64, b: F64, colour: tuple[int, int, int], thickness: int) -> None:
    """A line between two homogeneous pixels, of which the part behind the camera is cut off."""
    if a[2] < NEAR_M and b[2] < NEAR_M:
        return
    if a[2] < NEAR_M:
        a, b = b, a
    if b[2] < NEAR_M:
        b = a + (b - a) * (a[2] - NEAR_M) / (a[2] - b[2])
    ends = [tuple(np.clip(np.rint(p[:2] / p[2]), -1e6, 1e6).astype(int).tolist()) for p in (a, b)]
    shown, start, end = cv2.clipLine((0, 0, image.shape[1], image.shape[0]), *ends)
    if shown:
        cv2.line(image, start, end, colour, thickness, cv2.LINE_AA)


def draw_points(
    image: U8, pixel_from_base: F64, points: npt.NDArray[np.floating], far_m: float = 50.0
) -> int:
    """Draw points [N,3] in base axes, coloured by depth (near red, far blue); answers how many.

    Far points are drawn first, so that near ones stay on top.
    """
    pixels, front = project(pixel_from_base, points)
    depth = points @ pixel_from_base[2, :3] + pixel_from_base[2, 3]
    height, width = image.shape[:2]
    with np.errstate(invalid="ignore"):
        shown = front & (pixels > -0.5).all(axis=1)
        shown &= (pixels[:, 0] < width - 0.5) & (pixels[:, 1] < height - 0.5)
    order = np.flatnonzero(shown)
    order = order[np.argsort(-depth[order], kind="stable")]
    shade = np.clip(255.0 * (1.0 - depth[order] / far_m), 0, 255).astype(np.uint8)
    colours = cv2.applyColorMap(shade[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    radius = max(1, round(height / 500))
    for (u, v), colour in zip(np.rint(pixels[order]).astype(int), colours, strict=True):
        cv2.circle(image, (int(u), int(v)), radius, tuple(int(c) for c in colour), -1)
    return len(order)


def _refuse(frame: CameraFrame, reason: Reason, detail: str) -> Rejection:
    return Rejection(frame.sensor, frame.stamp_ns, reason, detail)
