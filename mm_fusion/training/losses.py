"""The losses: where objects are, what their boxes are, what the image's pixels are and how far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mm_fusion.datasets.frame import UNKNOWN_CLASS
from mm_fusion.training.dataset import Batch
from mm_fusion.training.grid import Grid
from mm_fusion.training.network_torch import Maps
from mm_fusion.training.views import depth_position, nearest_cell, project

# offset x y, z, log size, sin cos yaw, velocity: one frame says little about velocity
BOX_WEIGHTS = (1.0, 1.0, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.1, 0.1)
BOX_SCALE = 0.4
SPREAD_SCALE = 0.1
SPREAD_OF = (0, 0, 1, 2, 2, 2, 3, 3, 4, 4)  # which spread tells the error of a regression
SEGMENTATION_SCALE = 2.0  # the image encoder learns mostly from it
DEPTH_SCALE = 0.3
DEPTH_POINT_STEP = 4  # every fourth point teaches depth well enough
SEGMENTATION_WEIGHTS = (1.0, 2.0, 4.0, 4.0)  # objects are few among the pixels
TAUGHT_SCALE = 5.0
TAUGHT_HEIGHT_M = 0.6  # where a cell is looked at
TAUGHT_FROM_PX = 8.0  # so far off, about a degree, a picture tells little of a cell
SEGMENTATION_AROUND = 9  # cells, the side of a neighbourhood: what is far fills few of it


@dataclass
class Losses:
    """Scalars; ``total`` is what is minimised."""

    total: torch.Tensor
    heat: torch.Tensor
    boxes: torch.Tensor
    spread: torch.Tensor
    segmentation: torch.Tensor
    depth: torch.Tensor
    taught: torch.Tensor


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
    known, no loss. A cell of an object weighs the more, up to four times, the less of its class is
    around it, so that small objects are not drowned in the cells of large ones."""
    known = target != UNKNOWN_CLASS
    classes = torch.where(known, target, torch.zeros_like(target))
    each = F.cross_entropy(logits, classes, reduction="none")
    own = F.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2).to(each.dtype)
    size = SEGMENTATION_AROUND
    around = F.avg_pool2d(own, size, 1, size // 2, count_include_pad=False)
    share = around.gather(1, classes.unsqueeze(1)).squeeze(1)
    rarity = torch.where(classes > 0, 1.0 / (0.3 + share), torch.ones_like(share))
    weight = each.new_tensor(SEGMENTATION_WEIGHTS)[classes] * known * rarity
    return (each * weight).sum() / weight.sum().clamp(min=1.0)


def spread_loss(
    spreads: torch.Tensor, boxes: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Negative logarithm of a Laplace density over the present errors of ``boxes``, which it does
    not change: ``spreads`` [B,5,nx,ny] are logarithms of mean absolute errors."""
    log_b = spreads[:, list(SPREAD_OF)].clamp(-5.0, 3.0)
    known = ~target.isnan()
    error = torch.where(known, (boxes.detach() - target).abs(), torch.zeros_like(boxes))
    value = (error * torch.exp(-log_b) + log_b) * known * weight.unsqueeze(1)
    return value.sum() / (weight.sum().clamp(min=1.0) * len(SPREAD_OF))


def depth_loss(
    logits: torch.Tensor, points: torch.Tensor, pixel_from_base: torch.Tensor
) -> torch.Tensor:
    """Cross entropy of the depth logits [B,bins,h,w] at the LIDAR points that the image shows.

    ``points`` [B,P,5] and ``pixel_from_base`` [B,3,4]; rows that are no points take no part. A
    depth between two bins is asked of both.
    """
    batch, bins, height, width = logits.shape
    xyz = points[:, ::DEPTH_POINT_STEP, :3]
    u, v, depth, visible = project(xyz, pixel_from_base)
    place = depth_position(torch.where(visible, depth, torch.ones_like(depth)))
    low = place.floor()
    said = F.log_softmax(logits.float(), 1).permute(0, 2, 3, 1).reshape(-1)
    base = torch.arange(batch, device=said.device).unsqueeze(1) * (height * width)
    index = (base + nearest_cell(u, v, height, width)) * bins + low.long()
    share = place - low
    found = said[index] * (1.0 - share) + said[index + 1] * share
    weight = visible.to(found.dtype)
    return -(found * weight).sum() / weight.sum().clamp(min=1.0)


def points_alone(batch: Batch, grid: Grid) -> torch.Tensor:
    """[B,1,nx,ny]: 1 where points are all there is to go by, because no picture is there, because
    the camera does not look there, or because it is believed to look elsewhere than it does."""
    xs = grid.x_min_m + (torch.arange(grid.nx) + 0.5) * grid.pillar_m
    ys = grid.y_min_m + (torch.arange(grid.ny) + 0.5) * grid.pillar_m
    gx, gy = torch.meshgrid(xs, ys, indexing="ij")
    at = torch.stack([gx, gy, torch.full_like(gx, TAUGHT_HEIGHT_M)], -1).reshape(1, -1, 3)
    count = len(batch.has_image)
    at = at.to(batch.points.device).expand(count, -1, -1)
    u, v, _, seen = project(at, batch.looked_from[:, 0])
    believed_u, believed_v, _, believed = project(at, batch.pixel_from_base[:, 0])
    off_px = torch.hypot(believed_u - u, believed_v - v)
    pictured = seen & believed & (off_px < TAUGHT_FROM_PX) & (batch.has_image > 0.5)
    alone = ~pictured & (batch.has_points > 0.5)
    return alone.reshape(count, 1, grid.nx, grid.ny).to(batch.points.dtype)


def taught_loss(
    logits: torch.Tensor, teacher: torch.Tensor, weight: torch.Tensor, objects: torch.Tensor
) -> torch.Tensor:
    """Cross entropy with the teacher's chances, [B,3,nx,ny] logits both, by the square of how far
    apart they are (Li et al., Generalized Focal Loss, 2020), for each of the ``objects``."""
    wanted = torch.sigmoid(teacher)
    apart = (torch.sigmoid(logits) - wanted) ** 2
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (each * apart * weight).sum() / objects.clamp(min=1.0)


def losses(maps: Maps, batch: Batch, taught: torch.Tensor | None = None) -> Losses:
    """All losses of a batch; ``taught`` is what :func:`taught_loss` gave, if anybody teaches. The
    image's own two are taken whether or not a sense is withheld, but not by a network that has no
    eyes."""
    targets = batch.targets
    heat = heat_loss(maps.heat, targets.heat, targets.heat_weight)
    boxes = box_loss(maps.boxes, targets.boxes, targets.box_weight)
    spread = spread_loss(maps.spreads, maps.boxes, targets.boxes, targets.box_weight)
    nothing = heat.new_zeros(())
    taught = nothing if taught is None else taught
    total = heat + BOX_SCALE * boxes + SPREAD_SCALE * spread + TAUGHT_SCALE * taught
    if maps.segmentation is None or maps.depth is None:
        return Losses(total, heat, boxes, spread, nothing, nothing, taught)
    seg = segmentation_loss(maps.segmentation, batch.segmentation)
    depth = depth_loss(maps.depth, batch.points, batch.looked_from[:, 0])
    total = total + SEGMENTATION_SCALE * seg + DEPTH_SCALE * depth
    return Losses(total, heat, boxes, spread, seg, depth, taught)
