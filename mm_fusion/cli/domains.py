"""A ROS domain for one process on this machine, leased so that no two processes share one."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mm_fusion.errors import StageError

# Fast DDS' ports by the RTPS standard; above domain 101 they meet the kernel's ephemeral ports.
_PORT_BASE, _PORT_GAIN, _FIRST_UNICAST = 7400, 250, 10
# Not 0: there is everybody who did not choose.
DOMAINS = range(1, 102)
_held: list[int] = []


def free_domain() -> int:
    """A ROS domain (1 .. 101) in which nobody on this machine is, until this process ends.

    Who asks here never meets another who did: a lock on a file per domain, in the folder for
    temporary files, is held. Others are noticed by their ports. StageError where all are taken.
    """
    domain, lock = _take(_shuffled())
    _held.append(lock)
    return domain


@contextmanager
def leased_domain(order: Iterable[int] = ()) -> Iterator[int]:
    """As :func:`free_domain`, given back at the end. ``order``: which ones to try, and how."""
    domain, lock = _take(order or _shuffled())
    try:
        yield domain
    finally:
        os.close(lock)


def _shuffled() -> list[int]:
    domains = list(DOMAINS)
    random.Random(os.getpid() ^ time.time_ns()).shuffle(domains)
    return domains


def _take(order: Iterable[int]) -> tuple[int, int]:
    """The first free domain, and the open file that holds it."""
    for domain in order:
        lock = _lock(Path(tempfile.gettempdir()) / f"ros_domain_{domain}.lock")
        if lock is None:
            continue
        if _silent(domain):
            return domain, lock
        os.close(lock)
    raise StageError("no free ROS domain on this machine")


def _lock(path: Path) -> int | None:
    """Open and lock a file; None where somebody holds it. Whose file it is does not matter."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _silent(domain: int) -> bool:
    """Whether the first participant's port of a domain is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", _PORT_BASE + _PORT_GAIN * domain + _FIRST_UNICAST))
        except OSError:
            return False
        return True
