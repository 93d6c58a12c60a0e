"""Tests here that talk DDS do so as those in test/ros do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.domains import own_domain


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS domain that nobody else on this machine uses meanwhile."""
    with own_domain() as leased:
        yield leased


@pytest.fixture
def bench(domain: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A node of the test's own in its domain."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from support.live import ROOT, Bench

    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with Bench(domain) as made:
        yield made
