"""The script that trains three networks on the same frames: its schedule, and its whole way."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mm_fusion.training.augment import Augmentation
from mm_fusion.training.dataset import make_batches
from mm_fusion.training.frames import load_frame
from mm_fusion.training.grid import Grid
from mm_fusion.training.network_torch import SENSES
from mm_fusion.training.settings import TrainSettings
from mm_fusion.training.train import learning_rate, read_checkpoint


@pytest.fixture
def script() -> ModuleType:
    return importlib.import_module("train_together")


@pytest.mark.parametrize(
    ("step", "share", "rate"),
    [
        (50, 0.01, 0.505),  # warming up
        (1000, 0.2, 1.0),
        (1000, 0.35, 1.0),
        (2000, 0.675, 0.5),
        (3000, 1.0, 0.0),
    ],
)
def test_the_rate_follows_the_time(
    script: ModuleType, step: int, share: float, rate: float
) -> None:
    settings = script.at_share(TrainSettings(learning_rate=1.0), step, share)
    assert learning_rate(settings, step) == pytest.approx(rate, abs=0.01)


def test_all_senses_get_the_same_versions(write_frames: Callable[[int], Path]) -> None:
    paths = sorted(write_frames(2).glob("*.npz"))
    rng = np.random.default_rng(4)
    fused, camera, lidar = make_batches(paths, Augmentation(), Grid(), rng, SENSES)
    for other in (camera, lidar):
        assert torch.equal(fused.points.nan_to_num(), other.points.nan_to_num())
        assert torch.equal(fused.images, other.images)
        assert torch.equal(fused.pixel_from_base, other.pixel_from_base)
    assert (camera.has_points == 0).all()
    assert (camera.has_image == 1).all()
    assert (lidar.has_points == 1).all()
    assert (lidar.has_image == 0).all()


def test_frames_that_are_kept_stay_as_they_are(write_frames: Callable[[int], Path]) -> None:
    paths = sorted(write_frames(2).glob("*.npz"))
    kept = {path: load_frame(path) for path in paths}
    wild = replace(
        Augmentation(), **dict.fromkeys(("flip_probability", "bad_picture_probability"), 1.0)
    )
    for seed in range(4):
        make_batches(paths, wild, Grid(), np.random.default_rng(seed), SENSES, kept.__getitem__)
    for path, frame in kept.items():
        fresh = load_frame(path)
        for field in fields(frame):
            before, after = getattr(fresh, field.name), getattr(frame, field.name)
            assert before is after is None or np.array_equal(before, after), field.name


def test_two_networks_learn_until_the_time_is_over(
    script: ModuleType,
    write_frames: Callable[[int], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "ENOUGH_TO_BEGIN", 2)
    frames, out = str(write_frames(3)), tmp_path / "out"
    words = ["--minutes", "0.15", "--out", str(out), "--frames", frames, "--device", "cpu"]
    words += ["--networks", "lidar", "camera", "--batch", "1", "--loaders", "1"]
    assert script.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["lidar", "camera"]
    for name in told:
        saved = read_checkpoint(out / name / "checkpoint.pt")
        assert saved["settings"]["senses"] == name
        assert saved["settings"]["steps"] == saved["step"] == told[name]["step"] >= 1
        assert told[name]["frames"] == 3


def test_only_the_fused_network_has_a_teacher_and_an_expert(
    script: ModuleType, write_frames: Callable[[int], Path], tmp_path: Path
) -> None:
    words = ["--minutes", "1", "--out", str(tmp_path), "--frames", str(write_frames(1))]
    words += ["--teacher", "models/lidar.pt", "--expert", "models/other.pt"]
    plan = script.plan_of(script.parser().parse_args(words))
    lent = {name: (s.teacher, s.expert) for name, s in plan.settings.items()}
    assert lent == {
        "fused": ("models/lidar.pt", "models/other.pt"),
        "camera": ("", ""),
        "lidar": ("", ""),
    }


def test_the_workers_of_a_command_end_with_it(script: ModuleType) -> None:
    # GIVEN a command that started another WHEN it is ended THEN the other has let go of the pipe
    words = ["sh", "-c", "sleep 600 & echo begun; wait"]
    source = subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE)
    assert source.stdout is not None
    assert source.stdout.readline() == b"begun\n"
    script.end_with_workers(source)
    assert source.stdout.read() == b""
    script.end_with_workers(source)  # whoever has ended already is no error


def test_too_few_frames_are_an_error(
    script: ModuleType,
    write_frames: Callable[[int], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--minutes", "1", "--out", str(tmp_path / "out"), "--frames", str(write_frames(2))]
    assert script.main(words) == 2
    assert "fewer than 64 frames, and nobody makes more" in capsys.readouterr().err
