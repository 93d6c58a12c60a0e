"""Parts of the network that are left out, to learn what they are worth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from mm_fusion import resources
from mm_fusion.errors import ConfigError
from mm_fusion.training import export as exporting
from mm_fusion.training.dataset import collate
from mm_fusion.training.frames import Frame
from mm_fusion.training.losses import losses
from mm_fusion.training.network_torch import FusionNet, Maps
from mm_fusion.training.parts import PARTS, leave_out
from mm_fusion.training.settings import TrainSettings
from mm_fusion.training.train import averaged_network, read_checkpoint, train

ROOT = Path(__file__).resolve().parents[2]
MODELS = resources.share_path("models/fusion.pt").parent
# by part, the weights that only this part uses
OWN = {
    "painting": "image.paint.",
    "lifting": "lift.",
    "depth": "image.depth.",
    "hint": "image.hint8.",
    "trust": "bev.join.trust.",
    "expert": "expert.",
    "attention": "bev.attention.",
}


@pytest.fixture
def net() -> FusionNet:
    torch.manual_seed(5)
    return FusionNet().eval()


def own(net: FusionNet, part: str) -> list[torch.nn.Parameter]:
    return [p for name, p in net.named_parameters() if name.startswith(OWN[part])]


def answer(net: FusionNet, frame: Frame) -> Maps:
    with torch.no_grad():
        maps: Maps = net(*collate([frame], [(1.0, 1.0)], net.grid).inputs())
    return maps


def test_every_part_can_be_left_out() -> None:
    assert set(OWN) == set(PARTS)


@pytest.mark.parametrize("part", OWN)
def test_what_is_left_out_says_and_learns_nothing(net: FusionNet, part: str, frame: Frame) -> None:
    """GIVEN a network without a part, WHEN only that part's weights change, THEN its answers do
    not, as they did with the part; and no loss reaches these weights by way of the answers."""
    handle = leave_out(net, part)
    weights = own(net, part)
    assert weights
    maps = net(*collate([frame], [(1.0, 1.0)], net.grid).inputs())
    (maps.heat.square().mean() + maps.boxes.square().mean()).backward()
    assert all(p.grad is None or not p.grad.any() for p in weights)
    before = answer(net, frame).heat
    with torch.no_grad():
        for p in weights:
            p.add_(torch.randn_like(p))
    assert torch.equal(answer(net, frame).heat, before)
    handle.remove()
    assert not torch.equal(answer(net, frame).heat, before)


def test_without_painting_and_lifting_no_picture_is_seen(net: FusionNet, frame: Frame) -> None:
    black = collate([frame], [(1.0, 1.0)], net.grid)
    black.images.zero_()

    def looks() -> bool:
        with torch.no_grad():
            return not torch.equal(answer(net, frame).heat, net(*black.inputs()).heat)

    assert looks()
    leave_out(net, "painting")
    assert looks()  # cells still do
    leave_out(net, "lifting")
    assert not looks()


@pytest.mark.parametrize(("part", "told"), [("painting", "segmentation"), ("depth", "depth")])
def test_pictures_are_taught_all_the_same(
    net: FusionNet, part: str, told: str, frame: Frame
) -> None:
    """The classes of pixels and their depths are lessons of their own: eyes without painting or
    without the gate of depth are to be no worse taught."""
    leave_out(net, part)
    batch = collate([frame], [(1.0, 1.0)], net.grid)
    getattr(losses(net(*batch.inputs()), batch), told).backward()
    assert all(p.grad is not None and p.grad.any() for p in own(net, part))


def test_what_cannot_be_left_out() -> None:
    with pytest.raises(ConfigError, match=r"one of painting, lifting, .*, not wheels"):
        leave_out(FusionNet(), "wheels")
    with pytest.raises(ConfigError, match="a LIDAR network has no lifting that could be left out"):
        leave_out(FusionNet(senses="lidar"), "lifting")
    with pytest.raises(ConfigError, match="one sense has no expert that could be left out"):
        leave_out(FusionNet(senses="camera"), "expert")
    leave_out(FusionNet(senses="lidar"), "attention")


def test_a_network_stays_without_what_it_was_trained_without(
    write_frames: Callable[[int], Path], tmp_path: Path, frame: Frame
) -> None:
    """GIVEN a training without two parts, WHEN its checkpoint is opened and exported, THEN the
    parts are missing there as well, and the contract says so."""
    without = ("attention", "lifting")
    settings = TrainSettings(
        steps=1, batch=2, workers=1, warmup_steps=1, decay_steps=1, fresh_encoder=True,
        without=without,
    )  # fmt: skip
    checkpoint = train(write_frames(2), tmp_path / "run", settings).checkpoint
    opened = averaged_network(read_checkpoint(checkpoint))
    before = answer(opened, frame).heat
    with torch.no_grad():
        for part in without:
            for p in own(opened, part):
                p.fill_(1.0)
    assert torch.equal(answer(opened, frame).heat, before)
    contract = exporting.export(checkpoint, tmp_path / "model")
    assert contract["trained"]["without"] == list(without)
    assert contract["torch_onnx_difference"] < 1e-3


def test_the_packaged_network_is_whole() -> None:
    for name in ("fusion", "lidar", "camera"):
        saved = read_checkpoint(MODELS / f"{name}.pt")
        assert not saved["settings"].get("without")


@pytest.mark.slow
@pytest.mark.parametrize("trained", [True, False])
def test_the_script_scores_networks_without_a_part(
    trained: bool, write_frames: Callable[[int], Path], tmp_path: Path
) -> None:
    frames, out = str(write_frames(2)), tmp_path / "out"
    command = [sys.executable, str(ROOT / "scripts" / "ablate_parts.py"), "--parts", "attention"]
    command += ["--frames", frames, "--out", str(out), "--models", str(MODELS)]
    command += ["--train", frames, "--steps", "1"] if trained else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["count"], result["steps"]) == (2, int(trained))
    names = ["whole", "whole, another seed", "attention"]
    for condition in ("clean", "extrinsic rotation, 2°"):
        rows = result[condition]["grid"]
        assert list(rows) == (names if trained else names[::2])
        assert rows["whole"]["ratio"]["value"] == 1.0
        assert rows["attention"]["map"] != rows["whole"]["map"]
    contract = yaml.safe_load((out / "attention" / "fusion.yaml").read_text())
    assert contract["trained"]["without"] == ["attention"]
    if trained:  # other steps would be told than were taken
        command[-1] = "2"
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 2
        assert "holds a training with other settings: name another --out" in again.stderr
