"""The contract of a network: what it takes, gives and knows, apart from its weights.

The YAML beside the ONNX file is written by the exporter. Here it is read and checked in itself;
``network`` holds it against the ONNX file. Nothing here touches a file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from mm_fusion.errors import ContractError

FORMAT = "mm_fusion network contract"
FORMAT_VERSION = 1
POINT_COLUMNS = 5  # x y z intensity age
BOX_COLUMNS = 9  # centre 3, size 3, yaw, velocity 2
SPREADS = "spreads"  # an output that a network may have
SPREAD_COLUMNS = 5  # of x and y, z, size, yaw, velocity
DTYPES = ("float32", "uint8", "int64")

Axis = int | str  # a size, or the name of a size that is free


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: numpy's name of its dtype, and its shape with free sizes by name."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(str(a) for a in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Range:
    """The volume the network looks at, in the base frame: metres, low included, high not."""

    x_m: tuple[float, float]
    y_m: tuple[float, float]
    z_m: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract that holds in itself.

    ``model`` is the name of the ONNX file beside the contract, ``sha256`` its checksum.
    ``may_be_absent`` names the inputs (points, images) that may be withheld. ``trained`` and
    ``scored`` are the exporter's own words on how the weights came to be and what they reach.
    """

    source: str
    model: str
    sha256: str
    classes: tuple[str, ...]
    camera_slots: int
    image_height_px: int
    image_width_px: int
    point_budget: int
    max_detections: int
    score_threshold: float
    may_be_absent: frozenset[str]
    range_m: Range
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    trained: Any = None
    scored: Any = None

    def check_model(self, data: bytes) -> None:
        """Refuse an ONNX file that is not the one this contract was written for."""
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise ContractError(
                f"{self.source}: sha256 of {self.model} must be {self.sha256[:16]}…,"
                f" the file has {found[:16]}…; file and contract do not belong together"
            )

    def facts(self) -> dict[str, Any]:
        """What a summary says about the network that answered."""
        volume = self.range_m
        return {
            "model": self.model,
            "sha256": self.sha256,
            "classes": list(self.classes),
            "range_m": {"x": list(volume.x_m), "y": list(volume.y_m), "z": list(volume.z_m)},
            "score_threshold": self.score_threshold,
            "trained": self.trained,
            "scored": self.scored,
        }


def parse_contract(text: str, source: str) -> Contract:
    """A contract from the text of its YAML file. ContractError names ``source`` and the rule."""
    values = values_of(text, source, FORMAT, FORMAT_VERSION)
    if values.text("colour_order") != "RGB":
        raise values.error("colour_order", "must be RGB", values.text("colour_order"))
    ranges = Values(f"{source}: range_m", values.get("range_m"))
    contract = Contract(
        source=source,
        model=values.text("model"),
        sha256=values.text("sha256"),
        classes=values.texts("classes"),
        camera_slots=values.integer("camera_slots", 1),
        image_height_px=values.integer("image_height_px", 1),
        image_width_px=values.integer("image_width_px", 1),
        point_budget=values.integer("point_budget", 1),
        max_detections=values.integer("max_detections", 1),
        score_threshold=values.number("score_threshold"),
        may_be_absent=frozenset(values.texts("may_be_absent")),
        range_m=Range(ranges.interval("x"), ranges.interval("y"), ranges.interval("z")),
        inputs=values.tensors("inputs"),
        outputs=values.tensors("outputs"),
        trained=values.tree.get("trained"),
        scored=values.tree.get("scored"),
    )
    _check(contract)
    return contract


