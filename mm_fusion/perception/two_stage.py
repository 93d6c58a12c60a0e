"""Published two-stage LIDAR networks: PointPillars and CenterPoint as Autoware splits them.

Between the two graphs lies what ONNX has no good word for: a voxel encoder turns the points of
every pillar into a feature, the features are scattered onto a picture of the ground, and backbone,
neck and head find boxes in that. Order of features, names of tensors and decoding: Autoware's
lidar_centerpoint and its ml_package parameters; the network: Yin et al., Center-based 3D Object
Detection and Tracking, 2021.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from mm_fusion.config import Config
from mm_fusion.errors import ContractError
from mm_fusion.perception.camera2d.contract import class_map_of, usual_map
from mm_fusion.perception.contract import Range, Values, values_of, yaml_of
from mm_fusion.perception.network import Graph, text_beside

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

FORMAT = "mm_fusion two-stage LIDAR contract"
FORMAT_VERSION = 1
ENCODER_PREFIX, BACKBONE_PREFIX = "pts_voxel_encoder_", "pts_backbone_neck_head_"
POINTS_PER_PILLAR = 32
# Features of a point by their number: x y z (intensity) age, offsets from the pillar's mean (3),
# offsets from its middle (2 or 3).
FEATURES = (9, 10, 11)
WITH_INTENSITY = 11
HEADS = ("heatmap", "reg", "height", "dim", "rot", "vel")


@dataclass(frozen=True, slots=True)
class TwoStageContract:
    """What the pair takes and gives. ``encoder`` and ``backbone`` are files beside the contract.

    Lengths in metres, ``range_m`` and the boxes in the base frame. ``intensity_max`` is what full
    intensity is to the network. Boxes nearer to each other than ``nms_distance_m`` are one's.
    """

    source: str
    encoder: str
    backbone: str
    classes: tuple[str, ...]
    class_map: Mapping[str, str]
    range_m: Range
    voxel_size_m: tuple[float, float, float]
    max_voxels: int
    features: int
    downsample: int
    score_threshold: float = 0.35
    nms_distance_m: float = 0.5
    yaw_norm_threshold: float = 0.3
    intensity_max: float = 255.0
    heads: tuple[str, ...] = HEADS

    def grid(self) -> tuple[int, int]:
        """Pillars along x and along y."""
        return tuple(  # type: ignore[return-value]
            round((high - low) / size)
            for (low, high), size in zip(
                (self.range_m.x_m, self.range_m.y_m), self.voxel_size_m[:2], strict=True
            )
        )

    def to_yaml(self) -> str:
        """The text of its file."""
        tree = dataclasses.asdict(self)
        del tree["source"]
        r = tree.pop("range_m")
        tree["range_m"] = {axis: list(r[f"{axis}_m"]) for axis in "xyz"}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in tree.items()}
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return yaml.safe_dump({**head, **plain}, sort_keys=False, default_flow_style=None)


def is_two_stage_contract(text: str) -> bool:
    """Whether a contract's text says that it is one of this kind."""
    return f"format: {FORMAT}" in text


def parse_two_stage_contract(text: str, source: str) -> TwoStageContract:
    """A contract from the text of its YAML file. ContractError names ``source`` and the rule."""
    values = values_of(text, source, FORMAT, FORMAT_VERSION)
    ranges = Values(f"{source}: range_m", values.get("range_m"))
    optional: dict[str, Any] = {
        key: values.number(key)
        for key in ("score_threshold", "nms_distance_m", "yaw_norm_threshold", "intensity_max")
        if key in values.tree
    }
    if "heads" in values.tree:
        optional["heads"] = values.texts("heads")
    contract = TwoStageContract(
        source=source,
        encoder=values.text("encoder"),
        backbone=values.text("backbone"),
        classes=values.texts("classes"),
        class_map=class_map_of(values),
        range_m=Range(ranges.interval("x"), ranges.interval("y"), ranges.interval("z")),
        voxel_size_m=_three(values, "voxel_size_m"),
        max_voxels=values.integer("max_voxels", 1),
        features=values.integer("features", 1),
        downsample=values.integer("downsample", 1),
        **optional,
    )
    _check(contract)
    return contract


