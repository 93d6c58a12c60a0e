"""What a LIDAR network teaches the fused one, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mm_fusion import resources
from mm_fusion.errors import ConfigError, StageError
from mm_fusion.training import train as training
from mm_fusion.training.augment import NO_AUGMENTATION
from mm_fusion.training.dataset import collate, make_batch
from mm_fusion.training.frames import Frame
from mm_fusion.training.grid import Grid
from mm_fusion.training.loading import Steps
from mm_fusion.training.losses import points_alone, taught_loss
from mm_fusion.training.settings import TrainSettings
from mm_fusion.training.train import train

GRID = Grid()
SHORT = TrainSettings(
    steps=2, batch=2, workers=1, warmup_steps=1, decay_steps=1, learning_rate=1e-3, seed=3
)
BOTH, PICTURE_ONLY, POINTS_ONLY = (1.0, 1.0), (0.0, 1.0), (1.0, 0.0)


def turned(frame: Frame, angle_rad: float) -> Frame:
    """The camera is believed to be turned to the left by so much about z."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    about_z = np.array([[c, s, 0, 0], [-s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    believed = (frame.pixel_from_base @ about_z).astype(np.float32)
    return replace(frame, pixel_from_base=believed, looked_from=frame.pixel_from_base)


def cell(x_m: float, y_m: float) -> tuple[int, int]:
    """The indices of the pillar at a place."""
    at_x, at_y = (x_m - GRID.x_min_m) / GRID.pillar_m, (y_m - GRID.y_min_m) / GRID.pillar_m
    return int(at_x), int(at_y)


def test_points_are_alone_where_no_picture_tells_anything(frame: Frame) -> None:
    few, much = turned(frame, np.radians(0.3)), turned(frame, np.radians(2.0))
    versions = [frame, frame, frame, few, much]
    flags = [BOTH, POINTS_ONLY, PICTURE_ONLY, BOTH, BOTH]
    alone = points_alone(collate(versions, flags, GRID), GRID)
    assert alone.shape == (5, 1, GRID.nx, GRID.ny)
    (ax, ay), (bx, by) = cell(20.0, 0.0), cell(-10.0, 0.0)
    ahead, behind = alone[:, 0, ax, ay].tolist(), alone[:, 0, bx, by].tolist()
    assert ahead == [0.0, 1.0, 0.0, 0.0, 1.0]
    assert behind == [1.0, 1.0, 0.0, 1.0, 1.0]


def test_taught_loss_by_hand() -> None:
    logits = torch.zeros(1, 3, 1, 2, requires_grad=True)  # 0.5 everywhere
    teacher = torch.zeros(1, 3, 1, 2)
    teacher[0, 0, 0, 0] = float(np.log(3.0))  # 0.75
    teacher[0, 1, 0, 1] = 9.0
    weight = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    value = taught_loss(logits, teacher, weight, torch.tensor(4))
    assert value.item() == pytest.approx(0.25**2 * np.log(2.0) / 4.0, rel=1e-5)
    value.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0, 0] < 0.0  # towards the teacher
    assert logits.grad.count_nonzero() == 1


def told(folder: Path) -> dict[str, float]:
    """The last line of a run's log."""
    line: dict[str, float] = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return line


def test_a_teacher_is_listened_to(write_frames: Callable[[int], Path], tmp_path: Path) -> None:
    """GIVEN pictures that are always withheld, WHEN a network learns with and without the packaged
    LIDAR network as its teacher, THEN there is a loss for it, which its own answers would not
    cost, and the weights become others."""
    frames = write_frames(2)
    alone = replace(SHORT, withheld=(1.0, 0.0))
    teacher = str(resources.share_path("models/lidar.pt"))
    train(frames, tmp_path / "alone", alone)
    train(frames, tmp_path / "taught", replace(alone, teacher=teacher))
    assert told(tmp_path / "alone")["taught"] == 0.0
    assert told(tmp_path / "taught")["taught"] > 0.0
    ours, theirs = (
        training.read_checkpoint(tmp_path / name / "checkpoint.pt")["net"]
        for name in ("alone", "taught")
    )
    assert not torch.equal(ours["head.heat.1.weight"], theirs["head.heat.1.weight"])
    # and it stays there when the run is taken up
    longer = replace(alone, teacher=teacher, steps=3)
    assert train(frames, tmp_path / "taught", longer, resume=True).steps == 3
    assert told(tmp_path / "taught")["taught"] > 0.0


def test_a_teacher_agrees_with_itself(write_frames: Callable[[int], Path]) -> None:
    settings = replace(SHORT, teacher=str(resources.share_path("models/lidar.pt")))
    teacher = training.teacher_of(settings)
    assert teacher is not None
    paths = sorted(write_frames(1).glob("*.npz"))
    batch = make_batch(paths, NO_AUGMENTATION, GRID, np.random.default_rng(0))
    heat = teacher(
        batch.points, batch.images, batch.pixel_from_base, batch.has_points, batch.has_image
    ).heat
    everywhere = torch.ones_like(heat[:, :1])
    assert taught_loss(heat, heat, everywhere, torch.tensor(1)).item() == 0.0


def test_wrong_teachers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="teacher: for the fused network, not for one of lidar"):
        replace(SHORT, senses="lidar", teacher="models/lidar.pt")
    with pytest.raises(StageError, match=r"camera\.pt: a teacher or an expert is a LIDAR network"):
        training.teacher_of(replace(SHORT, teacher=str(resources.share_path("models/camera.pt"))))
    with pytest.raises(StageError, match="no checkpoint there"):
        training.teacher_of(replace(SHORT, teacher=str(tmp_path / "nobody.pt")))


def test_senses_are_withheld_as_often_as_asked(write_frames: Callable[[int], Path]) -> None:
    paths = sorted(write_frames(2).glob("*.npz"))
    for withheld, flags in (((1.0, 0.0), (1.0, 0.0)), ((0.0, 1.0), (0.0, 1.0)), ((0, 0), (1, 1))):
        batch = Steps(paths, replace(SHORT, withheld=withheld), GRID, 0)[0]
        assert (batch.has_points.unique().item(), batch.has_image.unique().item()) == flags
    for wrong in ((0.6, 0.5), (-0.1, 0.2)):
        with pytest.raises(ConfigError, match="withheld: two shares from 0, up to 1 in all"):
            replace(SHORT, withheld=wrong)
