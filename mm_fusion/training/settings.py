"""What decides the outcome of a training run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mm_fusion.errors import ConfigError
from mm_fusion.training.augment import Augmentation
from mm_fusion.training.encoders import LITE0
from mm_fusion.training.network_torch import SENSES

DEVICES = ("auto", "cpu", "cuda")
WITHHELD = (Augmentation.no_image_probability, Augmentation.no_points_probability)


def chosen_device(name: str) -> torch.device:
    """Where to compute. Raises ConfigError where a GPU is asked for and PyTorch has none."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("device cuda: PyTorch finds no CUDA GPU here (auto takes the CPU then)")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the outcome of a run."""

    steps: int = 4000
    batch: int = 8  # over all processes
    workers: int = 2  # processes that learn (on a CPU) or prepare batches (for a GPU)
    device: str = "auto"  # the GPU, where PyTorch finds one
    threads: int = 1
    seed: int = 0
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    decay_steps: int = 1500  # the rate falls to nothing over the last so many steps
    weight_decay: float = 0.01
    clip_norm: float = 20.0
    ema: float = 0.995
    bfloat16: bool = True
    augment: bool = True
    checkpoint_s: float = 120.0
    senses: str = "fused"
    encoder: str = LITE0
    fresh_encoder: bool = False
    train_trunk: bool = False  # ImageNet's features serve as they are, and see real streets too
    train_late_trunk: bool = False  # only what comes after stride 8 learns, and slowly
    init: tuple[str, ...] = ()
    withheld: tuple[float, float] = WITHHELD  # shares of frames without picture, without points
    teacher: str = ""  # a LIDAR network's checkpoint: says what points alone tell
    expert: str = ""  # a LIDAR network's checkpoint: the points' expert, kept as it is
    without: tuple[str, ...] = ()  # of parts.PARTS: left out, to learn what they are worth

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "workers", "threads", "decay_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.device not in DEVICES:
            raise ConfigError(f"device must be one of {', '.join(DEVICES)}, not {self.device}")
        if self.senses not in SENSES:
            raise ConfigError(f"senses must be one of {', '.join(SENSES)}, not {self.senses}")
        if self.train_late_trunk and self.encoder != LITE0:
            raise ConfigError(f"train_late_trunk goes with the encoder {LITE0} only")
        if min(self.withheld) < 0.0 or sum(self.withheld) > 1.0:
            raise ConfigError(f"withheld: two shares from 0, up to 1 in all, not {self.withheld}")
        for name in ("teacher", "expert"):
            if getattr(self, name) and self.senses != "fused":
                raise ConfigError(f"{name}: for the fused network, not for one of {self.senses}")
        if self.batch % self.learners:
            raise ConfigError(f"batch {self.batch} must be a multiple of workers {self.workers}")

    @property
    def learners(self) -> int:
        """Among how many processes a batch is divided."""
        return 1 if chosen_device(self.device).type == "cuda" else self.workers