def from_ml_package(text: str, source: str, encoder: str, backbone: str) -> TwoStageContract:
    """A contract from Autoware's ml_package parameters, as they are published with the pair."""
    tree = yaml_of(text, source)
    for key in ("/**", "ros__parameters", "model_params"):
        tree = tree.get(key, tree) if isinstance(tree, Mapping) else tree
    values = Values(source, tree)
    classes = values.texts("class_names")
    low_high = values.get("point_cloud_range")
    if not isinstance(low_high, list) or len(low_high) != 6:
        raise values.error("point_cloud_range", "must be six numbers", low_high)
    x, y, z = ((float(low_high[n]), float(low_high[n + 3])) for n in range(3))
    contract = TwoStageContract(
        source=source,
        encoder=encoder,
        backbone=backbone,
        classes=classes,
        class_map=usual_map(classes),
        range_m=Range(x, y, z),
        voxel_size_m=_three(values, "voxel_size"),
        max_voxels=_most(values),
        features=values.integer("encoder_in_feature_size", 1),
        downsample=values.integer("downsample_factor", 1),
    )
    _check(contract)
    return contract


def _three(values: Values, key: str) -> tuple[float, float, float]:
    found = values.get(key)
    numbers = isinstance(found, list) and all(isinstance(v, (int, float)) for v in found)
    if not numbers or len(found) != 3 or min(found) <= 0:
        raise values.error(key, "must be three numbers above zero", found)
    return float(found[0]), float(found[1]), float(found[2])


def _most(values: Values) -> int:
    """One number, or the least, usual and largest one for TensorRT."""
    found = values.get("max_voxel_size")
    if isinstance(found, list) and found and all(isinstance(v, int) for v in found):
        return int(max(found))
    return values.integer("max_voxel_size", 1)


def _check(c: TwoStageContract) -> None:
    if c.features not in FEATURES:
        raise ContractError(f"{c.source}: features: must be one of {FEATURES}, got {c.features}")
    if not c.classes:
        raise ContractError(f"{c.source}: classes: must name at least one class")
    if len(c.heads) != len(HEADS):
        raise ContractError(
            f"{c.source}: heads: must name the outputs for {HEADS}, got {list(c.heads)}"
        )
    if not 0.0 <= c.score_threshold <= 1.0:
        raise ContractError(
            f"{c.source}: score_threshold: must be within 0 .. 1, got {c.score_threshold}"
        )


class Pillars(NamedTuple):
    """``features`` float32 [V,32,F], the cells along x and y int64 [V], and how many pillars of
    the cloud there was no room for."""

    features: F32
    ix: npt.NDArray[np.int64]
    iy: npt.NDArray[np.int64]
    left_out: int


class Boxes3d(NamedTuple):
    """Boxes [N,9] (centre, length width height, yaw, vx vy), scores [N], classes [N], best
    first."""

    boxes: F64
    scores: F64
    classes: npt.NDArray[np.int64]


