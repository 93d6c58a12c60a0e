"""Networks of one sense answer where their sense is all there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scenes

from mm_fusion.errors import ContractError
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.network import PACKAGED_STAND_INS, FusionNetwork
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.resources import share_path
from mm_fusion.samples import Mode, SyncedSet

CLOUD = [[1.0, 2.0, 0.5], [2.0, 2.0, 1.1]]
LENGTHS = {"lidar": 11.0, "camera": 12.0}  # of the boxes that each stand-in makes
THRESHOLDS = {"lidar": 0.45, "camera": 0.1}


def written(folder: Path, length_m: float = 4.0, **contract: object) -> Path:
    """A network whose boxes have this length; scores are 0.5 at most with points alone, 0.4 with a
    picture alone."""
    folder.mkdir(exist_ok=True)
    return scenes.write_network(folder, scenes.graph(size=(length_m, 2.0, 1.5)), **contract)


@pytest.fixture
def network(tmp_path: Path) -> FusionNetwork:
    """A fusion network with both stand-ins."""
    main = FusionNetwork.open(written(tmp_path / "main"), "cpu", threads=1)
    for sense, length_m in LENGTHS.items():
        path = written(tmp_path / sense, length_m, score_threshold=THRESHOLDS[sense])
        main.take_stand_in(sense, FusionNetwork.open(path, "cpu", threads=1))
    return main


def a_set(points: bool, picture: bool) -> SyncedSet:
    """A sweep and a picture at one instant, or only one of them."""
    stamp_ns = scenes.T0
    sweep = scenes.sweep(CLOUD, stamp_ns) if points else None
    frame = None
    if picture:
        frame = scenes.frame(np.full((96, 192, 3), 51, np.uint8), stamp_ns=stamp_ns)
    here = {"lidar": points, "camera": picture}
    missing = tuple(name for name, there in here.items() if not there)
    dt_ns = {name: 0 for name, there in here.items() if there}
    return SyncedSet(stamp_ns, (sweep,), (frame,), missing, dt_ns)


def road(network: FusionNetwork, **settings: object) -> PerceptionPipeline:
    config = scenes.config(**settings)
    calibration = Calibration(config)
    calibration.set_camera(scenes.camera_model(192, 96))
    return PerceptionPipeline(config, network, calibration)


@pytest.mark.parametrize(
    ("points", "picture", "mode", "length_m", "least"),
    [
        (True, True, Mode.CAMERA_LIDAR, 4.0, 0.25),
        (True, False, Mode.LIDAR, 11.0, 0.45),
        (False, True, Mode.CAMERA, 12.0, 0.1),
    ],
)
def test_a_sense_that_is_all_there_is_has_a_network_of_its_own(
    network: FusionNetwork, points: bool, picture: bool, mode: Mode, length_m: float, least: float
) -> None:
    """GIVEN stand-ins WHEN one sense is missing THEN the other's network answers, with its own
    threshold, and where both are there the fusion network does."""
    result = road(network).process(a_set(points, picture))
    assert result.mode is mode
    assert {round(float(d.size[0]), 3) for d in result.detections} == {length_m}
    assert min(d.score for d in result.detections) >= least - 1e-6


def test_a_picture_that_is_withheld_is_a_missing_one(network: FusionNetwork) -> None:
    result = road(network, network__use_camera=False).process(a_set(True, True))
    assert {round(float(d.size[0]), 3) for d in result.detections} == {11.0}


def test_without_a_stand_in_the_fusion_network_answers_alone(tmp_path: Path) -> None:
    network = FusionNetwork.open(written(tmp_path / "main"), "cpu", threads=1)
    result = road(network).process(a_set(True, False))
    assert {round(float(d.size[0]), 3) for d in result.detections} == {4.0}
    assert "stand_ins" not in network.facts()


def test_a_summary_names_them(network: FusionNetwork) -> None:
    named = network.facts()["stand_ins"]
    assert {sense: n["score_threshold"] for sense, n in named.items()} == THRESHOLDS


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({"classes": ["car", "cyclist", "pedestrian"]}, "classes"), ({"point_budget": 7}, "budget")],
)
def test_one_that_does_not_fit_is_refused(
    network: FusionNetwork, tmp_path: Path, changes: dict[str, object], rule: str
) -> None:
    other = FusionNetwork.open(written(tmp_path / "other", **changes), "cpu", threads=1)
    with pytest.raises(ContractError, match=rf"cannot stand in for net\.onnx: .*{rule}"):
        network.take_stand_in("lidar", other)
    assert network.stand_ins["lidar"] is not other


def test_the_packaged_network_brings_its_own(tmp_path: Path) -> None:
    """GIVEN nothing but defaults THEN the packaged networks of one sense stand by; a user's own
    network has none but those that are named, and an empty name means none."""
    packaged = FusionNetwork.from_config(scenes.config(network__threads=1))
    paths = {sense: n.model_path for sense, n in packaged.stand_ins.items()}
    assert paths == {s: share_path(name) for s, name in PACKAGED_STAND_INS.items()}
    few = {"network__lidar_model": "", "network__threads": 1}
    assert set(FusionNetwork.from_config(scenes.config(**few)).stand_ins) == {"camera"}
    own = {"network__model": str(written(tmp_path / "own"))}
    assert not FusionNetwork.from_config(scenes.config(**own)).stand_ins
    own["network__camera_model"] = str(written(tmp_path / "camera", 12.0))
    assert set(FusionNetwork.from_config(scenes.config(**own)).stand_ins) == {"camera"}
