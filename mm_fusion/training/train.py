"""Training: ``mm_fusion train --frames DIR --out DIR``.

On a CPU several processes each take their share of every batch and average their gradients (gloo),
which beats several threads in one process; on a GPU one process learns, and the others prepare its
batches. Everything random follows from (seed, step, rank), so a run that is stopped and taken up
with ``--resume`` ends, on a CPU, in the same weights as one that was not. ``--senses lidar`` and
``--senses camera`` train the network of one sense alone; ``--init`` starts from their weights, or
from any other checkpoint's; ``--teacher`` holds the fused network to what a LIDAR network says
where points are all there is to go by; ``--expert`` gives it a LIDAR network as its second
opinion, kept as it is; ``--without`` leaves parts of the network out. ``out``
receives ``checkpoint.pt`` (the last one, replaced whole), ``log.jsonl`` and ``curves.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from mm_fusion.errors import StageError
from mm_fusion.evaluation.curves import draw_curves
from mm_fusion.training.dataset import Batch
from mm_fusion.training.encoders import LITE0
from mm_fusion.training.frames import list_frames
from mm_fusion.training.loading import batches
from mm_fusion.training.losses import Losses, losses, points_alone, taught_loss
from mm_fusion.training.network_torch import SENSES, FusionNet, Maps
from mm_fusion.training.parts import PARTS, leave_out
from mm_fusion.training.settings import DEVICES, TrainSettings, chosen_device

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
LOG_EVERY_STEPS = 20
LATE_TRUNK_RATE = 0.3  # of the learning rate: what ImageNet taught is not to be lost


@dataclass
class TrainResult:
    """What a run came to."""

    checkpoint: Path
    steps: int
    frames: int
    loss: float
    duration_s: float


@dataclass
class State:
    """All that a checkpoint holds besides the settings."""

    net: FusionNet
    average: dict[str, torch.Tensor]
    optimizer: torch.optim.Optimizer
    teacher: FusionNet | None = None
    step: int = 0
    duration_s: float = 0.0


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Warm-up, a plateau, and a linear fall to zero at the last step."""
    rise = (step + 1) / max(1, settings.warmup_steps)
    fall = (settings.steps - step) / settings.decay_steps
    return settings.learning_rate * min(1.0, rise, fall)


