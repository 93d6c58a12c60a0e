"""Networks beside the fusion network, checked and timed; first contracts for those without."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mm_fusion.config import Config
from mm_fusion.errors import ContractError
from mm_fusion.health.timing import Percentiles
from mm_fusion.perception import contract as fusion
from mm_fusion.perception.camera2d.contract import CameraContract
from mm_fusion.perception.camera2d.network import CameraNetwork
from mm_fusion.perception.network import text_beside
from mm_fusion.perception.two_stage import (
    ENCODER_PREFIX,
    TwoStageNetwork,
    is_two_stage_contract,
)


def is_fusion_network(model: str) -> bool:
    """Whether a model is the packaged network, or has a fusion network's contract beside it."""
    if not model:
        return True
    text = text_beside(model)
    return text is not None and f"format: {fusion.FORMAT}\n" in f"{text}\n"


def check_camera_model(config: Config, runs: int, contract_to: Path | None) -> dict[str, Any]:
    """Hold ``config.model`` against its contract, or recognize it and write a first contract.

    The contract goes to ``contract_to``, or beside the model where that is not given and the
    folder may be written to. Raises ContractError for what does not fit or is not recognized.
    """
    network = CameraNetwork.from_config(config)
    c = network.contract
    noise = np.random.default_rng(0)
    shape = (c.picture.height_px, c.picture.width_px, 3)
    canvas = noise.integers(0, 256, shape, np.uint8)
    result: dict[str, Any] = {
        "model": str(network.model_path),
        "valid": True,
        "kind": "camera detector",
        "head": c.head,
        "recognized": network.recognized,
        "provider": network.provider,
        "picture": described(c),
        "outputs": list(c.outputs),
        "classes": {name: c.class_map[name] for name in c.classes if name in c.class_map},
        "classes_ignored": sum(name not in c.class_map for name in c.classes),
        "score_threshold": c.score_threshold,
        "runs": runs,
        "latency_ms": timed(lambda: network.run(canvas, c.score_threshold), runs),
    }
    if network.recognized:
        result["contract"] = write_contract(c.to_yaml(), Path(network.model_path), contract_to)
    return result


def is_two_stage_network(model: str) -> bool:
    """Whether a model is the encoder of a two-stage LIDAR network, by contract or by name."""
    text = text_beside(model)
    if text is not None and is_two_stage_contract(text):
        return True
    return Path(model).name.startswith(ENCODER_PREFIX)


def check_two_stage_model(config: Config, runs: int, contract_to: Path | None) -> dict[str, Any]:
    """Hold the pair whose encoder is ``config.model`` against its contract, or against Autoware's
    parameters, of which a first contract is made."""
    network = TwoStageNetwork.from_config(config)
    c = network.contract
    r = c.range_m
    rng = np.random.default_rng(0)
    low, high = [r.x_m[0], r.y_m[0], r.z_m[0]], [r.x_m[1], r.y_m[1], r.z_m[1]]
    xyz = rng.uniform(low, high, (20_000, 3)).T.astype(np.float32)
    ones = np.ones(xyz.shape[1], np.float32)
    recognized = not c.source.endswith(Path(network.model_path).with_suffix(".yaml").name)
    result: dict[str, Any] = {
        "model": str(network.model_path),
        "valid": True,
        "kind": "two-stage LIDAR network",
        "head": "CenterPoint",
        "recognized": recognized,
        "provider": network.provider,
        "picture": f"{c.features} features of 32 points in up to {c.max_voxels} pillars",
        "outputs": list(c.heads),
        "classes": {name: c.class_map[name] for name in c.classes if name in c.class_map},
        "classes_ignored": sum(name not in c.class_map for name in c.classes),
        "score_threshold": c.score_threshold,
        "runs": runs,
        "latency_ms": timed(lambda: network.run(xyz, ones, ones, c.score_threshold), runs),
    }
    if recognized:
        result["contract"] = write_contract(c.to_yaml(), Path(network.model_path), contract_to)
    return result


def described(c: CameraContract) -> str:
    """The input in a line."""
    p = c.picture
    return (
        f"{p.name} {p.dtype} {p.layout} {p.width_px} x {p.height_px} {p.colour_order}, {p.fit},"
        f" (p - {list(p.mean)}) / {list(p.std)}"
    )


def timed(call: Callable[[], Any], runs: int) -> dict[str, float]:
    """What a call takes, in ms; the first call pays for what later ones share."""
    call()
    spent = Percentiles()
    for _ in range(runs):
        started_ns = time.perf_counter_ns()
        call()
        spent.add(time.perf_counter_ns() - started_ns)
    return dict(spent.summary())


def write_contract(text: str, model: Path, to: Path | None) -> str:
    """Write a first contract; answers its path, or why there is none. What is there stays."""
    path = to or model.with_suffix(".yaml")
    hint = "--contract FILE puts it elsewhere"
    if to is None and not path.parent.stat().st_mode & 0o222:
        # Also for root, whom the system would let write.
        return f"not written beside the model, whose folder is read-only; {hint}"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        if to is not None:
            raise ContractError(f"{path}: is there already, and is left as it is") from error
        return f"not written: {path} is there already, and is another's; {hint}"
    except OSError as error:
        if to is not None:
            raise ContractError(f"{path}: cannot be written: {error.strerror}") from error
        return f"not written beside the model ({error.strerror}); {hint}"
    return str(path)


def as_text(result: Mapping[str, Any]) -> str:
    """A result for people."""
    spent = result["latency_ms"]
    classes = ", ".join(f"{name} -> {label}" for name, label in result["classes"].items())
    found = "recognized as" if result["recognized"] else "fits its contract:"
    lines = [
        f"{result['model']}: {found} a {result['kind']}, head {result['head']}",
        f"  runs on {result['provider']}: median {spent['p50']:.1f} ms, p99 {spent['p99']:.1f} ms"
        f" over {result['runs']} runs",
        f"  input:   {result['picture']}",
        f"  outputs: {', '.join(result['outputs'])}",
        f"  classes: {classes}; {result['classes_ignored']} others are ignored",
        f"  score threshold: {result['score_threshold']}",
    ]
    if "contract" in result:
        lines.append(f"  contract: {result['contract']}")
    return "\n".join(lines)
