"""The live demo: a small bag through real nodes over DDS, down to the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from support.live import ROOT
from support.live_bag import write_bag
from support.small_detectors import write_detector

from mm_fusion.cli.demo import check_products
from mm_fusion.config import Config
from mm_fusion.errors import StageError
from mm_fusion.evaluation.bags import Topic
from mm_fusion.evaluation.topics import find_inputs

pytestmark = pytest.mark.ros
DURATION_S = 3.0


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``mm_fusion demo``."""
    return subprocess.run(
        [sys.executable, "-m", "mm_fusion.cli.main", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of the small drive."""
    return write_bag(tmp_path_factory.mktemp("demo") / "bag", DURATION_S)


def test_bag_goes_all_the_way(bag: Path, tmp_path: Path) -> None:
    """GIVEN a bag WHEN the demo runs THEN all of its files are there, and agree with each other."""
    out = tmp_path / "out"
    # Slowly, with a long queue: how fast the machine is must not matter here.
    result = demo(
        *("--bag", str(bag), "--out", str(out), "--rate", "0.5", "--json"),
        *("--set", "network.queue_size=100", "--set", "network.patience_s=1000"),
    )
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert json.loads((out / "summary.json").read_text()) == summary
    sweeps = round(DURATION_S * 10)
    assert summary["sweeps"] == sweeps
    assert summary["answered"] >= 0.95 * sweeps
    lines = [json.loads(x) for x in (out / "detections.jsonl").read_text().splitlines()]
    assert len(lines) == summary["sets"]
    assert {line["frame_id"] for line in lines} == {"base_link"}
    stages = ("stage", "network", "track", "total", "queue", "publish", "end_to_end")
    assert all(summary["latency_ms"][s]["p50"] > 0.0 for s in stages)
    assert (out / "pose_local.tum").stat().st_size > 1000
    assert "<html" in (out / "report.html").read_text()[:500]
    for name in ("fusion_node", "pose_node", "simulator_node", "recorder"):
        assert (out / "logs" / f"{name}.log").is_file()
    assert "simulate" not in result.stderr


def test_the_nodes_run_with_a_camera_detector(bag: Path, tmp_path: Path) -> None:
    """GIVEN a 2D detector that sees nothing WHEN the demo runs with it THEN the nodes take it by
    the same two parameters, and what the LIDAR sees is unknown."""
    model = write_detector(tmp_path / "v8.onnx", {"output0": np.zeros((1, 84, 8400))})
    result = demo(
        *("--bag", str(bag), "--out", str(tmp_path / "out"), "--rate", "0.5", "--json"),
        *("--set", "network.queue_size=100", "--set", "network.patience_s=1000"),
        *("--set", "network.provider=cpu"),
        *("--set", "detector=camera2d", "--set", f"model={model}"),
    )
    # Nothing has a name, so that no box of a known class is missed: the demo itself goes through.
    assert "network" in result.stdout, result.stderr
    summary = json.loads(result.stdout)
    assert summary["network"]["head"] == "yolov8"
    assert summary["answered"] >= 0.95 * round(DURATION_S * 10)
    assert set(summary["detections"]) <= {"unknown"}


def test_failing_node_is_named(bag: Path, tmp_path: Path) -> None:
    """GIVEN a network that is not there WHEN the demo runs THEN it ends, naming node and file."""
    result = demo(
        *("--bag", str(bag), "--out", str(tmp_path / "out")),
        *("--set", "network.model=/nowhere/fusion.onnx"),
    )
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("mm_fusion: fusion_node ended with 1: ")
    assert "/nowhere/fusion.onnx: no such network file" in last
    assert "Traceback" not in result.stderr


def test_missing_bag_is_one_line(tmp_path: Path) -> None:
    """GIVEN no bag WHEN the demo is asked for it THEN one line says so."""
    result = demo("--bag", "/nowhere/bag", "--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert result.stderr.strip() == "mm_fusion: /nowhere/bag: no such bag"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answered": 0}, "none of 20 sweeps was answered"),
        ({"sets": 0}, "no set was answered"),
        ({"detections": {"car": 0}}, "no box in any set"),
        ({"pose_local.tum": ""}, "no local pose"),
        ({"pose.tum": ""}, "no global pose"),
    ],
)
def test_stage_without_a_product_is_named(
    tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    """GIVEN a run in which one stage gave nothing WHEN it is looked at THEN that one is named."""
    topics = [
        Topic("/lidar/points", "sensor_msgs/msg/PointCloud2", 20),
        Topic("/gps/fix", "sensor_msgs/msg/NavSatFix", 10),
        Topic("/imu/data", "sensor_msgs/msg/Imu", 200),
    ]
    inputs = find_inputs(topics, Config(), "bag")
    told = {"sweeps": 20, "answered": 20, "sets": 20, "detections": {"car": 3}, **changed}
    for name in ("pose.tum", "pose_local.tum"):
        (tmp_path / name).write_text(str(changed.get(name, "1 0 0 0 0 0 0 1")))
    with pytest.raises(StageError, match=said):
        check_products(told, tmp_path, inputs, objects=True)
