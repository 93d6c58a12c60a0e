#!/usr/bin/env python3
"""Train the fused network and those of one sense on the same frames, for so many minutes.

    .venv/bin/python scripts/train_together.py --minutes 120 --out out/together --simulators 6

Made for one GPU with many CPU cores: some processes simulate frames all the while, some load them
and bend them once for all three networks, and each network learns in a process of its own. So all
have the same budget by construction: the same versions of the same frames, in as many steps, a few
at the end aside. The rate falls over the last part of the time, however many steps go into it.
OUT/fused, OUT/lidar and OUT/camera receive what ``mm_fusion train`` writes; ``mm_fusion export``
goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mm_fusion.errors import MmFusionError, StageError
from mm_fusion.training import train
from mm_fusion.training.augment import Augmentation
from mm_fusion.training.dataset import Batch, make_batches
from mm_fusion.training.frames import load_frame
from mm_fusion.training.grid import Grid
from mm_fusion.training.loading import ahead
from mm_fusion.training.network_torch import SENSES
from mm_fusion.training.settings import DEVICES, TrainSettings, chosen_device

LOOK_S = 3.0  # between looks for new frames
DECAY_SHARE = 0.65  # of the time, at its end
SAVE_EVERY_S = 60.0
ENOUGH_TO_BEGIN = 64  # frames
ENDLESS = 200_000  # frames: more than anybody waits for


@dataclass(frozen=True)
class Plan:
    """What all processes know."""

    out: Path
    frames: tuple[Path, ...]  # folders, which may still be filled
    seconds: float
    loaders: int
    kept: int  # frames in memory, over all loaders
    settings: dict[str, TrainSettings]


def frames_now(folders: Sequence[Path]) -> list[Path]:
    """All frames that are there by now."""
    return frames_of(0, 1, folders)


def frames_of(rank: int, loaders: int, folders: Sequence[Path]) -> list[Path]:
    """Those of one loader, which keeps them in its memory."""
    return [path for folder in folders for path in sorted(folder.glob("*.npz"))[rank::loaders]]


def load(rank: int, plan: Plan, queues: list[Any], over: Any) -> None:
    """Every ``loaders``-th step's batches, until all is over. Which frames a step gets is random,
    among those there are."""
    torch.set_num_threads(1)
    step, paths, looked_s = rank, [], -LOOK_S
    read = functools.lru_cache(plan.kept // plan.loaders)(load_frame)
    settings = list(plan.settings.values())
    senses = [s.senses for s in settings]
    while not over.is_set():
        if time.monotonic() - looked_s > LOOK_S:
            paths = frames_of(rank, plan.loaders, plan.frames)
            looked_s = time.monotonic()
        rng = np.random.default_rng([settings[0].seed, 3, step])
        mine = [paths[n] for n in rng.integers(0, len(paths), settings[0].batch)]
        for ready, batch in zip(
            queues, make_batches(mine, Augmentation(), Grid(), rng, senses, read), strict=True
        ):
            hand_over(ready, batch, over)
        step += plan.loaders


def hand_over(ready: Any, batch: Batch, over: Any) -> None:
    """Wait for a place in the queue, or for the end."""
    while not over.is_set():
        try:
            ready.put(batch, timeout=0.5)
        except queue.Full:
            continue
        return


def at_share(settings: TrainSettings, step: int, share: float) -> TrainSettings:
    """Settings whose rate at ``step`` is that of a run of which ``share`` (0..1) is over."""
    steps = max(step + 1, round(step / max(share, 1e-3)))
    return replace(settings, steps=steps, decay_steps=max(1, round(DECAY_SHARE * steps)))


def learn(name: str, plan: Plan, ready: Any, together: Any) -> None:
    """One network, until the time is over."""
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    settings, out = plan.settings[name], plan.out / name
    out.mkdir(parents=True, exist_ok=True)
    (out / train.LOG).write_text("")
    state = train.new_state(settings)
    state.net.train()
    device = chosen_device(settings.device)
    first: Batch = ready.get()
    together.wait()  # the time begins when the slowest of them has its weights and frames
    begun_s, saved_s = time.monotonic(), 0.0

    def save() -> None:
        spent, count = replace(settings, steps=state.step), len(frames_now(plan.frames))
        train.save_checkpoint(out / train.CHECKPOINT, state, spent, count)

    taken = itertools.chain([first], until(begun_s + plan.seconds, ready))
    for batch in ahead(b.tensors(lambda t: t.to(device)) for b in taken):
        state.duration_s = time.monotonic() - begun_s
        now = at_share(settings, state.step, state.duration_s / plan.seconds)
        value = train.one_step(state, batch, now)
        if state.step % train.LOG_EVERY_STEPS == 0:
            train.log_line(out, state, now, value)
        if state.duration_s - saved_s > SAVE_EVERY_S:
            save()
            saved_s = state.duration_s
    save()


def until(end_s: float, ready: Any) -> Iterator[Batch]:
    """Batches until the time is over: whoever ends no longer takes any, and then the others get
    none either."""
    while (left_s := end_s - time.monotonic()) > 0.0:
        with contextlib.suppress(queue.Empty):
            yield ready.get(timeout=min(left_s, 1.0))


def run(plan: Plan) -> dict[str, Any]:
    """All processes; what became of the networks."""
    context = torch.multiprocessing.get_context("spawn")
    over, together = context.Event(), context.Barrier(len(plan.settings))
    queues = [context.Queue(maxsize=plan.loaders) for _ in plan.settings]
    loaders = [
        context.Process(target=load, args=(rank, plan, queues, over), daemon=True)
        for rank in range(plan.loaders)
    ]
    learners = {
        name: context.Process(target=learn, args=(name, plan, ready, together), daemon=True)
        for name, ready in zip(plan.settings, queues, strict=True)
    }
    everybody = [*loaders, *learners.values()]
    for process in everybody:
        process.start()
    try:
        watch(loaders, learners)
    finally:
        over.set()
        for process in everybody:
            process.kill()
    return {
        name: {k: saved[k] for k in ("step", "frames", "duration_s")}
        for name in plan.settings
        for saved in [train.read_checkpoint(plan.out / name / train.CHECKPOINT)]
    }


def watch(loaders: list[Any], learners: dict[str, Any]) -> None:
    """Wait for the learners. Raises StageError where a process ends that should not."""
    while any(p.exitcode is None for p in learners.values()):
        for name, process in learners.items():
            if process.exitcode not in (None, 0):
                raise StageError(f"{name}: its process ended with {process.exitcode}")
        if any(p.exitcode is not None for p in loaders):
            raise StageError("a process that loads frames ended")
        time.sleep(0.2)


def simulators(args: argparse.Namespace) -> subprocess.Popen[bytes] | None:
    """The processes that simulate, as the command that people call."""
    if args.simulators == 0:
        return None
    command = [sys.executable, "-m", "mm_fusion.cli.main", "dataset", "--sim"]
    command += ["--frames", str(ENDLESS), "--seed", str(args.seed), "--out", str(args.frames[0])]
    command += ["--workers", str(args.simulators)]
    return subprocess.Popen(command, start_new_session=True)


def end_with_workers(source: subprocess.Popen[bytes]) -> None:
    """Kill a command and the processes that it started; it is the first of its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(source.pid, signal.SIGKILL)
    source.wait()


