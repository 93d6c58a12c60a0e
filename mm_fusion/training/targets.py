"""What the head should say: class heat maps and box regressions from labelled boxes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from mm_fusion.training.frames import CLASSES
from mm_fusion.training.grid import Grid
from mm_fusion.training.network_torch import REGRESSION_CHANNELS

MIN_POINTS = 3
MIN_PIXELS = 30
SIGMA_CELLS = (1.5, 0.9, 1.1)  # by class
RADIUS_CELLS = 3  # where the Gaussian is drawn
REGRESSION_RADIUS_CELLS = 1


@dataclass
class Targets:
    """Targets of a batch (with a leading axis) or of one frame (without).

    ``heat`` [3,nx,ny] Gaussians with 1 at the objects' cells; ``heat_weight`` [3,nx,ny] 0 where
    an object lies that no present sensor sees; ``boxes`` [10,nx,ny]; ``box_weight`` [nx,ny].
    """

    heat: torch.Tensor
    heat_weight: torch.Tensor
    boxes: torch.Tensor
    box_weight: torch.Tensor

    @staticmethod
    def stack(items: list[Targets]) -> Targets:
        """One batch of single frames."""
        return Targets(
            *(torch.stack([getattr(t, field.name) for t in items]) for field in fields(Targets))
        )


def regression(box: npt.NDArray[np.float32], grid: Grid) -> list[float]:
    """The ten numbers the head should give for ``box`` [9] at cell (0, 0).

    At another cell the first two are less by its indices. decode() is the inverse.
    """
    x, y, z, length, width, height, yaw, vx, vy = (float(v) for v in box)
    return [
        (x - grid.x_min_m) / grid.pillar_m,
        (y - grid.y_min_m) / grid.pillar_m,
        z,
        *np.log([length, width, height]),
        np.sin(yaw),
        np.cos(yaw),
        vx,
        vy,
    ]


def make_targets(
    boxes: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    num_points: npt.NDArray[np.int32],
    num_pixels: npt.NDArray[np.int32],
    grid: Grid,
) -> Targets:
    """Targets of one frame. Pass zero counts for a sensor that is withheld.

    An object that is seen by fewer than MIN_POINTS points and MIN_PIXELS pixels is neither
    demanded nor punished: its surroundings carry no heat loss.
    """
    nx, ny = grid.nx, grid.ny
    heat = np.zeros((len(CLASSES), nx, ny), np.float32)
    heat_weight = np.ones_like(heat)
    target = np.zeros((REGRESSION_CHANNELS, nx, ny), np.float32)
    weight = np.zeros((nx, ny), np.float32)
    for box, label, points, pixels in zip(boxes, labels, num_points, num_pixels, strict=True):
        ix = int(np.floor((box[0] - grid.x_min_m) / grid.pillar_m))
        iy = int(np.floor((box[1] - grid.y_min_m) / grid.pillar_m))
        if not (0 <= ix < nx and 0 <= iy < ny):
            continue
        xs = slice(max(0, ix - RADIUS_CELLS), min(nx, ix + RADIUS_CELLS + 1))
        ys = slice(max(0, iy - RADIUS_CELLS), min(ny, iy + RADIUS_CELLS + 1))
        if label < 0:  # of no class of ours: whatever is said there is no mistake
            heat_weight[:, xs, ys] = 0.0
            continue
        if points < MIN_POINTS and pixels < MIN_PIXELS:
            heat_weight[label, xs, ys] = 0.0
            continue
        jx, jy = np.ogrid[xs, ys]
        value = np.exp(-((jx - ix) ** 2 + (jy - iy) ** 2) / (2.0 * SIGMA_CELLS[label] ** 2))
        heat[label, xs, ys] = np.maximum(heat[label, xs, ys], value.astype(np.float32))
        near = np.maximum(np.abs(jx - ix), np.abs(jy - iy)) <= REGRESSION_RADIUS_CELLS
        better = near & (value > weight[xs, ys])
        weight[xs, ys][better] = value[better]
        wanted = np.empty((REGRESSION_CHANNELS, *better.shape), np.float32)
        wanted[:] = np.reshape(regression(box, grid), (-1, 1, 1))
        wanted[0] -= jx
        wanted[1] -= jy
        target[:, xs, ys][:, better] = wanted[:, better]
    heat_weight[heat == 1.0] = 1.0
    return Targets(*(torch.from_numpy(a) for a in (heat, heat_weight, target, weight)))
