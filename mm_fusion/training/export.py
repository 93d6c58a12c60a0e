"""Export: ``mm_fusion export --checkpoint FILE --out models`` writes the network and its contract.

``fusion.onnx`` is one graph from bytes to boxes; ``fusion.yaml`` is its contract: what goes in and
out, in which frames and units, what was trained and what it scored. The graph is run beside the
PyTorch network before either file is put in place, and must say the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import yaml

from mm_fusion.errors import ConfigError, StageError
from mm_fusion.perception.contract import NetworkInputs
from mm_fusion.perception.network import FusionNetwork
from mm_fusion.training.calibrate import calibrate
from mm_fusion.training.dataset import POINT_BUDGET, limit_points
from mm_fusion.training.fp16 import export_half
from mm_fusion.training.frames import CLASSES, list_frames, load_frame
from mm_fusion.training.graph import problems, without_arctan
from mm_fusion.training.network_torch import SPREAD_CHANNELS, TOP_K, DeployedNet, FusionNet
from mm_fusion.training.train import CURVES, averaged_network, read_checkpoint
from mm_fusion.training.validate import validate
from mm_fusion.training.views import IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX

FORMAT_VERSION = 1
OPSET = 18
INPUTS = ("points", "images", "pixel_from_base", "has_points", "has_image")
OUTPUTS = ("boxes", "scores", "labels", "spreads")
SCORE_THRESHOLD = 0.2  # of a network whose scores were not calibrated
PARITY_SCORE = 0.05
PARITY_TOLERANCE = 2e-3
HEADER = """\
# The contract of {model}: what this network takes, gives and knows. Written by `mm_fusion export`;
# a network that does not fit its contract is refused at start. Lengths are metres, angles radians,
# speeds metres per second; P is the number of points, any from 1 to point_budget.
"""
Arrays = dict[str, npt.NDArray[Any]]


def made_inputs(seed: int, points: int = 20_000, cameras: int = 1) -> Arrays:
    """A made scene for tracing and for parity: noisy images and points all around."""
    rng = np.random.default_rng(seed)
    distance = np.minimum(rng.exponential(12.0, points), 60.0)
    angle = rng.uniform(-np.pi, np.pi, points)
    columns = [
        distance * np.cos(angle),
        distance * np.sin(angle),
        rng.uniform(-0.2, 3.0, points),
        rng.uniform(0.0, 1.0, points),
        rng.uniform(0.0, 0.1, points),
    ]
    camera = np.array([[300.0, 0.0, 255.5], [0.0, 300.0, 127.5], [0.0, 0.0, 1.0]])
    optical_from_base = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.6], [1.0, 0, 0, -0.3]])
    images = rng.integers(0, 255, (cameras, IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX, 3))
    return {
        "points": np.stack(columns, 1).astype(np.float32),
        "images": images.astype(np.uint8),
        "pixel_from_base": all_around(camera @ optical_from_base, cameras),
        "has_points": np.ones(1, np.float32),
        "has_image": np.ones(cameras, np.float32),
    }


def all_around(pixel_from_base: npt.NDArray[np.floating], cameras: int) -> npt.NDArray[np.float32]:
    """Projections [C,3,4] of so many cameras like this one [3,4], each looking further left."""
    out = []
    for angle in np.arange(cameras) * (2.0 * np.pi / cameras):
        c, s = np.cos(angle), np.sin(angle)
        back = np.array([[c, s, 0, 0], [-s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        out.append(pixel_from_base @ back)
    return np.stack(out).astype(np.float32)


def frame_inputs(path: Path, cameras: int = 1) -> Arrays:
    """A training frame as the network's inputs; more cameras than one see its picture, too."""
    frame = load_frame(path)
    return {
        "points": limit_points(frame.points, POINT_BUDGET),
        "images": np.repeat(frame.image[None], cameras, axis=0),
        "pixel_from_base": all_around(frame.pixel_from_base, cameras),
        "has_points": np.ones(1, np.float32),
        "has_image": np.ones(cameras, np.float32),
    }