def new_state(settings: TrainSettings, empty: bool = False) -> State:
    """Weights from the seed, from ImageNet for the trunk, and from ``settings.init``; ``empty``
    leaves out the last two, for a state that a checkpoint is about to fill."""
    torch.manual_seed(settings.seed)
    trunk = settings.fresh_encoder or any(map(brings_trunk, () if empty else settings.init))
    net = FusionNet(
        senses=settings.senses, encoder=settings.encoder, pretrained=not (trunk or empty)
    )
    for part in settings.without:
        leave_out(net, part)
    for path in () if empty else settings.init:
        take_weights(net, Path(path))
    if not (settings.train_trunk or settings.fresh_encoder):
        net.freeze_trunk(but_late=settings.train_late_trunk)
    # a quarter faster on CPUs
    if settings.expert:
        net.freeze_expert()
        if not empty:
            take_expert(net, Path(settings.expert))
    net = net.to(chosen_device(settings.device), memory_format=torch.channels_last)
    learned = [p for p in net.parameters() if p.requires_grad]
    late_learns = settings.train_late_trunk and settings.senses != "lidar"
    slow = set(net.image.trunk.parameters()) if late_learns else set()
    groups = [
        {
            "params": [p for p in learned if (p.ndim > 1) == wide and (p in slow) == late],
            "weight_decay": settings.weight_decay if wide else 0.0,
            "share": LATE_TRUNK_RATE if late else 1.0,
        }
        for late in ((False, True) if slow else (False,))
        for wide in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    average = {name: value.clone() for name, value in net.state_dict().items()}
    return State(net, average, optimizer, teacher_of(settings))


def teacher_of(settings: TrainSettings) -> FusionNet | None:
    """The LIDAR network that teaches, ready to answer; None without one. Raises StageError where
    there is another network, or none."""
    if not settings.teacher:
        return None
    net = lidar_network(Path(settings.teacher)).requires_grad_(False)
    return net.to(chosen_device(settings.device), memory_format=torch.channels_last)


def lidar_network(path: Path) -> FusionNet:
    """The LIDAR network of a checkpoint, ready to answer. Raises StageError where there is another
    one, or none."""
    saved = read_checkpoint(path)
    if saved["settings"]["senses"] != "lidar":
        raise StageError(f"{path}: a teacher or an expert is a LIDAR network")
    return averaged_network(saved)


def take_expert(net: FusionNet, path: Path) -> None:
    """Make the points' expert what a LIDAR network is. It has no use for weights of what comes from
    pictures, the last channels of two convolutions, which a LIDAR network finds empty."""
    own = net.expert.state_dict()
    taken = {
        name: value[:, : own[name].shape[1]] if value.ndim > 1 else value
        for name, value in lidar_network(path).state_dict().items()
        if name in own
    }
    net.expert.load_state_dict(taken, strict=False)


EYES = ("image.", "lift.", "bev.join.image.")
CURVES = ("score_scale", "score_shift")  # of what was trained before; other scores, other curves


def brings_trunk(path: str) -> bool:
    """Whether a checkpoint holds an image trunk, so that ImageNet's is not needed."""
    return any(name.startswith("image.trunk.") for name in read_checkpoint(Path(path))["average"])


def take_weights(net: FusionNet, path: Path) -> None:
    """Start from a checkpoint's averaged weights: a network with both senses takes from one with
    the camera alone what leads up to the bird's-eye view, otherwise everything that both have.

    Raises StageError when the checkpoint has none of it.
    """
    saved = read_checkpoint(path)
    only_eyes = saved["settings"]["senses"] == "camera" and net.senses == "fused"
    ours = net.state_dict()
    taken = {
        name: value
        for name, value in saved["average"].items()
        if name in ours
        and name not in CURVES
        and ours[name].shape == value.shape
        and (name.startswith(EYES) or not only_eyes)
    }
    if not taken:
        raise StageError(f"{path}: nothing in it fits this network")
    net.load_state_dict(taken, strict=False)


def save_checkpoint(path: Path, state: State, settings: TrainSettings, frames: int) -> None:
    """Write the state beside ``path`` and move it there, so that a reader never sees half."""
    half = path.with_suffix(".tmp")
    torch.save(
        {
            "settings": asdict(settings),
            "frames": frames,
            "step": state.step,
            "duration_s": state.duration_s,
            "net": state.net.state_dict(),
            "average": state.average,
            "optimizer": state.optimizer.state_dict(),
        },
        half,
    )
    os.replace(half, path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's contents. Raises StageError when there is none."""
    if not path.is_file():
        raise StageError(f"{path}: no checkpoint there")
    return torch.load(path, map_location="cpu", weights_only=True)


def averaged_network(saved: dict[str, Any]) -> FusionNet:
    """The network of a checkpoint's averaged weights, without what it was trained without, ready
    to answer. Raises StageError where it is one of another architecture."""
    settings = saved["settings"]
    net = FusionNet(senses=settings["senses"], encoder=settings["encoder"])
    for part in settings.get("without", ()):
        leave_out(net, part)
    try:
        net.load_state_dict(saved["average"])
    except RuntimeError as error:
        told = " ".join(str(error).split())[:300]
        raise StageError(f"the checkpoint is one of another network: {told}") from error
    return net.eval()


def restore(state: State, path: Path) -> None:
    """Take up the run that wrote ``path``."""
    saved = read_checkpoint(path)
    state.net.load_state_dict(saved["net"])
    for name, value in saved["average"].items():
        state.average[name].copy_(value)
    state.optimizer.load_state_dict(saved["optimizer"])
    state.step, state.duration_s = saved["step"], saved["duration_s"]


def average_over_processes(net: nn.Module, workers: int) -> None:
    """Make gradients and batch-norm statistics the mean over all processes."""
    if workers == 1:
        return
    learned = [p for p in net.parameters() if p.requires_grad]
    parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in learned]
    parts += [b for name, b in net.named_buffers() if "running_" in name]
    flat = torch.cat([part.reshape(-1) for part in parts])
    dist.all_reduce(flat)
    flat /= workers
    at = 0
    for part in parts:
        part.copy_(flat[at : at + part.numel()].reshape(part.shape))
        at += part.numel()


def update_average(state: State, decay: float) -> None:
    """Move the averaged weights towards the present ones; batch-norm statistics are copied."""
    keep = min(decay, (1.0 + state.step) / (10.0 + state.step))
    slow: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for name, value in state.net.state_dict().items():
        if value.dtype.is_floating_point and "running_" not in name:
            slow[0].append(state.average[name])
            slow[1].append(value)
        else:
            state.average[name].copy_(value)
    torch._foreach_lerp_(*slow, 1.0 - keep)  # one call for all: four hundred would cost a GPU


def lesson(state: State, batch: Batch, maps: Maps, bfloat16: bool) -> torch.Tensor | None:
    """What the answers of the teacher cost, if there is one."""
    if state.teacher is None:
        return None
    kind = batch.points.device.type
    with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=bfloat16):
        told = state.teacher(*batch.inputs()).heat
    alone = points_alone(batch, state.net.grid)
    return taught_loss(maps.heat, told, alone, (batch.targets.heat == 1.0).sum())