def pillars(c: TwoStageContract, xyz: F32, intensity: F32, age_s: F32) -> Pillars:
    """The points [3,N] of a cloud by pillars: at most 32 of each, the first ones that came; of too
    many pillars those farthest away are left out."""
    low = np.array([c.range_m.x_m[0], c.range_m.y_m[0], c.range_m.z_m[0]], np.float32)
    high = np.array([c.range_m.x_m[1], c.range_m.y_m[1], c.range_m.z_m[1]], np.float32)
    inside = np.flatnonzero(((xyz >= low[:, None]) & (xyz < high[:, None])).all(axis=0))
    points = xyz[:, inside]
    size = np.array(c.voxel_size_m, np.float32)
    nx, ny = c.grid()
    cell = ((points[:2] - low[:2, None]) / size[:2, None]).astype(np.int64)
    cell = np.minimum(cell, np.array([[nx - 1], [ny - 1]]))
    key = cell[1] * nx + cell[0]
    order = np.argsort(key, kind="stable")
    names, starts, counts = np.unique(key[order], return_index=True, return_counts=True)
    ix, iy = names % nx, names // nx
    center_x = low[0] + (ix + 0.5) * size[0]
    center_y = low[1] + (iy + 0.5) * size[1]
    nearest = np.sort(np.argsort(np.hypot(center_x, center_y), kind="stable")[: c.max_voxels])
    place = np.full(len(names), -1)
    place[nearest] = np.arange(len(nearest))
    rank = np.arange(len(order)) - np.repeat(starts, counts)
    row = np.repeat(place, counts)
    kept = (rank < POINTS_PER_PILLAR) & (row >= 0)
    row, rank, chosen = row[kept], rank[kept], inside[order[kept]]
    columns = [*xyz[:, chosen], age_s[chosen]]
    if c.features == WITH_INTENSITY:
        columns.insert(3, intensity[chosen] * np.float32(c.intensity_max))
    mean = [np.bincount(row, v, len(nearest)) for v in columns[:3]]
    number = np.maximum(np.bincount(row, minlength=len(nearest)), 1)
    columns += [v - (m / number)[row] for v, m in zip(columns[:3], mean, strict=True)]
    columns += [columns[0] - center_x[nearest][row], columns[1] - center_y[nearest][row]]
    if c.features > FEATURES[0]:
        columns.append(columns[2] - (low[2] + size[2] / 2))
    features = np.zeros((len(nearest), POINTS_PER_PILLAR, c.features), np.float32)
    features[row, rank] = np.stack(columns, axis=1)
    return Pillars(features, ix[nearest], iy[nearest], len(names) - len(nearest))


def decode(c: TwoStageContract, heads: Mapping[str, F32], threshold: float) -> Boxes3d:
    """Boxes from the head's pictures of the ground, each [1,channels,H,W]."""
    heat, reg, height, dim, rot, vel = (heads[n][0].astype(np.float64) for n in c.heads)
    scores = 1.0 / (1.0 + np.exp(-heat))
    label, best = scores.argmax(axis=0), scores.max(axis=0)
    v, u = np.nonzero((best >= threshold) & (np.hypot(rot[0], rot[1]) >= c.yaw_norm_threshold))
    step = np.array(c.voxel_size_m[:2]) * c.downsample
    x = step[0] * (u + reg[0, v, u]) + c.range_m.x_m[0]
    y = step[1] * (v + reg[1, v, u]) + c.range_m.y_m[0]
    width, length, tall = (np.exp(np.clip(dim[n, v, u], -5.0, 5.0)) for n in range(3))
    yaw = np.arctan2(rot[0, v, u], rot[1, v, u])
    boxes = np.stack(
        [x, y, height[0, v, u], length, width, tall, yaw, vel[0, v, u], vel[1, v, u]], axis=1
    )
    order = np.argsort(-best[v, u], kind="stable")
    boxes, score, classes = boxes[order], best[v, u][order], label[v, u][order]
    kept: list[int] = []
    for n in range(len(boxes)):  # a box next to a better one is the same thing's
        near = boxes[kept, :2] - boxes[n, :2]
        if not (np.hypot(near[:, 0], near[:, 1]) < c.nms_distance_m).any():
            kept.append(n)
    return Boxes3d(boxes[kept], score[kept], classes[kept])


