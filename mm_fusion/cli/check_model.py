"""Hold a network against its contract and time it on made-up input.

Without MODEL, the packaged network is checked. A usual export of a camera detector that has no
contract is recognized, and a first contract is written beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm_fusion import config
from mm_fusion.cli.options import add_json_argument, print_result
from mm_fusion.errors import ConfigError, ContractError

NAME = "check-model"
HELP = "hold a network against its contract, or recognize it, and time it"
EXAMPLES = """examples:
  mm_fusion check-model
  mm_fusion check-model my/fusion.onnx --provider cuda --runs 100
  mm_fusion check-model yolo11n.onnx                  # writes yolo11n.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion check-model``."""
    parser.add_argument("model", nargs="?", default="", help="the ONNX file, its .yaml beside it")
    parser.add_argument("--provider", choices=("auto", "tensorrt", "cuda", "cpu"), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="on the CPU; 0: one per core")
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="timed runs (20)")
    parser.add_argument(
        "--contract",
        type=Path,
        metavar="FILE",
        help="where to write the first contract of a network that has none (beside it)",
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Check, run, time, print."""
    if args.runs < 1:
        raise ConfigError(f"--runs: must be at least 1, got {args.runs}")
    from mm_fusion.evaluation import checking

    if not checking.is_fusion_network(args.model):
        two_stage = checking.is_two_stage_network(args.model)
        settings = config.from_values(
            {
                "detector": "lidar" if two_stage else "camera2d",
                "model": args.model,
                "network.provider": args.provider,
                "network.threads": args.threads,
            }
        )
        check = checking.check_two_stage_model if two_stage else checking.check_camera_model
        found = check(settings, args.runs, args.contract)
        print_result(found, args.json, checking.as_text(found))
        return 0
    result = _check_fusion(args)
    print_result(result, args.json, _text(result))
    return 0


def _check_fusion(args: argparse.Namespace) -> dict[str, Any]:
    """The fusion network, its contract beside it."""
    from mm_fusion.evaluation.checking import timed
    from mm_fusion.perception.network import FusionNetwork

    settings = config.from_values(
        {
            "network.model": args.model,
            "network.provider": args.provider,
            "network.threads": args.threads,
        }
    )
    network = FusionNetwork.from_config(settings)
    inputs = _made_up(network)
    problem = _problem(network.run(inputs))
    if problem:
        raise ContractError(f"{network.model_path}: {problem}")
    return {
        "model": str(network.model_path),
        "valid": True,
        "provider": network.provider,
        "inputs": [str(t) for t in network.contract.inputs],
        "outputs": [str(t) for t in network.contract.outputs],
        **{k: v for k, v in network.contract.facts().items() if k != "model"},
        "runs": args.runs,
        "points": inputs.point_count,
        "latency_ms": timed(lambda: network.run(inputs), args.runs),
    }


def _made_up(network: Any) -> Any:
    """Full buffers: as many points as the network takes, a grey-noise image, a plain projection."""
    import numpy as np

    from mm_fusion.perception.contract import NetworkInputs

    contract = network.contract
    inputs = NetworkInputs.of(contract)
    random = np.random.default_rng(0)
    volume = contract.range_m
    low = [volume.x_m[0], volume.y_m[0], volume.z_m[0], 0.0, 0.0]
    high = [volume.x_m[1], volume.y_m[1], volume.z_m[1], 1.0, 0.1]
    inputs.points[:] = random.uniform(low, high, inputs.points.shape)
    inputs.set_points(len(inputs.points))
    inputs.images[:] = random.integers(0, 256, inputs.images.shape, np.uint8)
    height, width = inputs.images.shape[1:3]
    focal_px = width / 2.0  # a view of 90 degrees, forward along x
    for slot in range(contract.camera_slots):
        inputs.set_image(slot, True)
        inputs.pixel_from_base[slot] = [
            [width / 2.0, -focal_px, 0.0, 0.0],
            [height / 2.0, 0.0, -focal_px, focal_px * 1.5],
            [1.0, 0.0, 0.0, 0.0],
        ]
    return inputs


def _problem(outputs: Any) -> str:
    """What is wrong with an answer, "" where nothing is."""
    import numpy as np

    if not (np.isfinite(outputs.boxes).all() and np.isfinite(outputs.scores).all()):
        return "the answer is not finite"
    if (np.diff(outputs.scores) > 0).any():
        return "the scores are not sorted, highest first"
    if outputs.scores.min() < 0.0 or outputs.scores.max() > 1.0:
        return "the scores must be within 0 .. 1"
    return ""


def _text(result: Mapping[str, Any]) -> str:
    spent = result["latency_ms"]
    lines = [
        f"{result['model']}: fits its contract",
        f"  runs on {result['provider']}: median {spent['p50']:.1f} ms, p99 {spent['p99']:.1f} ms"
        f" over {result['runs']} runs with {result['points']} points",
        f"  inputs:  {'; '.join(result['inputs'])}",
        f"  outputs: {'; '.join(result['outputs'])}",
        f"  classes: {', '.join(result['classes'])}; range (m): {result['range_m']}",
        f"  score threshold: {result['score_threshold']}",
        f"  trained: {result['trained']}",
        f"  scored:  {result['scored']}",
    ]
    return "\n".join(lines)
