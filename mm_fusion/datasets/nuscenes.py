"""Frames of a folder in the layout of nuScenes v1.0, read from its JSON tables directly.

Every sample gives its LIDAR_TOP and CAM_FRONT key frames. Tables are lists of records that name
each other by tokens; rotations are quaternions (w, x, y, z); annotations are in the global frame,
sizes are width, length, height; ``.pcd.bin`` holds float32 x y z intensity (0..255) ring in the
LIDAR's frame. The ego frame (rear axle's middle on the ground, x ahead, z up) at the LIDAR's
instant is the base frame. (Caesar et al.: nuScenes, CVPR 2020, and its schema.)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.datasets.frame import (
    CONDITIONS,
    IGNORED,
    LABELS,
    Cloud,
    LabelledFrame,
    Objects,
    count_inside,
)
from mm_fusion.datasets.kitti import read_points
from mm_fusion.datasets.pictures import read_picture, shrunk
from mm_fusion.errors import StageError
from mm_fusion.geometry import RigidTransform

F64 = npt.NDArray[np.float64]

LIDAR, CAMERA = "LIDAR_TOP", "CAM_FRONT"
# Longest prefix wins. None: the object counts for nothing, neither found nor missed.
CLASSES: dict[str, str | None] = {
    "vehicle.": "car",
    "vehicle.bicycle": "cyclist",
    "vehicle.motorcycle": "cyclist",
    "human.pedestrian.": "pedestrian",
    "human.pedestrian.personal_mobility": None,
    "human.pedestrian.stroller": None,
    "human.pedestrian.wheelchair": None,
}
VISIBLE = {"1": 0.2, "2": 0.5, "3": 0.7, "4": 0.9}  # 0-40, 40-60, 60-80, 80-100 %
LONGEST_GAP_S = 1.5  # between the annotations a velocity is taken from, per step
_TABLES = (
    "sample",
    "sample_data",
    "calibrated_sensor",
    "ego_pose",
    "sensor",
    "sample_annotation",
    "instance",
    "category",
    "attribute",
    "scene",
)


class NuScenesFolder:
    """A folder's samples in time order. Raises StageError, naming the file, where a table is
    missing or a record lacks what it should have."""

    def __init__(self, folder: Path, pixels: int) -> None:
        self._root, self._pixels = folder, pixels
        versions = sorted(p.parent for p in folder.glob("v1.0-*/sample.json"))
        if not versions:
            raise StageError(f"{folder}: no v1.0-*/sample.json")
        self._tables_at = versions[0]
        self._tables = {name: _table(versions[0] / f"{name}.json") for name in _TABLES}
        self._samples = sorted(self._tables["sample"].values(), key=lambda s: s["timestamp"])
        self._data: dict[tuple[str, str], dict[str, Any]] = {}
        for record in self._tables["sample_data"].values():
            if record["is_key_frame"]:
                channel = self._sensor(record)["channel"]
                self._data[record["sample_token"], channel] = record
        self._annotations: dict[str, list[dict[str, Any]]] = {}
        for record in self._tables["sample_annotation"].values():
            self._annotations.setdefault(record["sample_token"], []).append(record)

    def __len__(self) -> int:
        return len(self._samples)

    def frame(self, number: int) -> LabelledFrame:
        """One sample."""
        sample = self._samples[number]
        lidar, camera = (self._key_frame(sample, channel) for channel in (LIDAR, CAMERA))
        global_from_base = self._pose("ego_pose", lidar["ego_pose_token"])
        base_from_lidar = self._pose("calibrated_sensor", lidar["calibrated_sensor_token"])
        points = read_points(self._root / lidar["filename"], 5)
        cloud = Cloud(
            base_from_lidar.apply(points[:, :3].astype(np.float64)).astype(np.float32),
            np.clip(points[:, 3] / 255.0, 0.0, 1.0).astype(np.float32),
            np.zeros(len(points), np.float32),
            np.clip(points[:, 4], 0, 254).astype(np.uint8),
        )
        image = read_picture(self._root / camera["filename"])
        small, projection, _ = shrunk(
            image, self._projection(camera, global_from_base), self._pixels
        )
        scene = self._record("scene", sample["scene_token"])
        conditions = CONDITIONS | {
            "source": "nuscenes",
            "device": "hdl32e",
            "beams": 32,
            "lidar_height_m": round(float(base_from_lidar.translation[2]), 3),
            "night": "night" in scene["description"].lower(),
            "weather": "rain" if "rain" in scene["description"].lower() else "",
            "exposure_offset_s": (camera["timestamp"] - lidar["timestamp"]) * 1e-6,
            "name": sample["token"],
        }
        return LabelledFrame(
            cloud,
            (small,),
            projection.astype(np.float32)[None],
            self._objects(sample["token"], global_from_base.inverse(), cloud),
            conditions=conditions,
        )

    def _projection(self, camera: dict[str, Any], global_from_base: RigidTransform) -> F64:
        """pixel_from_base [3,4], with the vehicle's motion between the two exposures."""
        mount = self._pose("calibrated_sensor", camera["calibrated_sensor_token"])
        there = self._pose("ego_pose", camera["ego_pose_token"])
        camera_from_base = mount.inverse() @ there.inverse() @ global_from_base
        record = self._record("calibrated_sensor", camera["calibrated_sensor_token"])
        k = np.array(record["camera_intrinsic"], np.float64)
        if k.shape != (3, 3):
            raise StageError(f"{self._tables_at}: {record['token']}: needs a 3 x 3 intrinsic")
        return np.asarray(k @ camera_from_base.matrix()[:3])

    def _objects(self, sample: str, base_from_global: RigidTransform, cloud: Cloud) -> Objects:
        rows = self._annotations.get(sample, [])
        boxes = np.full((len(rows), 9), np.nan, np.float32)
        labels, kinds = [], []
        for box, row in zip(boxes, rows, strict=True):
            pose = base_from_global @ _transform(row)
            width, length, height = row["size"]
            velocity = base_from_global.rotation @ self._velocity(row)
            box[:] = [*pose.translation, length, width, height, pose.yaw_rad(), *velocity[:2]]
            kind = self._category(row)
            kinds.append(kind)
            labels.append(self._label(kind, row))
        wanted = np.array([x is not None for x in labels], bool)
        boxes = boxes[wanted]
        seen = [VISIBLE.get(r["visibility_token"], np.nan) for r in rows]
        visible = np.array(seen, np.float32)[wanted]
        return Objects(
            boxes,
            np.array([x for x in labels if x is not None], np.int64),
            count_inside(cloud.xyz, boxes),
            np.full(len(boxes), -1, np.int32),
            np.stack([visible, np.full_like(visible, np.nan)], axis=1),
            tuple(k for k, w in zip(kinds, wanted, strict=True) if w),
            np.full(len(boxes), -1, np.int64),
        )

    def _category(self, row: dict[str, Any]) -> str:
        instance = self._record("instance", row["instance_token"])
        return str(self._record("category", instance["category_token"])["name"])

    def _label(self, kind: str, row: dict[str, Any]) -> int | None:
        """The label, IGNORED, or None for what is no road user at all (a cone, an animal)."""
        fitting = [prefix for prefix in CLASSES if kind.startswith(prefix)]
        if not fitting:
            return None
        name = CLASSES[max(fitting, key=len)]
        attributes = [self._record("attribute", t)["name"] for t in row["attribute_tokens"]]
        if name is None or (name == "cyclist" and "cycle.with_rider" not in attributes):
            return IGNORED
        return LABELS.index(name)

    def _velocity(self, row: dict[str, Any]) -> F64:
        """Global velocity [3]: from the annotation before to the one after, as far as they are
        there; NaN where neither is, or too long ago."""
        ends = [row[name] for name in ("prev", "next")]
        first, last = (self._record("sample_annotation", t) if t else row for t in ends)
        steps = sum(bool(t) for t in ends)
        times = [self._record("sample", r["sample_token"])["timestamp"] for r in (first, last)]
        elapsed_s = (times[1] - times[0]) * 1e-6
        if not steps or not 0.0 < elapsed_s <= steps * LONGEST_GAP_S:
            return np.full(3, np.nan)
        moved = np.array(last["translation"]) - np.array(first["translation"])
        return np.asarray(moved / elapsed_s)

    # ------------------------------------------------------------------------------ tables

    def _sensor(self, data: dict[str, Any]) -> dict[str, Any]:
        mount = self._record("calibrated_sensor", data["calibrated_sensor_token"])
        return self._record("sensor", mount["sensor_token"])

    def _key_frame(self, sample: dict[str, Any], channel: str) -> dict[str, Any]:
        record = self._data.get((sample["token"], channel))
        if record is None:
            raise StageError(f"{self._tables_at}: sample {sample['token']} has no {channel}")
        return record

    def _record(self, table: str, token: str) -> dict[str, Any]:
        record = self._tables[table].get(token)
        if record is None:
            raise StageError(f"{self._tables_at / table}.json: no record {token}")
        return record

    def _pose(self, table: str, token: str) -> RigidTransform:
        return _transform(self._record(table, token))


def _transform(record: dict[str, Any]) -> RigidTransform:
    w, x, y, z = record["rotation"]
    return RigidTransform.from_quaternion(record["translation"], [x, y, z, w])


def _table(path: Path) -> dict[str, dict[str, Any]]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return {record["token"]: record for record in records}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StageError(f"{path}: not a readable table: {error}") from error
