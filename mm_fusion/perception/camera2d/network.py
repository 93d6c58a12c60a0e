"""A 2D detector, loaded: pictures in, boxes in those pictures out."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config
from mm_fusion.errors import ContractError
from mm_fusion.perception.camera2d.contract import (
    CameraContract,
    PictureInput,
    is_camera_contract,
    parse_camera_contract,
)
from mm_fusion.perception.camera2d.heads import Boxes2d, decode
from mm_fusion.perception.camera2d.recognize import recognize, side_inputs
from mm_fusion.perception.images import ImageStager
from mm_fusion.perception.network import Graph, text_beside
from mm_fusion.samples import CameraFrame, CameraModel

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]


class CameraNetwork:
    """A detector that fits its contract, ready to run. ``recognized`` tells that the contract was
    not written by anybody but taken from the file's looks."""

    def __init__(self, graph: Graph, contract: CameraContract, recognized: bool = False) -> None:
        self.contract = contract
        self.recognized = recognized
        self.model_path = graph.model_path
        self.provider, self.reason = graph.provider, graph.reason
        self._graph = graph
        names = [o.name for o in graph.outputs]
        lacking = sorted(set(contract.outputs) - set(names))
        if lacking:
            raise ContractError(f"{contract.source}: outputs: no '{lacking[0]}' among {names}")
        if contract.picture.name not in [i.name for i in graph.inputs]:
            inputs = [i.name for i in graph.inputs]
            raise ContractError(
                f"{contract.source}: picture: no input '{contract.picture.name}' among {inputs}"
            )
        self._order = [names.index(n) for n in contract.outputs]
        self._aside = side_inputs(graph.inputs, contract.picture)
        canvas = np.full((contract.picture.height_px, contract.picture.width_px, 3), 114, np.uint8)
        self.run(canvas, contract.score_threshold)  # a head that cannot read is refused here

    @staticmethod
    def open(model: str, provider: str = "auto", threads: int = 0) -> CameraNetwork:
        """Load ``model`` with the contract beside it (.yaml); without one, recognize it.

        Raises ContractError where a file is missing, does not fit or is not recognized, ConfigError
        where CUDA was asked for and is not to be had.
        """
        graph = Graph(model, provider, threads)
        text = text_beside(graph.model_path)
        if text is None or not is_camera_contract(text):
            return CameraNetwork(graph, recognize(graph, graph.model_path.name), recognized=True)
        contract = parse_camera_contract(text, str(graph.model_path.with_suffix(".yaml")))
        if contract.model != graph.model_path.name:
            raise ContractError(
                f"{contract.source}: model: must be {graph.model_path.name},"
                f" the contract is for {contract.model}"
            )
        contract.check_model(graph.sha256)
        return CameraNetwork(graph, contract)

    @staticmethod
    def from_config(config: Config) -> CameraNetwork:
        """The detector that the parameters name. Raises as :meth:`open` does."""
        settings = config.network
        return CameraNetwork.open(config.model, settings.provider, settings.threads)

    def facts(self) -> dict[str, Any]:
        """What a summary says about it."""
        c = self.contract
        return {
            "model": c.model,
            "sha256": c.sha256,
            "classes": sorted(set(c.class_map.values())),
            "head": c.head,
            "recognized": self.recognized,
            "range_m": None,
            "score_threshold": c.score_threshold,
        }

    def run(self, canvas: U8, threshold: float) -> Boxes2d:
        """Boxes in a picture RGB [H,W,3] of the network's own size."""
        feeds = {self.contract.picture.name: blob(canvas, self.contract.picture), **self._aside}
        answers = self._graph.run(feeds)
        return decode(self.contract, [answers[i] for i in self._order], threshold)


def blob(canvas: U8, picture: PictureInput) -> npt.NDArray[Any]:
    """The picture RGB [H,W,3] as the tensor that goes in."""
    if picture.colour_order == "BGR":
        canvas = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR), np.uint8)
    plain = picture.mean == (0.0,) * 3 and picture.std == (1.0,) * 3
    if picture.dtype == "uint8" and plain:
        values: npt.NDArray[Any] = canvas
    else:
        # One fused table per channel: 256 values are cheaper to scale than a million pixels.
        table = (np.arange(256)[:, None] - np.array(picture.mean)) / np.array(picture.std)
        lut = table.astype(np.float32)[:, None, :]
        values = np.asarray(cv2.LUT(canvas, lut)).astype(picture.dtype, copy=False)
    if picture.layout == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[None])


class Eye:
    """One camera's way into the network: its picture fitted in, and boxes back out of it."""

    def __init__(self, contract: CameraContract, model: CameraModel) -> None:
        picture = contract.picture
        self.model = model
        self.canvas = np.full((picture.height_px, picture.width_px, 3), picture.pad, np.uint8)
        width, height, left, top = _fitted(picture, model)
        self._stager = ImageStager(self.canvas[top : top + height, left : left + width])
        self._offset = np.array([left, top] * 2, np.float64)
        # Both kinds of pixels are counted from the picture's edge.
        self._scale = np.array([model.width / width, model.height / height] * 2)

    def put(self, frame: CameraFrame) -> None:
        """Fill the canvas with a frame, rectified. Raises ImageError."""
        self._stager.put(frame, self.model)

    def in_camera(self, boxes: F64) -> F64:
        """Boxes [N,4] on the canvas as pixels of the rectified camera picture, whose pixel centres
        are at integers; what lies outside the picture is cut off."""
        found = (boxes - self._offset) * self._scale
        limit = np.array([self.model.width, self.model.height] * 2, np.float64)
        return np.asarray(np.clip(found, 0.0, limit) - 0.5)


def _fitted(picture: PictureInput, model: CameraModel) -> tuple[int, int, int, int]:
    """Width, height, left and top of a camera's picture on the canvas."""
    if picture.fit == "stretch":
        return picture.width_px, picture.height_px, 0, 0
    scale = min(picture.width_px / model.width, picture.height_px / model.height)
    width, height = max(round(model.width * scale), 1), max(round(model.height * scale), 1)
    if picture.fit == "letterbox_top_left":
        return width, height, 0, 0
    return width, height, (picture.width_px - width) // 2, (picture.height_px - height) // 2
