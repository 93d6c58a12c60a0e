"""What killed processes leave in /dev/shm is found, named and removed; what lives is left alone."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.live import ROOT, environment

from mm_fusion import shared_memory
from mm_fusion.cli.processes import end_at_once
from mm_fusion.doctor.host import read_host

NODE = """
import sys
from mm_fusion.nodes import process
process.begin([])
import rclpy
node = rclpy.create_node("to_be_killed")
print("here", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def node(domain: int) -> subprocess.Popen[str]:
    """A process with a node of ours; the test ends it."""
    process = subprocess.Popen(
        [sys.executable, "-c", NODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(domain),
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def segment(lock: Path) -> Path:
    return lock.with_name(lock.name.removesuffix("_el"))


def test_a_killed_node_leaves_segments_that_are_found_and_removed(
    node: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a living node THEN its segments are not stale; WHEN it is killed THEN they are, as
    many bytes as our profile asks for; WHEN they are removed THEN nothing is left of them."""
    monkeypatch.setattr(shared_memory, "SETTLED_S", 0.0)
    locks = shared_memory.owned_by(node.pid)
    assert locks
    shared_memory.remove(locks)
    assert all(segment(lock).exists() for lock in locks)
    node.kill()
    node.wait()
    left = shared_memory.stale_segments()
    assert left.count >= len(locks)
    assert all(segment(lock).exists() for lock in locks)
    assert max(segment(lock).stat().st_size for lock in locks) > 128 << 20
    shared_memory.remove(locks)
    assert not any(lock.exists() or segment(lock).exists() for lock in locks)


def test_who_kills_a_node_cleans_up(node: subprocess.Popen[str]) -> None:
    """GIVEN a living node WHEN it is ended at once THEN its segments are gone with it."""
    locks = shared_memory.owned_by(node.pid)
    assert locks
    end_at_once(node)
    assert node.returncode == -9
    assert not any(lock.exists() or segment(lock).exists() for lock in locks)


def test_the_doctor_counts_what_nobody_holds(tmp_path: Path) -> None:
    """GIVEN a host with a segment whose owner is gone, one whose owner lives, one that is just
    being made, and a port WHEN the doctor reads it THEN the first one counts."""
    shm = tmp_path / "dev" / "shm"
    shm.mkdir(parents=True)
    names = [f"fastrtps_{n:016x}" for n in range(3)]
    for name in (*names, "fastrtps_port7411"):
        (shm / name).write_bytes(b"x" * 8192)
        (shm / f"{name}_el").touch()
    for name in (*names[:2], "fastrtps_port7411"):
        os.utime(shm / f"{name}_el", (1.0, 1.0))
    with (shm / f"{names[1]}_el").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        host = read_host({}, "", str(tmp_path))
    assert (host.stale_segments, host.stale_bytes) == (1, 8192)
