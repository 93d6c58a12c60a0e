"""Networks that fit their contract run; all others are refused with the mismatch named."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import scenes
import yaml
from onnx import TensorProto

from mm_fusion.errors import ConfigError, ContractError
from mm_fusion.perception.contract import NetworkInputs, parse_contract
from mm_fusion.perception.network import FusionNetwork
from mm_fusion.resources import share_path


def contract_text(**changes):
    return yaml.safe_dump(scenes.contract_values(**changes))


def test_the_network_answers_what_it_was_given(tmp_path):
    network = FusionNetwork.open(scenes.write_network(tmp_path), "cpu", threads=1)
    inputs = NetworkInputs.of(network.contract)
    inputs.points[:3, :3] = [[1, 2, 0], [3, 2, 1], [5, 2, 2]]
    inputs.points[3] = 1e6  # beyond point_count: never fed
    inputs.set_points(3)
    inputs.images[:] = 51
    inputs.set_image(0, True)
    boxes, scores, labels, _ = network.run(inputs)
    expected = np.array([[3, 2, 1, 4, 2, 1.5, 0.2, 1, -2]] * 4) + np.outer(
        [0, 10, 20, 30], np.eye(9)[0]
    )
    np.testing.assert_allclose(boxes, expected, atol=1e-5)
    np.testing.assert_allclose(scores, [0.9, 0.7, 0.25, 0.15], atol=1e-6)
    assert labels.tolist() == [0, 1, 2, 0]
    assert network.provider == "cpu"


def test_the_packaged_network_fits_and_is_deterministic_on_two_threads():
    network = FusionNetwork.open(share_path("models/fusion.onnx"), "cpu", threads=2)
    inputs = NetworkInputs.of(network.contract)
    rng = np.random.default_rng(4)
    inputs.points[:9000, :3] = rng.uniform([-25, -25, 0], [50, 25, 3], (9000, 3))
    inputs.set_points(9000)
    inputs.images[:] = rng.integers(0, 255, inputs.images.shape)
    inputs.set_image(0, True)
    first = network.run(inputs)
    for _ in range(5):
        for one, other in zip(first, network.run(inputs), strict=True):
            assert np.array_equal(one, other)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"nowhere\.onnx: no such network file"):
        FusionNetwork.open(tmp_path / "nowhere.onnx")


def test_a_missing_contract_is_named(tmp_path):
    path = scenes.write_network(tmp_path)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(ContractError, match=r"net\.yaml: the contract of net\.onnx is missing"):
        FusionNetwork.open(path)


def test_other_weights_than_the_contracts_are_refused(tmp_path):
    path = scenes.write_network(tmp_path)
    path.write_bytes(scenes.graph(size=(1.0, 1.0, 1.0)).SerializeToString())
    with pytest.raises(ContractError, match="sha256"):
        FusionNetwork.open(path)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    path = scenes.write_network(tmp_path)
    path.write_bytes(b"not a network")
    import hashlib

    sha = hashlib.sha256(b"not a network").hexdigest()
    path.with_suffix(".yaml").write_text(contract_text(sha256=sha))
    with pytest.raises(ContractError, match=r"net\.onnx: not a network"):
        FusionNetwork.open(path, "cpu")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"points": "cloud"}, "input 'points' is missing; there are: cloud"),
        ({"images_type": TensorProto.FLOAT}, "'images' must have dtype uint8, got float32"),
        ({"point_axis": 100}, r"'points' must have shape \['P', 5\], got \[100, 5\]"),
        ({"rows": 7}, r"'boxes' must have shape \[4, 9\], got \[7, 9\]"),
        ({"row_per_point": True}, r"'boxes' must have shape \[4, 9\].*answers \[1, 9\]"),
    ],
)
def test_a_graph_that_is_not_what_its_contract_says_is_refused(tmp_path, model, message):
    path = scenes.write_network(tmp_path, scenes.graph(**model))
    with pytest.raises(ContractError, match=message):
        FusionNetwork.open(path, "cpu")


def test_open_output_sizes_are_fine_where_the_answers_fit(tmp_path):
    path = scenes.write_network(tmp_path, scenes.graph(open_outputs=True))
    assert FusionNetwork.open(path, "cpu").contract.max_detections == 4


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there"
)
def test_cuda_asked_for_and_not_had_is_an_error(tmp_path):
    path = scenes.write_network(tmp_path)
    with pytest.raises(ConfigError, match=r"network\.provider: cuda was asked for"):
        FusionNetwork.open(path, "cuda")
    assert FusionNetwork.open(path, "auto").provider == "cpu"


def test_the_network_comes_from_the_parameters(tmp_path):
    path = scenes.write_network(tmp_path)
    found = FusionNetwork.from_config(
        scenes.config(network__model=str(path), network__provider="cpu")
    )
    assert found.model_path == path


# ------------------------------------------------------------------------ the contract alone


def test_a_contract_reads_back():
    c = parse_contract(contract_text(trained={"steps": 3}), "net.yaml")
    assert c.range_m.x_m == (-20.0, 40.0)
    assert c.classes == ("car", "pedestrian", "cyclist")
    assert c.may_be_absent == {"points", "images"}
    assert c.trained == {"steps": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "format: must be 'mm_fusion network contract', got 'other'"),
        ({"format_version": 2}, "format_version: must be 1, got 2"),
        ({"colour_order": "BGR"}, "colour_order: must be RGB"),
        ({"classes": []}, "classes: must name at least one"),
        ({"classes": [1]}, "classes: must be a list of texts"),
        ({"camera_slots": 0}, "camera_slots: must be a whole number of at least 1, got 0"),
        ({"camera_slots": 2}, r"'images' must have shape \[2, 64, 128, 3\]"),
        ({"point_budget": 1.5}, "point_budget: must be a whole number"),
        ({"score_threshold": 1.5}, "score_threshold: must be within 0 .. 1"),
        ({"score_threshold": float("nan")}, "score_threshold: must be finite"),
        ({"may_be_absent": ["has_image"]}, "may_be_absent: must be points or images"),
        ({"range_m": {"x": [1, 0], "y": [0, 1], "z": [0, 1]}}, "range_m: x: low must be below"),
        ({"range_m": {"x": [0, 1], "y": [0, 1]}}, "range_m: z: is missing"),
        ({"model": "../net.onnx"}, "model: must be a file beside the contract"),
        ({"inputs": []}, "input 'points' is missing; there are: none"),
        ({"outputs": [{"name": "boxes", "dtype": "f4", "shape": [1]}]}, "dtype: must be one of"),
        ({"outputs": [{"name": "boxes", "dtype": "float32", "shape": 9}]}, "shape: must be a list"),
    ],
)
def test_a_contract_that_does_not_hold_in_itself_is_refused(changes, message):
    with pytest.raises(ContractError, match=message):
        parse_contract(contract_text(**changes), "net.yaml")


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "3"])
def test_what_is_no_mapping_is_no_contract(text):
    with pytest.raises(ContractError, match=r"net\.yaml"):
        parse_contract(text, "net.yaml")


def test_a_missing_key_is_named():
    values = scenes.contract_values()
    del values["point_budget"]
    with pytest.raises(ContractError, match=r"net\.yaml: point_budget: is missing"):
        parse_contract(yaml.safe_dump(values), "net.yaml")