def write_onnx(net: FusionNet, path: Path, cameras: int = 1) -> None:
    """Trace the network into one self-contained ONNX file with a free number of points and slots
    for so many cameras, which share all weights."""
    example = tuple(torch.from_numpy(v) for v in made_inputs(0, cameras=cameras).values())
    free = ({0: torch.export.Dim("P", min=1, max=1_000_000)}, None, None, None, None)
    torch.onnx.export(
        DeployedNet(net).eval(),
        example,
        str(path),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_shapes=free,
        external_data=False,
        verbose=False,
    )
    strip_tracing(path)


def strip_tracing(path: Path) -> None:
    """Take the exporter's notes (stack traces, paths of this machine) and what no GPU runs out of
    the file. Raises StageError where the graph would not run on CUDA as a whole."""
    model = without_arctan(onnx.load(str(path)))
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for entry in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        entry.doc_string = ""
        del entry.metadata_props[:]
    if found := problems(model):
        raise StageError(f"{path}: not fit for a GPU: {'; '.join(found[:5])}")
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def torch_answer(net: FusionNet, inputs: Arrays) -> list[npt.NDArray[Any]]:
    """boxes, scores, labels, spreads of the PyTorch network."""
    with torch.no_grad():
        return [v.numpy() for v in DeployedNet(net)(*(torch.from_numpy(inputs[n]) for n in INPUTS))]


def onnx_answer(network: FusionNetwork, inputs: Arrays) -> list[npt.NDArray[Any]]:
    """boxes, scores, labels, spreads of the exported graph as the nodes run it."""
    staged = NetworkInputs(**inputs, point_count=len(inputs["points"]))
    return [answer for answer in network.run(staged) if answer is not None]


def largest_difference(ours: list[npt.NDArray[Any]], theirs: list[npt.NDArray[Any]]) -> float:
    """Largest difference of score or box between two answers, whatever the order of equals.

    Boxes count where their score is at least PARITY_SCORE: below, the order is decided by noise.
    """
    worst = float(np.abs(ours[1] - theirs[1]).max())
    taken = np.zeros(TOP_K, bool)
    for box, score, label in zip(*ours[:3], strict=True):
        if score < PARITY_SCORE:
            continue
        distance = np.abs(theirs[0] - box).max(1) + 1e6 * ((theirs[2] != label) | taken)
        best = int(distance.argmin())
        taken[best] = True
        worst = max(worst, float(distance[best]), abs(float(score - theirs[1][best])))
    return worst


def check_parity(net: FusionNet, network: FusionNetwork, frames: list[Path]) -> float:
    """Largest torch-to-onnx difference over made and real frames and both withheld senses.

    Raises StageError above PARITY_TOLERANCE.
    """
    slots = network.contract.camera_slots
    scenes = [made_inputs(1, cameras=slots), made_inputs(2, points=1, cameras=slots)]
    scenes += [frame_inputs(path, slots) for path in frames]
    last = scenes[-1]
    scenes.append({**last, "has_points": np.zeros(1, np.float32)})
    scenes.append({**last, "has_image": np.zeros(slots, np.float32)})
    if slots > 1:
        scenes.append({**last, "has_image": np.eye(slots, dtype=np.float32)[-1]})
    worst = max(
        largest_difference(torch_answer(net, scene), onnx_answer(network, scene))
        for scene in scenes
    )
    if not worst <= PARITY_TOLERANCE:
        raise StageError(f"{network.model_path}: differs from the trained network by {worst:g}")
    return worst


def tensor(name: str, dtype: str, shape: list[Any], meaning: str, **more: Any) -> dict[str, Any]:
    """One entry of the contract's inputs or outputs."""
    return {"name": name, "dtype": dtype, "shape": shape, "meaning": meaning, **more}


def input_entries(cameras: int) -> list[dict[str, Any]]:
    """The contract's inputs."""
    return [
        tensor(
            "points",
            "float32",
            ["P", 5],
            "one sweep, ego motion taken out: x y z (m), intensity (0-1), seconds before the stamp;"
            " rows with a non-finite or out-of-range coordinate are ignored",
            frame="base_link",
            absent_when="has_points is 0; then one row of zeros will do",
        ),
        tensor(
            "images",
            "uint8",
            [cameras, IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX, 3],
            "rectified (pinhole) images, whole and resized, one per camera slot",
            colour_order="RGB",
            absent_when="has_image is 0; then all zeros will do",
        ),
        tensor(
            "pixel_from_base",
            "float32",
            [cameras, 3, 4],
            "(u*w, v*w, w) = pixel_from_base @ (x, y, z, 1): base metres to pixels of the resized"
            " image, pixel centres at integers",
            frame="base_link",
        ),
        tensor("has_points", "float32", [1], "1 when points are there, 0 when absent"),
        tensor(
            *("has_image", "float32", [cameras]),
            "per camera slot: 1 when its image is there, else 0",
        ),
    ]


