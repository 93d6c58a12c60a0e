"""Made scenes for the tests of the perception road: sweeps, frames, motion, and a real network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from mm_fusion.config import Config, from_values
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import CameraFrame, CameraModel, LidarSweep, PoseEstimate

T0 = 1_700_000_000_000_000_000
H, W, K, BUDGET = 64, 128, 4, 500
SIZE = (4.0, 2.0, 1.5)
POINT_SCORES = (0.5, 0.3, 0.2, 0.1)
IMAGE_SCORES = (0.4, 0.4, 0.05, 0.05)
LIDAR_AT = (0.5, 0.0, 1.8, 0.0, 0.0, 0.0)
CAMERA_AT = (1.0, 0.2, 1.5, -np.pi / 2, 0.0, -np.pi / 2)  # optical frame, looking ahead


def config(**more: Any) -> Config:
    """A configuration with one LIDAR and one camera, both calibrated by parameters."""
    values = {
        "topics.lidars": ["lidar"],
        "topics.cameras": ["camera"],
        "calibration.extrinsics": [
            "lidar " + " ".join(str(v) for v in LIDAR_AT),
            "camera " + " ".join(str(v) for v in CAMERA_AT),
        ],
    }
    return from_values({**values, **{k.replace("__", "."): v for k, v in more.items()}})


def sweep(
    xyz: Any,
    stamp_ns: int = T0,
    seconds: Any = None,
    intensity: Any = None,
    frame_id: str = "lidar",
    order: str = "<",
    kind: str = "f4",
) -> LidarSweep:
    """A sweep with packed fields of odd size; ``seconds`` relative to the stamp."""
    xyz = np.asarray(xyz, dtype=float).reshape(-1, 3)
    fields = [(axis, order + kind) for axis in "xyz"] + [("ring", order + "u2")]
    fields += [("intensity", order + "f4")] * (intensity is not None)
    fields += [("time", order + "f4")] * (seconds is not None)
    points = np.zeros(len(xyz), np.dtype(fields))
    for n, axis in enumerate("xyz"):
        points[axis] = xyz[:, n]
    if intensity is not None:
        points["intensity"] = intensity
    if seconds is not None:
        points["time"] = seconds
    return LidarSweep(
        "lidar",
        stamp_ns,
        frame_id,
        points,
        intensity_field="intensity" if intensity is not None else "",
        intensity_scale=1.0 / 255.0,
        time_field="time" if seconds is not None else "",
    )


def frame(
    image: np.ndarray, encoding: str = "rgb8", stamp_ns: int = T0, padding: int = 0
) -> CameraFrame:
    """A raw frame of an image [h,w] or [h,w,c], its rows padded by some bytes."""
    height, width = image.shape[:2]
    rows = np.ascontiguousarray(image).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    return CameraFrame("camera", stamp_ns, "camera", encoding, height, width, rows.shape[1], rows)


def compressed(data: Any, codec: str = "jpeg", stamp_ns: int = T0) -> CameraFrame:
    """A compressed frame."""
    octets = np.frombuffer(bytes(data), np.uint8)
    return CameraFrame("camera", stamp_ns, "camera", codec, 0, 0, 0, octets)


def camera_model(
    width: int, height: int, model: str = "", d: Sequence[float] = (), focal: float = 0.7
) -> CameraModel:
    """Intrinsics whose principal point is off the middle."""
    k = np.array(
        [
            [focal * width, 0.0, 0.51 * width],
            [0.0, focal * 1.01 * width, 0.48 * height],
            [0.0, 0.0, 1.0],
        ]
    )
    return CameraModel("camera", "camera", height, width, k, model, np.array(d, dtype=float))


def pose(
    stamp_ns: int,
    odom_from_base: RigidTransform,
    linear: Sequence[float] = (0.0, 0.0, 0.0),
    angular: Sequence[float] = (0.0, 0.0, 0.0),
    frame_id: str = "odom",
) -> PoseEstimate:
    """A local pose."""
    return PoseEstimate(
        stamp_ns,
        frame_id,
        "base_link",
        odom_from_base,
        np.array(linear, dtype=float),
        np.array(angular, dtype=float),
        np.eye(6),
        np.eye(6),
    )


# ------------------------------------------------------------------------------- a network


def contract_values(**changes: Any) -> dict[str, Any]:
    """The contract of the network of :func:`graph`, without its checksum."""
    values: dict[str, Any] = {
        "format": "mm_fusion network contract",
        "format_version": 1,
        "model": "net.onnx",
        "sha256": "0" * 64,
        "classes": ["car", "pedestrian", "cyclist"],
        "camera_slots": 1,
        "image_height_px": H,
        "image_width_px": W,
        "colour_order": "RGB",
        "point_budget": BUDGET,
        "max_detections": K,
        "score_threshold": 0.25,
        "may_be_absent": ["points", "images"],
        "range_m": {"x": [-20.0, 40.0], "y": [-20.0, 20.0], "z": [-1.0, 4.0]},
        "inputs": [
            {"name": "points", "dtype": "float32", "shape": ["P", 5]},
            {"name": "images", "dtype": "uint8", "shape": [1, H, W, 3]},
            {"name": "pixel_from_base", "dtype": "float32", "shape": [1, 3, 4]},
            {"name": "has_points", "dtype": "float32", "shape": [1]},
            {"name": "has_image", "dtype": "float32", "shape": [1]},
        ],
        "outputs": [
            {"name": "boxes", "dtype": "float32", "shape": [K, 9]},
            {"name": "scores", "dtype": "float32", "shape": [K]},
            {"name": "labels", "dtype": "int64", "shape": [K]},
        ],
    }
    values.update(changes)
    return values


def graph(
    points: str = "points",
    point_axis: str | int = "P",
    images_type: int = TensorProto.UINT8,
    rows: int = K,
    open_outputs: bool = False,
    row_per_point: bool = False,
    size: Sequence[float] = SIZE,
) -> onnx.ModelProto:
    """A real network: box n stands 10 n m before the mean of the points, its yaw is the image's
    mean brightness (0..1), and every sense that is there adds its share to the scores."""
    offsets = np.zeros((rows, 9), np.float32)
    offsets[:, 0] = 10.0 * np.arange(rows)
    constants = {
        "offsets": offsets,
        "size": np.array([size], np.float32),
        "velocity": np.array([[1.0, -2.0]], np.float32),
        "bright": np.array([1.0 / 255.0], np.float32),
        "rows": np.array([0], np.int64),
        "nothing": np.array(0.0, np.float32),
        "many": np.array([rows], np.int64),
        "three": np.array([3], np.int64),
        "one": np.array([1], np.int64),
        "shape": np.array([1, 1], np.int64),
        "point_scores": np.resize(np.array(POINT_SCORES, np.float32), rows),
        "image_scores": np.resize(np.array(IMAGE_SCORES, np.float32), rows),
        "classes": np.arange(rows, dtype=np.int64) % 3,
    }
    nodes = [
        helper.make_node("ReduceMean", [points, "rows"], ["mean"], keepdims=1),
        helper.make_node("Slice", ["mean", "rows", "three", "one", "one"], ["center"]),
        helper.make_node("Cast", ["images"], ["light"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["light"], ["level"], keepdims=0),
        helper.make_node("Mul", ["level", "bright"], ["share"]),
        helper.make_node("Reshape", ["share", "shape"], ["yaw"]),
        helper.make_node("Concat", ["center", "size", "yaw", "velocity"], ["box"], axis=1),
        helper.make_node("ReduceSum", ["pixel_from_base"], ["zero"], keepdims=0),
        helper.make_node("Mul", ["zero", "nothing"], ["none"]),
        helper.make_node("Add", ["box", "offsets"], ["placed"]),
        helper.make_node("Add", ["placed", "none"], ["all"]),
        helper.make_node("Shape", [points], ["count"], start=0, end=1),
        helper.make_node("Slice", ["all", "rows", "count" if row_per_point else "many"], ["boxes"]),
        helper.make_node("Mul", ["has_points", "point_scores"], ["a"]),
        helper.make_node("Mul", ["has_image", "image_scores"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["scores"]),
        helper.make_node("Identity", ["classes"], ["labels"]),
    ]
    inputs = [
        helper.make_tensor_value_info(points, TensorProto.FLOAT, [point_axis, 5]),
        helper.make_tensor_value_info("images", images_type, [1, H, W, 3]),
        helper.make_tensor_value_info("pixel_from_base", TensorProto.FLOAT, [1, 3, 4]),
        helper.make_tensor_value_info("has_points", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("has_image", TensorProto.FLOAT, [1]),
    ]
    out: str | int = "N" if open_outputs or row_per_point else rows
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [out, 9]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [out]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [out]),
    ]
    weights = [numpy_helper.from_array(v, name) for name, v in constants.items()]
    made = helper.make_graph(nodes, "net", inputs, outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def write_network(
    folder: Path, model: onnx.ModelProto | None = None, **contract_changes: Any
) -> Path:
    """``net.onnx`` and its ``net.yaml``, checksum and all."""
    data = (model or graph()).SerializeToString()
    path = folder / "net.onnx"
    path.write_bytes(data)
    changes = {"sha256": hashlib.sha256(data).hexdigest(), **contract_changes}
    (folder / "net.yaml").write_text(yaml.safe_dump(contract_values(**changes)))
    return path
