"""Is an exported graph fit for a GPU: one plain graph, sizes known, every node with a CUDA kernel.

What CUDA has kernels for is ONNX Runtime's own list, docs/OperatorKernels.md, for its opset 18 and
float32. A node that is not on it runs on the CPU, between two copies that stop the GPU's queue.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}
# The list as of ONNX Runtime 1.24, domain ai.onnx, without sequences, training and randomness.
CUDA_KERNELS = frozenset(
    """Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Compress Concat
    ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div Einsum Elu Equal
    Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool
    GlobalMaxPool Greater GreaterOrEqual GridSample HardSigmoid HardSwish Identity
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax MatMul MatMulInteger Max MaxPool Min Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow
    QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence
    RoiAlign Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Size Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Tile TopK
    Transpose Trilu Unsqueeze Where Xor""".split()  # noqa: SIM905
) | {"Constant"}
# Where the list has fewer element types than one would think.
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}
_WIDE = _FLOATS | {TensorProto.INT32, TensorProto.INT64}
_TYPES = {
    "Where": _WIDE | {TensorProto.UINT8},
    "Clip": _FLOATS | {TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8, TensorProto.UINT64},
    "Max": _WIDE | {TensorProto.UINT32, TensorProto.UINT64},
    "Min": _WIDE | {TensorProto.UINT32, TensorProto.UINT64},
    "TopK": _WIDE,
    "MaxPool": _FLOATS | {TensorProto.INT8, TensorProto.UINT8},
    "GridSample": {TensorProto.FLOAT},
    "CumSum": _WIDE,
    "GatherND": _FLOATS | {TensorProto.INT64, TensorProto.BOOL},
    "Pad": _FLOATS | {TensorProto.BOOL},
}
_TYPED_INPUT = {"Where": 1}  # which input the rule is about, 0 where not said
FREE_AXIS = "P"


def problems(model: ModelProto) -> list[str]:
    """What keeps a graph from running as a whole on CUDA with sizes that depend on P alone."""
    found = [f"local function {f.name}" for f in model.functions]
    known = _value_types(model)
    for node in model.graph.node:
        name = f"{node.op_type} '{node.name}'"
        if node.op_type in CONTROL_FLOW or any(a.HasField("g") for a in node.attribute):
            found.append(f"{name}: control flow")
        elif node.domain not in ("", "ai.onnx"):
            found.append(f"{name}: of domain {node.domain}")
        elif node.op_type not in CUDA_KERNELS:
            found.append(f"{name}: CUDA has no kernel for it")
        elif not _type_fits(node, known):
            found.append(f"{name}: CUDA has no kernel for its element type")
    return found + _free_sizes(model)


def _type_fits(node: NodeProto, known: dict[str, int]) -> bool:
    allowed = _TYPES.get(node.op_type)
    element = known.get(node.input[_TYPED_INPUT.get(node.op_type, 0)]) if node.input else None
    return allowed is None or element is None or element in allowed


def _value_types(model: ModelProto) -> dict[str, int]:
    """Element types of everything in the graph, by name."""
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    known = {v.name: v.type.tensor_type.elem_type for v in values}
    return known | {i.name: i.data_type for i in inferred.initializer}


def _free_sizes(model: ModelProto) -> list[str]:
    """Values whose size is not fixed although nothing in front of them depends on P."""
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    depends = {v.name for v in inferred.input if _is_free(v)}
    for node in model.graph.node:  # in topological order, as the checker demands
        if depends & set(node.input):
            depends |= set(node.output)
    found = []
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        named = {d.dim_param for d in value.type.tensor_type.shape.dim if d.dim_param}
        if value in inferred.output and _is_free(value):
            found.append(f"output {value.name}: of no fixed size")
        elif _is_free(value) and value.name not in depends:
            found.append(f"{value.name}: of no fixed size ({', '.join(sorted(named)) or '?'})")
    return found


def _is_free(value: onnx.ValueInfoProto) -> bool:
    dims = value.type.tensor_type.shape.dim
    return any(d.dim_param or not d.HasField("dim_value") for d in dims)


# ------------------------------------------------------------------ the arc tangent

# atan(u) / u on 0..1 as a polynomial in u^2, fitted at Chebyshev nodes: |error| below 4e-8.
_DEGREE = 9


def arctan_coefficients() -> np.ndarray:
    """Coefficients [degree + 1] in u^2, lowest first, of atan(u) / u on 0..1."""
    nodes = 0.5 + 0.5 * np.cos((2 * np.arange(64) + 1) * np.pi / 128)
    u = np.sqrt(nodes)
    fitted = np.polynomial.Chebyshev.fit(nodes, np.arctan(u) / u, _DEGREE, domain=[0, 1])
    return np.asarray(fitted.convert(kind=np.polynomial.Polynomial).coef)


def without_arctan(model: ModelProto) -> ModelProto:
    """The same graph with every Atan, for which CUDA has no kernel, as a polynomial.

    Beyond 1, atan(t) = pi/2 - atan(1/t). The difference is below 1e-6 rad; NaN stays NaN.
    """
    out = ModelProto()
    out.CopyFrom(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Atan":
            nodes += _arctan(node.input[0], node.output[0], out)
        else:
            nodes.append(node)
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    onnx.checker.check_model(out)
    return out


def _arctan(source: str, target: str, model: ModelProto) -> list[NodeProto]:
    made: list[NodeProto] = []

    def constant(value: float) -> str:
        name = f"{target}/constant_{len(model.graph.initializer)}"
        tensor = numpy_helper.from_array(np.array(value, np.float32), name)
        model.graph.initializer.append(tensor)
        return name

    def op(kind: str, *inputs: str, to: str = "") -> str:
        name = to or f"{target}/{kind.lower()}_{len(made)}"
        made.append(helper.make_node(kind, list(inputs), [name], name=f"{name}/node"))
        return name

    one = constant(1.0)
    size = op("Abs", source)
    large = op("Greater", size, one)
    u = op("Where", large, op("Div", one, op("Max", size, one)), size)
    square = op("Mul", u, u)
    *lower, highest = arctan_coefficients()
    value = constant(highest)
    for coefficient in reversed(lower):
        value = op("Add", op("Mul", value, square), constant(coefficient))
    value = op("Mul", value, u)
    turned = op("Sub", constant(np.pi / 2), value)
    op("Mul", op("Sign", source), op("Where", large, turned, value), to=target)
    return made