def output_entries() -> list[dict[str, Any]]:
    """The contract's outputs."""
    return [
        tensor(
            "boxes",
            "float32",
            [TOP_K, 9],
            "centre x y z, length width height (m), yaw about z (rad), velocity x y (m/s)",
            frame="base_link",
        ),
        tensor("scores", "float32", [TOP_K], "0-1, falling"),
        tensor("labels", "int64", [TOP_K], "index into classes"),
        tensor(
            "spreads",
            "float32",
            [TOP_K, SPREAD_CHANNELS],
            "mean absolute error expected of x and y (m), z (m), size (in its logarithm), yaw (in"
            " sine and cosine), velocity (m/s)",
        ),
    ]


def contract(
    net: FusionNet,
    model: Path,
    trained: Any,
    scores: dict[str, Any] | None,
    threshold: float,
    cameras: int = 1,
) -> dict[str, Any]:
    """The contract of an exported network as plain values."""
    grid = net.grid
    return {
        "format": "mm_fusion network contract",
        "format_version": FORMAT_VERSION,
        "model": model.name,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "opset": OPSET,
        "parameters": sum(p.numel() for p in net.parameters()),
        "frame": "base_link",
        "classes": list(CLASSES),
        "camera_slots": cameras,
        "image_height_px": IMAGE_HEIGHT_PX,
        "image_width_px": IMAGE_WIDTH_PX,
        "colour_order": "RGB",
        "point_budget": POINT_BUDGET,
        "max_detections": TOP_K,
        "score_threshold": threshold,
        "may_be_absent": ["points", "images"],
        "range_m": {
            "x": [grid.x_min_m, grid.x_max_m],
            "y": [grid.y_min_m, grid.y_max_m],
            "z": [grid.z_min_m, grid.z_max_m],
        },
        "pillar_m": grid.pillar_m,
        "bev_cell_m": grid.bev_cell_m,
        "output_cell_m": grid.pillar_m,
        "inputs": input_entries(cameras),
        "outputs": output_entries(),
        "trained": trained,
        "scored": scores if scores is not None else "not scored",
    }


def network_of(checkpoint: Path | None) -> tuple[FusionNet, Any]:
    """The averaged network of a checkpoint and how it was trained; without one, untrained."""
    return network_in({} if checkpoint is None else read_checkpoint(checkpoint))


def network_in(saved: dict[str, Any]) -> tuple[FusionNet, Any]:
    """The same of a checkpoint that was read; empty where there is none. Raises StageError where it
    is one of another architecture."""
    if not saved:
        torch.manual_seed(0)
        return FusionNet().eval(), "untrained, for wiring only"
    net, settings = averaged_network(saved), saved["settings"]
    without = {"without": list(settings["without"])} if settings.get("without") else {}
    if "trained" in saved:  # of weights that an export wrote
        return net, {**saved["trained"], **without}
    trained = {
        "senses": settings["senses"],
        **without,
        "data": "simulated town, own simulator",
        "frames": saved["frames"],
        "steps": saved["step"],
        "planned_steps": settings["steps"],
        "batch": settings["batch"],
        "seed": settings["seed"],
        "learning_rate": settings["learning_rate"],
        "bfloat16": settings["bfloat16"],
        "duration_s": round(saved["duration_s"]),
        "torch": str(torch.__version__),
    }
    return net, trained


