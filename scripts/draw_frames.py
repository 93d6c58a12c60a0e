"""Draw frames of a data set: the picture with its boxes, and the points from above.

``python scripts/draw_frames.py data/train out.jpg 0 17 42``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.datasets.frame import LabelledFrame, read_frame
from mm_fusion.geometry import box_corners, project

U8 = npt.NDArray[np.uint8]

COLOURS = ((255, 255, 255), (0, 255, 255), (255, 0, 255))  # BGR, by label
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6))
HEIGHT_PX, PICTURE_PX = 380, 640
LOW_M, HIGH_M, SCALE_PX = np.array([-10.0, -20.0]), np.array([45.0, 20.0]), 7.0


def picture(frame: LabelledFrame) -> U8:
    """The first image with the boxes of what is seen of the LIDAR or the camera."""
    image = cv2.cvtColor(frame.images[0], cv2.COLOR_RGB2BGR)
    scale = min(PICTURE_PX / image.shape[1], HEIGHT_PX / image.shape[0])
    image = cv2.resize(image, None, fx=scale, fy=scale)
    o = frame.objects
    for box, label, points, pixels in zip(
        o.boxes, o.labels, o.num_points, o.num_pixels, strict=True
    ):
        corners = box_corners(box[:3], box[3:6], float(box[6]))
        pixel, front = project(frame.pixel_from_base[0].astype(np.float64), corners)
        if label < 0 or max(int(points), int(pixels) // 8) < 5 or not front.all():
            continue
        spots = ((pixel + 0.5) * scale - 0.5).round().astype(int)
        for a, b in EDGES:
            cv2.line(image, spots[a].tolist(), spots[b].tolist(), COLOURS[label], 1, cv2.LINE_AA)
    c = frame.conditions
    text = f"{c['device']} {c['weather']}{' night' if c['night'] else ''}"
    canvas = np.zeros((HEIGHT_PX, PICTURE_PX, 3), np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image[:HEIGHT_PX, :PICTURE_PX]
    cv2.putText(canvas, text, (8, HEIGHT_PX - 10), 0, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def above(frame: LabelledFrame) -> U8:
    """The points seen from above, the vehicle looking up, by their height."""
    rows, columns = ((HIGH_M - LOW_M) * SCALE_PX).astype(int)
    canvas = np.zeros((rows, columns, 3), np.uint8)
    xyz = frame.cloud.xyz
    spot = ((HIGH_M - xyz[:, :2]) * SCALE_PX).astype(int)
    inside = ((spot >= 0) & (spot < [rows, columns])).all(axis=1)
    level = np.clip((xyz[inside, 2] + 0.3) * 80, 0, 255).astype(np.uint8)
    colour = cv2.applyColorMap(level[:, None], cv2.COLORMAP_TURBO)[:, 0]
    canvas[spot[inside, 0], spot[inside, 1]] = colour
    o = frame.objects
    for box, label, points in zip(o.boxes, o.labels, o.num_points, strict=True):
        corners = box_corners(box[:3], box[3:6], float(box[6]))[:4, :2]
        line = ((HIGH_M - corners) * SCALE_PX)[:, ::-1].round().astype(np.int32)
        shown = COLOURS[label] if label >= 0 and points >= 5 else (90, 90, 90)
        cv2.polylines(canvas, [line], True, shown, 1, cv2.LINE_AA)
    return np.asarray(canvas[:HEIGHT_PX], np.uint8)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("numbers", type=int, nargs="+", help="frames, two a row")
    args = parser.parse_args()
    found = [read_frame(args.folder / f"{n:06d}.npz") for n in args.numbers]
    tiles = [np.hstack([picture(frame), above(frame)]) for frame in found]
    rows = [np.hstack(tiles[k : k + 2]) for k in range(0, len(tiles) - len(tiles) % 2, 2)]
    sheet = np.vstack(rows or tiles[:1])
    cv2.imwrite(str(args.out), sheet, [cv2.IMWRITE_JPEG_QUALITY, 82])


if __name__ == "__main__":
    main()
