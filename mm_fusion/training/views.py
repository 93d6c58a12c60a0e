"""Where points lie in pictures, and what maps of pictures say there.

Pixel centres are integers. Maps are those of a network whose strided kernels are padded alike on
all sides: cell j at stride s is centred on pixel s*j. Everything here goes into the ONNX graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

IMAGE_HEIGHT_PX = 384
IMAGE_WIDTH_PX = 640
MIN_DEPTH_M = 0.3
DEPTH_BINS = 64  # evenly in the logarithm
MIN_BIN_M, MAX_BIN_M = 2.0, 64.0
# What is made of a camera's number, its samples [B,P,channels], pixels u, v and depths (m) [B,P].
Gate = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]


def ground_hint(pixel_from_base: Tensor, height: int, width: int) -> Tensor:
    """What depth the flat ground would have at each cell [N,2,height,width] of an image map.

    Channel 0: inverse depth (1/m, times 10; negative above the horizon), channel 1: logarithm of
    depth (m), up to 80 m. The ground z = 0 is seen under the homography of columns x, y and 1 of
    pixel_from_base [N,3,4]; the last row of its inverse gives inverse depth, linear in u and v.
    """
    x, y, one = (pixel_from_base[:, :, column] for column in (0, 1, 3))
    row = torch.linalg.cross(x, y)
    volume = (row * one).sum(1, keepdim=True)
    row = torch.where(volume.abs() > 1e-6, row / torch.where(volume == 0.0, 1.0, volume), 0.0)
    device = pixel_from_base.device
    u = torch.arange(width, device=device) * (IMAGE_WIDTH_PX / width)
    v = torch.arange(height, device=device) * (IMAGE_HEIGHT_PX / height)
    a, b, c = (row[:, i].reshape(-1, 1, 1) for i in range(3))
    inverse = (a * u + b * v.unsqueeze(1) + c).clamp(-1.0, 1.0)
    return torch.stack([inverse * 10.0, -torch.log(inverse.clamp(min=1.0 / 80.0))], 1)


def depth_position(depth: Tensor) -> Tensor:
    """Where depths (m) lie among the depth bins, 0 .. DEPTH_BINS - 1."""
    span = math.log(MAX_BIN_M / MIN_BIN_M)
    place = (torch.log(depth) - math.log(MIN_BIN_M)) * ((DEPTH_BINS - 1) / span)
    return place.clamp(0.0, DEPTH_BINS - 1.001)


def unrounded(tensor: Tensor) -> AbstractContextManager[Any]:
    """Products within stay float32 where autocast would round them: bfloat16 moves a point 30 m
    away by up to 6 cm, and where it projects to by one to two pixels. Elsewhere (in an export)
    nothing is changed."""
    kind = tensor.device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def project(points_xyz: Tensor, pixel_from_base: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels [B,P] u, v of points [B,P,3] under [B,3,4], their depth, and whether they are seen.

    Pinhole: (u*w, v*w, w) = pixel_from_base @ (x, y, z, 1). Where a point is not visible, u and v
    are 0; where it is not ahead, depth is 1.
    """
    with unrounded(points_xyz):
        uvw = points_xyz @ pixel_from_base[:, :, :3].transpose(1, 2)
    uvw = uvw + pixel_from_base[:, None, :, 3]
    depth = uvw[..., 2]
    ahead = depth > MIN_DEPTH_M
    safe = torch.where(ahead, depth, torch.ones_like(depth))
    u, v = uvw[..., 0] / safe, uvw[..., 1] / safe
    visible = ahead & (u >= -0.5) & (u < IMAGE_WIDTH_PX - 0.5)
    visible = visible & (v >= -0.5) & (v < IMAGE_HEIGHT_PX - 0.5)
    zero = torch.zeros_like(u)
    return torch.where(visible, u, zero), torch.where(visible, v, zero), safe, visible


