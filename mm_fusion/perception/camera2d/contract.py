"""The contract of a 2D detector: how to feed it pictures, and what its numbers mean.

A YAML file beside the ONNX file, written by hand or by ``mm_fusion check-model``. Nothing here
touches a file. ``docs/detectors.md`` explains every key.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mm_fusion.errors import ContractError
from mm_fusion.perception.contract import Values, values_of

FORMAT = "mm_fusion camera detector contract"
FORMAT_VERSION = 1
HEADS = ("yolov5", "yolov8", "yolox", "detr", "detr_boxes", "fastestdet", "end2end")
LAYOUTS = ("NCHW", "NHWC")
DTYPES = ("float32", "float16", "uint8")
FITS = ("stretch", "letterbox", "letterbox_top_left")
ACTIVATIONS = ("none", "sigmoid", "softmax")
COORDINATES = ("pixels", "normalized")
CORNERS = ("cxcywh", "xyxy")
LABELS = ("car", "pedestrian", "cyclist", "unknown")

# What the classes of COCO, Cityscapes, KITTI and nuScenes are called here. The rest is ignored.
USUAL_MAP = {
    **dict.fromkeys(("car", "truck", "bus", "van", "trailer", "construction vehicle"), "car"),
    **dict.fromkeys(("person", "pedestrian", "person_sitting", "person sitting"), "pedestrian"),
    **dict.fromkeys(("bicycle", "motorcycle", "motorbike", "cyclist", "rider"), "cyclist"),
    **dict.fromkeys(("train", "tram", "misc"), "unknown"),
    **dict.fromkeys(("cat", "dog", "horse", "sheep", "cow", "elephant", "bear"), "unknown"),
    **dict.fromkeys(("zebra", "giraffe", "animal"), "unknown"),
}


@dataclass(frozen=True, slots=True)
class PictureInput:
    """The tensor that takes the picture.

    A pixel p of colour channel c goes in as ``(p - mean[c]) / std[c]``, p in 0..255, channels in
    ``colour_order``. ``fit`` says how a picture of another shape gets into ``width_px`` x
    ``height_px``: stretched; or kept in shape, in the middle or in the upper left corner, on
    ``pad`` (0..255).
    """

    name: str
    width_px: int
    height_px: int
    layout: str = "NCHW"
    dtype: str = "float32"
    colour_order: str = "RGB"
    fit: str = "letterbox"
    pad: int = 114
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)


@dataclass(frozen=True, slots=True)
class CameraContract:
    """A contract that holds in itself.

    ``outputs`` names the tensors in the order in which the head reads them. ``classes`` are the
    network's own, by index; ``class_map`` says what they are called here (one of LABELS); what is
    not in it is ignored. ``activation`` still has to be applied to the scores. ``strides`` and
    ``decoded`` matter for YOLOX, ``corners`` for DETR and end2end. ``nms_iou`` 1: no suppression.
    """

    source: str
    model: str
    sha256: str
    head: str
    picture: PictureInput
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    class_map: Mapping[str, str]
    score_threshold: float = 0.3
    nms_iou: float = 0.5
    activation: str = "none"
    coordinates: str = "pixels"
    corners: str = "cxcywh"
    strides: tuple[int, ...] = (8, 16, 32)
    decoded: bool = True

    def check_model(self, sha256: str) -> None:
        """Refuse an ONNX file that is not the one this contract was written for."""
        if sha256 != self.sha256:
            raise ContractError(
                f"{self.source}: sha256 of {self.model} must be {self.sha256[:16]}…,"
                f" the file has {sha256[:16]}…; file and contract do not belong together"
            )

    def to_yaml(self) -> str:
        """The text of its file."""
        tree = dataclasses.asdict(self)
        source, picture = tree.pop("source"), tree.pop("picture")
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        body = {**head, **_plain(tree), "picture": _plain(picture)}
        note = f"# {source}: what mm_fusion takes {self.model} for. Correct what is wrong.\n"
        return note + yaml.safe_dump(body, sort_keys=False, default_flow_style=None, width=96)


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    out = {k: list(v) if isinstance(v, tuple) else v for k, v in tree.items()}
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in out.items()}


def usual_map(classes: tuple[str, ...]) -> dict[str, str]:
    """What these classes are called here, where USUAL_MAP knows them."""
    return {c: USUAL_MAP[c.lower()] for c in classes if c.lower() in USUAL_MAP}


def is_camera_contract(text: str) -> bool:
    """Whether a contract's text says that it is one of this kind."""
    return f"format: {FORMAT}" in text


