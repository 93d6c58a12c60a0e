"""A network with more camera slots than the packaged one, for measuring what is around it.

It is the packaged network looking at the first slot: inputs as large as those of a network for
that many cameras, boxes as real as the packaged ones, at the cost of one camera's encoder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from mm_fusion import resources
from mm_fusion.perception.network import PACKAGED_MODEL

NOTE = (
    "a stand-in of it, which looks at the first camera slot only; the images of the"
    " others are received, matched and staged, and cost nothing in the network"
)
PER_SLOT = ("images", "pixel_from_base", "has_image")


def write_stand_in(folder: Path, slots: int, base: Path | None = None) -> Path:
    """Write the network, made of the packaged one or of ``base``, and its contract; answers the
    path of the network."""
    import onnx
    from onnx import helper, numpy_helper

    packaged = base or resources.share_path(PACKAGED_MODEL)
    model = onnx.load(str(packaged))
    graph = model.graph
    slices = []
    for name in PER_SLOT:
        entry = next(i for i in graph.input if i.name == name)
        entry.type.tensor_type.shape.dim[0].dim_value = slots
        for node in graph.node:
            renamed = [f"first_{name}" if i == name else i for i in node.input]
            node.input[:] = renamed
        inputs = [name, "slots_from", "slots_to"]
        slices.append(helper.make_node("Slice", inputs, [f"first_{name}"], f"slice_{name}"))
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*slices, *body])
    for name, value in (("slots_from", 0), ("slots_to", 1)):
        graph.initializer.append(numpy_helper.from_array(_vector(value), name))
    onnx.checker.check_model(model)
    path = folder / "stand_in.onnx"
    data = model.SerializeToString()
    path.write_bytes(data)
    contract = yaml.safe_load(packaged.with_suffix(".yaml").read_text())
    path.with_suffix(".yaml").write_text(yaml.safe_dump(_changed(contract, path.name, data, slots)))
    return path


def _vector(value: int) -> Any:
    import numpy as np

    return np.array([value], np.int64)


def _changed(contract: dict[str, Any], name: str, data: bytes, slots: int) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    contract.update(model=name, sha256=digest, camera_slots=slots, trained=NOTE)
    for entry in contract["inputs"]:
        if entry["name"] in PER_SLOT:
            entry["shape"][0] = slots
    return contract
