"""Frames of a folder in the layout of KITTI's object detection benchmark.

``velodyne/NNNNNN.bin`` float32 x y z reflectance, ``image_2/NNNNNN.png`` (or .jpg),
``calib/NNNNNN.txt`` with P2, R0_rect and Tr_velo_to_cam, ``label_2/NNNNNN.txt``; the folder itself
or its ``training`` holds them. Labels are in the rectified camera's frame (x right, y down, z
ahead), a box's location is the centre of its bottom face, rotation_y turns about the y axis, 0
along x. (Geiger, Lenz, Urtasun: Are we ready for autonomous driving?, CVPR 2012, and the
benchmark's development kit.)

The base frame is the velodyne's, moved down to the ground by its height of 1.73 m. Only what the
camera shows is labelled, so only points that project into the picture are kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mm_fusion.datasets.frame import (
    CONDITIONS,
    IGNORED,
    LABELS,
    NO_RING,
    Cloud,
    LabelledFrame,
    Objects,
    count_inside,
)
from mm_fusion.datasets.pictures import read_picture, shrunk
from mm_fusion.errors import StageError
from mm_fusion.geometry import RigidTransform, project, wrap_angle_rad

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

LIDAR_HEIGHT_M = 1.73
CLASSES = {
    "Car": "car",
    "Van": "car",
    "Truck": "car",
    "Tram": "car",
    "Pedestrian": "pedestrian",
    "Person_sitting": "pedestrian",
    "Cyclist": "cyclist",
}
KNOWN = {*CLASSES, "Misc", "DontCare"}
# "fully visible", "partly occluded", "largely occluded", "unknown"
VISIBLE = {0: 1.0, 1: 0.5, 2: 0.2, 3: float("nan")}


class KittiFolder:
    """A folder's labelled frames by number. Raises StageError, naming it, if it has none."""

    def __init__(self, folder: Path, pixels: int) -> None:
        self._pixels = pixels
        self.root = folder / "training" if (folder / "training").is_dir() else folder
        self.names = sorted(p.stem for p in (self.root / "label_2").glob("*.txt"))
        if not self.names:
            raise StageError(f"{folder}: no label_2/*.txt here or in training/")

    def __len__(self) -> int:
        return len(self.names)

    def frame(self, number: int) -> LabelledFrame:
        """One frame. Raises StageError, naming the file, where one is missing or malformed."""
        name = self.names[number]
        calibration = Calibration.read(self.root / "calib" / f"{name}.txt")
        image = read_picture(self._picture(name))
        points = read_points(self.root / "velodyne" / f"{name}.bin", 4)
        xyz = calibration.base_from_lidar.apply(points[:, :3].astype(np.float64))
        pixel, front = project(calibration.pixel_from_base, xyz)
        with np.errstate(invalid="ignore"):
            shown = front & (pixel > -0.5).all(axis=1)
            shown &= (pixel < np.array([image.shape[1], image.shape[0]]) - 0.5).all(axis=1)
        count = int(shown.sum())
        cloud = Cloud(
            xyz[shown].astype(np.float32),
            points[shown, 3],
            np.zeros(count, np.float32),
            np.full(count, NO_RING, np.uint8),
        )
        small, projection, (su, sv) = shrunk(image, calibration.pixel_from_base, self._pixels)
        rows = read_labels(self.root / "label_2" / f"{name}.txt")
        conditions = CONDITIONS | {
            "source": "kitti",
            "device": "hdl64e",
            "beams": 64,
            "lidar_height_m": LIDAR_HEIGHT_M,
            "name": name,
        }
        ignore = [r.rectangle for r in rows if r.kind == "DontCare"]
        scale = np.array([su, sv, su, sv])
        return LabelledFrame(
            cloud,
            (small,),
            projection.astype(np.float32)[None],
            objects_of(rows, calibration, cloud.xyz, su * sv),
            ignore_px=((np.array(ignore).reshape(-1, 4) + 0.5) * scale - 0.5).astype(np.float32),
            conditions=conditions,
        )

    def _picture(self, name: str) -> Path:
        png = self.root / "image_2" / f"{name}.png"
        return png if png.exists() else png.with_suffix(".jpg")


