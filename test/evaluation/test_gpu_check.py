"""The GPU script: what it says of a profile, and its whole way, here with the CPU."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mm_fusion.datasets import writing
from mm_fusion.sim.rigs import Wanted

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    return importlib.import_module("gpu_check")


def node(name: str, kind: str, provider: str) -> dict:
    args = {"op_name": kind, "provider": provider}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": 3, "args": args}


def test_where_nodes_ran(gpu_check: ModuleType) -> None:
    # GIVEN a profile of two runs, with one node on the CPU between two copies
    run = [
        {"cat": "Session", "name": "model_run", "dur": 99},
        node("conv", "Conv", CUDA),
        {"cat": "Node", "name": "conv_fence_before", "args": {"op_name": "Conv"}},
        node("Memcpy_1", "MemcpyToHost", CUDA),
        node("angle", "Atan", CPU),
        node("Memcpy_2", "MemcpyFromHost", CUDA),
    ]
    placed = gpu_check.placement([*run, *run])
    assert placed == {
        "nodes": 4,
        "by_provider": {CUDA: 3, CPU: 1},
        "copies": ["Memcpy_1", "Memcpy_2"],
        "on_cpu": {"angle": "Atan"},
    }


@pytest.fixture
def result() -> Callable[..., dict]:
    """A check's result in which everything is well, but for what is given."""

    def make(p50: float = 2.0, p99: float = 4.0, loss: float = 0.05, on_cpu: bool = False) -> dict:
        placed = {"on_cpu": {"x": "Atan"} if on_cpu else {}, "copies": []}
        times = [
            {"provider": "cuda", "p50_ms": 9.0, "p99_ms": 9.0},
            {"provider": "cuda", "p50_ms": p50, "p99_ms": p99},
        ]
        return {
            "placement": {"float32": placed},
            "latency": {"float32": times},
            "gpu_against_cpu": {"score_max": 0.001},
            "float16_against_float32": {"map_points_lost": loss},
        }

    return make


def test_the_verdict(gpu_check: ModuleType, result: Callable[..., dict]) -> None:
    assert all(gpu_check.verdict(result()).values())
    for change, failing in (
        ({"p50": 3.1}, "p50"),
        ({"p99": 5.1}, "p99"),
        ({"loss": 0.2}, "float16_loss"),
        ({"on_cpu": True}, "every_node_on_gpu"),
    ):
        said = gpu_check.verdict(result(**change))
        assert [name for name, met in said.items() if not met] == [failing]


def test_without_a_gpu_it_says_so(
    gpu_check: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    if CUDA in gpu_check.ort.get_available_providers():
        pytest.skip("CUDA is there")
    assert gpu_check.main(["--provider", "cuda"]) == 2
    assert "cuda was asked for and is not to be had here" in capsys.readouterr().err


def test_the_whole_way_on_the_cpu(
    gpu_check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for job in writing.sim_jobs(1, 3, Wanted("vlp16", "dry", False, 12_000)):
        job.run(frames)
    out = tmp_path / "gpu.json"
    asked = ["--provider", "cpu", "--frames", str(frames), "--runs", "2", "--out", str(out)]
    assert gpu_check.main(asked) == 1  # a CPU is no GPU
    said = json.loads(out.read_text())
    assert said == json.loads(capsys.readouterr().out)
    assert said["placement"]["float32"]["by_provider"].keys() == {CPU}
    assert said["placement"]["float32"]["nodes"] > 200
    assert said["gpu_against_cpu"]["score_max"] == 0.0
    assert said["gpu_against_cpu"]["boxes_without_counterpart"] == 0
    assert abs(said["float16_against_float32"]["map_points_lost"]) < 5.0
    assert said["verdict"]["on_gpu"] is False
    assert said["verdict"]["every_node_on_gpu"] is False
    assert said["verdict"]["same_as_cpu"] is True