def parse_camera_contract(text: str, source: str) -> CameraContract:
    """A contract from the text of its YAML file. ContractError names ``source`` and the rule."""
    values = values_of(text, source, FORMAT, FORMAT_VERSION)
    given = set(values.tree)
    known = {f.name for f in dataclasses.fields(CameraContract)} | {"format", "format_version"}
    if given - known:
        raise values.error(sorted(given - known)[0], f"no such key; there are {sorted(known)}", "")
    contract = CameraContract(
        source=source,
        model=values.text("model"),
        sha256=values.text("sha256"),
        head=_choice(values, "head", HEADS),
        picture=_picture(Values(f"{source}: picture", values.get("picture"))),
        outputs=values.texts("outputs"),
        classes=values.texts("classes"),
        class_map=class_map_of(values),
        **_optional(values),
    )
    _check(contract)
    return contract


def _optional(values: Values) -> dict[str, Any]:
    """What has a default and is given all the same."""
    given = values.tree
    out: dict[str, Any] = {}
    for key in ("score_threshold", "nms_iou"):
        if key in given:
            out[key] = values.number(key)
    for key, choices in (
        ("activation", ACTIVATIONS),
        ("coordinates", COORDINATES),
        ("corners", CORNERS),
    ):
        if key in given:
            out[key] = _choice(values, key, choices)
    if "strides" in given:
        out["strides"] = tuple(int(s) for s in _numbers(values, "strides", None))
    if "decoded" in given:
        if not isinstance(given["decoded"], bool):
            raise values.error("decoded", "must be true or false", given["decoded"])
        out["decoded"] = given["decoded"]
    return out


def _picture(values: Values) -> PictureInput:
    """The input's part of a contract."""
    given = values.tree
    known = {f.name for f in dataclasses.fields(PictureInput)}
    if set(given) - known:
        raise values.error(sorted(set(given) - known)[0], f"must be one of {sorted(known)}", "")
    out: dict[str, Any] = {
        "name": values.text("name"),
        "width_px": values.integer("width_px", 8),
        "height_px": values.integer("height_px", 8),
    }
    for key, choices in (
        ("layout", LAYOUTS),
        ("dtype", DTYPES),
        ("colour_order", ("RGB", "BGR")),
        ("fit", FITS),
    ):
        if key in given:
            out[key] = _choice(values, key, choices)
    if "pad" in given:
        out["pad"] = values.integer("pad", 0)
        if out["pad"] > 255:
            raise values.error("pad", "must be within 0 .. 255", out["pad"])
    for key in ("mean", "std"):
        if key in given:
            out[key] = _numbers(values, key, 3)
    if min(out.get("std", (1.0,))) <= 0.0:
        raise values.error("std", "must be above zero", list(out["std"]))
    return PictureInput(**out)


def _choice(values: Values, key: str, choices: tuple[str, ...]) -> str:
    text = values.text(key)
    if text not in choices:
        raise values.error(key, f"must be one of {', '.join(choices)}", text)
    return text


def _numbers(values: Values, key: str, count: int | None) -> tuple[Any, ...]:
    found = values.get(key)
    good = isinstance(found, list) and found and (count is None or len(found) == count)
    if not good or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in found):
        raise values.error(key, f"must be a list of {count or 'some'} numbers", found)
    return tuple(float(v) for v in found)


def class_map_of(values: Values) -> dict[str, str]:
    """A contract's ``class_map``: the network's own names to LABELS."""
    tree = values.get("class_map")
    if not isinstance(tree, Mapping):
        raise values.error("class_map", "must map the network's classes to ours", tree)
    for name, label in tree.items():
        if label not in LABELS:
            raise values.error(f"class_map: {name}", f"must be one of {', '.join(LABELS)}", label)
    return {str(name): str(label) for name, label in tree.items()}


def _check(c: CameraContract) -> None:
    if not c.classes:
        raise ContractError(f"{c.source}: classes: must name at least one class")
    strange = sorted(set(c.class_map) - set(c.classes))
    if strange:
        raise ContractError(f"{c.source}: class_map: '{strange[0]}' is not among the classes")
    for name, value in (("score_threshold", c.score_threshold), ("nms_iou", c.nms_iou)):
        if not 0.0 <= value <= 1.0:
            raise ContractError(f"{c.source}: {name}: must be within 0 .. 1, got {value}")
    wanted = {"detr": 2, "detr_boxes": 3}.get(c.head, 1)
    if len(c.outputs) != wanted:
        raise ContractError(
            f"{c.source}: outputs: head {c.head} reads {wanted}, got {list(c.outputs)}"
        )
    if "/" in c.model or "\\" in c.model:
        raise ContractError(f"{c.source}: model: must be a file beside the contract: {c.model}")