def one_step(state: State, batch: Batch, settings: TrainSettings) -> Losses:
    """Forward, backward, average, update."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(settings, state.step) * group.get("share", 1.0)
    kind = next(state.net.parameters()).device.type
    with torch.autocast(kind, torch.bfloat16, enabled=settings.bfloat16):
        maps = state.net(*batch.inputs())
    value = losses(maps, batch, lesson(state, batch, maps, settings.bfloat16))
    state.optimizer.zero_grad(set_to_none=True)
    value.total.backward()
    with torch.no_grad():
        average_over_processes(state.net, settings.learners)
    norm = nn.utils.clip_grad_norm_(state.net.parameters(), settings.clip_norm)
    if not torch.isfinite(norm):
        raise StageError(f"step {state.step}: the gradient is not finite; training stopped")
    state.optimizer.step()
    state.step += 1
    with torch.no_grad():
        update_average(state, settings.ema)
    return value


def log_line(out: Path, state: State, settings: TrainSettings, value: Losses) -> None:
    """One JSON line to the log and one line to the terminal."""
    line = {
        "step": state.step,
        "frames": state.step * settings.batch,
        "loss": round(value.total.item(), 4),
        "heat": round(value.heat.item(), 4),
        "boxes": round(value.boxes.item(), 4),
        "spread": round(value.spread.item(), 4),
        "segmentation": round(value.segmentation.item(), 4),
        "depth": round(value.depth.item(), 4),
        "taught": round(value.taught.item(), 4),
        "learning_rate": round(learning_rate(settings, state.step - 1), 7),
        "duration_s": round(state.duration_s, 1),
    }
    with (out / LOG).open("a") as file:
        file.write(json.dumps(line) + "\n")
    shown = ("loss", "heat", "boxes", "spread", "segmentation", "depth", "taught")
    values = "  ".join(f"{name} {line[name]:.3f}" for name in shown)
    print(f"step {state.step:6d}/{settings.steps}  {values}  {state.duration_s:.0f} s", flush=True)


def worker(
    rank: int, settings: TrainSettings, paths: list[Path], out: Path, resume: bool, meeting: str
) -> None:
    """One training process; rank 0 also writes the log and the checkpoints."""
    torch.set_num_threads(settings.threads)
    if settings.learners > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=settings.learners
        )
    state = new_state(settings, empty=resume)
    if resume:
        restore(state, out / CHECKPOINT)
    state.net.train()
    began = time.monotonic() - state.duration_s
    saved_s = state.duration_s
    for batch in batches(paths, settings, state.net.grid, rank, state.step):
        value = one_step(state, batch, settings)
        state.duration_s = time.monotonic() - began
        if rank != 0:
            continue
        if state.step % LOG_EVERY_STEPS == 0 or state.step == settings.steps:
            log_line(out, state, settings, value)
        if state.duration_s - saved_s > settings.checkpoint_s or state.step == settings.steps:
            save_checkpoint(out / CHECKPOINT, state, settings, len(paths))
            draw_curves(out / LOG)
            saved_s = state.duration_s
    if settings.learners > 1:
        dist.destroy_process_group()


def train(
    frames: Path, out: Path, settings: TrainSettings | None = None, resume: bool = False
) -> TrainResult:
    """Train on the frames of a folder; returns where the checkpoint is and how it went.

    Raises StageError when there are no frames, or nothing to resume.
    """
    settings = settings or TrainSettings()
    paths = list_frames(frames)
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        read_checkpoint(out / CHECKPOINT)
    else:
        (out / LOG).write_text("")
    if settings.learners == 1:
        worker(0, settings, paths, out, resume, "")
    else:
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(
                worker,
                args=(settings, paths, out, resume, str(Path(folder) / "meeting")),
                nprocs=settings.learners,
            )
    saved = read_checkpoint(out / CHECKPOINT)
    lines = (out / LOG).read_text().splitlines()
    last = json.loads(lines[-1])["loss"] if lines else float("nan")
    return TrainResult(out / CHECKPOINT, saved["step"], len(paths), last, saved["duration_s"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mm_fusion train``; defaults are those of TrainSettings."""
    default = TrainSettings()
    parser.add_argument("--frames", type=Path, required=True, help="folder of training frames")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--steps", type=int, default=default.steps, help="optimiser steps in all")
    parser.add_argument("--batch", type=int, default=default.batch, help="frames per step")
    parser.add_argument(
        *("--workers",),
        type=int,
        default=default.workers,
        help="processes that learn (on a CPU) or prepare batches (for a GPU)",
    )
    parser.add_argument("--device", choices=DEVICES, default=default.device)
    parser.add_argument("--threads", type=int, default=default.threads, help="threads in each")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate)
    parser.add_argument(
        "--decay-steps",
        type=int,
        default=default.decay_steps,
        help="steps at the end over which the learning rate falls to zero",
    )
    add_network_arguments(parser, default)
    parser.add_argument("--float32", action="store_true", help="do not compute in bfloat16")


