"""Real, short training runs, and the export of their network."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mm_fusion import resources
from mm_fusion.errors import ConfigError, StageError
from mm_fusion.perception.network import FusionNetwork
from mm_fusion.training import export as exporting
from mm_fusion.training import train as training
from mm_fusion.training.augment import Augmentation
from mm_fusion.training.dataset import Batch, make_batch
from mm_fusion.training.encoders import EfficientNetLite0
from mm_fusion.training.grid import Grid
from mm_fusion.training.loading import Steps, prepared
from mm_fusion.training.losses import losses
from mm_fusion.training.network_torch import SENSES, DeployedNet, FusionNet
from mm_fusion.training.settings import DEVICES, TrainSettings, chosen_device
from mm_fusion.training.train import learning_rate, read_checkpoint, train

SHORT = TrainSettings(
    steps=4, batch=2, workers=1, warmup_steps=2, decay_steps=1, learning_rate=1e-3, seed=11
)


def test_the_loss_falls(write_frames: Callable[[int], Path], tmp_path: Path) -> None:
    settings = replace(SHORT, steps=16, augment=False)
    train(write_frames(2), tmp_path / "run", settings)
    folder = tmp_path / "frames"
    first = replace(settings, steps=1)
    begin = train(folder, tmp_path / "begin", first).loss
    end = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])["loss"]
    assert end < 0.7 * begin


def test_a_resumed_run_ends_in_the_same_weights(
    write_frames: Callable[[int], Path], tmp_path: Path
) -> None:
    frames = write_frames(3)
    # the plateau is the same for both lengths, only the last step's rate is not
    whole = replace(SHORT, steps=5)
    train(frames, tmp_path / "whole", whole)
    half = train(frames, tmp_path / "parts", replace(SHORT, steps=3))
    assert half.steps == 3
    result = train(frames, tmp_path / "parts", whole, resume=True)
    assert result.steps == 5
    one = read_checkpoint(tmp_path / "whole" / "checkpoint.pt")
    two = read_checkpoint(tmp_path / "parts" / "checkpoint.pt")
    for part in ("net", "average"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), f"{part} {name}"


def test_a_resumed_run_asks_for_no_weights_but_its_own(
    write_frames: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a run that began from weights which are no longer there, WHEN it is taken up, THEN it
    goes on from its checkpoint."""
    frames, begun = write_frames(2), tmp_path / "begun"
    train(frames, begun, replace(SHORT, steps=1))
    first = replace(SHORT, steps=2, init=(str(begun / "checkpoint.pt"),))
    train(frames, tmp_path / "run", first)
    (begun / "checkpoint.pt").unlink()

    def asked(_trunk: EfficientNetLite0) -> None:
        raise AssertionError("ImageNet's weights were asked for")

    monkeypatch.setattr(EfficientNetLite0, "load_imagenet", asked)
    assert train(frames, tmp_path / "run", replace(first, steps=3), resume=True).steps == 3
    assert train(frames, tmp_path / "run", replace(SHORT, steps=4), resume=True).steps == 4


def test_two_processes_train_one_network(
    write_frames: Callable[[int], Path], tmp_path: Path
) -> None:
    result = train(write_frames(3), tmp_path / "run", replace(SHORT, steps=2, workers=2))
    assert result.steps == 2
    assert np.isfinite(result.loss)


def tensors_of(batch: Batch) -> list[torch.Tensor]:
    """All of them, rows that are no points as zeros."""
    found: list[torch.Tensor] = []
    batch.tensors(lambda t: found.append(t.nan_to_num()) or t)
    return found


def test_processes_prepare_what_a_step_would_load(write_frames: Callable[[int], Path]) -> None:
    # GIVEN what a GPU's batches come from WHEN processes prepare them THEN they are the same ones
    steps = Steps(sorted(write_frames(3).glob("*.npz")), SHORT, Grid(), 0)
    for step, batch in zip((1, 2), prepared(steps, range(1, 3), 2), strict=True):
        made, same = tensors_of(batch), tensors_of(steps[step])
        assert len(made) == len(same) == 11
        assert all(torch.equal(a, b) for a, b in zip(made, same, strict=True))


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="device cuda: PyTorch finds no CUDA GPU"):
        chosen_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [chosen_device(name).type for name in DEVICES] == ["cuda", "cpu", "cuda"]
    # there a batch is not divided
    assert TrainSettings(batch=3, workers=2).learners == 1
    with pytest.raises(ConfigError, match="device must be one of auto, cpu, cuda, not gpu"):
        TrainSettings(device="gpu")


@pytest.mark.parametrize("senses", SENSES)
def test_nothing_is_left_on_the_cpu(
    senses: str, write_frames: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a network and a batch on a device of its own (one without memory: all have it) WHEN it
    # learns THEN no tensor of another device comes in, which PyTorch would refuse
    paths = sorted(write_frames(2).glob("*.npz"))
    batch = make_batch(paths, Augmentation(), Grid(), np.random.default_rng(0), senses)
    far = batch.tensors(lambda t: t.to("meta"))
    net = FusionNet(senses=senses).to("meta").train()
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda _: False)
    maps = net(far.points, far.images, far.pixel_from_base, far.has_points, far.has_image)
    value = losses(maps, far)
    value.total.backward()
    assert value.total.device.type == "meta"
    assert {p.grad.device.type for p in net.parameters() if p.grad is not None} == {"meta"}


