#!/usr/bin/env python3
"""What each part of a trained fusion network carries: mAP with one part silenced at a time.

    .venv/bin/python scripts/ablate_parts.py --frames out/val64 --limit 128

Nothing is trained anew, so this says what the trained network leans on, which is more than what it
would lose if it had been trained without the part. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mm_fusion.training.export import network_of
from mm_fusion.training.frames import list_frames
from mm_fusion.training.network_torch import FusionNet
from mm_fusion.training.validate import validate

ALL_TRUSTED = 20.0  # a logit whose sigmoid is 1

Hook = Callable[[nn.Module, Any, Any], Any]


def _without_lifting(_m: nn.Module, _given: Any, said: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.zeros_like(said[0]), said[1], said[2]


def _without_painting(_m: nn.Module, _given: Any, said: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return said[0], torch.zeros_like(said[1]), said[2]


def _without_depth(_m: nn.Module, _given: Any, said: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return said[0], said[1], torch.zeros_like(said[2])  # every depth as likely as every other


def _nothing(_m: nn.Module, _given: Any, said: Tensor) -> Tensor:
    return torch.zeros_like(said)


def _trusted(_m: nn.Module, _given: Any, said: Tensor) -> Tensor:
    return torch.full_like(said, ALL_TRUSTED)


def _as_given(_m: nn.Module, given: tuple[Tensor, ...], _said: Tensor) -> Tensor:
    return given[0]


def parts(net: FusionNet) -> dict[str, dict[nn.Module, Hook]]:
    """Each part's name, the modules that are silenced, and how."""
    return {
        "painting": {net.image: _without_painting},
        "lifting": {net.image: _without_lifting},
        "depth": {net.image: _without_depth},
        "ground hint": {net.image.hint8: _nothing},
        "trust": {net.bev.join.trust: _trusted},
        "attention": {net.bev.attention: _as_given},
    }


def main() -> None:
    """Validate the whole network, then without each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("models/fusion.pt"))
    parser.add_argument("--frames", type=Path, required=True, help="folder of frames to score on")
    parser.add_argument("--limit", type=int, default=128, help="of them, the first so many")
    args = parser.parse_args()
    net, _ = network_of(args.checkpoint)
    paths = list_frames(args.frames)[: args.limit]
    whole = validate(net, paths, ["fused"])["fused"]["map"]
    result = {"frames": len(paths), "whole": round(whole, 4), "without": {}}
    for name, silenced in parts(net).items():
        handles = [module.register_forward_hook(hook) for module, hook in silenced.items()]
        value = validate(net, paths, ["fused"])["fused"]["map"]
        for handle in handles:
            handle.remove()
        result["without"][name] = {"map": round(value, 4), "relative": round(value / whole, 4)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