def add_network_arguments(parser: argparse.ArgumentParser, default: TrainSettings) -> None:
    """What learns, and from where."""
    parser.add_argument("--senses", choices=SENSES, default=default.senses)
    parser.add_argument(
        "--encoder", default=default.encoder, help=f"{LITE0}, or timm:NAME (pip install timm)"
    )
    parser.add_argument(
        "--fresh-encoder", action="store_true", help="no ImageNet weights; the trunk learns"
    )
    parser.add_argument("--train-trunk", action="store_true", help="the image trunk learns, too")
    parser.add_argument(
        "--train-late-trunk",
        action="store_true",
        help="the image trunk learns beyond stride 8, with its statistics kept",
    )
    parser.add_argument(
        "--init", nargs="*", default=[], help="checkpoints to take weights from at the start"
    )
    parser.add_argument(
        "--withheld",
        nargs=2,
        type=float,
        default=default.withheld,
        metavar=("PICTURES", "POINTS"),
        help="shares of the frames in which the fused network goes without one sense",
    )
    parser.add_argument(
        "--teacher",
        default="",
        metavar="CHECKPOINT",
        help="a LIDAR network that the fused one learns from where points are all there is",
    )
    parser.add_argument(
        "--expert",
        default="",
        metavar="CHECKPOINT",
        help="a LIDAR network that is the fused one's expert of points, and stays as it is",
    )
    parser.add_argument(
        "--without",
        nargs="*",
        choices=PARTS,
        default=[],
        help="parts to leave out, to learn what they are worth",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """``mm_fusion train``: the result as plain values."""
    settings = TrainSettings(
        steps=args.steps,
        batch=args.batch,
        workers=args.workers,
        device=args.device,
        threads=args.threads,
        seed=args.seed,
        learning_rate=args.learning_rate,
        decay_steps=args.decay_steps,
        bfloat16=not args.float32,
        senses=args.senses,
        encoder=args.encoder,
        fresh_encoder=args.fresh_encoder,
        train_trunk=args.train_trunk,
        train_late_trunk=args.train_late_trunk,
        init=tuple(args.init),
        withheld=tuple(args.withheld),
        teacher=args.teacher,
        expert=args.expert,
        without=tuple(args.without),
    )
    result = train(args.frames, args.out, settings, resume=args.resume)
    return {**asdict(result), "checkpoint": str(result.checkpoint)}


def main() -> None:
    """``python -m mm_fusion.training.train``: the same command without the rest of the CLI."""
    parser = argparse.ArgumentParser(description="Train the fusion network.")
    add_arguments(parser)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
