"""From a 2D detector's numbers to boxes in its picture.

Every head answers the same: ``boxes`` float64 [N,4] left, top, right, bottom in pixels of the
network's picture (edges, so that a picture is 0..width), ``scores`` [N], ``classes`` int64 [N].
Only what reaches the threshold comes out.

Sources of the formulas: YOLOv5 and v8: Ultralytics' documentation of its exports; YOLOX: Ge et al.,
2021; DETR: Carion et al., 2020; FastestDet: its published post-processing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.errors import ContractError
from mm_fusion.perception.camera2d.contract import CameraContract

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

MASKS = 64  # at most so many columns more: the masks or points of networks that give those, too
# FastestDet weighs its two scores so.
OBJECTNESS_POWER, CLASS_POWER = 0.6, 0.4


class Boxes2d(NamedTuple):
    """Boxes [N,4] (left, top, right, bottom), scores [N], class indices [N], best first."""

    boxes: F64
    scores: F64
    classes: I64


def decode(contract: CameraContract, outputs: Sequence[Array], threshold: float) -> Boxes2d:
    """The boxes of one picture that reach ``threshold``, suppressed class by class.

    Raises ContractError where an output has not the shape that the head reads.
    """
    head = _HEADS[contract.head]
    try:
        boxes, scores, classes = head(contract, outputs, threshold)
    except (ValueError, IndexError) as error:
        shapes = ", ".join(str(list(o.shape)) for o in outputs)
        raise ContractError(
            f"{contract.source}: head {contract.head} cannot read outputs of {shapes}: {error}"
        ) from error
    if contract.coordinates == "normalized":
        size = [contract.picture.width_px, contract.picture.height_px]
        boxes = boxes * np.array(size * 2, np.float64)
    sane = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    sane &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    sane &= (classes >= 0) & (classes < len(contract.classes))
    return _suppressed(boxes[sane], scores[sane], classes[sane], contract.nms_iou)


def _suppressed(boxes: F64, scores: F64, classes: I64, iou: float) -> Boxes2d:
    """Of boxes of one class that overlap by more than ``iou`` the best one; best first."""
    if iou < 1.0 and len(boxes):
        corner_size = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
        kept = cv2.dnn.NMSBoxesBatched(
            corner_size.tolist(), scores.tolist(), classes.tolist(), 0.0, iou
        )
        rows = np.asarray(kept, np.int64).reshape(-1)
        boxes, scores, classes = boxes[rows], scores[rows], classes[rows]
    order = np.argsort(-scores, kind="stable")
    return Boxes2d(boxes[order], scores[order], classes[order])


def _corners(center_size: F64) -> F64:
    half = center_size[:, 2:4] / 2.0
    return np.column_stack([center_size[:, :2] - half, center_size[:, :2] + half])


def _rows(output: Array, columns: int) -> Array:
    """An output [1,N,columns] or [N,columns] as [N,...]; what follows the columns stays."""
    rows = output[0] if output.ndim == 3 else output
    if rows.ndim != 2 or not columns <= rows.shape[1] <= columns + MASKS:
        raise ValueError(f"must be [1,N,{columns}]")
    return rows


def _activated(scores: F64, how: str) -> F64:
    if how == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scores, -80.0, 80.0))))
    if how == "softmax":
        shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
    return scores


def _best(scores: F64, threshold: float) -> tuple[I64, F64, I64]:
    """Rows whose best class reaches the threshold, that score, and that class."""
    classes = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), classes]
    rows = np.flatnonzero(best >= threshold)
    return rows, best[rows], classes[rows]


def _yolov5(c: CameraContract, outputs: Sequence[Array], threshold: float) -> tuple[F64, F64, I64]:
    """[1,N,5+C]: centre, size, objectness, classes; the score is their product."""
    count = len(c.classes)
    rows = _rows(outputs[0], 5 + count)
    # No product reaches the threshold where objectness does not; few rows are left to look at.
    rows = rows[rows[:, 4] >= threshold].astype(np.float64)
    scores = _activated(rows[:, 5 : 5 + count], c.activation) * rows[:, 4:5]
    kept, best, classes = _best(scores, threshold)
    return _corners(rows[kept, :4]), best, classes


def _yolov8(c: CameraContract, outputs: Sequence[Array], threshold: float) -> tuple[F64, F64, I64]:
    """[1,4+C,N], or the same turned: centre, size, classes."""
    count = len(c.classes)
    found = outputs[0][0] if outputs[0].ndim == 3 else outputs[0]
    if found.ndim != 2 or max(found.shape) < 4 + count:
        raise ValueError(f"must be [1,{4 + count},N] or [1,N,{4 + count}]")
    if not (found.shape[1] == 4 + count and found.shape[0] != 4 + count):
        found = found.T
    if c.activation == "none":  # few rows are left to look at
        found = found[found.T[4 : 4 + count].max(axis=0) >= threshold]
    rows = _rows(found, 4 + count).astype(np.float64)
    scores = _activated(rows[:, 4 : 4 + count], c.activation)
    kept, best, classes = _best(scores, threshold)
    return _corners(rows[kept, :4]), best, classes


def yolox_grid(width_px: int, height_px: int, strides: Sequence[int]) -> tuple[F64, F64]:
    """The upper left corners [N,2] of YOLOX's cells in pixels, and their sizes [N,1]."""
    corners, sizes = [], []
    for stride in strides:
        v, u = np.mgrid[: height_px // stride, : width_px // stride]
        corners.append(np.column_stack([u.ravel(), v.ravel()]) * float(stride))
        sizes.append(np.full((u.size, 1), float(stride)))
    return np.concatenate(corners), np.concatenate(sizes)


def _yolox(c: CameraContract, outputs: Sequence[Array], threshold: float) -> tuple[F64, F64, I64]:
    """[1,N,5+C] over the cells of all strides: offset from the cell and logarithm of the size in
    cells (or, decoded, centre and size), objectness, classes."""
    if not c.decoded:
        rows = _rows(outputs[0], 5 + len(c.classes)).astype(np.float64)
        corners, sizes = yolox_grid(c.picture.width_px, c.picture.height_px, c.strides)
        if len(rows) != len(corners):
            raise ValueError(f"must have {len(corners)} rows for strides {list(c.strides)}")
        rows[:, :2] = rows[:, :2] * sizes + corners
        rows[:, 2:4] = np.exp(np.clip(rows[:, 2:4], -20.0, 20.0)) * sizes
        outputs = [rows]
    return _yolov5(c, outputs, threshold)


def _detr(c: CameraContract, outputs: Sequence[Array], threshold: float) -> tuple[F64, F64, I64]:
    """Class scores [1,Q,>=C] and boxes [1,Q,4]. What is behind the last class is "no object"."""
    logits = _rows(outputs[0], len(c.classes)).astype(np.float64)
    scores = _activated(logits, c.activation)[:, : len(c.classes)]
    boxes = _rows(outputs[1], 4).astype(np.float64)
    if len(boxes) != len(scores):
        raise ValueError("must have as many boxes as rows of scores")
    kept, best, classes = _best(scores, threshold)
    rows = boxes[kept, :4]
    return (rows if c.corners == "xyxy" else _corners(rows)), best, classes


def _detr_boxes(
    c: CameraContract, outputs: Sequence[Array], threshold: float
) -> tuple[F64, F64, I64]:
    """Labels [1,Q], boxes [1,Q,4] and scores [1,Q], as exports with post-processing give them."""
    labels, scores = outputs[0].reshape(-1), outputs[2].reshape(-1).astype(np.float64)
    boxes = _rows(outputs[1], 4).astype(np.float64)
    if not len(labels) == len(boxes) == len(scores):
        raise ValueError("must have as many boxes as labels and scores")
    kept = np.flatnonzero(scores >= threshold)
    rows = boxes[kept, :4]
    corners = rows if c.corners == "xyxy" else _corners(rows)
    return corners, scores[kept], labels[kept].astype(np.int64)


def _fastestdet(
    c: CameraContract, outputs: Sequence[Array], threshold: float
) -> tuple[F64, F64, I64]:
    """[1,5+C,H,W]: per cell objectness, offset (tanh, in cells), size (sigmoid, of the picture),
    class probabilities. The size of the picture is 1."""
    cells = outputs[0][0]
    if cells.ndim != 3 or len(cells) != 5 + len(c.classes):
        raise ValueError(f"must be [1,{5 + len(c.classes)},H,W]")
    height, width = cells.shape[1:]
    rows = cells.reshape(len(cells), -1).T.astype(np.float64)
    scores = _activated(rows[:, 5:], c.activation) ** CLASS_POWER
    scores *= np.clip(rows[:, :1], 0.0, 1.0) ** OBJECTNESS_POWER
    kept, best, classes = _best(scores, threshold)
    v, u = np.divmod(kept, width)
    center_u = (u + np.tanh(rows[kept, 1])) / width
    center_v = (v + np.tanh(rows[kept, 2])) / height
    size = _activated(rows[kept, 3:5], "sigmoid")
    return _corners(np.column_stack([center_u, center_v, size])), best, classes


def _end2end(c: CameraContract, outputs: Sequence[Array], threshold: float) -> tuple[F64, F64, I64]:
    """[1,N,6]: box, score, class: what is left after suppression within the graph."""
    rows = _rows(outputs[0], 6)
    rows = rows[rows[:, 4] >= threshold].astype(np.float64)
    boxes = rows[:, :4] if c.corners == "xyxy" else _corners(rows[:, :4])
    return boxes, rows[:, 4], np.rint(rows[:, 5]).astype(np.int64)


_HEADS: dict[str, Callable[..., tuple[F64, F64, I64]]] = {
    "yolov5": _yolov5,
    "yolov8": _yolov8,
    "yolox": _yolox,
    "detr": _detr,
    "detr_boxes": _detr_boxes,
    "fastestdet": _fastestdet,
    "end2end": _end2end,
}
