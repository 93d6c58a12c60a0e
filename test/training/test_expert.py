"""The fused network's expert of points: a LIDAR network's second opinion, and its gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mm_fusion import resources
from mm_fusion.errors import ConfigError, StageError
from mm_fusion.training import train as training
from mm_fusion.training.dataset import collate
from mm_fusion.training.frames import Frame
from mm_fusion.training.network_torch import FusionNet, Maps
from mm_fusion.training.parts import leave_out
from mm_fusion.training.settings import TrainSettings
from mm_fusion.training.train import read_checkpoint, train

LIDAR = resources.share_path("models/lidar.pt")
SHORT = TrainSettings(
    steps=2, batch=2, workers=1, warmup_steps=1, decay_steps=1, learning_rate=1e-3, seed=7,
    fresh_encoder=True, expert=str(LIDAR),
)  # fmt: skip
ANSWERS = ("heat", "boxes", "spreads")


@pytest.fixture
def net() -> FusionNet:
    return training.new_state(SHORT).net.eval()


def answer(net: FusionNet, frame: Frame, has: tuple[float, float] = (1.0, 1.0)) -> Maps:
    with torch.no_grad():
        maps: Maps = net(*collate([frame], [has], net.grid).inputs())
    return maps


def say(net: FusionNet, logit: float) -> None:
    """Let the gate say the same everywhere."""
    last = net.expert.gate[2]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, logit)


def test_an_expert_that_is_believed_says_what_its_lidar_network_says(
    net: FusionNet, frame: Frame
) -> None:
    say(net, -50.0)
    lidar = training.lidar_network(LIDAR)
    for has in ((1.0, 1.0), (1.0, 0.0)):
        found, wanted = answer(net, frame, has), answer(lidar, frame)
        for name in ANSWERS:
            torch.testing.assert_close(
                getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-4
            )


def test_an_answer_lies_between_the_two_roads(net: FusionNet, frame: Frame) -> None:
    lidar = answer(training.lidar_network(LIDAR), frame)
    mixed = answer(net, frame)
    say(net, 0.0)
    half = answer(net, frame)
    leave_out(net, "expert")
    joint = answer(net, frame)
    for name in ANSWERS:
        one, other = getattr(joint, name), getattr(lidar, name)
        torch.testing.assert_close(getattr(half, name), 0.5 * (one + other), rtol=1e-4, atol=1e-4)
        between = getattr(mixed, name)
        assert (between >= torch.minimum(one, other) - 1e-3).all()
        assert (between <= torch.maximum(one, other) + 1e-3).all()
        assert not torch.equal(between, one)


def test_each_class_and_the_box_have_a_share_of_their_own(net: FusionNet, frame: Frame) -> None:
    """GIVEN a gate that believes the expert of vehicles alone, THEN only their heat is its own."""
    say(net, 50.0)
    joint = answer(net, frame)
    with torch.no_grad():
        net.expert.gate[2].bias.view(4, 4)[0] = -50.0  # four pillars a cell, class by class
    found, lidar = answer(net, frame), answer(training.lidar_network(LIDAR), frame)
    torch.testing.assert_close(found.heat[:, 0], lidar.heat[:, 0], rtol=1e-4, atol=1e-4)
    assert torch.equal(found.heat[:, 1:], joint.heat[:, 1:])
    assert torch.equal(found.boxes, joint.boxes)


def test_without_points_the_expert_has_no_say(net: FusionNet, frame: Frame) -> None:
    before = answer(net, frame, (0.0, 1.0))
    seen = answer(net, frame)
    with torch.no_grad():
        for p in net.expert.parameters():
            p.add_(torch.randn_like(p))
    after = answer(net, frame, (0.0, 1.0))
    assert all(torch.equal(getattr(before, name), getattr(after, name)) for name in ANSWERS)
    assert not torch.equal(answer(net, frame).heat, seen.heat)


def test_an_expert_stays_as_it_is_while_its_gate_learns(
    write_frames: Callable[[int], Path], tmp_path: Path
) -> None:
    """GIVEN a training with an expert, WHEN it goes on after the LIDAR network's file is gone,
    THEN the expert's weights and statistics are still those, and all the rest has learned."""
    expert = tmp_path / "lidar.pt"
    expert.write_bytes(LIDAR.read_bytes())
    settings = replace(SHORT, expert=str(expert))
    begin = training.new_state(settings).net.state_dict()
    train(write_frames(2), tmp_path / "run", settings)
    expert.unlink()
    longer = replace(settings, steps=3)
    result = train(tmp_path / "frames", tmp_path / "run", longer, resume=True)
    saved = read_checkpoint(result.checkpoint)
    assert saved["step"] == 3
    lidar = training.lidar_network(LIDAR).state_dict()
    kept = ("expert.bev.", "expert.head.")
    for part in ("net", "average"):
        for name, value in saved[part].items():
            if name.startswith(kept):
                wanted = lidar[name.removeprefix("expert.")]
                assert torch.equal(value, wanted[:, : value.shape[1]] if value.ndim > 1 else wanted)
    learned = [n for n in begin if not n.startswith(kept) and begin[n].ndim > 1]
    assert any(n.startswith("expert.gate.") for n in learned)
    seldom = ("bev.attention.presence", "at")
    still = [n for n in learned if torch.equal(begin[n], saved["net"][n])]
    assert not [n for n in still if not n.endswith(seldom)]


def test_without_a_lidar_network_the_expert_learns_along(
    write_frames: Callable[[int], Path], tmp_path: Path
) -> None:
    settings = replace(SHORT, expert="")
    begin = training.new_state(settings).net.state_dict()
    saved = read_checkpoint(train(write_frames(2), tmp_path / "run", settings).checkpoint)
    name = "expert.head.heat.1.weight"
    assert not torch.equal(begin[name], saved["net"][name])


def test_other_experts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expert: for the fused network, not for one of camera"):
        replace(SHORT, senses="camera")
    camera = str(resources.share_path("models/camera.pt"))
    with pytest.raises(StageError, match=r"camera\.pt: a teacher or an expert is a LIDAR network"):
        training.new_state(replace(SHORT, expert=camera))
    with pytest.raises(StageError, match="no checkpoint"):
        training.new_state(replace(SHORT, expert=str(tmp_path / "nobody.pt")))


def test_networks_of_one_sense_have_none() -> None:
    for senses in ("lidar", "camera"):
        assert not hasattr(FusionNet(senses=senses), "expert")
    assert {f.name for f in fields(Maps)} >= set(ANSWERS)
