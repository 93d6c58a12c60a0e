"""Graphs that a GPU can run as a whole, and what is said of those that it cannot."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from mm_fusion import resources
from mm_fusion.perception.network import PACKAGED_MODEL
from mm_fusion.training.graph import CUDA_KERNELS, problems, without_arctan


def graph(nodes: list, out_shape: list, in_type: int = TensorProto.FLOAT) -> onnx.ModelProto:
    source = helper.make_tensor_value_info("x", in_type, ["P", 4])
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape)
    made = helper.make_graph(nodes, "g", [source], [target])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_plain_graph_has_no_problem() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("ReduceMax", ["r"], ["y"], keepdims=0, noop_with_empty_axes=0),
    ]
    assert problems(graph(nodes, [])) == []


def test_an_operator_without_a_kernel_is_named() -> None:
    nodes = [
        helper.make_node("Atan", ["x"], ["a"], name="angle"),
        helper.make_node("ReduceMax", ["a"], ["y"], keepdims=0),
    ]
    assert problems(graph(nodes, [])) == ["Atan 'angle': CUDA has no kernel for it"]


def test_an_element_type_without_a_kernel_is_named() -> None:
    nodes = [
        helper.make_node("Min", ["x", "x"], ["m"], name="least"),
        helper.make_node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["f"], ["y"], keepdims=0),
    ]
    assert problems(graph(nodes, [], TensorProto.INT8)) == [
        "Min 'least': CUDA has no kernel for its element type"
    ]


def test_control_flow_and_open_sizes_are_named() -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["b"])],
        "b",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["P", 4])],
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value_ints=[1]),
        helper.make_node("Cast", ["c"], ["cond"], to=TensorProto.BOOL),
        helper.make_node("If", ["cond"], ["y"], then_branch=branch, else_branch=branch, name="if"),
    ]
    said = problems(graph(nodes, ["P", 4]))
    assert said == ["If 'if': control flow", "output y: of no fixed size"]


def test_the_arc_tangent_is_one() -> None:
    # GIVEN a graph with Atan WHEN it is replaced THEN it says the same of every number
    t = np.concatenate([np.linspace(-5, 5, 20001), [0.0, 1.0, -1.0, 1e30, -1e30, np.inf, -np.inf]])
    t = np.append(t, np.nan).astype(np.float32).reshape(-1, 1).repeat(4, 1)
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["P", 4])
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["P", 4])
    plain = helper.make_graph([helper.make_node("Atan", ["x"], ["y"])], "g", [source], [target])
    model = helper.make_model(plain, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    changed = without_arctan(model)
    assert {n.op_type for n in changed.graph.node}.isdisjoint({"Atan"})
    session = ort.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    (said,) = session.run(None, {"x": t})
    np.testing.assert_allclose(said[:, 0], np.arctan(t[:, 0].astype(np.float64)), atol=1e-6)


def test_the_packaged_network_runs_on_a_gpu_as_a_whole() -> None:
    model = onnx.load(str(resources.share_path(PACKAGED_MODEL)))
    assert problems(without_arctan(model)) == []


@pytest.mark.parametrize("name", ["Memcpy", "MemcpyToHost", "NonMaxSuppression", "Acos", "Atan"])
def test_what_is_not_on_the_list(name: str) -> None:
    assert name not in CUDA_KERNELS
