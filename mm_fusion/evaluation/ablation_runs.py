"""Networks over frames under faults, chunk by chunk, kept in files so that a run can go on.

What a chunk of frames answered under one condition is one small file. It is found again by the
network's checksum, the condition and the chunk, and thrown away where the frames have changed.
A network that sees one sense only is not run where a fault leaves that sense alone: its answers
are those of the clean frames.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

import mm_fusion
from mm_fusion.datasets.frame import VARIANTS_FOLDER, LabelledFrame, read_frame
from mm_fusion.evaluation.detection import CLASSES, THRESHOLDS_M, FrameMatch
from mm_fusion.evaluation.frame_faults import Condition, Sensed, apply, sensed_of
from mm_fusion.evaluation.frame_sets import SCOPES, FrameRunner, Setting, matches, truth_of
from mm_fusion.perception.contract import Contract
from mm_fusion.perception.network import read_contract

VERSION = 1  # of the files and of what is in them
CHUNK = 16  # frames; a simulated drive has as many

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one network said to some frames under one condition, held against the truth.

    For each of N detections (once per scope): ``frame`` index, ``scope`` index of SCOPES,
    ``label`` index of CLASSES, ``score``; ``hit`` and ``ignored`` bool [N, thresholds]. For each of
    F frames: ``took`` whether the condition fits it, ``positives`` [F, scopes, classes] objects to
    be found, ``drive`` the number of its drive, -1 where there is none.
    """

    frame: Ints
    scope: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    score: npt.NDArray[np.float64]
    hit: Bools
    ignored: Bools
    took: Bools
    positives: Ints
    drive: Ints

    @staticmethod
    def of(found: Sequence[dict[tuple[str, str], FrameMatch] | None], drive: Ints) -> Answers:
        """From the matches of each frame, None where the condition does not fit it."""
        rows: list[tuple[int, int, int, FrameMatch]] = []
        positives = np.zeros((len(found), len(SCOPES), len(CLASSES)), np.int64)
        for n, by_kind in enumerate(found):
            for (scope, name), match in (by_kind or {}).items():
                s, c = SCOPES.index(scope), CLASSES.index(name)
                positives[n, s, c] = match.positives
                rows.append((n, s, c, match))
        sizes = [len(m.scores) for *_, m in rows]
        none = np.zeros((0, len(THRESHOLDS_M)), bool)
        index = np.array([r[:3] for r in rows], np.int64).reshape(-1, 3).repeat(sizes, axis=0)
        return Answers(
            index[:, 0],
            index[:, 1].astype(np.uint8),
            index[:, 2].astype(np.uint8),
            np.concatenate([np.zeros(0), *(m.scores for *_, m in rows)]),
            np.concatenate([none, *(m.hits.T for *_, m in rows)]),
            np.concatenate([none, *(m.ignored.T for *_, m in rows)]),
            np.array([f is not None for f in found]),
            positives,
            drive,
        )

    @staticmethod
    def joined(parts: Sequence[Answers]) -> Answers:
        """The answers of chunks that follow each other."""
        starts = np.cumsum([0, *(len(p.took) for p in parts[:-1])])
        columns = {f.name: [getattr(p, f.name) for p in parts] for f in fields(Answers)}
        columns["frame"] = [p.frame + s for p, s in zip(parts, starts, strict=True)]
        return Answers(**{name: np.concatenate(values) for name, values in columns.items()})


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run: ``modes`` maps fused, camera and lidar to their networks.

    ``paths`` are the frames, of which the first ``fault_frames`` are also run under
    ``conditions``; ``clean`` is run on all. ``work`` is the folder of the files.
    """

    paths: tuple[Path, ...]
    modes: dict[str, Setting]
    clean: Condition
    conditions: tuple[Condition, ...]
    fault_frames: int
    work: Path

    def runs(self, mode: str, condition: Condition) -> bool:
        """Whether a mode's answers under a condition are its own, not those of the clean frames."""
        if condition.loses == mode:
            return False
        return mode == "fused" or condition.name == self.clean.name or mode in condition.touches

    def chunks(self, condition: Condition) -> list[range]:
        """The frames of a condition, in chunks."""
        count = len(self.paths)
        if condition.name != self.clean.name:
            count = min(count, self.fault_frames)
        return [range(k, min(k + CHUNK, count)) for k in range(0, count, CHUNK)]

    def file(self, mode: str, condition: Condition, chunk: range) -> Path:
        """Where a chunk's answers are kept."""
        setting = self.modes[mode]
        seen = f"{'c' * setting.use_camera}{'l' * setting.use_lidar}"
        network = f"{read_contract(setting.model).sha256[:16]}-{seen}"
        for stand_in in (setting.lidar, setting.camera):
            network += f"-{read_contract(stand_in).sha256[:8]}" if stand_in else ""
        name = re.sub(r"[^a-z0-9]+", "_", condition.name.lower())
        return self.work / network / name / f"{chunk.start:06d}-{len(chunk)}.npz"

    def files(self) -> list[Path]:
        """Every file that will be there in the end."""
        everything = (self.clean, *self.conditions)
        wanted = ((m, c) for c in everything for m in self.modes if self.runs(m, c))
        return [self.file(m, c, chunk) for m, c in wanted for chunk in self.chunks(c)]

    def answers(self, mode: str, condition: Condition) -> Answers:
        """What a mode answered under a condition, where it was run."""
        chunks = self.chunks(condition)
        return Answers.joined([_read(self.file(mode, condition, c)) for c in chunks])


