"""The three losses: where objects are, what their boxes are, and what the image's pixels are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mm_fusion.training.network_torch import Maps
from mm_fusion.training.targets import Targets

# offset x y, z, log size, sin cos yaw, velocity: one frame says little about velocity
BOX_WEIGHTS = (1.0, 1.0, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.1, 0.1)
BOX_SCALE = 0.4
SEGMENTATION_SCALE = 0.4
SEGMENTATION_WEIGHTS = (1.0, 2.0, 4.0, 4.0)  # objects are few among the pixels


@dataclass
class Losses:
    """Scalars; ``total`` is what is minimised."""

    total: torch.Tensor
    heat: torch.Tensor
    boxes: torch.Tensor
    segmentation: torch.Tensor


def heat_loss(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss over Gaussian heat maps (Law and Deng, CornerNet, 2018)."""
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    p = torch.sigmoid(logits)
    positive = (target == 1.0).to(logits.dtype)
    found = positive * (1.0 - p) ** 2 * log_p
    elsewhere = (1.0 - positive) * (1.0 - target) ** 4 * p**2 * log_not_p
    count = positive.sum().clamp(min=1.0)
    return -((found + elsewhere) * weight).sum() / count


def box_loss(boxes: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean absolute error over the cells in and beside the objects' centres."""
    per_channel = boxes.new_tensor(BOX_WEIGHTS).reshape(1, -1, 1, 1)
    error = (boxes - target).abs() * per_channel * weight.unsqueeze(1)
    return error.sum() / weight.sum().clamp(min=1.0)


def segmentation_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the paint map's class logits, [B,4,h,w] against i64 [B,h,w]."""
    return F.cross_entropy(logits, target, weight=logits.new_tensor(SEGMENTATION_WEIGHTS))


def losses(maps: Maps, targets: Targets, segmentation: torch.Tensor) -> Losses:
    """All losses of a batch."""
    heat = heat_loss(maps.heat, targets.heat, targets.heat_weight)
    boxes = box_loss(maps.boxes, targets.boxes, targets.box_weight)
    seg = segmentation_loss(maps.segmentation, segmentation)
    return Losses(heat + BOX_SCALE * boxes + SEGMENTATION_SCALE * seg, heat, boxes, seg)
