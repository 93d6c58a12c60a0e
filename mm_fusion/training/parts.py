"""The parts of the fusion network that can be left out, to learn what each of them is worth.

A part that is left out answers as if it had nothing to say, and learns nothing: what remains is
the network without it, though its weights are still there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mm_fusion.errors import ConfigError
from mm_fusion.training.network_torch import FusionNet
from mm_fusion.training.views import DEPTH_BINS

ALL_TRUSTED = 20.0  # a logit whose sigmoid is 1

Handle = torch.utils.hooks.RemovableHandle


def _nothing(_module: nn.Module, _given: Any, said: Tensor) -> Tensor:
    return torch.zeros_like(said)


def _trusted(_module: nn.Module, _given: Any, said: Tensor) -> Tensor:
    return torch.full_like(said, ALL_TRUSTED)


def _as_given(_module: nn.Module, given: tuple[Tensor, ...], _said: Tensor) -> Tensor:
    return given[0]


def _unpainted(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    points, valid, paint, seen = given
    return points, valid, torch.zeros_like(paint), torch.zeros_like(seen)


def _at_every_depth(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    features, chances, *rest = given
    return (features, torch.full_like(chances, 1.0 / DEPTH_BINS), *rest)


# painting: no point reads the picture (its classes are taught all the same). lifting: no cell
# does. depth: what is lifted is lifted to every depth (depths are taught all the same). hint:
# nobody tells the neck where the ground is. trust: both senses are always believed. expert: the
# joint answer is all that counts.
PARTS: dict[str, Callable[[FusionNet], Handle]] = {
    "painting": lambda net: net.pillars.register_forward_pre_hook(_unpainted),
    "lifting": lambda net: net.lift.register_forward_hook(_nothing),
    "depth": lambda net: net.lift.register_forward_pre_hook(_at_every_depth),
    "hint": lambda net: net.image.hint8.register_forward_hook(_nothing),
    "trust": lambda net: net.bev.join.trust.register_forward_hook(_trusted),
    "expert": lambda net: net.expert.gate.register_forward_hook(_trusted),
    "attention": lambda net: net.bev.attention.register_forward_hook(_as_given),
}
OF_PICTURES = ("painting", "lifting", "depth", "hint")


def leave_out(net: FusionNet, part: str) -> Handle:
    """Leave one of PARTS out of the network from now on; ``remove()`` of the answer puts it back.

    Raises ConfigError for a part that there is not, or not in this network.
    """
    if part not in PARTS:
        raise ConfigError(f"a part that can be left out is one of {', '.join(PARTS)}, not {part}")
    if part in OF_PICTURES and net.senses == "lidar":
        raise ConfigError(f"a LIDAR network has no {part} that could be left out")
    if part == "expert" and net.senses != "fused":
        raise ConfigError(f"a network of one sense has no {part} that could be left out")
    return PARTS[part](net)