def expected_tensors(c: Contract) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs that this program feeds and reads, for a contract's sizes. Spreads
    are there where the contract names them."""
    slots = c.camera_slots
    inputs = (
        TensorSpec("points", "float32", ("P", POINT_COLUMNS)),
        TensorSpec("images", "uint8", (slots, c.image_height_px, c.image_width_px, 3)),
        TensorSpec("pixel_from_base", "float32", (slots, 3, 4)),
        TensorSpec("has_points", "float32", (1,)),
        TensorSpec("has_image", "float32", (slots,)),
    )
    outputs: tuple[TensorSpec, ...] = (
        TensorSpec("boxes", "float32", (c.max_detections, BOX_COLUMNS)),
        TensorSpec("scores", "float32", (c.max_detections,)),
        TensorSpec("labels", "int64", (c.max_detections,)),
    )
    if any(t.name == SPREADS for t in c.outputs):
        outputs += (TensorSpec(SPREADS, "float32", (c.max_detections, SPREAD_COLUMNS)),)
    return inputs, outputs


def check_tensors(
    expected: Sequence[TensorSpec], found: Sequence[TensorSpec], what: str, source: str
) -> None:
    """Refuse tensors that differ from the expected ones in name, dtype or shape, in any order.

    A free axis fits only a free axis: a fixed number of points would refuse every other sweep.
    """
    by_name = {t.name: t for t in found}
    for want in expected:
        have = by_name.pop(want.name, None)
        if have is None:
            names = ", ".join(t.name for t in found) or "none"
            raise ContractError(f"{source}: {what} '{want.name}' is missing; there are: {names}")
        if have.dtype != want.dtype:
            raise ContractError(
                f"{source}: {what} '{want.name}' must have dtype {want.dtype}, got {have.dtype}"
            )
        if _sizes(have.shape) != _sizes(want.shape):
            raise ContractError(
                f"{source}: {what} '{want.name}' must have shape {list(want.shape)},"
                f" got {list(have.shape)}"
            )
    if by_name:
        extra = ", ".join(sorted(by_name))
        raise ContractError(f"{source}: {what} {extra}: nothing here knows what it is for")


def _sizes(shape: Sequence[Axis]) -> tuple[int | None, ...]:
    return tuple(axis if isinstance(axis, int) else None for axis in shape)


@dataclass(slots=True, eq=False)
class NetworkInputs:
    """The network's input buffers, made once and filled for every set.

    ``points`` float32 [point_budget,5], of which the first ``point_count`` are fed; ``images``
    uint8 [C,H,W,3]; ``pixel_from_base`` float32 [C,3,4]; ``has_points`` [1], ``has_image`` [C].
    """

    points: npt.NDArray[np.float32]
    images: npt.NDArray[np.uint8]
    pixel_from_base: npt.NDArray[np.float32]
    has_points: npt.NDArray[np.float32]
    has_image: npt.NDArray[np.float32]
    point_count: int = 1

    @staticmethod
    def of(c: Contract) -> NetworkInputs:
        """Buffers for a contract, with both senses absent."""
        slots = c.camera_slots
        return NetworkInputs(
            np.zeros((c.point_budget, POINT_COLUMNS), np.float32),
            np.zeros((slots, c.image_height_px, c.image_width_px, 3), np.uint8),
            np.zeros((slots, 3, 4), np.float32),
            np.zeros(1, np.float32),
            np.zeros(slots, np.float32),
        )

    def set_points(self, count: int) -> None:
        """Say that the first ``count`` rows are points; none: one row of zeros, and absent."""
        self.has_points[0] = 1.0 if count else 0.0
        self.point_count = max(count, 1)
        if not count:
            self.points[0] = 0.0

    def set_image(self, slot: int, there: bool) -> None:
        """Say whether a slot holds an image; an absent one is made black, its matrix zero."""
        if not there:
            if self.has_image[slot]:
                self.images[slot] = 0
            self.pixel_from_base[slot] = 0.0
        self.has_image[slot] = 1.0 if there else 0.0

    def feeds(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays by tensor name; views, not copies."""
        return self.buffers() | {"points": self.points[: self.point_count]}

    def buffers(self) -> dict[str, npt.NDArray[np.generic]]:
        """The whole arrays by tensor name, the points that are not fed as well."""
        return {
            "points": self.points,
            "images": self.images,
            "pixel_from_base": self.pixel_from_base,
            "has_points": self.has_points,
            "has_image": self.has_image,
        }


