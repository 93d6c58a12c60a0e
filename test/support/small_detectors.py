"""Small ONNX networks with the interfaces of published 2D detectors that answer as told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_detector(
    path: Path,
    outputs: Mapping[str, Any],
    shape: tuple[Any, ...] = (1, 3, 640, 640),
    name: str = "images",
    metadata: Mapping[str, str] | None = None,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """A network that answers ``outputs`` to every picture, whatever it shows."""
    nodes, given, constants = [], [], []
    nodes.append(helper.make_node("Cast", [name], ["picture"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("ReduceMean", ["picture"], ["mean"], keepdims=0))
    constants.append(numpy_helper.from_array(np.array(0.0, np.float32), "zero"))
    nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    for key, value in outputs.items():
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        constants.append(numpy_helper.from_array(array, f"told_{key}"))
        if array.dtype == np.int64:
            nodes.append(helper.make_node("Identity", [f"told_{key}"], [key]))
        else:
            nodes.append(helper.make_node("Add", [f"told_{key}", "nothing"], [key]))
        kind = TensorProto.INT64 if array.dtype == np.int64 else TensorProto.FLOAT
        given.append(helper.make_tensor_value_info(key, kind, list(array.shape)))
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info(name, dtype, list(shape))],
        given,
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    for key, text in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