class Calibration:
    """``base_from_lidar``, ``camera_from_base`` (rectified camera 0) and ``pixel_from_base`` [3,4]
    of image_2."""

    def __init__(self, p2: F64, rectify: F64, camera_from_lidar: F64) -> None:
        self.base_from_lidar = RigidTransform(np.eye(3), np.array([0.0, 0.0, LIDAR_HEIGHT_M]))
        unrectified = RigidTransform(camera_from_lidar[:, :3], camera_from_lidar[:, 3])
        camera = RigidTransform(rectify, np.zeros(3)) @ unrectified
        self.camera_from_base = camera @ self.base_from_lidar.inverse()
        self.pixel_from_base: F64 = p2 @ self.camera_from_base.matrix()

    @staticmethod
    def read(path: Path) -> Calibration:
        """Read a calib file. Raises StageError, naming it and what it lacks."""
        found: dict[str, F64] = {}
        for line in _lines(path):
            name, colon, values = line.partition(":")
            try:
                found[name.strip()] = np.array(values.split(), np.float64)
            except ValueError as error:
                raise StageError(f"{path}: {name}: {error}") from error
            if not colon:
                raise StageError(f"{path}: a line without a colon: '{line}'")
        matrices = []
        for name, shape in (("P2", (3, 4)), ("R0_rect", (3, 3)), ("Tr_velo_to_cam", (3, 4))):
            if name not in found or found[name].size != shape[0] * shape[1]:
                raise StageError(f"{path}: needs {name} with {shape[0]} x {shape[1]} numbers")
            matrices.append(found[name].reshape(shape))
        return Calibration(*matrices)


class Row:
    """One line of a label file in its own terms."""

    def __init__(self, words: list[str]) -> None:
        self.kind = words[0]
        numbers = [float(w) for w in words[1:15]]
        self.truncated, self.occluded = numbers[0], int(numbers[1])
        self.rectangle = numbers[3:7]
        self.height, self.width, self.length = numbers[7:10]
        self.location = np.array(numbers[10:13])
        self.rotation_y = numbers[13]


def read_labels(path: Path) -> list[Row]:
    """The lines of a label file. Raises StageError, naming file and line."""
    rows = []
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if len(words) < 15 or words[0] not in KNOWN:
            raise StageError(f"{path}:{number}: not a label of a known class and 14 numbers")
        try:
            rows.append(Row(words))
        except ValueError as error:
            raise StageError(f"{path}:{number}: {error}") from error
    return rows


def objects_of(rows: list[Row], calibration: Calibration, xyz: F32, area: float) -> Objects:
    """Labels in the base frame; ``area`` scales the labelled rectangles' to the stored picture."""
    rows = [r for r in rows if r.kind != "DontCare"]
    base_from_camera = calibration.camera_from_base.inverse()
    boxes = np.full((len(rows), 9), np.nan, np.float32)
    for box, row in zip(boxes, rows, strict=True):
        center = base_from_camera.apply(row.location - [0.0, row.height / 2, 0.0])
        along = base_from_camera.rotation @ [np.cos(row.rotation_y), 0.0, -np.sin(row.rotation_y)]
        yaw = wrap_angle_rad(float(np.arctan2(along[1], along[0])))
        box[:7] = [*center, row.length, row.width, row.height, yaw]
    names = [CLASSES.get(r.kind) for r in rows]
    rectangles = np.array([r.rectangle for r in rows]).reshape(-1, 4)
    pixels = area * np.prod(rectangles[:, 2:] - rectangles[:, :2], axis=1)
    lidar = np.array([VISIBLE.get(r.occluded, np.nan) for r in rows], np.float32)
    within = np.array([1.0 - min(max(r.truncated, 0.0), 1.0) for r in rows], np.float32)
    return Objects(
        boxes,
        np.array([IGNORED if n is None else LABELS.index(n) for n in names], np.int64),
        count_inside(xyz, boxes),
        pixels.astype(np.int32),
        np.stack([lidar, lidar * within], axis=1),
        tuple(r.kind.lower() for r in rows),
        np.full(len(rows), -1, np.int64),
    )


def read_points(path: Path, columns: int) -> F32:
    """A file of float32 rows [N,columns]; rows with anything that is not finite are left out.
    Raises StageError, naming the file."""
    try:
        values = np.fromfile(path, "<f4")
    except OSError as error:
        raise StageError(f"{path}: cannot be read: {error.strerror}") from error
    if values.size == 0 or values.size % columns:
        raise StageError(f"{path}: {values.size} numbers are not rows of {columns}")
    rows = values.reshape(-1, columns)
    return np.asarray(rows[np.isfinite(rows).all(axis=1)], np.float32)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{path}: cannot be read: {error}") from error
    return [line for line in text.splitlines() if line.strip()]