def await_frames(folders: Sequence[Path], source: subprocess.Popen[bytes] | None) -> None:
    """Wait for enough frames to begin with. Raises StageError where they cannot come."""
    while len(frames_now(folders)) < ENOUGH_TO_BEGIN:
        if source is None or source.poll() is not None:
            told = ", ".join(map(str, folders))
            raise StageError(f"{told}: fewer than {ENOUGH_TO_BEGIN} frames, and nobody makes more")
        time.sleep(0.5)


def parser() -> argparse.ArgumentParser:
    """The options."""
    head, _, rest = (__doc__ or "").partition("\n")
    made = argparse.ArgumentParser(
        description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--minutes", type=float, required=True, help="how long the networks learn")
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--frames", type=Path, nargs="+", help="folders of frames (OUT/frames)")
    made.add_argument("--simulators", type=int, default=0, help="processes that fill the first one")
    made.add_argument("--loaders", type=int, default=7, help="processes that load (7)")
    made.add_argument(
        "--kept-frames", type=int, default=8000, help="frames kept in memory, 3 MB each (8000)"
    )
    made.add_argument("--networks", nargs="+", choices=SENSES, default=list(SENSES))
    made.add_argument("--batch", type=int, default=16, help="frames per step (16)")
    made.add_argument("--learning-rate", type=float, default=2e-3)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", choices=DEVICES, default="auto")
    made.add_argument("--train-late-trunk", action="store_true", help="as for mm_fusion train")
    for name in ("teacher", "expert"):
        what = "as for mm_fusion train: the fused one's"
        made.add_argument(f"--{name}", default="", metavar="CHECKPOINT", help=what)
    for name in SENSES:
        what = f"checkpoints from which the {name} network starts"
        made.add_argument(f"--init-{name}", nargs="*", default=[], help=what)
    return made


def plan_of(args: argparse.Namespace) -> Plan:
    """The options as a plan."""
    common = {"batch": args.batch, "workers": 1, "seed": args.seed, "device": args.device}
    settings = {
        name: TrainSettings(
            **common,
            learning_rate=args.learning_rate,
            senses=name,
            train_late_trunk=args.train_late_trunk and name != "lidar",
            init=tuple(getattr(args, f"init_{name}")),
            teacher=args.teacher if name == "fused" else "",
            expert=args.expert if name == "fused" else "",
        )
        for name in args.networks
    }
    seconds = 60.0 * args.minutes
    return Plan(args.out, tuple(args.frames), seconds, args.loaders, args.kept_frames, settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, train, print."""
    args = parser().parse_args(argv)
    args.frames = args.frames or [args.out / "frames"]
    source = None
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of every process here: they fill the cores
    try:
        plan = plan_of(args)
        source = simulators(args)
        await_frames(plan.frames, source)
        print(json.dumps(run(plan), indent=1))
    except MmFusionError as error:
        print(f"train_together: {error}", file=sys.stderr)
        return 2
    finally:
        if source is not None:
            end_with_workers(source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
