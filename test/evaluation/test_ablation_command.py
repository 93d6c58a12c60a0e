"""``mm_fusion evaluate --ablation``: the whole way from frames to the table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mm_fusion import resources
from mm_fusion.cli.main import main
from mm_fusion.datasets.frame import LabelledFrame, read_frame, write_frame
from mm_fusion.evaluation.frame_faults import sensed_of
from mm_fusion.evaluation.frame_sets import MIN_SCORE, FrameRunner, Setting, in_view, truth_of
from mm_fusion.perception.contract import Contract, NetworkInputs
from mm_fusion.perception.fusion_detector import boxes_above
from mm_fusion.perception.network import PACKAGED_MODEL, FusionNetwork, read_contract

MODEL = resources.share_path(PACKAGED_MODEL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small simulated frames with some of their variants."""
    out = tmp_path_factory.mktemp("frames") / "set"
    made = [
        "--sim",
        "--frames",
        "2",
        "--seed",
        "4",
        "--lidar",
        "vlp16",
        "--weather",
        "dry",
        "--day",
    ]
    assert main(["dataset", *made, "--pixels", "30000", "--workers", "1", "--out", str(out)]) == 0
    wanted = ["--only", "late_100ms,frozen_2s,dark,fog_60m", "--workers", "1"]
    assert main(["dataset", "--variants", str(out), *wanted]) == 0
    return out


@pytest.fixture(scope="module")
def frame(folder: Path) -> LabelledFrame:
    """The first of them."""
    return read_frame(folder / "000000.npz")


def test_variants_change_what_they_say(folder: Path, frame: LabelledFrame) -> None:
    late = read_frame(folder / "variants" / "late_100ms" / "000000.npz")
    dark = read_frame(folder / "variants" / "dark" / "000000.npz")
    fog = read_frame(folder / "variants" / "fog_60m" / "000000.npz")
    # the calibration knows nothing of it, and the truth is the same
    for other in (late, dark, fog):
        np.testing.assert_array_equal(other.pixel_from_base, frame.pixel_from_base)
        np.testing.assert_array_equal(other.objects.boxes, frame.objects.boxes)
    assert not len(late.cloud.xyz)
    assert not len(dark.cloud.xyz)
    sky = slice(0, 20)  # rows
    assert dark.images[0][sky].mean() < 0.5 * frame.images[0][sky].mean()
    assert fog.images[0].std() < 0.8 * frame.images[0].std()
    reach = np.linalg.norm(frame.cloud.xyz, axis=1)
    assert len(fog.cloud.xyz) > 0
    assert np.linalg.norm(fog.cloud.xyz, axis=1).max() < reach.max()
    # a picture made again with nothing changed would show what the frame shows; this one does not
    apart = np.abs(late.images[0].astype(int) - frame.images[0].astype(int)).mean()
    assert apart > 1.0


