"""Tests here that talk DDS do so as those in test/ros do."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Not those of test/ros, which may run beside.
_domains = iter([20 + (os.getpid() * 7 + 40 + i) % 80 for i in range(40)])


@pytest.fixture
def domain() -> int:
    """A ROS domain that no other test of this run uses."""
    return next(_domains)


@pytest.fixture
def bench(domain: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A node of the test's own in its domain."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from support.live import ROOT, Bench

    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with Bench(domain) as made:
        yield made
