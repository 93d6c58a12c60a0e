"""A network in half precision: ``mm_fusion export --fp16``, or of a file that is there already
``python -m mm_fusion.training.fp16 models/fusion.onnx``.

Only the dense part is halved: convolutions, linear layers, attention and what lies between them.
Projection, the indices of the pillars, sampling weights, sums over points and decoding keep
float32, and so do inputs and outputs: with 11 bits a place 50 m away is known to 3 cm, an index not
at all. (The converters of ONNX Runtime and onnxconverter-common cast every input of the graph to
float16 and back where they are told to keep its type, points as well.)
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mm_fusion.errors import StageError
from mm_fusion.evaluation.parity import compare_networks
from mm_fusion.perception.network import read_contract

# Halved wherever they have weights of their own.
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Halved where everything they compute with is.
PASSING = WEIGHTED | {
    *("Add", "Sub", "Mul", "Relu", "Clip", "LeakyRelu", "HardSwish", "Softmax", "Concat", "Resize"),
    *("BatchNormalization", "LayerNormalization", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("DepthToSpace", "SpaceToDepth", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"),
    *("Slice", "Split", "Gather", "Expand", "Pad"),
}
FULL_INPUTS = {"Resize": (1, 2)}  # region and scales are float32 for every kind of X
SUFFIX = "/half"
HEADER = "# Half precision of {model}, written by `mm_fusion export --fp16`; see there.\n"


def halved(model: ModelProto) -> ModelProto:
    """The network with its dense part in float16; names of inputs and outputs stay. Raises
    StageError where there is nothing to halve."""
    dense = dense_nodes(model)
    if not dense:
        raise StageError("fp16: the graph has no convolution or linear layer to halve")
    out = ModelProto()
    out.CopyFrom(model)
    half = _Halving(out)
    nodes: list[NodeProto] = []
    wanted = _read_in_full(model, dense)
    for k, node in enumerate(out.graph.node):
        if k in dense:
            nodes += half.inputs_of(node)
            nodes += half.outputs_of(node, wanted)
        else:
            nodes.append(node)
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    del out.graph.value_info[:]
    _drop_unused(out)
    onnx.checker.check_model(out)
    return out


class _Halving:
    """Float16 versions of the tensors that the dense nodes of a graph read and write."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._types = _element_types(model)
        self._constants = {i.name: i for i in model.graph.initializer}
        self._made: set[str] = set()

    def inputs_of(self, node: NodeProto) -> list[NodeProto]:
        """Let a dense node read float16; the casts that this takes and that are not there yet."""
        casts = []
        for k, name in enumerate(node.input):
            if self._types.get(name) != TensorProto.FLOAT or k in FULL_INPUTS.get(node.op_type, ()):
                continue
            node.input[k] = f"{name}{SUFFIX}"
            if node.input[k] in self._made:
                continue
            self._made.add(node.input[k])
            if name in self._constants:
                values = numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._graph.initializer.append(numpy_helper.from_array(values, node.input[k]))
            else:
                casts.append(_cast(name, node.input[k], TensorProto.FLOAT16))
        return casts

    def outputs_of(self, node: NodeProto, wanted: set[str]) -> list[NodeProto]:
        """The node, and casts of those of its outputs that somebody reads as float32."""
        nodes = [node]
        for k, name in enumerate(node.output):
            if self._types.get(name) == TensorProto.FLOAT:
                node.output[k] = f"{name}{SUFFIX}"
                self._made.add(node.output[k])
                if name in wanted:
                    nodes.append(_cast(node.output[k], name, TensorProto.FLOAT))
        return nodes


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=kind)


def _read_in_full(model: ModelProto, dense: set[int]) -> set[str]:
    """Names that something outside the dense part reads."""
    names = {o.name for o in model.graph.output}
    for k, node in enumerate(model.graph.node):
        full = range(len(node.input)) if k not in dense else FULL_INPUTS.get(node.op_type, ())
        names |= {node.input[i] for i in full if i < len(node.input)}
    return names


def _drop_unused(model: ModelProto) -> None:
    """Take out initializers that nothing reads any more."""
    read = {i for n in model.graph.node for i in n.input}
    kept = [i for i in model.graph.initializer if i.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def dense_nodes(model: ModelProto) -> set[int]:
    """Indices of the nodes that compute with weights, and of those between them."""
    constants = {i.name for i in model.graph.initializer}
    types = _element_types(model)
    half: set[str] = set()
    found = set()
    for k, node in enumerate(model.graph.node):
        if _is_dense(node, constants, half, types):
            found.add(k)
            half |= set(node.output)
    return found


def _is_dense(node: NodeProto, constants: set[str], half: set[str], types: dict[str, int]) -> bool:
    if node.op_type not in PASSING:
        return False
    floats = [i for i in node.input if i and types.get(i) == TensorProto.FLOAT]
    given = [i for i in floats if i not in constants]
    if node.op_type in WEIGHTED and len(given) < len(floats):
        return True
    return bool(given) and all(i in half for i in given)


def _element_types(model: ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    known = {v.name: v.type.tensor_type.elem_type for v in values}
    return known | {i.name: i.data_type for i in inferred.initializer}


def export_half(path: Path, frames: list[Path]) -> dict[str, Any]:
    """Write ``<name>_fp16.onnx`` and its contract beside a network; answers what differs.

    Without frames nothing is compared. Raises StageError where the graph cannot be halved.
    """
    read_contract(path)
    out = path.with_name(f"{path.stem}_fp16.onnx")
    onnx.save(halved(onnx.load(str(path))), str(out))
    values = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf-8"))
    values |= {"model": out.name, "sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
    values |= {"precision": "float16, geometry and decoding float32", "halved_from": path.name}
    _write(values, path.name, out)
    result: dict[str, Any] = {
        "model": str(out),
        "megabytes": round(out.stat().st_size / 1e6, 2),
    }
    if frames:
        result["against_float32"] = compare_networks(path, out, frames)
        _write(values | {"against_float32": result["against_float32"]}, path.name, out)
    return result


def _write(values: dict[str, Any], model: str, out: Path) -> None:
    text = yaml.safe_dump(values, sort_keys=False, width=96)
    out.with_suffix(".yaml").write_text(HEADER.format(model=model) + text, encoding="utf-8")


def main() -> None:
    """Halve a network that is there already."""
    parser = argparse.ArgumentParser(description="Write a network in half precision beside it.")
    parser.add_argument("model", type=Path, help="the ONNX file, its contract beside it")
    parser.add_argument("--frames", type=Path, help="folder of frames to compare both on")
    args = parser.parse_args()
    frames = sorted(args.frames.glob("*.npz")) if args.frames else []
    print(yaml.safe_dump(export_half(args.model, frames), sort_keys=False))


if __name__ == "__main__":
    main()
