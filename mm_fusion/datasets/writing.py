"""Folders of frames: written in parallel, taken up again where they were left."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mm_fusion.config import Config
from mm_fusion.datasets.frame import FORMAT, VARIANTS_FOLDER, read_frame, write_frame
from mm_fusion.datasets.kitti import KittiFolder
from mm_fusion.datasets.labelled_bag import read_bag
from mm_fusion.datasets.nuscenes import NuScenesFolder
from mm_fusion.datasets.pool import run_all
from mm_fusion.errors import ConfigError
from mm_fusion.sim.frames import FRAMES_PER_DRIVE, write_drive
from mm_fusion.sim.rigs import Wanted
from mm_fusion.sim.variants import VARIANTS, write_drive_variants

MANIFEST = "dataset.json"
_FOLDERS: dict[str, type[KittiFolder] | type[NuScenesFolder]] = {
    "kitti": KittiFolder,
    "nuscenes": NuScenesFolder,
}
VARIANT_FILES = f"{VARIANTS_FOLDER}/*/*.npz"
_CHUNK = 16  # frames of a folder that one job reads


class Job(Protocol):
    """A part of a folder, as it goes to a worker."""

    def run(self, out: Path) -> int:
        """Write what is missing of it; how many that were."""


@dataclass(frozen=True, slots=True)
class DriveJob:
    """The frames of one simulated drive."""

    drive: int
    frames: range
    seed: int
    wanted: Wanted

    def run(self, out: Path) -> int:
        """Simulate."""
        return write_drive(out, self.drive, self.frames, self.seed, self.wanted)


@dataclass(frozen=True, slots=True)
class VariantJob:
    """The frames of one simulated drive once more, under what goes wrong."""

    drive: int
    frames: range
    seed: int
    wanted: Wanted
    names: tuple[str, ...]

    def run(self, out: Path) -> int:
        """Simulate."""
        told = (self.drive, self.frames, self.seed, self.wanted, self.names)
        return write_drive_variants(out, *told)


@dataclass(frozen=True, slots=True)
class FolderJob:
    """Some frames of a KITTI or nuScenes folder."""

    kind: str
    folder: Path
    frames: range
    pixels: int

    def run(self, out: Path) -> int:
        """Convert."""
        missing = [n for n in self.frames if not frame_path(out, n).exists()]
        if missing:
            source = _FOLDERS[self.kind](self.folder, self.pixels)
            for number in missing:
                write_frame(frame_path(out, number), source.frame(number))
        return len(missing)


@dataclass(frozen=True, slots=True)
class BagJob:
    """A whole bag, which can only be read from its beginning."""

    bag: Path
    config: Config
    pixels: int
    limit: int

    def run(self, out: Path) -> int:
        """Convert."""
        written = 0
        for number, frame in enumerate(read_bag(self.bag, self.config, self.pixels)):
            if number >= self.limit:
                break
            if not frame_path(out, number).exists():
                write_frame(frame_path(out, number), frame)
                written += 1
        return written


def frame_path(out: Path, number: int) -> Path:
    """The file of a frame."""
    return out / f"{number:06d}.npz"


def sim_jobs(frames: int, seed: int, wanted: Wanted) -> list[Job]:
    """``frames`` simulated frames, a drive for each job."""
    if frames < 1 or seed < 0:
        raise ConfigError(f"frames must be 1 or more and seed 0 or more, got {frames} and {seed}")
    starts = range(0, frames, FRAMES_PER_DRIVE)
    return [
        DriveJob(k, range(first, min(first + FRAMES_PER_DRIVE, frames)), seed, wanted)
        for k, first in enumerate(starts)
    ]


def variant_jobs(folder: Path, limit: int, names: Sequence[str]) -> tuple[list[Job], int]:
    """Variants of the first ``limit`` frames of a simulated set, and of how many frames that is.

    Raises ConfigError where the folder holds no simulated set, or a name is not known.
    """
    made = read_manifest(folder)
    if made.get("source") != "sim":
        raise ConfigError(f"{folder}: variants can be made of simulated sets only")
    unknown = sorted(set(names) - set(VARIANTS))
    if unknown:
        known = ", ".join(VARIANTS)
        raise ConfigError(f"--only: {', '.join(unknown)}: no such variant; there are {known}")
    count = min(len(list(folder.glob("*.npz"))), limit)
    made.setdefault("country", 0.0)  # sets of before there was any
    wanted = Wanted(**{f.name: made[f.name] for f in fields(Wanted) if f.name in made})
    starts = range(0, count, FRAMES_PER_DRIVE)
    jobs: list[Job] = [
        VariantJob(
            k, range(n, min(n + FRAMES_PER_DRIVE, count)), made["seed"], wanted, tuple(names)
        )
        for k, n in enumerate(starts)
    ]
    return jobs, count


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a set is made of. Raises ConfigError where the folder does not say."""
    try:
        made = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: no set of frames: {MANIFEST}: {error}") from error
    return dict(made)


