"""The batches a training step sees.

Everything random here is a function of (seed, step, rank), so a run that is taken up again goes
on exactly as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mm_fusion.perception.thinning import thinned
from mm_fusion.training.augment import Augmentation, augment
from mm_fusion.training.frames import F32, Frame, load_frame
from mm_fusion.training.grid import Grid
from mm_fusion.training.targets import Targets, make_targets

POINT_BUDGET = 40_000


@dataclass
class Batch:
    """What one training step needs; tensors with a leading batch axis."""

    points: torch.Tensor
    images: torch.Tensor
    pixel_from_base: torch.Tensor
    looked_from: torch.Tensor  # as pixel_from_base, and true where that is believed wrongly
    has_points: torch.Tensor
    has_image: torch.Tensor
    segmentation: torch.Tensor  # i64 [B,H/4,W/4]
    targets: Targets

    def inputs(self) -> tuple[torch.Tensor, ...]:
        """What a network is asked, in the order of its arguments."""
        pictures = (self.images, self.pixel_from_base)
        return (self.points, *pictures, self.has_points, self.has_image)

    def tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """The same with every tensor changed: moved to a device, say."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "targets"}
        asked = (change(getattr(self.targets, f.name)) for f in fields(self.targets))
        return Batch(**{k: change(t) for k, t in own.items()}, targets=Targets(*asked))


def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch visits ``count`` frames."""
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


def indices(seed: int, step: int, count: int, batch: int) -> list[int]:
    """Frame numbers of one step over all ranks; the last batch of an epoch runs into the next."""
    first = step * batch
    numbers = range(first, first + batch)
    orders = {n // count: epoch_order(seed, n // count, count) for n in (first, numbers[-1])}
    for n in numbers:
        orders.setdefault(n // count, epoch_order(seed, n // count, count))
    return [int(orders[n // count][n % count]) for n in numbers]


def collate(frames: list[Frame], flags: list[tuple[float, float]], grid: Grid) -> Batch:
    """Frames and their (has_points, has_image) flags as one batch; short clouds end in NaN rows."""
    longest = max(len(frame.points) for frame in frames)
    points = np.full((len(frames), longest, 5), np.nan, np.float32)
    for row, frame in zip(points, frames, strict=True):
        row[: len(frame.points)] = frame.points
    has = torch.tensor(flags, dtype=torch.float32)
    return Batch(
        points=torch.from_numpy(points),
        images=torch.from_numpy(np.stack([f.image for f in frames])).unsqueeze(1),
        pixel_from_base=_projections([f.pixel_from_base for f in frames]),
        looked_from=_projections(
            [f.pixel_from_base if f.looked_from is None else f.looked_from for f in frames]
        ),
        has_points=has[:, 0:1].contiguous(),
        has_image=has[:, 1:2].contiguous(),
        segmentation=torch.from_numpy(np.stack([f.seg for f in frames]).astype(np.int64)),
        targets=Targets.stack(
            [
                make_targets(
                    f.boxes, f.labels, f.num_points * int(p > 0), f.num_pixels * int(i > 0), grid
                )
                for f, (p, i) in zip(frames, flags, strict=True)
            ]
        ),
    )


def _projections(each: list[F32]) -> torch.Tensor:
    return torch.from_numpy(np.stack(each)).to(torch.float32).unsqueeze(1)


def limit_points(points: F32, budget: int, rng: np.random.Generator | None = None) -> F32:
    """At most ``budget`` points, in their order, thinned as the nodes thin them; which of the near
    ones stay is random where there is a generator."""
    order = None if rng is None else rng.random(len(points), np.float32)
    return points[thinned((points[:, :2] ** 2).sum(1), budget, order)]


def present(senses: str, a: Augmentation, draw: float) -> tuple[float, float]:
    """Which senses a frame keeps, (has_points, has_image), by a ``draw`` from 0 to 1.

    A network of one sense has that alone, and always: it is not asked for what only the other sees.
    """
    if senses != "fused":
        return (1.0, 0.0) if senses == "lidar" else (0.0, 1.0)
    no_image = draw < a.no_image_probability
    no_points = not no_image and draw < a.no_image_probability + a.no_points_probability
    return 0.0 if no_points else 1.0, 0.0 if no_image else 1.0


def make_batch(
    paths: list[Path],
    a: Augmentation,
    grid: Grid,
    rng: np.random.Generator,
    senses: str = "fused",
) -> Batch:
    """Load, augment and collate the frames of one step for a network of ``senses``."""
    (batch,) = make_batches(paths, a, grid, rng, (senses,))
    return batch


def make_batches(
    paths: list[Path],
    a: Augmentation,
    grid: Grid,
    rng: np.random.Generator,
    senses: Sequence[str],
    read: Callable[[Path], Frame] = load_frame,
) -> list[Batch]:
    """The same versions of the same frames for a network of each of the ``senses``; what ``read``
    gives is not changed, and may be given again."""
    frames, draws = [], []
    for path in paths:
        frame = augment(read(path), a, rng)
        frames.append(replace(frame, points=limit_points(frame.points, POINT_BUDGET, rng)))
        draws.append(rng.random())
    return [collate(frames, [present(s, a, d) for d in draws], grid) for s in senses]