def test_learning_rate_rises_stays_and_falls() -> None:
    s = TrainSettings(steps=100, warmup_steps=10, decay_steps=50, learning_rate=1.0)
    assert learning_rate(s, 0) == pytest.approx(0.1)
    assert learning_rate(s, 30) == 1.0
    assert learning_rate(s, 75) == pytest.approx(0.5)
    assert learning_rate(s, 99) == pytest.approx(0.02)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of workers"):
        TrainSettings(batch=3, workers=2)
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        TrainSettings(steps=0)


def test_nothing_to_resume_is_said(write_frames: Callable[[int], Path], tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no checkpoint"):
        train(write_frames(1), tmp_path / "run", SHORT, resume=True)


def test_command_line_options_reach_the_settings(
    write_frames: Callable[[int], Path], tmp_path: Path
) -> None:
    parser = argparse.ArgumentParser()
    training.add_arguments(parser)
    args = ["--frames", str(write_frames(2)), "--out", str(tmp_path / "run"), "--float32"]
    args += ["--steps", "1", "--batch", "1", "--workers", "1", "--seed", "9"]
    result = training.run(parser.parse_args(args))
    saved = read_checkpoint(Path(result["checkpoint"]))["settings"]
    assert (saved["steps"], saved["batch"], saved["seed"], saved["bfloat16"]) == (1, 1, 9, False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models")
    exporting.export(None, out)
    return out


def test_contract_tells_the_file(exported: Path) -> None:
    contract = yaml.safe_load((exported / "fusion.yaml").read_text())
    model = (exported / "fusion.onnx").read_bytes()
    assert contract["sha256"] == hashlib.sha256(model).hexdigest()
    assert contract["trained"] == "untrained, for wiring only"
    assert [entry["name"] for entry in contract["inputs"]] == list(exporting.INPUTS)
    assert [entry["shape"] for entry in contract["outputs"]] == [[100, 9], [100], [100], [100, 5]]
    assert contract["torch_onnx_difference"] < exporting.PARITY_TOLERANCE
    assert str(Path.cwd()).encode() not in model


def test_graph_says_what_the_network_says(exported: Path) -> None:
    net, _ = exporting.network_of(None)
    scenes = [exporting.made_inputs(8, n) for n in (1, 17, 9000)]
    scenes[1]["points"][3:9, 1] = np.nan
    scenes.append({**scenes[2], "has_image": np.zeros(1, np.float32)})
    network = FusionNetwork.open(exported / "fusion.onnx", "cpu", 1)
    for scene in scenes:
        boxes, scores, labels, spreads = exporting.onnx_answer(network, scene)
        with torch.no_grad():
            ours = DeployedNet(net)(*(torch.from_numpy(scene[n]) for n in exporting.INPUTS))
        assert boxes.shape == (100, 9)
        assert (spreads > 0.0).all()
        assert labels.dtype == np.int64
        np.testing.assert_allclose(scores, ours[1].numpy(), atol=1e-5)
        assert (np.diff(scores) <= 0.0).all()


def test_a_network_for_two_cameras_shares_its_weights_between_them(tmp_path: Path) -> None:
    # GIVEN the packaged weights, exported for two cameras
    weights = resources.share_path("models/fusion.pt")
    contract = exporting.export(weights, tmp_path, cameras=2)
    assert contract["camera_slots"] == 2
    shapes = {entry["name"]: entry["shape"] for entry in contract["inputs"]}
    assert (shapes["images"], shapes["pixel_from_base"]) == ([2, 384, 640, 3], [2, 3, 4])
    two = FusionNetwork.open(tmp_path / "fusion.onnx", "cpu", 1)
    one, _ = exporting.network_of(weights)
    scene = exporting.made_inputs(8, 9000)
    both = exporting.made_inputs(8, 9000, cameras=2)
    both["images"][0] = scene["images"][0]
    alone = exporting.torch_answer(one, scene)
    blind = exporting.torch_answer(one, {**scene, "has_image": np.zeros(1, np.float32)})
    assert np.abs(blind[1] - alone[1]).max() > 1e-2
    backwards = {**both, "images": both["images"][::-1].copy()}
    backwards["pixel_from_base"] = both["pixel_from_base"][::-1].copy()
    for slot, inputs in enumerate((both, backwards)):
        # WHEN only one of the two has a picture, be it in the first slot or in the second
        given = {**inputs, "has_image": np.eye(2, dtype=np.float32)[slot]}
        # THEN the answer is that of the network for one
        found = exporting.onnx_answer(two, given)
        assert exporting.largest_difference(alone, found) < exporting.PARITY_TOLERANCE
    # AND where both have one, the order does not matter, and the one that looks back is looked at
    whole, reverse = exporting.onnx_answer(two, both), exporting.onnx_answer(two, backwards)
    assert exporting.largest_difference(whole, reverse) < exporting.PARITY_TOLERANCE
    assert np.abs(whole[1] - alone[1]).max() > 1e-2
    with pytest.raises(ConfigError, match="--cameras: must be 1 or more, got 0"):
        exporting.export(None, tmp_path, cameras=0)
    with pytest.raises(ConfigError, match="--weights: an untrained network has none"):
        exporting.export(None, tmp_path, weights=True)


def test_what_weights_say_of_themselves_is_exported_again(
    write_frames: Callable[[int], Path], tmp_path: Path
) -> None:
    # GIVEN the weights of an exported network, whose scores have curves and a threshold
    short = replace(SHORT, steps=1, senses="lidar")
    checkpoint = train(write_frames(2), tmp_path / "run", short).checkpoint
    net, trained = exporting.network_of(checkpoint)
    net.score_scale.fill_(1.5)
    settings = read_checkpoint(checkpoint)["settings"]
    values = {"trained": {**trained, "note": "in a hurry"}, "score_threshold": 0.57}
    exporting.write_weights(tmp_path / "few.pt", net, settings, values)
    # WHEN they are exported for more cameras THEN all of that is in the new network
    contract = exporting.export(tmp_path / "few.pt", tmp_path / "more", cameras=2)
    assert contract["score_threshold"] == 0.57
    assert contract["trained"]["note"] == "in a hurry"
    again, _ = exporting.network_of(tmp_path / "few.pt")
    assert again.score_scale.tolist() == [1.5, 1.5, 1.5]
    # AND a training that begins with them begins without the curves
    begun = training.new_state(replace(short, init=(str(tmp_path / "few.pt"),))).net
    assert begun.score_scale.tolist() == [1.0, 1.0, 1.0]


def test_graph_gives_the_same_bytes_twice(exported: Path) -> None:
    scene = exporting.made_inputs(8, 30_000)
    network = FusionNetwork.open(exported / "fusion.onnx", "cpu", 2)
    first, second = (exporting.onnx_answer(network, scene) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_graph_that_says_something_else_is_not_exported(exported: Path) -> None:
    net, _ = exporting.network_of(None)
    with torch.no_grad():
        net.head.heat[1].bias += 1.0
    with pytest.raises(StageError, match="differs"):
        exporting.check_parity(net, FusionNetwork.open(exported / "fusion.onnx", "cpu", 1), [])


def test_a_checkpoint_of_another_network_is_said(tmp_path: Path) -> None:
    net, _ = exporting.network_of(None)
    settings = {"senses": "fused", "encoder": "efficientnet_lite0"}
    exporting.write_weights(
        tmp_path / "old.pt", net, settings, {"trained": {}, "score_threshold": 0.5}
    )
    saved = torch.load(tmp_path / "old.pt", weights_only=True)
    del saved["average"]["head.heat.1.bias"]
    with pytest.raises(StageError, match=r"another network.*head\.heat\.1\.bias"):
        exporting.network_in(saved)


def test_a_fused_network_starts_from_those_of_one_sense(
    write_frames: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a LIDAR and a camera network, WHEN a fused one starts from both, THEN its eyes are the
    camera's and the rest is the LIDAR's, and ImageNet's weights need not be there."""
    frames = write_frames(2)
    saved = {}
    for senses in ("lidar", "camera"):
        result = train(frames, tmp_path / senses, replace(SHORT, steps=1, senses=senses))
        saved[senses] = result.checkpoint
    assert (tmp_path / "lidar" / "curves.png").stat().st_size > 1000
    monkeypatch.setattr(EfficientNetLite0, "load_imagenet", lambda *_: pytest.fail("not needed"))
    settings = replace(SHORT, init=(str(saved["lidar"]), str(saved["camera"])))
    net = training.new_state(settings).net.state_dict()
    eyes, body = (read_checkpoint(saved[s])["average"] for s in ("camera", "lidar"))
    for name in ("image.depth.weight", "lift.mix.0.0.weight", "bev.join.image.weight"):
        assert torch.equal(net[name], eyes[name])
    for name in ("bev.join.points.weight", "head.heat.1.weight"):
        assert torch.equal(net[name], body[name])
    whole, trained = exporting.network_of(saved["lidar"])
    lidar = read_checkpoint(saved["lidar"])["settings"]
    told = {"trained": trained, "score_threshold": 0.5}
    exporting.write_weights(tmp_path / "lidar.pt", whole, lidar, told)
    assert (tmp_path / "lidar.pt").stat().st_size < 0.4 * saved["lidar"].stat().st_size
    settings = replace(SHORT, senses="lidar", init=(str(tmp_path / "lidar.pt"),))
    again = training.new_state(settings).net.state_dict()
    for name, value in body.items():
        torch.testing.assert_close(again[name], value, rtol=2e-3, atol=1e-6)
    with pytest.raises(StageError, match="no checkpoint"):
        training.new_state(replace(SHORT, init=("nowhere.pt",)))
