#!/usr/bin/env python3
"""Does the network run well on this machine's GPU? One command, one JSON.

    .venv/bin/python scripts/gpu_check.py                    (CUDA, the packaged network)
    .venv/bin/python scripts/gpu_check.py --provider tensorrt --model models/fusion.onnx

Checked are: where every node of the graph runs, that the GPU says what the CPU says, how long a run
takes with the copies there and back (plain and as a CUDA graph), and what half precision costs.
Without --frames, 64 frames are simulated. Ends with 1 where something misses its mark.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from mm_fusion import resources
from mm_fusion.datasets import writing
from mm_fusion.errors import MmFusionError
from mm_fusion.evaluation.parity import compare_networks
from mm_fusion.perception.contract import Contract, NetworkInputs
from mm_fusion.perception.network import PACKAGED_MODEL, FusionNetwork, read_contract
from mm_fusion.perception.runtime import CPU, RunSettings, choose, session_options
from mm_fusion.sim.rigs import Wanted
from mm_fusion.training.fp16 import export_half

SIMULATED_FRAMES = 64
POINTS = 30_000
# What is asked of a data centre's GPU.
MARKS = {"p50_ms": 3.0, "p99_ms": 5.0, "map_points_lost": 0.1, "score_max": 0.01}


def made_inputs(contract: Contract, points: int = POINTS) -> NetworkInputs:
    """As many points all over the network's range, and a noisy picture with a plain projection."""
    inputs = NetworkInputs.of(contract)
    random = np.random.default_rng(0)
    volume = contract.range_m
    count = min(points, contract.point_budget)
    low = [volume.x_m[0], volume.y_m[0], volume.z_m[0], 0.0, 0.0]
    high = [volume.x_m[1], volume.y_m[1], volume.z_m[1], 1.0, 0.1]
    inputs.points[:count] = random.uniform(low, high, (count, 5))
    inputs.set_points(count)
    inputs.images[:] = random.integers(0, 256, inputs.images.shape, np.uint8)
    height, width = inputs.images.shape[1:3]
    f = width / 2.0
    for slot in range(contract.camera_slots):
        inputs.set_image(slot, True)
        plain = [[f, -f, 0, 0], [height / 2.0, 0, -f, 1.5 * f], [1, 0, 0, 0]]
        inputs.pixel_from_base[slot] = plain
    return inputs


# ------------------------------------------------------------------------------ placement


def placement(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where nodes ran, from the events of ONNX Runtime's profile: how many by provider, which ones
    on the CPU, and copies between."""
    nodes: dict[str, tuple[str, str]] = {}
    for event in events:
        name, told = str(event.get("name", "")), event.get("args", {})
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            kind = str(told.get("op_name", ""))
            nodes[name.removesuffix("_kernel_time")] = (kind, str(told.get("provider", "")))
    copies = sorted(n for n, (kind, _) in nodes.items() if kind.startswith("Memcpy"))
    on_cpu = {n: kind for n, (kind, where) in nodes.items() if where == CPU}
    return {
        "nodes": len(nodes),
        "by_provider": dict(Counter(where for _, where in nodes.values())),
        "copies": copies,
        "on_cpu": dict(sorted(on_cpu.items())),
    }


def profile(model: Path, settings: RunSettings, inputs: NetworkInputs) -> dict[str, Any]:
    """Run the graph under ONNX Runtime's profiler and read where its nodes ran."""
    options = session_options(settings.threads)
    options.enable_profiling = True
    providers = choose(settings, ort.get_available_providers()).providers
    if providers[0][0] != CPU:
        ort.preload_dlls()
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(model), options, providers=providers)
        for _ in range(2):
            session.run(None, inputs.feeds())
        file = Path(session.end_profiling())
        return placement(json.loads(file.read_text(encoding="utf-8")))


# -------------------------------------------------------------------------------- latency


def latency(model: Path, settings: RunSettings, runs: int) -> dict[str, Any]:
    """Milliseconds of a run from staged buffers to boxes, copies included."""
    network = FusionNetwork.load(model, settings, lambda done: _say(f"warm-up {100 * done:.0f} %"))
    inputs = made_inputs(network.contract)
    network.lock(inputs)
    spent = []
    for _ in range(runs + 20):
        begun = time.perf_counter_ns()
        network.run(inputs)
        spent.append((time.perf_counter_ns() - begun) * 1e-6)
    p50, p99 = np.percentile(spent[20:], [50, 99])
    return {
        "provider": network.provider,
        "reason": network.reason,
        "cuda_graph": settings.cuda_graph,
        "page_locked": not network.pinned,
        "page_locked_why_not": network.pinned,
        "runs": runs,
        "points": inputs.point_count,
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
    }


