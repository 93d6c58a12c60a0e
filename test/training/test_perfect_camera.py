"""What a camera that makes no mistake would add to the LIDAR network's boxes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mm_fusion import resources
from mm_fusion.evaluation.truth import TruthBox
from mm_fusion.training.frames import Frame

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "perfect_camera.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return importlib.import_module("perfect_camera")


def box(x: float, y: float, score: float, label: str = "car") -> dict[str, Any]:
    return {"class": label, "score": score, "center": [x, y, 0.8], "size": [4.0, 1.8, 1.5],
            "yaw": 0.0, "velocity": [0.0, 0.0]}  # fmt: skip


def thing(number: int, x: float, y: float, label: str = "car", counted: bool = True) -> TruthBox:
    size = np.array([4.0, 1.8, 1.5])
    return TruthBox(str(number), label, np.array([x, y, 0.8]), size, 0.0, None, counted)


def test_boxes_belong_to_the_nearest_object_of_their_class(script: ModuleType) -> None:
    truth = [thing(0, 10.0, 0.0), thing(1, 11.5, 0.0), thing(2, 30.0, 0.0, "cyclist")]
    found = [box(10.9, 0.0, 0.9), box(11.0, 0.0, 0.8), box(10.5, 0.0, 0.7), box(30.0, 0.0, 0.6)]
    # the best has the nearer one, the second what is left, the third nothing; no car is a cyclist
    assert script.owners(found, truth) == [1, 0, -1, -1]
    assert script.owners(found, []) == [-1] * 4


def test_a_perfect_camera_finds_what_it_sees_and_strikes_out_what_is_not(
    script: ModuleType, frame: Frame
) -> None:
    """GIVEN a camera that looks ahead, an object of many pixels, one of few, one beside the
    picture, one that nobody asks for, and false boxes ahead and behind."""
    camera = np.array([[300.0, 0, 320.0], [0, 300.0, 192.0], [0, 0, 1.0]])
    optical = np.array([[0, -1.0, 0, 0], [0, 0, -1.0, 1.6], [1.0, 0, 0, 0]])
    pixels = np.array([500, 50, 0, 500], np.int32)
    looking = replace(
        frame, pixel_from_base=(camera @ optical).astype(np.float32), num_pixels=pixels,
        image=np.zeros((384, 640, 3), np.uint8),
    )  # fmt: skip
    truth = [
        thing(0, 10.0, 0.0),
        thing(1, 20.0, 3.0),
        thing(2, -10.0, 0.0),
        thing(3, 15.0, -3.0, counted=False),
    ]
    off, far, behind, hidden = (
        box(10.8, 0.3, 0.6), box(20.5, 3.0, 0.5), box(-10.4, 0.0, 0.4), box(15.0, -3.2, 0.3),
    )  # fmt: skip
    ahead, back = box(25.0, -4.0, 0.35), box(-25.0, 4.0, 0.35)
    found = [off, far, behind, ahead, back, hidden]
    cameras = [(100, False), (100, True), (40, True), (float("inf"), False)]
    mended, struck, sharper, blind = script.mended(found, truth, looking, cameras)
    # THEN what it sees is where it is, for sure, and all other boxes are as they were
    assert mended[:-1] == [far, behind, ahead, back, hidden]
    assert mended[-1]["center"] == [10.0, 0.0, 0.8]
    assert mended[-1]["score"] == 1.0
    # AND it strikes out only what is false and in its view
    assert struck[:-1] == [far, behind, back, hidden]
    assert [b["score"] for b in sharper] == [0.4, 0.35, 0.3, 1.0, 1.0]
    assert blind == found


def test_the_script_tells_bounds(write_frames: Callable[[int], Path]) -> None:
    command = [sys.executable, str(SCRIPT), "--frames", str(write_frames(2))]
    command += ["--model", str(resources.share_path("models/lidar.pt"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["count"] == 2
    finds, strikes = result["finds"], result["finds and strikes out"]
    assert finds["nothing"]["ratio"] == 1.0
    maps = [row["map"] for row in finds.values()]
    assert maps == sorted(maps, reverse=True)
    assert all(strikes[name]["map"] >= row["map"] for name, row in finds.items())
