"""A network in half precision says what the whole one says, and keeps its geometry."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mm_fusion import resources
from mm_fusion.errors import StageError
from mm_fusion.perception.contract import NetworkInputs
from mm_fusion.perception.network import PACKAGED_MODEL, FusionNetwork
from mm_fusion.training.fp16 import dense_nodes, export_half, halved
from mm_fusion.training.graph import problems


def small() -> ModelProto:
    """x -> Conv -> Relu -> Resize -> + x * 3 (which is not between weights) -> y."""
    weights = np.full((1, 1, 1, 1), 0.1, np.float32)
    constants = {"w": weights, "three": np.array(3.0, np.float32)}
    constants["scales"] = np.array([1, 1, 1, 1], np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Resize", ["r", "", "scales"], ["s"], name="resize", mode="nearest"),
        helper.make_node("Mul", ["x", "three"], ["m"], name="geometry"),
        helper.make_node("Add", ["s", "m"], ["y"], name="sum"),
    ]
    shape = [1, 1, 2, 2]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_only_what_lies_between_weights_is_halved() -> None:
    model = small()
    assert dense_nodes(model) == {0, 1, 2}
    out = halved(model)
    x = np.array([[[[1.0, 2049.0], [-4097.0, 0.3]]]], np.float32)
    session = ort.InferenceSession(out.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    # 2049 is no number of 11 bits: through the geometry it comes as it is, and three times it
    # alone is more than float16 would leave of it
    weight = float(np.float16(0.1))
    wanted = 3.0 * x + np.maximum(weight * x.astype(np.float16).astype(np.float32), 0.0)
    np.testing.assert_allclose(y, wanted, rtol=1e-3)
    np.testing.assert_allclose(y[0, 0, 1, 0], -3 * 4097.0, rtol=1e-7)
    assert [t.elem_type for t in (out.graph.input[0].type.tensor_type,)] == [TensorProto.FLOAT]


def test_a_graph_without_weights_cannot_be_halved() -> None:
    model = small()
    del model.graph.node[:3]
    model.graph.node[1].input[0] = "x"
    with pytest.raises(StageError, match="no convolution or linear layer"):
        halved(model)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged network and its half."""
    folder = tmp_path_factory.mktemp("models")
    packaged = resources.share_path(PACKAGED_MODEL)
    for path in (packaged, packaged.with_suffix(".yaml")):
        shutil.copy(path, folder / path.name)
    result = export_half(folder / packaged.name, [])
    assert result["megabytes"] < 0.6 * packaged.stat().st_size / 1e6
    return folder / "fusion_fp16.onnx"


def test_the_packaged_network_in_half_precision(half: Path) -> None:
    # GIVEN a made scene
    whole, network = (FusionNetwork.open(half.with_name(n)) for n in ("fusion.onnx", half.name))
    inputs = NetworkInputs.of(whole.contract)
    rng = np.random.default_rng(1)
    inputs.points[:20000, :3] = rng.uniform([-25, -25, 0], [50, 25, 3], (20000, 3))
    inputs.set_points(20000)
    inputs.images[:] = rng.integers(0, 255, inputs.images.shape)
    inputs.set_image(0, True)
    height, width = inputs.images.shape[1:3]
    f = width / 2
    inputs.pixel_from_base[0] = [[f, -f, 0, 0], [height / 2, 0, -f, 1.5 * f], [1, 0, 0, 0]]
    # WHEN both answer THEN the scores differ by no more than rounding
    one, other = whole.run(inputs), network.run(inputs)
    np.testing.assert_allclose(one.scores, other.scores, atol=5e-3)
    assert not np.array_equal(one.scores, other.scores)


def test_its_contract_and_its_graph(half: Path) -> None:
    contract = yaml.safe_load(half.with_suffix(".yaml").read_text())
    assert contract["model"] == half.name
    assert contract["halved_from"] == "fusion.onnx"
    model = onnx.load(str(half))
    assert {t.type.tensor_type.elem_type for t in model.graph.input} == {
        TensorProto.FLOAT,
        TensorProto.UINT8,
    }
    assert not [p for p in problems(model) if not p.startswith("Atan")]
    # every convolution is halved
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    weights = [n.input[1] for n in model.graph.node if n.op_type == "Conv"]
    assert {kinds[w] for w in weights} == {TensorProto.FLOAT16}