def sample(feature_map: Tensor, u_px: Tensor, v_px: Tensor, weight: Tensor) -> Tensor:
    """Bilinear samples [B,P,C] of a map [B,C,h,w] at image pixels u, v [B,P], times ``weight``.

    Cell j of a map at stride s is centred at pixel s*j. Edges repeat. Four row gathers, because
    they cost ONNX Runtime a fifth of GridSample.
    """
    batch, channels, height, width = feature_map.shape
    rows = feature_map.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    x = (u_px * (width / IMAGE_WIDTH_PX)).clamp(0.0, width - 1.0)
    y = (v_px * (height / IMAGE_HEIGHT_PX)).clamp(0.0, height - 1.0)
    x0 = x.floor().clamp(max=width - 2.0)
    y0 = y.floor().clamp(max=height - 2.0)
    base = torch.arange(batch, device=rows.device).unsqueeze(1) * (height * width)
    index = base + (y0 * width + x0).to(torch.int64)
    right, low = x - x0, (y - y0) * weight
    left, high = 1.0 - right, weight - low

    def part(shift: int, share: Tensor) -> Tensor:
        corner = rows.index_select(0, (index + shift).reshape(-1))
        return corner.reshape(batch, -1, channels) * share.unsqueeze(-1)

    upper = part(0, left * high) + part(1, right * high)
    return upper + part(width, left * low) + part(width + 1, right * low)


def nearest_cell(u_px: Tensor, v_px: Tensor, height: int, width: int) -> Tensor:
    """The number, row by row, of the cell of a map [height,width] nearest to image pixels u, v;
    int64 of their shape."""
    x = (u_px * (width / IMAGE_WIDTH_PX)).round().clamp(0.0, width - 1.0).to(torch.int64)
    y = (v_px * (height / IMAGE_HEIGHT_PX)).round().clamp(0.0, height - 1.0).to(torch.int64)
    return y * width + x


def chance_of_depth(chances: Tensor, u_px: Tensor, v_px: Tensor, depth: Tensor) -> Tensor:
    """How likely the nearest cell of [B,h,w,DEPTH_BINS] finds each depth [B,P] (m), times
    DEPTH_BINS / 4; linear between bins."""
    batch, height, width, bins = chances.shape
    flat = chances.reshape(-1)
    place = depth_position(depth)
    low = place.floor()
    base = torch.arange(batch, device=flat.device).unsqueeze(1) * (height * width)
    index = (base + nearest_cell(u_px, v_px, height, width)) * bins + low.to(torch.int64)
    high = place - low
    near = flat.index_select(0, index.reshape(-1)).reshape(index.shape)
    far = flat.index_select(0, (index + 1).reshape(-1)).reshape(index.shape)
    return (near * (1.0 - high) + far * high) * (bins / 4.0)


def gather_cameras(
    maps: Tensor,
    xyz: Tensor,
    pixel_from_base: Tensor,
    has_image: Tensor,
    gate: Gate | None = None,
) -> tuple[Tensor, Tensor]:
    """Map samples [B,P,channels] at points, their mean over the cameras that see each, and [B,P]
    1 where any camera does. Zero where none does. ``gate`` makes what it wants of each camera's
    number, samples, pixels and depths.
    """
    pixels = [project(xyz, pixel_from_base[:, c]) for c in range(has_image.shape[1])]
    there = (has_image > 0.5).unsqueeze(-1)
    sees = torch.stack([p[3] for p in pixels], 1).logical_and(there).to(torch.float32)
    parts = []
    for c, (u, v, depth, _) in enumerate(pixels):
        values = sample(maps[:, c], u, v, sees[:, c])
        values = values if gate is None else gate(c, values, u, v, depth) * sees[:, c, :, None]
        parts.append(values)
    if len(parts) == 1:
        return parts[0], sees[:, 0]
    mean = torch.stack(parts).sum(0) / sees.sum(1).clamp(min=1.0).unsqueeze(-1)
    return mean, sees.amax(1)
