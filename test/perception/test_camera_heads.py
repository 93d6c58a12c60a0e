"""2D detectors end to end: small networks with published interfaces, boxes worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.small_detectors import write_detector

from mm_fusion.errors import ContractError
from mm_fusion.perception.camera2d.contract import parse_camera_contract
from mm_fusion.perception.camera2d.network import CameraNetwork

CAR, PERSON, TRUCK = 2, 0, 7


def opened(path: Path) -> CameraNetwork:
    return CameraNetwork.open(str(path), "cpu", 1)


def answer(network: CameraNetwork, threshold: float = 0.3) -> list[tuple[str, float, list[float]]]:
    """Class, score and box of what is found, best first."""
    picture = network.contract.picture
    found = network.run(np.zeros((picture.height_px, picture.width_px, 3), np.uint8), threshold)
    rows = zip(found.boxes, found.scores, found.classes, strict=True)
    return [
        (network.contract.classes[c], round(float(s), 4), np.round(b, 3).tolist())
        for b, s, c in rows
    ]


def yolov8_rows() -> np.ndarray:
    """Centre, size, 80 scores: a car twice, a truck in the same place, a faint person."""
    rows = np.zeros((8400, 84))
    rows[10, :4], rows[10, 4 + CAR] = (320.0, 320.0, 100.0, 50.0), 0.9
    rows[11, :4], rows[11, 4 + CAR] = (322.0, 320.0, 100.0, 50.0), 0.8
    rows[12, :4], rows[12, 4 + TRUCK] = (320.0, 321.0, 100.0, 50.0), 0.6
    rows[13, :4], rows[13, 4 + PERSON] = (50.0, 60.0, 20.0, 40.0), 0.2
    return rows


YOLOV8_BOXES = [("car", 0.9, [270.0, 295.0, 370.0, 345.0]), ("truck", 0.6, [270, 296, 370, 346])]


def test_yolov8(tmp_path: Path) -> None:
    """The second car overlaps the first and goes; the truck is another class and stays."""
    network = opened(write_detector(tmp_path / "v8.onnx", {"output0": yolov8_rows().T[None]}))
    assert network.recognized
    assert network.contract.head == "yolov8"
    assert (network.contract.picture.fit, network.contract.picture.colour_order) == (
        "letterbox",
        "RGB",
    )
    assert answer(network) == YOLOV8_BOXES
    assert answer(network, 0.1)[-1] == ("person", 0.2, [40.0, 40.0, 60.0, 80.0])


def test_yolov8_turned(tmp_path: Path) -> None:
    network = opened(write_detector(tmp_path / "v8.onnx", {"output0": yolov8_rows()[None]}))
    assert network.contract.head == "yolov8"
    assert answer(network) == YOLOV8_BOXES


def test_yolov8_with_its_own_classes_in_its_notes(tmp_path: Path) -> None:
    rows = np.zeros((7, 8400))
    rows[:4, 0], rows[6, 0] = (100.0, 100.0, 20.0, 20.0), 0.7
    notes = {"names": "{0: 'Pedestrian', 1: 'Tram', 2: 'Van'}", "imgsz": "[640, 640]"}
    path = write_detector(tmp_path / "kitti.onnx", {"output0": rows[None]}, metadata=notes)
    network = opened(path)
    assert network.contract.classes == ("Pedestrian", "Tram", "Van")
    assert dict(network.contract.class_map) == {
        "Pedestrian": "pedestrian",
        "Tram": "unknown",
        "Van": "car",
    }
    assert answer(network) == [("Van", 0.7, [90.0, 90.0, 110.0, 110.0])]


def test_yolov5_multiplies_objectness_and_class(tmp_path: Path) -> None:
    rows = np.zeros((1, 25200, 85))
    rows[0, 5, :5], rows[0, 5, 5 + CAR] = (100.0, 200.0, 40.0, 20.0, 0.8), 0.5
    rows[0, 6, :5], rows[0, 6, 5 + PERSON] = (300.0, 200.0, 10.0, 30.0, 0.5), 0.5
    network = opened(write_detector(tmp_path / "v5.onnx", {"output0": rows}))
    assert network.contract.head == "yolov5"
    assert answer(network) == [("car", 0.4, [80.0, 190.0, 120.0, 210.0])]  # 0.25 is too little


def test_coordinates_as_shares_of_the_picture_are_recognized(tmp_path: Path) -> None:
    rows = np.zeros((1, 25200, 85))
    rows[0, 5, :5], rows[0, 5, 5 + CAR] = (0.25, 0.5, 0.125, 0.0625, 1.0), 0.5
    network = opened(write_detector(tmp_path / "v5.onnx", {"output0": rows}))
    assert network.contract.coordinates == "normalized"
    assert answer(network) == [("car", 0.5, [120.0, 300.0, 200.0, 340.0])]


def yolox_raw() -> np.ndarray:
    """For 416 x 416: 52 x 52 cells of 8 px, then 26 x 26 of 16, then 13 x 13 of 32."""
    rows = np.zeros((1, 3549, 85))
    third = 2 * 52 + 3  # of the first grid: row 2, column 3
    rows[0, third, :5], rows[0, third, 5 + CAR] = (0.5, 0.25, np.log(4.0), np.log(2.0), 0.9), 0.8
    coarse = 52 * 52 + 26 * 26 + 1 * 13 + 12  # of the last grid: row 1, column 12
    rows[0, coarse, :5], rows[0, coarse, 5 + PERSON] = (0.0, 0.0, 0.0, np.log(2.0), 1.0), 0.5
    return rows


YOLOX_BOXES = [
    # centre (3.5, 2.25) * 8 = (28, 18), size (4, 2) * 8; centre (12, 1) * 32, size (1, 2) * 32
    ("car", 0.72, [12.0, 10.0, 44.0, 26.0]),
    ("person", 0.5, [368.0, 0.0, 400.0, 64.0]),
]


def test_yolox_as_published_is_decoded_here(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "x.onnx", {"output": yolox_raw()}, (1, 3, 416, 416))
    network = opened(path)
    c = network.contract
    assert (c.head, c.decoded) == ("yolox", False)
    assert (c.picture.fit, c.picture.colour_order) == ("letterbox_top_left", "BGR")
    assert (c.picture.mean, c.picture.std) == ((0.0,) * 3, (1.0,) * 3)
    assert answer(network) == YOLOX_BOXES


def test_yolox_that_decodes_by_itself_is_told_by_its_answer(tmp_path: Path) -> None:
    rows = np.zeros((1, 3549, 85))
    n = 0
    for stride in (8, 16, 32):  # every cell says where it is, as a decoded answer to noise does
        for v in range(416 // stride):
            for u in range(416 // stride):
                rows[0, n, :4] = (stride * (u + 0.5), stride * (v + 0.5), stride, stride)
                n += 1
    rows[0, 7, :5], rows[0, 7, 5 + CAR] = (60.0, 8.0, 32.0, 16.0, 0.9), 0.8
    network = opened(write_detector(tmp_path / "x.onnx", {"output": rows}, (1, 3, 416, 416)))
    assert (network.contract.head, network.contract.decoded) == ("yolox", True)
    assert answer(network) == [("car", 0.72, [44.0, 0.0, 76.0, 16.0])]


def test_detr_takes_the_softmax_and_leaves_no_object_out(tmp_path: Path) -> None:
    logits = np.full((1, 100, 92), -20.0)
    logits[0, :, 91] = 0.0  # "no object" everywhere but in two queries
    logits[0, 0, 3], logits[0, 0, 91] = 0.0, -20.0  # number 3 of COCO's own is a car
    logits[0, 1, 1], logits[0, 1, 91] = 0.0, 0.0  # a person or nothing, half and half
    boxes = np.full((1, 100, 4), 0.1)
    boxes[0, 0] = (0.5, 0.5, 0.25, 0.5)
    path = write_detector(
        tmp_path / "detr.onnx",
        {"logits": logits, "pred_boxes": boxes},
        (1, 3, 320, 640),
        "pixel_values",
    )
    network = opened(path)
    c = network.contract
    assert (c.head, c.activation, c.picture.fit) == ("detr", "softmax", "stretch")
    assert c.picture.mean == (123.675, 116.28, 103.53)
    found = answer(network, 0.4)
    assert found[0] == ("car", 1.0, [240.0, 80.0, 400.0, 240.0])
    assert found[1][:2] == ("person", 0.5)
    assert len(found) == 2


def test_detr_with_a_score_per_class(tmp_path: Path) -> None:
    logits = np.full((1, 300, 80), -20.0)
    logits[0, 4, CAR] = np.log(3.0)  # sigmoid: 0.75
    boxes = np.full((1, 300, 4), 0.1)
    boxes[0, 4] = (0.5, 0.25, 0.5, 0.25)
    path = write_detector(tmp_path / "rt.onnx", {"logits": logits, "pred_boxes": boxes})
    network = opened(path)
    c = network.contract
    assert (c.activation, c.picture.fit) == ("sigmoid", "stretch")
    assert (c.picture.mean, c.picture.std) == ((0.0,) * 3, (255.0,) * 3)  # as RT-DETR has it
    assert answer(network) == [("car", 0.75, [160.0, 80.0, 480.0, 240.0])]


def test_detr_with_a_score_for_each_of_cocos_own_numbers(tmp_path: Path) -> None:
    """RF-DETR: from 1 to 90, with ImageNet's mean taken off."""
    labels = np.full((1, 300, 91), -20.0)
    labels[0, 4, 3] = np.log(3.0)  # number 3 of COCO's own is a car
    dets = np.full((1, 300, 4), 0.1)
    dets[0, 4] = (0.5, 0.25, 0.5, 0.25)
    told = {"dets": dets, "labels": labels}
    network = opened(write_detector(tmp_path / "rf.onnx", told, (1, 3, 384, 384), "input"))
    assert network.contract.activation == "sigmoid"
    assert network.contract.picture.mean == (123.675, 116.28, 103.53)
    assert answer(network) == [("car", 0.75, [96.0, 48.0, 288.0, 144.0])]