class TwoStageNetwork:
    """A pair that fits its contract, ready to run."""

    def __init__(self, encoder: Graph, backbone: Graph, contract: TwoStageContract) -> None:
        self.contract = contract
        self.model_path = encoder.model_path
        self.provider, self.reason = encoder.provider, encoder.reason
        self._encoder, self._backbone = encoder, backbone
        shape = encoder.inputs[0].shape
        if len(shape) != 3 or shape[1:] != (POINTS_PER_PILLAR, contract.features):
            raise ContractError(
                f"{encoder.model_path}: input {encoder.inputs[0]} must have shape"
                f" [V, {POINTS_PER_PILLAR}, {contract.features}]"
            )
        self._fixed = shape[0] if isinstance(shape[0], int) else 0
        names = [o.name for o in backbone.outputs]
        lacking = [n for n in contract.heads if n not in names]
        if lacking:
            raise ContractError(f"{backbone.model_path}: no output '{lacking[0]}' among {names}")
        self._heads = names
        empty = np.zeros(0, np.float32)
        self.run(np.zeros((3, 0), np.float32), empty, empty, contract.score_threshold)

    @staticmethod
    def from_config(config: Config) -> TwoStageNetwork:
        """The pair whose encoder ``model`` names: by the contract beside it, else as Autoware
        publishes it. Raises ContractError where a file is missing or does not fit."""
        settings = config.network
        encoder = Graph(config.model, settings.provider, settings.threads)
        contract = _contract_of(encoder)
        backbone = encoder.model_path.with_name(contract.backbone)
        return TwoStageNetwork(
            encoder, Graph(backbone, settings.provider, settings.threads), contract
        )

    def facts(self) -> dict[str, Any]:
        """What a summary says about it."""
        c = self.contract
        r = c.range_m
        return {
            "model": f"{c.encoder} + {c.backbone}",
            "sha256": f"{self._encoder.sha256} + {self._backbone.sha256}",
            "classes": sorted(set(c.class_map.values())),
            "range_m": {"x": list(r.x_m), "y": list(r.y_m), "z": list(r.z_m)},
            "score_threshold": c.score_threshold,
        }

    def run(self, xyz: F32, intensity: F32, age_s: F32, threshold: float) -> tuple[Boxes3d, int]:
        """Boxes in a cloud [3,N], and how many pillars there was no room for."""
        c = self.contract
        found = pillars(c, xyz, intensity, age_s)
        count = len(found.ix)
        fed = found.features
        room = self._fixed or max(count, 1)
        if count < room:
            fed = np.zeros((room, *fed.shape[1:]), np.float32)
            fed[:count] = found.features
        encoded = self._encoder.run({self._encoder.inputs[0].name: fed})[0]
        encoded = encoded.reshape(len(encoded), -1)[:count]
        nx, ny = c.grid()
        ground = np.zeros((1, encoded.shape[1], ny, nx), np.float32)
        ground[0, :, found.iy, found.ix] = encoded
        answers = self._backbone.run({self._backbone.inputs[0].name: ground})
        heads = dict(zip(self._heads, answers, strict=True))
        step = c.downsample
        for name in c.heads:
            if heads[name].ndim != 4 or heads[name].shape[2:] != (ny // step, nx // step):
                raise ContractError(
                    f"{c.source}: output {name} must cover {ny // step} x {nx // step} cells,"
                    f" the network answers {list(heads[name].shape)}"
                )
        return decode(c, heads, threshold), found.left_out


def _contract_of(encoder: Graph) -> TwoStageContract:
    path = encoder.model_path
    text = text_beside(path)
    if text is not None and is_two_stage_contract(text):
        return parse_two_stage_contract(text, str(path.with_suffix(".yaml")))
    kind = path.stem.removeprefix(ENCODER_PREFIX)
    package = f"{kind}_ml_package.param.yaml"
    text = text_beside(path, package) if kind != path.stem else None
    if text is None:
        raise ContractError(
            f"{path}: neither a contract beside it ({path.with_suffix('.yaml').name}) nor"
            f" Autoware's parameters ({package}); docs/detectors.md says what to write"
        )
    backbone = f"{BACKBONE_PREFIX}{kind}{path.suffix}"
    return from_ml_package(text, str(path.with_name(package)), path.name, backbone)
