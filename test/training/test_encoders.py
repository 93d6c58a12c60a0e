"""Image trunks: their maps, where the cells lie, and the weights they start from."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from mm_fusion.errors import ConfigError
from mm_fusion.training.encoders import LITE0, STRIDES, make_trunk


def test_maps_have_their_strides_and_channels() -> None:
    trunk = make_trunk(LITE0, pretrained=False).eval()
    with torch.no_grad():
        maps = trunk(torch.zeros(1, 3, 64, 96))
    shapes = [(1, c, 64 // s, 96 // s) for c, s in zip(trunk.channels, STRIDES, strict=True)]
    assert [tuple(m.shape) for m in maps] == shapes
    assert trunk.channels == (24, 40, 112)


def test_cell_j_is_centred_on_pixel_stride_times_j() -> None:
    """GIVEN one bright pixel, THEN of every map the cell over it changes most."""
    torch.manual_seed(0)
    trunk = make_trunk(LITE0, pretrained=True).eval()
    dark = torch.full((1, 3, 128, 160), 100.0)
    bright = dark.clone()
    bright[:, :, 64, 80] = 255.0
    with torch.no_grad():
        pairs = list(zip(trunk(dark), trunk(bright), STRIDES, strict=True))
    for before, after, stride in pairs[:2]:
        change = (after - before).abs().sum(1)[0]
        row, column = divmod(int(change.argmax()), change.shape[1])
        assert (row, column) == (64 // stride, 80 // stride)


def test_imagenet_weights_tell_pictures_apart() -> None:
    """Fresh weights and ImageNet's are of the same names and shapes, and different."""
    fresh = make_trunk(LITE0, pretrained=False).state_dict()
    learned = make_trunk(LITE0, pretrained=True).state_dict()
    assert fresh.keys() == learned.keys()
    assert not torch.equal(fresh["stem.0.weight"], learned["stem.0.weight"])
    # batch norm's statistics are those of training, not of the start
    assert (learned["blocks.10.project.1.running_var"] != 1.0).all()


def test_other_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="encoder must be"):
        make_trunk("resnet18", pretrained=True)


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_its_encoders_say_what_to_install() -> None:
    with pytest.raises(ConfigError, match="pip install timm"):
        make_trunk("timm:resnet18", pretrained=True)