def export(
    checkpoint: Path | None,
    out: Path,
    frames_val: Path | None = None,
    note: str = "",
    frames_calibration: Path | None = None,
    name: str = "fusion",
    cameras: int = 1,
    weights: bool = False,
) -> dict[str, Any]:
    """Write ``out/fusion.onnx`` and ``out/fusion.yaml``; returns the contract.

    Both files are replaced only after the graph has proved to say what the network says. Scores
    are calibrated on ``frames_calibration``, which should be neither trained nor scored on.
    ``note`` is for what else a reader should know of how it was trained. ``cameras`` is how many
    slots the graph gets: all cameras share the weights, whatever was trained. ``weights`` asks for
    ``out/fusion.pt`` as well, to train on or to export from.
    """
    if cameras < 1:
        raise ConfigError(f"--cameras: must be 1 or more, got {cameras}")
    if weights and checkpoint is None:
        raise ConfigError("--weights: an untrained network has none worth keeping")
    saved = {} if checkpoint is None else read_checkpoint(checkpoint)
    net, trained = network_in(saved)
    threshold = saved.get("score_threshold", SCORE_THRESHOLD)
    if frames_calibration is not None:
        threshold = calibrate(net, list_frames(frames_calibration), net.senses)
    if note and isinstance(trained, dict):
        trained["note"] = note
    paths = list_frames(frames_val) if frames_val is not None else []
    scores = None
    if paths:
        scores = {"frames": len(paths), "metric": "nuScenes AP, mean of 0.5 1 2 4 m"}
        scores.update(validate(net, paths))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        model, text = Path(folder) / f"{name}.onnx", Path(folder) / f"{name}.yaml"
        write_onnx(net, model, cameras)
        values = contract(net, model, trained, scores, threshold, cameras)
        write_contract(values, text)
        network = FusionNetwork.open(model, "cpu", threads=1)
        values["torch_onnx_difference"] = float(f"{check_parity(net, network, paths[:3]):.3g}")
        write_contract(values, text)
        os.replace(model, out / model.name)
        os.replace(text, out / text.name)
    if weights:
        write_weights(out / f"{name}.pt", net, saved["settings"], values)
    return values


def write_weights(
    path: Path, net: FusionNet, settings: dict[str, Any], values: dict[str, Any]
) -> None:
    """A network's weights in half precision, its scores' curves and what its contract says of it:
    to start other trainings from (``--init``), or to export for more cameras."""
    average = {
        name: value.half() if value.is_floating_point() and not name.startswith(CURVES) else value
        for name, value in net.state_dict().items()
    }
    told = {name: values[name] for name in ("trained", "score_threshold")}
    torch.save({"settings": settings, "average": average, **told}, path)


def write_contract(values: dict[str, Any], path: Path) -> None:
    """The contract as YAML, with a head that says what it is."""
    body = yaml.safe_dump(values, sort_keys=False, width=96)
    path.write_text(HEADER.format(model=values["model"]) + body)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mm_fusion export``."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="checkpoint.pt of a training run")
    source.add_argument(
        "--untrained", action="store_true", help="random weights, to test the wiring"
    )
    parser.add_argument("--out", type=Path, default=Path("models"), help="folder to write into")
    parser.add_argument("--frames-val", type=Path, help="frames to score the network on")
    parser.add_argument(
        "--frames-calibration", type=Path, help="frames that tell what its scores are worth"
    )
    parser.add_argument("--name", default="fusion", help="of the files to write")
    parser.add_argument("--fp16", action="store_true", help="and one in half precision beside it")
    parser.add_argument(
        "--weights", action="store_true", help="and NAME.pt beside it, to train on from"
    )
    parser.add_argument("--note", default="", help="what else to say of the training")
    parser.add_argument(
        *("--cameras",),
        type=int,
        default=1,
        help="how many the network takes (1); they share its weights, so it need not be trained so",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """``mm_fusion export``: the contract as plain values."""
    checkpoint = None if args.untrained else args.checkpoint
    values = export(
        checkpoint,
        args.out,
        args.frames_val,
        args.note,
        args.frames_calibration,
        args.name,
        args.cameras,
        args.weights,
    )
    if args.fp16:
        paths = list_frames(args.frames_val) if args.frames_val is not None else []
        values["float16"] = export_half(args.out / values["model"], paths)
    return values


def main() -> None:
    """``python -m mm_fusion.training.export``: the same command without the rest of the CLI."""
    parser = argparse.ArgumentParser(description="Export the fusion network and its contract.")
    add_arguments(parser)
    print(yaml.safe_dump(run(parser.parse_args()), sort_keys=False))


if __name__ == "__main__":
    main()
