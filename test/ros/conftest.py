"""Every test in this folder talks DDS in a domain of its own, on this machine only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from support.domains import own_domain
from support.live import ROOT, Bench


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ros)


@pytest.fixture(scope="session", autouse=True)
def _large_messages() -> Iterator[None]:
    """The bench's own process needs the profile too, before its first node."""
    given = dict(os.environ)
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    yield
    os.environ.clear()
    os.environ.update(given)


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS domain that nobody else on this machine uses meanwhile."""
    with own_domain() as leased:
        yield leased


@pytest.fixture
def bench(domain: int) -> Iterator[Bench]:
    """A node of the test's own in its domain."""
    with Bench(domain) as made:
        yield made
