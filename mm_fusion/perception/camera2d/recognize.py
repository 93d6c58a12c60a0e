"""What a 2D detector without a contract probably is, from its tensors, its notes and one answer.

The exports of YOLOv5, v8, v11 and their kin, YOLOX, DETR and its kin, and FastestDet are told
apart by shapes; what shapes cannot tell (whether YOLOX's boxes are decoded already, whether
coordinates are pixels), the answer to a picture of noise does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mm_fusion.errors import ContractError
from mm_fusion.perception.camera2d.contract import CameraContract, PictureInput, usual_map
from mm_fusion.perception.camera2d.heads import yolox_grid
from mm_fusion.perception.contract import TensorSpec

Array = npt.NDArray[Any]

USUAL_SIZE_PX = 640  # of exports that leave it open
STRIDES = (8, 16, 32)
# What the authors' own programs draw, and let overlap.
YOLOV5_CUTS = {"score_threshold": 0.25, "nms_iou": 0.45}
YOLOV8_CUTS = {"score_threshold": 0.25, "nms_iou": 0.7}
YOLOX_CUTS = {"score_threshold": 0.3, "nms_iou": 0.45}
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
)
# COCO's own numbers go to 90 and leave these out.
COCO_GAPS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


class Runnable(Protocol):
    """What is asked of a loaded graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str]
    sha256: str

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs in their order."""


def recognize(graph: Runnable, model: str) -> CameraContract:
    """The contract that a usual export would have. ``model`` is the file's name.

    Raises ContractError, listing the tensors, for what is not recognized.
    """
    picture = _picture(graph, model)
    feeds = made_up_feeds(graph.inputs, picture)
    answers = graph.run(feeds)
    names = [o.name for o in graph.outputs]
    shapes = [tuple(a.shape) for a in answers]
    found = (
        _as_labels(names, picture)
        or _as_pair(names, shapes, answers, picture)
        or _as_single(graph, names, shapes, answers, picture)
    )
    if found is None:
        raise ContractError(
            f"{model}: not a detector that is recognized by its tensors"
            f" ({_listed(graph)}); write a contract beside it (docs/detectors.md)"
        )
    classes = found.pop("classes", ()) or _classes(graph, int(found.pop("count", 0)), model)
    found.pop("count", None)
    return CameraContract(
        source=f"{model} (recognized)",
        model=model,
        sha256=graph.sha256,
        classes=classes,
        class_map=usual_map(classes),
        **found,
    )


def made_up_feeds(inputs: Sequence[TensorSpec], picture: PictureInput) -> dict[str, Array]:
    """A picture of noise, and what the other inputs of usual exports want to hear."""
    shape = (picture.height_px, picture.width_px, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.float64)
    noise = (noise - picture.mean) / picture.std
    if picture.layout == "NCHW":
        noise = noise.transpose(2, 0, 1)
    feeds: dict[str, Array] = {picture.name: noise[None].astype(picture.dtype)}
    return {**feeds, **side_inputs(inputs, picture)}


def side_inputs(inputs: Sequence[TensorSpec], picture: PictureInput) -> dict[str, Array]:
    """What goes into the inputs beside the picture. ContractError for one nobody knows."""
    size = (picture.height_px, picture.width_px)
    feeds: dict[str, Array] = {}
    for spec in inputs:
        if spec.name == picture.name:
            continue
        if spec.name == "pixel_mask":  # which pixels are picture: all
            shape = [
                a if isinstance(a, int) else n for a, n in zip(spec.shape, (1, *size), strict=True)
            ]
            feeds[spec.name] = np.ones(shape, spec.dtype)
        elif spec.name in ("orig_target_sizes", "target_sizes", "orig_size"):
            feeds[spec.name] = np.array([[size[1], size[0]]], spec.dtype)
        else:
            raise ContractError(f"input {spec}: nothing here knows what it is for")
    return feeds


# ------------------------------------------------------------------------------- the input


def _picture(graph: Runnable, model: str) -> PictureInput:
    """The one four-dimensional input with three channels."""
    for spec in graph.inputs:
        if len(spec.shape) == 4 and 3 in (spec.shape[1], spec.shape[3]):
            break
    else:
        raise ContractError(f"{model}: no input is a picture ({_listed(graph)})")
    if spec.dtype not in ("float32", "float16", "uint8"):
        raise ContractError(f"{model}: input {spec}: dtype must be float32, float16 or uint8")
    layout = "NCHW" if spec.shape[1] == 3 else "NHWC"
    height, width = spec.shape[2:] if layout == "NCHW" else spec.shape[1:3]
    noted = re.findall(r"\d+", graph.metadata.get("imgsz", ""))
    usual = [int(n) for n in noted[:2]] if len(noted) >= 2 else [USUAL_SIZE_PX] * 2
    scale = (0.0, 1.0) if spec.dtype == "uint8" else (0.0, 255.0)
    return PictureInput(
        name=spec.name,
        width_px=width if isinstance(width, int) else usual[1],
        height_px=height if isinstance(height, int) else usual[0],
        layout=layout,
        dtype=spec.dtype,
        mean=(scale[0],) * 3,
        std=(scale[1],) * 3,
    )


def _changed(picture: PictureInput, **values: Any) -> PictureInput:
    import dataclasses

    if picture.dtype == "uint8":  # the graph scales by itself
        values = {k: v for k, v in values.items() if k not in ("mean", "std")}
    return dataclasses.replace(picture, **values)


# ------------------------------------------------------------------------------- the heads


def _as_labels(names: Sequence[str], picture: PictureInput) -> dict[str, Any] | None:
    """labels, boxes, scores: RT-DETR and D-FINE with their post-processing."""
    if not {"labels", "boxes", "scores"} <= set(names):
        return None
    return {
        "head": "detr_boxes",
        "outputs": ("labels", "boxes", "scores"),
        "picture": _changed(picture, fit="stretch"),
        "corners": "xyxy",
        "nms_iou": 1.0,
        "count": 80,
    }


def _as_pair(
    names: Sequence[str], shapes: Sequence[Any], answers: Sequence[Array], picture: PictureInput
) -> dict[str, Any] | None:
    """Boxes [1,Q,4] and class scores [1,Q,C] side by side: DETR and its kin."""
    boxes = [i for i, s in enumerate(shapes) if len(s) == 3 and s[2] == 4]
    scores = [i for i, s in enumerate(shapes) if len(s) == 3 and s[2] > 4]
    if len(boxes) != 1 or not scores or shapes[scores[0]][1] != shapes[boxes[0]][1]:
        return None
    box, score = boxes[0], scores[0]
    values, count = answers[score], shapes[score][2]
    probabilities = float(values.min()) >= 0.0 and float(values.max()) <= 1.0
    softmax = not probabilities and count == len(COCO) + len(COCO_GAPS) + 1
    pixels = float(np.abs(answers[box]).max()) > 4.0
    normalized = _changed(picture, fit="stretch")
    if count >= len(COCO) + len(COCO_GAPS):
        # RT-DETR and D-FINE, who number COCO's classes to 80, want 0..1; DETR and those who go to
        # 91 want ImageNet's mean taken off.
        normalized = _changed(normalized, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return {
        "head": "detr",
        "outputs": (names[score], names[box]),
        "picture": picture if pixels else normalized,
        "activation": "none" if probabilities else "softmax" if softmax else "sigmoid",
        "coordinates": "pixels" if pixels else "normalized",
        "corners": "xyxy" if pixels else "cxcywh",
        "nms_iou": 0.5 if pixels else 1.0,
        "score_threshold": 0.5 if softmax else 0.3,
        "count": count - 1 if softmax else count,
    }


def _as_single(
    graph: Runnable,
    names: Sequence[str],
    shapes: Sequence[Any],
    answers: Sequence[Array],
    picture: PictureInput,
) -> dict[str, Any] | None:
    """One tensor with everything: the YOLO family and FastestDet."""
    noted = len(noted_classes(graph.metadata))
    cells = sum((picture.width_px // s) * (picture.height_px // s) for s in STRIDES)
    for name, shape, answer in zip(names, shapes, answers, strict=True):
        found: dict[str, Any] | None = None
        if len(shape) == 4 and shape[1] > 5 and shape[2] * shape[3] < cells:
            found = _fastestdet(shape, picture)
        elif _is_end2end(shape, answer, cells):
            found = {"head": "end2end", "corners": "xyxy", "nms_iou": 1.0, "count": noted or 80}
        elif len(shape) == 3 and shape[2] >= 6 and shape[1] == 3 * cells:
            found = {"head": "yolov5", **YOLOV5_CUTS, "count": shape[2] - 5}
        elif (
            len(shape) == 3
            and shape[2] >= 6
            and shape[1] == cells
            and shape[2] != 4 + (noted or len(COCO))
        ):
            found = _yolox(shape, answer, picture)
        elif len(shape) == 3 and cells in shape[1:] and min(shape[1:]) > 4:
            found = {"head": "yolov8", **YOLOV8_CUTS, "count": noted or min(shape[1:]) - 4}
        elif len(shape) == 3 and noted and shape[2] == 4 + noted:  # RT-DETR of Ultralytics
            stretched = _changed(picture, fit="stretch")
            found = {"head": "yolov8", "count": noted, "nms_iou": 1.0, "picture": stretched}
        if found is not None:
            if found["head"] in ("yolov8", "yolov5") and _normalized(found, answer):
                found["coordinates"] = "normalized"
            return {"picture": picture, **found, "outputs": (name,)}
    return None


def _is_end2end(shape: Sequence[Any], answer: Array, cells: int) -> bool:
    """[1,N,6] that ends in the numbers of classes, not in scores."""
    few = len(shape) == 3 and shape[2] == 6 and shape[1] <= 1000
    return few and shape[1] not in (cells, 3 * cells) and bool((answer[..., 5] % 1.0 == 0.0).all())


def _normalized(found: Mapping[str, Any], answer: Array) -> bool:
    turned = found["head"] == "yolov8" and answer.shape[1] < answer.shape[2]
    boxes = answer[0, :4] if turned else answer[0, :, :4].T
    return float(np.abs(boxes).max()) <= 4.0


def _fastestdet(shape: Sequence[int], picture: PictureInput) -> dict[str, Any]:
    return {
        "head": "fastestdet",
        "picture": _changed(picture, fit="stretch", colour_order="BGR"),
        "coordinates": "normalized",
        # Its scores are high, and parts of things score, too: its authors draw from 0.65 on.
        "score_threshold": 0.5,
        "nms_iou": 0.4,
        "count": shape[1] - 5,
    }


def _yolox(shape: Sequence[int], answer: Array, picture: PictureInput) -> dict[str, Any]:
    """YOLOX with boxes decoded or not, or YOLOv6, whose objectness is 1 everywhere."""
    corners, sizes = yolox_grid(picture.width_px, picture.height_px, STRIDES)
    off = np.abs(answer[0, :, :2] - corners - sizes / 2.0) / sizes
    decoded = float(np.median(off)) < 4.0 and float(np.abs(answer[0, :, 0]).max()) > 32.0
    count = shape[2] - 5
    if decoded and bool((answer[0, :, 4] == 1.0).all()):
        return {"head": "yolox", **YOLOX_CUTS, "decoded": True, "count": count}
    raw = _changed(
        picture, fit="letterbox_top_left", colour_order="BGR", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    return {"head": "yolox", **YOLOX_CUTS, "decoded": decoded, "picture": raw, "count": count}


# ------------------------------------------------------------------------------ the classes


def noted_classes(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The classes that Ultralytics' exports note, by index; none where nothing is noted."""
    try:
        noted = ast.literal_eval(metadata.get("names", "{}"))
    except (ValueError, SyntaxError):
        return ()
    if isinstance(noted, Mapping):
        noted = [noted[k] for k in sorted(noted)]
    return tuple(str(n) for n in noted) if isinstance(noted, list) else ()


def _classes(graph: Runnable, count: int, model: str) -> tuple[str, ...]:
    noted = noted_classes(graph.metadata)
    if noted:
        return noted
    if count == len(COCO):
        return COCO
    if count == len(COCO) + len(COCO_GAPS):
        rest = iter(COCO)
        return tuple(f"N/A {n}" if n in COCO_GAPS else next(rest) for n in range(count))
    raise ContractError(
        f"{model}: {count} classes without names: COCO's are {len(COCO)}; write a contract with"
        " the names beside it (docs/detectors.md)"
    )


def _listed(graph: Runnable) -> str:
    takes = "; ".join(str(t) for t in graph.inputs)
    gives = "; ".join(str(t) for t in graph.outputs)
    return f"takes {takes}; gives {gives}"
