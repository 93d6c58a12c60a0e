"""``mm_fusion bench sync``: what it reports, in small."""

from __future__ import annotations

import argparse
import sys
from types import ModuleType
from typing import Any

import pytest

from mm_fusion.bench import sync

ARGS = argparse.Namespace(seed=1, seconds=3.0, peer_seconds=0.2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "TOPICS", (3,))
    monkeypatch.setattr(sync, "QUEUES", (10,))
    monkeypatch.setattr(sync, "ROBOTS", {"3_topics": (1, 2, "lidar0", 60.0)})


def test_without_the_peer_it_says_that_the_comparison_was_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "message_filters", None)  # import fails
    result = sync.run(ARGS)
    case = result["cost"]["3_topics_queue_10"]
    assert case["ours"]["messages"] > 150
    assert 0.0 < case["ours"]["median_us"] < 10_000.0
    assert 25 <= case["ours"]["sets"] <= 31
    assert "message_filters cannot be imported" in result["cost"]["skipped"]
    assert "peer" not in case
    oracle = result["oracle"]["3_topics"]
    assert oracle["references"] == oracle["answered"] == oracle["equal_to_oracle"] > 500
    assert oracle["different"] == 0
    waits = result["waits"]
    assert 0.0 <= waits["mean_ms"] < waits["max_ms"] <= waits["camera_period_ms"]


def test_where_the_peer_is_there_both_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a synchronizer of that name that pairs every message of the first topic with nothing
    class Filter:
        def __init__(self) -> None:
            self.callbacks: list[Any] = []

        def signalMessage(self, message: Any) -> None:
            for callback in self.callbacks:
                callback(message)

    class Pairs(Filter):
        def __init__(self, filters: list[Filter], queue_size: int, slop: float) -> None:
            super().__init__()
            assert (len(filters), queue_size, slop) == (3, 10, 0.06)
            filters[0].callbacks.append(lambda m: self.callback(m, m, m))

        def registerCallback(self, callback: Any) -> None:
            self.callback = callback

    stand_in = ModuleType("message_filters")
    stand_in.SimpleFilter = Filter  # type: ignore[attr-defined]
    stand_in.ApproximateTimeSynchronizer = Pairs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "message_filters", stand_in)
    pytest.importorskip("std_msgs")
    # THEN both got the same messages, and the ratio is told
    case = sync.run(ARGS)["cost"]["3_topics_queue_10"]
    assert case["peer"]["messages"] == case["ours"]["messages"]
    assert case["peer"]["sets"] == pytest.approx(30, abs=4)
    assert case["peer"]["median_dt_ms"] == 0.0
    assert case["ratio"] == round(case["ours"]["median_us"] / case["peer"]["median_us"], 4)