# ------------------------------------------------------------------------------ the whole


def check(args: argparse.Namespace, frames: Sequence[Path], half: Path) -> dict[str, Any]:
    """Everything, as one tree."""
    plain = RunSettings(args.provider)
    contract = read_contract(args.model)
    _say("placement")
    placed = {
        name: profile(model, plain, made_inputs(contract))
        for name, model in (("float32", args.model), ("float16", half))
    }
    _say("latency")
    recorded = RunSettings(args.provider, cuda_graph=True)
    wanted = [plain] if args.provider == "cpu" else [plain, recorded]
    timed = {
        name: [latency(model, settings, args.runs) for settings in wanted]
        for name, model in (("float32", args.model), ("float16", half))
    }
    _say("parity")
    parity = compare_networks(args.model, args.model, frames, ("cpu", args.provider))
    _say("half precision")
    loss = compare_networks(args.model, half, frames, (args.provider, args.provider))
    result = {
        "machine": machine(),
        "model": str(args.model),
        "sha256": contract.sha256,
        "placement": placed,
        "latency": timed,
        "gpu_against_cpu": parity,
        "float16_against_float32": loss,
    }
    return {**result, "verdict": verdict(result)}


def verdict(result: Mapping[str, Any]) -> dict[str, bool]:
    """Which marks are met: by the faster way of running float32, and by what half of it loses."""
    best = min(result["latency"]["float32"], key=lambda t: t["p50_ms"])
    placed = result["placement"]["float32"]
    return {
        "on_gpu": best["provider"] != "cpu",
        "every_node_on_gpu": not placed["on_cpu"] and not placed["copies"],
        "p50": best["p50_ms"] <= MARKS["p50_ms"],
        "p99": best["p99_ms"] <= MARKS["p99_ms"],
        "same_as_cpu": result["gpu_against_cpu"]["score_max"] <= MARKS["score_max"],
        "float16_loss": result["float16_against_float32"]["map_points_lost"]
        <= MARKS["map_points_lost"],
    }


def machine() -> dict[str, Any]:
    """The GPU as its driver names it, and ONNX Runtime."""
    told = {"onnxruntime": ort.__version__, "offers": ort.get_available_providers()}
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {**told, "gpu": None}
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return {**told, "gpu": answer.stdout.strip() or answer.stderr.strip()}


def _frames(args: argparse.Namespace, folder: Path) -> list[Path]:
    if args.frames is not None:
        frames = sorted(args.frames.glob("*.npz"))[: args.limit]
        if not frames:
            raise MmFusionError(f"{args.frames}: no labelled frames (*.npz)")
        return frames
    _say(f"simulating {SIMULATED_FRAMES} frames")
    count = min(SIMULATED_FRAMES, args.limit)
    jobs = writing.sim_jobs(count, 20_001, Wanted(lidar="hdl64e"))
    writing.run_jobs(folder, jobs, args.workers, count, lambda _: None)
    return sorted(folder.glob("*.npz"))


def _say(text: str) -> None:
    print(f"gpu_check: {text}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The options."""
    head, _, rest = (__doc__ or "").partition("\n")
    made = argparse.ArgumentParser(
        description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    packaged = resources.share_path(PACKAGED_MODEL)
    made.add_argument("--model", type=Path, default=packaged, help="the ONNX file (packaged)")
    made.add_argument("--frames", type=Path, help="folder of labelled frames")
    made.add_argument("--limit", type=int, default=256, help="of frames (256)")
    made.add_argument("--provider", choices=("cuda", "tensorrt", "cpu"), default="cuda")
    made.add_argument("--runs", type=int, default=500, help="timed runs (500)")
    made.add_argument("--workers", type=int, default=4, help="processes that simulate (4)")
    made.add_argument("--out", type=Path, default=Path("out/gpu_check.json"))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Check, write, print."""
    args = parser().parse_args(argv)
    try:
        choose(RunSettings(args.provider), ort.get_available_providers())
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / args.model.name
            for suffix in (".onnx", ".yaml"):
                shutil.copy(args.model.with_suffix(suffix), copy.with_suffix(suffix))
            half = Path(export_half(copy, [])["model"])
            frames = _frames(args, Path(folder) / "frames")
            result = check(args, frames, half)
    except MmFusionError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    args.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0 if all(result["verdict"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