def folder_jobs(kind: str, folder: Path, limit: int, pixels: int) -> list[FolderJob]:
    """Up to ``limit`` frames of a KITTI or nuScenes folder (``kind``)."""
    count = min(len(_FOLDERS[kind](folder, pixels)), limit)
    return [
        FolderJob(kind, folder, range(first, min(first + _CHUNK, count)), pixels)
        for first in range(0, count, _CHUNK)
    ]


def claim(out: Path, options: dict[str, Any]) -> None:
    """Make the folder and note what it is made of. Raises ConfigError where it holds frames that
    were made of something else, or otherwise."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = out / MANIFEST
    made = {"format": FORMAT, **options}
    if manifest.exists():
        there = read_manifest(out)
        differing = sorted(k for k in {*there, *made} if there.get(k) != made.get(k))
        if differing:
            what = ", ".join(f"{k} {there.get(k)!r}, now {made.get(k)!r}" for k in differing)
            raise ConfigError(f"{out}: holds a set made with {what}; use another folder")
    elif any(out.glob("*.npz")):
        raise ConfigError(f"{out}: holds .npz files but no {MANIFEST}; use another folder")
    manifest.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def run_jobs(
    out: Path,
    jobs: Sequence[Job],
    workers: int,
    total: int,
    show: Callable[[float], None],
    pattern: str = "*.npz",
) -> dict[str, Any]:
    """Run all jobs in ``workers`` processes; ``show`` is told the share done of ``total`` frames.

    The answer says how many frames, files of ``pattern``, there are and how many of them are new.
    """
    begun = time.monotonic()

    def tick() -> None:
        show(min(sum(1 for _ in out.glob(pattern)) / max(total, 1), 0.99))

    written = sum(run_all([partial(job.run, out) for job in jobs], workers, tick))
    show(1.0)
    spent_s = time.monotonic() - begun
    files = sorted(out.glob(pattern))
    size = sum(f.stat().st_size for f in files)
    return {
        "folder": str(out),
        "frames": len(files),
        "written": written,
        "seconds": round(spent_s, 1),
        "frames_per_s": round(written / max(spent_s, 1e-9), 2),
        "kilobytes_per_frame": round(size / max(len(files), 1) / 1000.0, 1),
    }


def options_of(source: str, **more: Any) -> dict[str, Any]:
    """What a set is made of, as its manifest says it."""
    wanted = more.pop("wanted", None)
    return {
        "source": source,
        **({} if wanted is None else asdict(wanted)),
        **{k: str(v) if isinstance(v, Path) else v for k, v in more.items()},
    }


def survey(out: Path, every: int = 1) -> dict[str, Any]:
    """What a folder of frames holds: frames by device, weather and night, objects by class and
    how many of them the LIDAR sees, points a frame."""
    counts: dict[str, Counter[str]] = {
        "device": Counter(),
        "weather": Counter(),
        "night": Counter(),
    }
    objects: Counter[str] = Counter()
    points = []
    for path in sorted(out.glob("*.npz"))[::every]:
        frame = read_frame(path)
        for name, counter in counts.items():
            counter[str(frame.conditions.get(name))] += 1
        for label, hits in zip(frame.objects.labels, frame.objects.num_points, strict=True):
            objects[str(int(label))] += 1
            objects[f"{int(label)} with 5 points or more"] += int(hits >= 5)
        points.append(len(frame.cloud.xyz))
    points.sort()
    return {
        **{name: dict(sorted(counter.items())) for name, counter in counts.items()},
        "objects": dict(sorted(objects.items())),
        "points_median": points[len(points) // 2] if points else 0,
    }
