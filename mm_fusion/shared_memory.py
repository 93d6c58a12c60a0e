"""Fast DDS' segments of shared memory: those that nobody owns any more, and those of a process.

A participant makes ``fastrtps_<16 digits>`` and holds a lock on ``fastrtps_<16 digits>_el`` for as
long as it lives (``fastdds shm clean`` looks at the same). A process that is killed cannot remove
them; with our profile each takes 128 MiB until somebody does. The files of its ports are left
alone: they are small, and the next participant with that port takes them over.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/dev/shm")
LOCK = re.compile(r"fastrtps_[0-9a-f]{16}_el")
# A younger one may be on the way between being made and being locked.
SETTLED_S = 2.0


@dataclass(frozen=True, slots=True)
class Stale:
    """What is left of processes that could not clean up: how many segments, of how many bytes."""

    count: int = 0
    total_bytes: int = 0


def stale_segments(folder: Path = FOLDER) -> Stale:
    """The segments without a living owner, as far as this user may look."""
    count = total_bytes = 0
    for lock in _locks(folder):
        try:
            if time.time() - lock.stat().st_mtime > SETTLED_S and _is_free(lock):
                total_bytes += _segment(lock).stat().st_blocks * 512
                count += 1
        except OSError:
            continue  # removed meanwhile, or another user's
    return Stale(count, total_bytes)


def owned_by(pid: int, folder: Path = FOLDER) -> list[Path]:
    """The locks that a living process of this user holds on segments of its own."""
    found = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = Path(os.readlink(entry))
            if target.parent == folder and LOCK.fullmatch(target.name):
                found.append(target)
    except OSError:
        return found  # it has just ended
    return found


def remove(locks: list[Path]) -> None:
    """Remove the segments of a process that has ended. What is locked again stays."""
    for lock in locks:
        try:
            if _is_free(lock):
                _segment(lock).unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
        except FileNotFoundError:
            continue


def _locks(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if LOCK.fullmatch(path.name)]


def _segment(lock: Path) -> Path:
    return lock.with_name(lock.name.removesuffix("_el"))


def _is_free(lock: Path) -> bool:
    """Whether nobody holds it. Asking takes it for a moment, shared."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
