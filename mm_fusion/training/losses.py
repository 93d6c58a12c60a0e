"""The losses: where objects are, what their boxes are, what the image's pixels are and how far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mm_fusion.datasets.frame import UNKNOWN_CLASS
from mm_fusion.training.dataset import Batch
from mm_fusion.training.network_torch import Maps, project, sample

# offset x y, z, log size, sin cos yaw, velocity: one frame says little about velocity
BOX_WEIGHTS = (1.0, 1.0, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.1, 0.1)
BOX_SCALE = 0.4
SEGMENTATION_SCALE = 2.0  # the image encoder learns mostly from it
DEPTH_SCALE = 1.0
DEPTH_POINT_STEP = 4  # every fourth point teaches depth well enough
SEGMENTATION_WEIGHTS = (1.0, 2.0, 4.0, 4.0)  # objects are few among the pixels


@dataclass
class Losses:
    """Scalars; ``total`` is what is minimised."""

    total: torch.Tensor
    heat: torch.Tensor
    boxes: torch.Tensor
    segmentation: torch.Tensor
    depth: torch.Tensor


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
    """Weighted mean absolute error over the cells in and beside the objects' centres. A target
    that is NaN is not known, and carries no loss."""
    per_channel = boxes.new_tensor(BOX_WEIGHTS).reshape(1, -1, 1, 1)
    known = torch.where(target.isnan(), boxes.detach(), target)
    error = (boxes - known).abs() * per_channel * weight.unsqueeze(1)
    return error.sum() / weight.sum().clamp(min=1.0)


def segmentation_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the paint map's class logits, [B,4,h,w] against i64 [B,h,w]; 255 there: not
    known, no loss."""
    weight = logits.new_tensor(SEGMENTATION_WEIGHTS)
    if bool((target == UNKNOWN_CLASS).all()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits, target, weight=weight, ignore_index=UNKNOWN_CLASS)


def depth_loss(
    log_depth: torch.Tensor, points: torch.Tensor, pixel_from_base: torch.Tensor
) -> torch.Tensor:
    """Mean absolute error of the log depth map [B,1,h,w] at the LIDAR points that the image shows.

    ``points`` [B,P,5] and ``pixel_from_base`` [B,3,4]; rows that are no points take no part.
    """
    xyz = points[:, ::DEPTH_POINT_STEP, :3]
    u, v, depth, visible = project(xyz, pixel_from_base)
    weight = visible.to(log_depth.dtype)
    said = sample(log_depth, u, v, torch.ones_like(weight)).squeeze(-1)
    target = torch.where(visible, torch.log(depth), torch.zeros_like(depth))
    return ((said - target).abs() * weight).sum() / weight.sum().clamp(min=1.0)


def losses(maps: Maps, batch: Batch) -> Losses:
    """All losses of a batch. The image's own two are taken whether or not a sense is withheld."""
    targets = batch.targets
    heat = heat_loss(maps.heat, targets.heat, targets.heat_weight)
    boxes = box_loss(maps.boxes, targets.boxes, targets.box_weight)
    seg = segmentation_loss(maps.segmentation, batch.segmentation)
    depth = depth_loss(maps.log_depth, batch.points, batch.pixel_from_base[:, 0])
    total = heat + BOX_SCALE * boxes + SEGMENTATION_SCALE * seg + DEPTH_SCALE * depth
    return Losses(total, heat, boxes, seg, depth)