def test_variants_of_another_simulator_are_refused(
    folder: Path, tmp_path: Path, frame: LabelledFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a set whose frame is not the one that its seed makes here
    other = tmp_path / "set"
    other.mkdir()
    (other / "dataset.json").write_text((folder / "dataset.json").read_text())
    moved = frame.pixel_from_base.copy()
    moved[0, 0] *= 1.01
    write_frame(other / "000000.npz", replace(frame, pixel_from_base=moved))
    # WHEN its variants are asked for THEN nothing is made
    assert main(["dataset", "--variants", str(other), "--only", "dark", "--workers", "1"]) == 2
    assert "px off" in capsys.readouterr().err
    assert not (other / "variants").exists()


def made_inputs(frame: LabelledFrame, contract: Contract) -> NetworkInputs:
    """The frame as the contract describes its inputs, made without the road of the nodes."""
    size = (contract.image_width_px, contract.image_height_px)
    height, width = frame.images[0].shape[:2]
    su, sv = size[0] / width, size[1] / height
    assert su > 1.0 < sv  # enlarged: bilinear, as there is nothing to average
    image = cv2.resize(frame.images[0], size, interpolation=cv2.INTER_LINEAR)
    resize = np.array([[su, 0, 0.5 * su - 0.5], [0, sv, 0.5 * sv - 0.5], [0, 0, 1]])
    c, volume = frame.cloud, contract.range_m
    spans = (volume.x_m, volume.y_m, volume.z_m)
    inside = np.logical_and.reduce(
        [(c.xyz[:, k] >= low) & (c.xyz[:, k] < high) for k, (low, high) in enumerate(spans)]
    )
    points = np.column_stack([c.xyz, c.intensity, c.seconds])[inside].astype(np.float32)
    assert len(points) <= contract.point_budget  # nothing to thin
    one = np.ones(1, np.float32)
    projection = (resize @ frame.pixel_from_base[0]).astype(np.float32)[None]
    return NetworkInputs(points, np.asarray(image)[None], projection, one, one, len(points))


def test_the_main_road_says_what_the_network_says_of_the_frame(frame: LabelledFrame) -> None:
    network = FusionNetwork.open(MODEL, "cpu", 1)
    contract = network.contract
    theirs, _ = boxes_above(network.run(made_inputs(frame, contract)), contract.classes, MIN_SCORE)
    mine = FrameRunner(Setting(MODEL, provider="cpu")).run(sensed_of(frame))
    assert len(mine) == len(theirs) > 5
    for a, b in zip(mine, theirs, strict=True):
        assert (a.label, a.score) == (b.label, pytest.approx(b.score, abs=2e-3))
        np.testing.assert_allclose(a.center, b.center, atol=0.02)


def test_the_same_objects_are_asked_for_as_in_training(frame: LabelledFrame) -> None:
    validate = pytest.importorskip("mm_fusion.training.validate")
    from mm_fusion.training.frames import frame_of
    from mm_fusion.training.grid import Grid
    from mm_fusion.training.views import IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX

    packaged = read_contract(MODEL)
    size = {"image_width_px": IMAGE_WIDTH_PX, "image_height_px": IMAGE_HEIGHT_PX}
    mine = truth_of(frame, replace(packaged, **size))
    theirs = validate.truth_of(frame_of(frame), Grid())
    assert [t.counted for t in mine] == [t.counted for t in theirs]
    assert 0 < sum(t.counted for t in mine) < len(mine)


def test_what_is_in_view(frame: LabelledFrame) -> None:
    centers = np.array([[10.0, 0.0, 1.0], [-10.0, 0.0, 1.0], [10.0, 40.0, 1.0]])
    assert in_view(frame, centers).tolist() == [True, False, False]
    assert in_view(replace(frame, images=()), centers).tolist() == [False] * 3


def test_from_frames_to_the_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # WHEN two frames are evaluated under every fault
    asked = ["evaluate", str(folder), "--ablation", "--faults", "--workers", "1"]
    asked += ["--model", str(MODEL)]
    asked += ["--provider", "cpu", "--out", str(tmp_path), "--json", "--resamples", "5"]
    assert main(asked) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "ablation.json").read_text())
    assert (tmp_path / "ablation.png").read_bytes()[:4] == b"\x89PNG"
    rows = {r["condition"]: r for r in said["scopes"]["grid"]["conditions"]}
    # THEN a sense that is gone has no answer, and the fused network says what it says without it
    assert rows["LIDAR missing"]["lidar"] is None
    assert rows["LIDAR missing"]["fused"]["map"] == rows["clean"]["camera"]["map"]
    assert rows["camera missing"]["fused"]["map"] == rows["clean"]["lidar"]["map"]
    # AND a sense that a fault leaves alone is as it was
    assert rows["dark"]["lidar"]["map"] == rows["clean"]["lidar"]["map"]
    assert rows["points lost, 60 %"]["camera"]["map"] == rows["clean"]["camera"]["map"]
    # AND what cannot be had is said: the variants that were not made, beams that never were there
    assert "mm_fusion dataset --variants" in rows["rain, heavy"]["left_out"]
    assert rows["LIDAR beams, 16"]["left_out"] == "no frame that it could change"
    assert rows["LIDAR beams, 8"]["frames"] == rows["fog, 60 m"]["frames"] == 2
    # AND the single senses are said not to be networks of their own
    assert [said["networks"][m]["own"] for m in ("fused", "camera", "lidar")] == [
        True,
        False,
        False,
    ]
    # WHEN it is given again THEN nothing is run twice
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "work").rglob("*.npz")}
    assert main(asked) == 0
    again = json.loads(capsys.readouterr().out)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "work").rglob("*.npz")} == files
    assert again["scopes"] == said["scopes"]


def test_the_packaged_networks_are_evaluated_as_the_node_runs_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GIVEN no network WHEN frames are evaluated THEN it is the packaged one, with those of one
    sense beside it, which answer for it where their sense is all there is."""
    asked = ["evaluate", str(folder), "--ablation", "--faults", "--workers", "1"]
    asked += ["--provider", "cpu", "--out", str(tmp_path), "--json", "--resamples", "5"]
    assert main(asked) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["stand_ins"]
    assert all(network["own"] for network in said["networks"].values())
    rows = {r["condition"]: r for r in said["scopes"]["grid"]["conditions"]}
    clean = rows["clean"]
    assert clean["fused"]["ap"] != clean["lidar"]["ap"]
    for name in ("camera missing", "camera frozen, for 2 s"):
        assert rows[name]["fused"]["ap"] == clean["lidar"]["ap"]
        assert rows[name]["ratio"]["value"] == 1.0
    assert rows["LIDAR missing"]["fused"]["ap"] == clean["camera"]["ap"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("DIR",), "give --truth BAG for a run, or --ablation"),
        (("DIR", "--faults"), "give --truth BAG for a run, or --ablation"),
        (("DIR", "--ablation"), "no labelled frames"),
        (("DIR", "--ablation", "--truth", "bag"), "frames carry their own truth"),
        (("DIR", "--ablation", "--frames", "-1"), "--frames: must be 0 or more"),
    ],
)
def test_a_users_mistake_is_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [str(tmp_path) if a == "DIR" else a for a in arguments]
    assert main(["evaluate", *told]) == 2
    assert message in capsys.readouterr().err
