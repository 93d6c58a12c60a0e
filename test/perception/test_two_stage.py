"""The split of PointPillars and CenterPoint that Autoware publishes, with small networks of the
same interface: tensors, order of features, scattering and decoding worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import scenes
from onnx import TensorProto, helper, numpy_helper

from mm_fusion.errors import ContractError
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.detectors import open_network
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.perception.two_stage import TwoStageNetwork, parse_two_stage_contract, pillars
from mm_fusion.samples import SyncedSet

ENCODER, BACKBONE = "pts_voxel_encoder_small.onnx", "pts_backbone_neck_head_small.onnx"
PACKAGE = """/**:
  ros__parameters:
    model_params:
      class_names: ["CAR", "TRUCK", "BUS", "BICYCLE", "PEDESTRIAN"]
      point_feature_size: 4
      max_voxel_size: 64
      point_cloud_range: [-8.0, -4.0, -2.0, 8.0, 4.0, 4.0]
      voxel_size: [0.5, 0.5, 6.0]
      downsample_factor: 2
      encoder_in_feature_size: 9
"""
NX, NY = 32, 16


def save(path: Path, nodes: list, inputs: list, outputs: list, constants: list) -> None:
    graph = helper.make_graph(nodes, "small", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def tensor(name: str, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def write_pair(folder: Path, features: int = 9, package: str = PACKAGE) -> Path:
    """An encoder that gives each pillar the largest of each of its points' features, and a head
    with a car wherever a pillar reaches z of 1 m or more.

    Backbone: over 2 x 2 pillars the largest, as the published ones have a stride. Its heat for a
    car is 10 z - 10; the offset is a quarter cell along x and half of one along y, z 0.75, sizes
    exp of (0.5, 1.5, 0.4), heading a right angle, velocity (3, -1).
    """
    save(
        folder / ENCODER,
        [helper.make_node("ReduceMax", ["input_features"], ["pillar_features"], axes=[1])],
        [tensor("input_features", [64, 32, features])],
        [tensor("pillar_features", [64, 1, features])],
        [],
    )
    constants = {
        "from": np.array([2], np.int64),
        "to": np.array([3], np.int64),
        "axis": np.array([1], np.int64),
        "ten": np.array(10.0, np.float32),
    }
    nodes = [
        helper.make_node(
            "MaxPool", ["spatial_features"], ["coarse"], kernel_shape=[2, 2], strides=[2, 2]
        ),
        helper.make_node("Slice", ["coarse", "from", "to", "axis"], ["z"]),
        helper.make_node("Mul", ["z", "ten"], ["z10"]),
        helper.make_node("Sub", ["z10", "ten"], ["hot"]),
        helper.make_node("Sub", ["z", "z"], ["nothing"]),
        helper.make_node("Sub", ["nothing", "ten"], ["cold"]),
        helper.make_node("Concat", ["hot", "cold", "cold", "cold", "cold"], ["heatmap"], axis=1),
    ]
    told = {
        "reg": [0.25, 0.5],
        "height": [0.75],
        "dim": [0.5, 1.5, 0.4],
        "rot": [1.0, 0.0],
        "vel": [3.0, -1.0],
    }
    outputs = [tensor("heatmap", [1, 5, NY // 2, NX // 2])]
    for name, values in told.items():
        constants[f"told_{name}"] = np.array(values, np.float32).reshape(1, -1, 1, 1)
        nodes.append(helper.make_node("Add", ["nothing", f"told_{name}"], [name]))
        outputs.append(tensor(name, [1, len(values), NY // 2, NX // 2]))
    save(
        folder / BACKBONE,
        nodes,
        [tensor("spatial_features", [1, features, NY, NX])],
        outputs,
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    (folder / "small_ml_package.param.yaml").write_text(package)
    return folder / ENCODER


def opened(path: Path) -> TwoStageNetwork:
    config = scenes.config(detector="lidar", model=str(path), network__provider="cpu")
    network = open_network(config)
    assert isinstance(network, TwoStageNetwork)
    return network


def cloud(points: list[tuple[float, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    xyz = np.array(points, np.float32).T
    count = xyz.shape[1]
    return xyz, np.full(count, 0.5, np.float32), np.full(count, 0.05, np.float32)


def test_features_of_a_pillar(tmp_path: Path) -> None:
    """Two points in the cell from (3.0, 1.0) to (3.5, 1.5): x y z, age, offsets from their mean,
    and from the cell's middle."""
    contract = opened(write_pair(tmp_path)).contract
    found = pillars(contract, *cloud([(3.1, 1.2, 0.0), (3.3, 1.4, 1.0), (9.0, 0.0, 0.0)]))
    assert (found.ix.tolist(), found.iy.tolist(), found.left_out) == ([22], [10], 0)
    assert found.features.shape == (1, 32, 9)
    expected = [
        [3.1, 1.2, 0.0, 0.05, -0.1, -0.1, -0.5, -0.15, -0.05],
        [3.3, 1.4, 1.0, 0.05, 0.1, 0.1, 0.5, 0.05, 0.15],
    ]
    assert found.features[0, :2] == pytest.approx(np.array(expected), abs=1e-5)
    assert not found.features[0, 2:].any()


def test_eleven_features_have_the_intensity_and_the_height_in_the_cell(tmp_path: Path) -> None:
    path = write_pair(tmp_path, 11, PACKAGE.replace("feature_size: 9", "feature_size: 11"))
    found = pillars(opened(path).contract, *cloud([(3.1, 1.2, 0.0)]))
    # intensity 0.5 of 255; the middle of z from -2 to 4 is 1
    row = [3.1, 1.2, 0.0, 127.5, 0.05, 0.0, 0.0, 0.0, -0.15, -0.05, -1.0]
    assert found.features[0, 0] == pytest.approx(row, abs=1e-5)


def test_full_pillars_and_too_many_pillars(tmp_path: Path) -> None:
    contract = opened(write_pair(tmp_path)).contract
    one = [(3.1, 1.2, 0.01 * n) for n in range(40)]
    assert np.count_nonzero(pillars(contract, *cloud(one)).features[0, :, 0]) == 32
    x, y = np.meshgrid(np.arange(-7.75, 8, 0.5), np.arange(-3.75, 4, 0.5))
    many = [(float(a), float(b), 0.0) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    found = pillars(contract, *cloud(many))
    assert (len(found.ix), found.left_out) == (64, 32 * 16 - 64)
    assert np.hypot(found.ix - 15.5, found.iy - 7.5).max() < 6.0  # the near ones are kept


def test_boxes_where_the_head_says(tmp_path: Path) -> None:
    """GIVEN a point of height 1.2 m in the cell (22, 10), and a low one elsewhere
    WHEN both graphs run
    THEN there is one car, where the coarse cell (11, 5) and its offset put it."""
    network = opened(write_pair(tmp_path))
    found, left_out = network.run(*cloud([(3.1, 1.2, 1.2), (-5.0, -2.0, 0.1)]), 0.35)
    assert left_out == 0
    assert found.classes.tolist() == [0]
    assert found.scores[0] == pytest.approx(1.0 / (1.0 + np.exp(-2.0)), abs=1e-4)
    # x = 1.0 * (11 + 0.25) - 8, y = 1.0 * (5 + 0.5) - 4; width, length, height = exp(0.5, 1.5, 0.4)
    assert found.boxes[0] == pytest.approx(
        [3.25, 1.5, 0.75, np.exp(1.5), np.exp(0.5), np.exp(0.4), np.pi / 2, 3.0, -1.0], abs=1e-4
    )


def test_near_boxes_are_one(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    network = opened(path)
    two = cloud([(3.1, 1.2, 1.2), (4.1, 1.2, 1.3)])  # neighbouring coarse cells, 1 m apart
    assert len(network.run(*two, 0.35)[0].scores) == 2
    text = network.contract.to_yaml().replace("nms_distance_m: 0.5", "nms_distance_m: 1.5")
    path.with_suffix(".yaml").write_text(text)
    found, _ = opened(path).run(*two, 0.35)
    assert found.boxes[:, 0].tolist() == pytest.approx([4.25])  # the hotter one
    again = parse_two_stage_contract(opened(path).contract.to_yaml(), str(path))
    assert again.nms_distance_m == 1.5


def test_the_pipeline_gives_boxes_with_velocity(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    config = scenes.config(detector="lidar", model=str(path), network__provider="cpu")
    calibration = Calibration(config)
    pipeline = PerceptionPipeline(config, open_network(config), calibration)
    points = np.array([[3.1, 1.2, 1.2]]) - scenes.LIDAR_AT[:3]
    synced = SyncedSet(scenes.T0, (scenes.sweep(points),), (None,), ("camera",), {"lidar": 0})
    result = pipeline.process(synced)
    (car,) = result.detections
    assert (car.label, car.source, result.mode.value) == ("car", "lidar", "lidar")
    assert car.velocity.tolist() == pytest.approx([3.0, -1.0])
    empty = SyncedSet(scenes.T0, (None,), (None,), ("lidar", "camera"))
    assert pipeline.process(empty).detections == ()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("feature_size: 9", "feature_size: 8", r"features: must be one of \(9, 10, 11\), got 8"),
        ("feature_size: 9", "feature_size: 10", r"must have shape \[V, 32, 10\]"),
        ("voxel_size: [0.5, 0.5, 6.0]", "voxel_size: [0.5, 0.5]", "voxel_size: must be three"),
        ("factor: 2", "factor: 1", "output heatmap must cover 16 x 32 cells"),
        ("-8.0, -4.0, -2.0, 8.0, 4.0, 4.0", "1, 2", "point_cloud_range: must be six numbers"),
    ],
)
def test_parameters_that_do_not_fit(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in PACKAGE
    with pytest.raises(ContractError, match=complaint):
        opened(write_pair(tmp_path, package=PACKAGE.replace(old, new)))


def test_a_pair_without_anything_beside_it(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    (tmp_path / "small_ml_package.param.yaml").unlink()
    with pytest.raises(ContractError, match="neither a contract beside it"):
        opened(path)