def test_labels_boxes_scores(tmp_path: Path) -> None:
    told = {
        "labels": np.array([[CAR, PERSON]]),
        "boxes": np.array([[[10.0, 20.0, 30.0, 40.0], [1.0, 2.0, 3.0, 4.0]]]),
        "scores": np.array([[0.6, 0.1]]),
    }
    network = opened(write_detector(tmp_path / "dfine.onnx", told))
    assert network.contract.head == "detr_boxes"
    assert answer(network) == [("car", 0.6, [10.0, 20.0, 30.0, 40.0])]


def test_boxes_suppressed_within_the_graph(tmp_path: Path) -> None:
    rows = np.zeros((1, 300, 6))
    rows[0, 0] = (10.0, 20.0, 110.0, 70.0, 0.85, CAR)
    network = opened(write_detector(tmp_path / "v10.onnx", {"output0": rows}))
    assert network.contract.head == "end2end"
    assert answer(network) == [("car", 0.85, [10.0, 20.0, 110.0, 70.0])]


@pytest.mark.parametrize("names", ["{0: 'car'}", "{0: 'car', 1: 'person'}"])
def test_few_classes_suppressed_within_the_graph(tmp_path: Path, names: str) -> None:
    """The last column are numbers of classes, as many scores as it might hold."""
    rows = np.zeros((1, 300, 6))
    rows[0, 0] = (10.0, 20.0, 110.0, 70.0, 0.85, 0.0)
    notes = {"names": names}
    network = opened(write_detector(tmp_path / "v26.onnx", {"output0": rows}, metadata=notes))
    assert network.contract.head == "end2end"
    assert answer(network) == [("car", 0.85, [10.0, 20.0, 110.0, 70.0])]