def _check(c: Contract) -> None:
    inputs, outputs = expected_tensors(c)
    check_tensors(inputs, c.inputs, "input", c.source)
    check_tensors(outputs, c.outputs, "output", c.source)
    if not c.classes:
        raise ContractError(f"{c.source}: classes: must name at least one class")
    if not 0.0 <= c.score_threshold <= 1.0:
        raise ContractError(
            f"{c.source}: score_threshold: must be within 0 .. 1, got {c.score_threshold}"
        )
    unknown = sorted(c.may_be_absent - {"points", "images"})
    if unknown:
        raise ContractError(
            f"{c.source}: may_be_absent: must be points or images, got {unknown[0]}"
        )
    if "/" in c.model or "\\" in c.model:
        raise ContractError(f"{c.source}: model: must be a file beside the contract: {c.model}")


def yaml_of(text: str, source: str) -> Any:
    """What a YAML text holds. ContractError names ``source`` where it is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ContractError(f"{source}: not valid YAML: {error}") from error


def values_of(text: str, source: str, kind: str, version: int) -> Values:
    """The values of a contract whose ``format`` is ``kind`` in this version."""
    values = Values(source, yaml_of(text, source))
    if values.text("format") != kind:
        raise values.error("format", f"must be '{kind}'", values.text("format"))
    found = values.integer("format_version", 1)
    if found != version:
        raise values.error("format_version", f"must be {version}", found)
    return values


class Values:
    """Typed access to a YAML mapping; every complaint names the file and the key."""

    def __init__(self, source: str, tree: Any) -> None:
        if not isinstance(tree, Mapping):
            raise ContractError(f"{source}: must be a mapping, got {type(tree).__name__}")
        self.source = source
        self.tree = tree

    def error(self, key: str, rule: str, got: Any) -> ContractError:
        return ContractError(f"{self.source}: {key}: {rule}, got {got!r}")

    def get(self, key: str) -> Any:
        if key not in self.tree:
            raise ContractError(f"{self.source}: {key}: is missing")
        return self.tree[key]

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, "must be text", value)
        return value

    def integer(self, key: str, low: int) -> int:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.error(key, f"must be a whole number of at least {low}", value)
        return value

    def number(self, key: str) -> float:
        return self._number(key, self.get(key))

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, "must be a number", value)
        if not math.isfinite(value):
            raise self.error(key, "must be finite", value)
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.error(key, "must be a list of texts", value)
        return tuple(value)

    def interval(self, key: str) -> tuple[float, float]:
        value = self.get(key)
        if not isinstance(value, list) or len(value) != 2:
            raise self.error(key, "must be [low, high]", value)
        low, high = (self._number(key, v) for v in value)
        if not low < high:
            raise self.error(key, "low must be below high", value)
        return low, high

    def tensors(self, key: str) -> tuple[TensorSpec, ...]:
        value = self.get(key)
        if not isinstance(value, list):
            raise self.error(key, "must be a list of tensors", value)
        return tuple(self._tensor(f"{key}[{n}]", entry) for n, entry in enumerate(value))

    def _tensor(self, where: str, entry: Any) -> TensorSpec:
        values = Values(f"{self.source}: {where}", entry)
        shape = values.get("shape")
        if not isinstance(shape, list) or not all(
            isinstance(a, (int, str)) and not isinstance(a, bool) for a in shape
        ):
            raise values.error("shape", "must be a list of sizes or names of sizes", shape)
        dtype = values.text("dtype")
        if dtype not in DTYPES:
            raise values.error("dtype", f"must be one of {', '.join(DTYPES)}", dtype)
        return TensorSpec(values.text("name"), dtype, tuple(shape))
