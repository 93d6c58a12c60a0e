"""A KITTI folder of one frame, made here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

# x_camera = -y, y_camera = -z - 0.08, z_camera = x - 0.27
CALIB = """P0: 1 0 0 0 0 1 0 0 0 0 1 0
P2: 700 0 600 45 0 700 170 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27

"""
LABELS = """Car 0.00 0 -1.5 600.0 150.0 700.0 250.0 1.5 1.6 4.0 2.0 1.65 20.0 -1.5707963
Van 0.25 2 0.1 10 20 30 40 2.2 1.9 5.1 -4.0 1.7 12.0 0.3
Pedestrian 0.00 1 0.1 10 20 30 40 1.8 0.6 0.8 1.0 1.7 9.0 0
Person_sitting 0 3 0.1 10 20 30 40 1.2 0.6 0.8 1.0 1.7 9.0 0
Cyclist 0 0 0.1 10 20 30 40 1.7 0.6 1.8 3.0 1.7 15.0 3.0
Tram 0 0 0 10 20 30 40 3.5 2.5 15 3.0 1.7 40.0 0
Misc 0 0 0 10 20 30 40 1 1 1 3.0 1.7 15.0 0
DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10
"""


def make_folder(tmp_path: Path) -> Path:
    """Write it below ``tmp_path`` and return it."""
    root = tmp_path / "object" / "training"
    for name in ("velodyne", "image_2", "calib", "label_2"):
        (root / name).mkdir(parents=True)
    points = np.array(
        [
            [20.27, -2.0, -0.98, 0.5],  # the car's centre
            [21.9, -2.5, -0.5, 0.25],  # in the car
            [-20.0, 0.0, 0.0, 0.1],  # behind
            [10.0, 30.0, 0.0, 0.1],  # beside the picture
            [np.nan, 0.0, 0.0, 0.1],
            [30.0, 1.0, -1.73, 0.9],  # on the ground
        ],
        np.float32,
    )
    points.tofile(root / "velodyne" / "000007.bin")
    image = np.zeros((360, 1200, 3), np.uint8)
    image[:, :, 2] = 200  # red, in OpenCV's order
    cv2.imwrite(str(root / "image_2" / "000007.png"), image)
    (root / "calib" / "000007.txt").write_text(CALIB)
    (root / "label_2" / "000007.txt").write_text(LABELS)
    return tmp_path / "object"
