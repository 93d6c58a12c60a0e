"""mm_fusion check-model on detectors without a contract: recognized, and a first one written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.small_detectors import write_detector

from mm_fusion.cli.main import main


def rows() -> np.ndarray:
    out = np.zeros((1, 84, 8400))
    out[0, :4, 0], out[0, 6, 0] = (100.0, 100.0, 20.0, 20.0), 0.9
    return out


def test_a_first_contract_is_written_and_then_held(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GIVEN an export without a contract
    WHEN it is checked twice
    THEN the first time writes the contract, the second time holds the network against it."""
    path = write_detector(tmp_path / "yolo.onnx", {"output0": rows()})
    command = ["check-model", str(path), "--provider", "cpu", "--runs", "1", "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["recognized"], first["head"]) == (True, "yolov8")
    assert first["contract"] == str(tmp_path / "yolo.yaml")
    written = yaml.safe_load((tmp_path / "yolo.yaml").read_text())
    assert written["class_map"]["truck"] == "car"
    assert main(command) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["recognized"] is False
    assert "contract" not in second


def test_a_folder_that_may_not_be_written_to_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also by root, whom the file system would let write."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    path = write_detector(folder / "yolo.onnx", {"output0": rows()})
    folder.chmod(0o555)
    try:
        assert main(["check-model", str(path), "--provider", "cpu", "--runs", "1"]) == 0
        assert "read-only" in capsys.readouterr().out
        assert sorted(p.name for p in folder.iterdir()) == ["yolo.onnx"]
        elsewhere = tmp_path / "mine.yaml"
        command = ["check-model", str(path), "--provider", "cpu", "--runs", "1"]
        assert main([*command, "--contract", str(elsewhere)]) == 0
        assert yaml.safe_load(elsewhere.read_text())["head"] == "yolov8"
    finally:
        folder.chmod(0o755)


def test_a_file_of_the_same_name_that_is_no_contract_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GIVEN a network with a YAML of its authors beside it
    WHEN it is checked
    THEN it is recognized all the same, and told that no contract was written."""
    path = write_detector(tmp_path / "yolo.onnx", {"output0": rows()})
    theirs = tmp_path / "yolo.yaml"
    theirs.write_text("nc: 80\nscales: {n: [0.5, 0.25, 1024]}\n")
    assert main(["check-model", str(path), "--provider", "cpu", "--runs", "1"]) == 0
    told = capsys.readouterr().out
    assert "head yolov8" in told
    assert "not written" in told
    assert theirs.read_text().startswith("nc: 80")


def test_what_nobody_knows_is_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_detector(tmp_path / "odd.onnx", {"mask": np.zeros((1, 7))})
    assert main(["check-model", str(path), "--provider", "cpu"]) != 0
    assert "not a detector that is recognized" in capsys.readouterr().err
