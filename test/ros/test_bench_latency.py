"""The latency bench from end to end: a short run in processes of its own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from perception import scenes

from mm_fusion.bench import latency, tape
from mm_fusion.errors import ConfigError


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    latency.add_arguments(parser)
    return parser.parse_args(words)


def test_a_short_run_accounts_for_every_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a short tape WHEN it is played THEN sets are measured and no sweep is forgotten. The
    network costs nothing: on a busy machine a real one may not get done within the tape."""
    monkeypatch.setattr(tape, "SCENES", 2)
    monkeypatch.setattr(latency, "WARM_UP_S", 1.5)
    words = ("--seconds", "2", "--columns", "256", "--tape", str(tmp_path / "tape"))
    model = scenes.write_network(tmp_path)
    found = latency.run(arguments(*words, "--model", str(model)))
    json.dumps(found)
    sweeps = found["sweeps"]
    assert 15 <= sweeps["sent"] <= 21
    assert sweeps["answered"] + sweeps["unanswered"] == sweeps["sent"]
    assert sweeps["answered"] > 0
    sets = found["setup"]["sets"]
    assert 0 < sets <= sweeps["sent"] + 3
    spent = found["latency_ms"]
    assert 0.0 < spent["ours_to_detections"]["p50"] <= spent["ours"]["p50"]
    assert 0.0 < spent["stage"]["p50"] <= spent["ours"]["p50"]
    assert spent["network"]["p50"] > 0.0
    used = found["cpu_ms_per_set"]
    parts = ("ours", "network", "taking_messages", "dds_threads")
    assert sum(used[p] for p in parts) == pytest.approx(used["process"], abs=0.01)
    assert all(used[p] > 0.0 for p in (*parts, "callbacks", "publishing", "do_nothing_subscriber"))
    assert found["callbacks"]["lidar/points"]["messages"] > 0
    assert found["callbacks"]["odometry/local"]["messages"] > 0
    assert set(found["cpu_share"]) == {
        *("source", "listener", "pose_node", "fusion_node", "do_nothing_subscriber"),
    }


@pytest.mark.parametrize("words", [("--cameras", "7"), ("--seconds", "0"), ("--columns", "8")])
def test_options_out_of_range_are_named(words: tuple[str, str]) -> None:
    """GIVEN an option out of range WHEN the bench runs THEN the option and its range are named."""
    with pytest.raises(ConfigError, match=f"{words[0]}: must be within"):
        latency.run(arguments(*words))