@dataclass(frozen=True, slots=True)
class ChunkJob:
    """One chunk of frames under all conditions; it goes to a worker."""

    plan: Plan
    chunk: range

    def run(self) -> int:
        """Run what is missing; how many files that were."""
        cv2.setNumThreads(1)
        plan, written = self.plan, 0
        contract = read_contract(plan.modes["fused"].model)
        paths = [plan.paths[n] for n in self.chunk]
        frames: list[LabelledFrame] = []
        for condition in (plan.clean, *plan.conditions):
            for chunk in plan.chunks(condition):
                if chunk.start != self.chunk.start:
                    continue
                own = paths[: len(chunk)]
                mark = _mark(own, condition)
                modes = [m for m in plan.modes if plan.runs(m, condition)]
                missing = [m for m in modes if not _fits(plan.file(m, condition, chunk), mark)]
                if not missing:
                    continue
                frames = frames or [read_frame(path) for path in paths]
                changed = [_changed(condition, p, f) for p, f in zip(own, frames, strict=False)]
                for mode in missing:
                    answers = _answers(plan.modes[mode], changed, frames[: len(own)], contract)
                    _write(plan.file(mode, condition, chunk), answers, mark)
                    written += 1
        return written


def jobs(plan: Plan) -> list[ChunkJob]:
    """A plan's work, chunk by chunk."""
    return [ChunkJob(plan, chunk) for chunk in plan.chunks(plan.clean)]


_RUNNERS: dict[Setting, FrameRunner] = {}  # of this worker: opening a network takes a while


def _answers(
    setting: Setting,
    changed: Sequence[Sensed | None],
    frames: Sequence[LabelledFrame],
    contract: Contract,
) -> Answers:
    runner = _RUNNERS.get(setting)
    if runner is None:
        runner = _RUNNERS[setting] = FrameRunner(setting)
    found = [
        None
        if sensed is None
        else matches(runner.run(sensed), truth_of(frame, contract), frame, contract)
        for sensed, frame in zip(changed, frames, strict=True)
    ]
    drive = np.array([int(f.conditions.get("drive", -1)) for f in frames], np.int64)
    return Answers.of(found, drive)


def variant_path(path: Path, condition: Condition) -> Path:
    """Where the frame ``path`` lies as the condition's variant."""
    return path.parent / VARIANTS_FOLDER / condition.variant / path.name


def _changed(condition: Condition, path: Path, frame: LabelledFrame) -> Sensed | None:
    stored = None
    if condition.variant:
        other = variant_path(path, condition)
        stored = read_frame(other) if other.exists() else None
    return apply(condition, path.name, sensed_of(frame), stored)


def _mark(paths: Sequence[Path], condition: Condition) -> int:
    """A number that changes with the frames' files and with the code that answers."""
    text = [str(VERSION), _code_mark()]
    for path in paths:
        both = [path, variant_path(path, condition)] if condition.variant else [path]
        for file in both:
            there = file.stat() if file.exists() else None
            text.append(f"{file} {there and (there.st_size, there.st_mtime_ns)}")
    return zlib.crc32("\n".join(text).encode())


@lru_cache(maxsize=1)
def _code_mark() -> str:
    package = Path(mm_fusion.__file__).parent
    files = [*package.glob("perception/**/*.py"), *package.glob("evaluation/frame_*.py")]
    files.append(package / "evaluation" / "detection.py")
    return " ".join(f"{zlib.crc32(f.read_bytes()):x}" for f in sorted(files))


def _write(path: Path, answers: Answers, mark: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f.name: getattr(answers, f.name) for f in fields(Answers)}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, mark=np.array(mark), **arrays)
    partial.replace(path)


def _fits(path: Path, mark: int) -> bool:
    try:
        with np.load(path, allow_pickle=False) as data:
            return int(data["mark"]) == mark
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return False


def _read(path: Path) -> Answers:
    with np.load(path, allow_pickle=False) as data:
        return Answers(**{f.name: data[f.name] for f in fields(Answers)})