def test_two_scores_are_no_number_of_a_class(tmp_path: Path) -> None:
    """GIVEN Ultralytics' RT-DETR of two classes, whose [1,300,6] looks like the above
    THEN it is told by scores that are no whole numbers."""
    rows = np.full((1, 300, 6), 0.01)
    rows[0, 3] = (0.5, 0.25, 0.5, 0.25, 0.9, 0.2)
    notes = {"names": "{0: 'car', 1: 'person'}"}
    network = opened(write_detector(tmp_path / "rtdetr.onnx", {"output0": rows}, metadata=notes))
    assert network.contract.head == "yolov8"
    assert answer(network) == [("car", 0.9, [160.0, 80.0, 480.0, 240.0])]


def test_fastestdet(tmp_path: Path) -> None:
    cells = np.zeros((1, 85, 22, 22))
    cells[0, 0] = 0.01
    # cell (row 7, column 5): 0.5 cells to the right, the size half and a quarter of the picture
    cells[0, :5, 7, 5] = (0.81, np.arctanh(0.5), 0.0, 0.0, np.log(1.0 / 3.0))
    cells[0, 5 + CAR, 7, 5] = 0.64
    path = write_detector(tmp_path / "fd.onnx", {"758": cells}, (1, 3, 352, 352), "input.1")
    network = opened(path)
    c = network.contract
    assert (c.head, c.picture.colour_order, c.picture.fit) == ("fastestdet", "BGR", "stretch")
    # 0.81 ** 0.6 * 0.64 ** 0.4 = 0.8812 * 0.8365; centre (5.5, 7) * 16 = (88, 112); 176 x 88
    assert answer(network) == [("car", 0.7372, [0.0, 68.0, 176.0, 156.0])]


