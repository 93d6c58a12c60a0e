"""The batches of a training run, made ready while the network learns."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from mm_fusion.training.augment import NO_AUGMENTATION, Augmentation
from mm_fusion.training.dataset import Batch, indices, make_batch
from mm_fusion.training.grid import Grid
from mm_fusion.training.settings import TrainSettings, chosen_device


class Steps(torch.utils.data.Dataset[Batch]):
    """One process's share of every step, by the step's number."""

    def __init__(self, paths: list[Path], settings: TrainSettings, grid: Grid, rank: int) -> None:
        self._paths, self._settings, self._grid, self._rank = paths, settings, grid, rank
        no_image, no_points = settings.withheld
        usual = Augmentation(no_image_probability=no_image, no_points_probability=no_points)
        self._augmentation = usual if settings.augment else NO_AUGMENTATION

    def __getitem__(self, step: int) -> Batch:
        s, rank = self._settings, self._rank
        share = s.batch // s.learners
        numbers = indices(s.seed, step, len(self._paths), s.batch)
        mine = [self._paths[n] for n in numbers[rank * share : (rank + 1) * share]]
        rng = np.random.default_rng([s.seed, 2, step, rank])
        return make_batch(mine, self._augmentation, self._grid, rng, s.senses)


def batches(
    paths: list[Path], settings: TrainSettings, grid: Grid, rank: int, first: int
) -> Iterator[Batch]:
    """This process's share of every step from the ``first`` on, made ready meanwhile: by processes
    for a GPU, else by a thread."""
    steps = Steps(paths, settings, grid, rank)
    remaining = range(first, settings.steps)
    device = chosen_device(settings.device)
    if device.type == "cpu":
        yield from ahead(map(steps.__getitem__, remaining))
        return
    for batch in prepared(steps, remaining, settings.workers):
        yield batch.tensors(lambda t: t.to(device, non_blocking=True))


def prepared(steps: Steps, remaining: Sequence[int], workers: int) -> Iterator[Batch]:
    """The batches of the remaining steps in their order, made by processes."""
    return iter(
        torch.utils.data.DataLoader(
            steps,
            batch_size=None,
            sampler=remaining,
            num_workers=workers,
            collate_fn=as_it_is,
            multiprocessing_context="spawn",
        )
    )


def as_it_is(batch: Batch) -> Batch:
    """What a loader hands on: a batch is whole already."""
    return batch


def ahead(items: Iterator[Batch]) -> Iterator[Batch]:
    """The items, made one ahead in a thread."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=2)

    def work() -> None:
        try:
            for item in items:
                ready.put(item)
            ready.put(None)
        except BaseException as error:  # noqa: BLE001  (raised again in the training thread)
            ready.put(error)

    threading.Thread(target=work, daemon=True).start()
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item