def test_a_picture_in_bytes_rows_first(tmp_path: Path) -> None:
    path = write_detector(
        tmp_path / "v8.onnx", {"out": yolov8_rows().T[None]}, (1, 640, 640, 3), dtype=2
    )
    network = opened(path)
    p = network.contract.picture
    assert (p.layout, p.dtype, p.std) == ("NHWC", "uint8", (1.0, 1.0, 1.0))
    assert answer(network) == YOLOV8_BOXES


def test_sizes_that_are_left_open_are_the_usual_ones(tmp_path: Path) -> None:
    shape = ("batch", 3, "height", "width")
    network = opened(write_detector(tmp_path / "v8.onnx", {"o": yolov8_rows().T[None]}, shape))
    assert (network.contract.picture.width_px, network.contract.picture.height_px) == (640, 640)


# -------------------------------------------------------------------------------- refusals


def test_what_is_not_recognized_is_listed(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "odd.onnx", {"mask": np.zeros((1, 7))})
    with pytest.raises(ContractError, match=r"odd\.onnx: not a detector.*mask float32\[1, 7\]"):
        opened(path)


def test_classes_without_names_are_not_guessed(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "v8.onnx", {"out": np.zeros((1, 14, 8400))})
    with pytest.raises(ContractError, match="10 classes without names"):
        opened(path)


def written(tmp_path: Path, **changes: Any) -> Path:
    """A network with a contract of its own beside it."""
    path = write_detector(tmp_path / "v8.onnx", {"output0": yolov8_rows().T[None]})
    tree = yaml.safe_load(opened(path).contract.to_yaml())
    tree.update({key: yaml.safe_load(str(value)) for key, value in changes.items()})
    path.with_suffix(".yaml").write_text(yaml.safe_dump(tree))
    return path


def test_a_contract_beside_the_network_wins(tmp_path: Path) -> None:
    network = opened(written(tmp_path, score_threshold=0.7))
    assert not network.recognized
    assert network.contract.score_threshold == 0.7
    again = parse_camera_contract(network.contract.to_yaml(), network.contract.source)
    assert again == network.contract


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"head": "yolov4"}, "head: must be one of yolov5, yolov8"),
        ({"head": "yolov5"}, "head yolov5 cannot read outputs of"),
        ({"sha256": "'0000'"}, "sha256 of v8.onnx must be 0000"),
        ({"outputs": "[output1]"}, "outputs: no 'output1' among"),
        ({"nms_iou": "2.0"}, "nms_iou: must be within 0 .. 1, got 2.0"),
        ({"coordinates": "feet"}, "coordinates: must be one of pixels, normalized"),
        ({"class_map": "{car: lorry}"}, "class_map: car: must be one of car, pedestrian"),
        ({"class_map": "{auto: car}"}, "class_map: 'auto' is not among the classes"),
        ({"model": "other.onnx"}, "model: must be v8.onnx, the contract is for other.onnx"),
        ({"strides": "none"}, "strides: must be a list of some numbers"),
        ({"decoded": "perhaps"}, "decoded: must be true or false"),
    ],
)
def test_a_contract_that_does_not_hold(
    tmp_path: Path, changes: dict[str, str], complaint: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(ContractError) as told:
        opened(path)
    assert complaint in str(told.value)


def test_a_key_nobody_knows(tmp_path: Path) -> None:
    path = written(tmp_path)
    with path.with_suffix(".yaml").open("a") as file:
        file.write("score_treshold: 0.2\n")
    with pytest.raises(ContractError, match="score_treshold: no such key"):
        opened(path)
