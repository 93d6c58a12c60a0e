"""From the last sensor's arrival to the published result, live over DDS.

A source (simulated pictures of 1280 x 720 at 30 Hz per camera, 64-beam sweeps at 10 Hz, IMU 200 Hz,
wheels 50 Hz, GPS 5 Hz, prepared beforehand), pose_node, fusion_node, a listener to the results, and
a subscriber to fusion_node's inputs that does nothing: processes of their own, for --seconds
after a warm-up. fusion_node runs with stopwatches (nodes/bench_latency_fusion.py).

``latency_ms.ours`` is from the arrival, in the node, of the message that released a set until the
set's detections and tracks are published, without the network's run. ``cpu_ms_per_set.ours``
counts CPU by thread: all callbacks, the working thread but for the network, helper threads. Not in
it are the network, rclpy's taking of messages, and the threads of DDS; they are listed. Beside it
stands ``ours_by_difference``: the whole process without the network and without as much as the
subscriber that does nothing needed for the same messages. Wall-clock percentiles are to be read
beside those of that subscriber and ``machine.sleep_1ms_overshoot_ms``.

A sweep is unanswered where no detections of its stamp reached the listener. The sets that the node
gave up for newer ones, because the network was slower than the sensors, are counted beside.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mm_fusion.bench import latency_figures as figures
from mm_fusion.bench.tape import CAMERA_S
from mm_fusion.cli.domains import free_domain
from mm_fusion.cli.processes import Child, Family, environment

HELP = "from the last sensor's arrival to the published result, live over DDS"
START_S = 90.0
WARM_UP_S = 4.0
TAIL_S = 2.0  # played on after the window, so that its last sweeps are answered
PAUSE_S = 0.02  # between two looks at the machine's noise
RESULTS = {
    "detections": "vision_msgs/msg/Detection3DArray",
    "tracks": "vision_msgs/msg/Detection3DArray",
    "fusion/status": "diagnostic_msgs/msg/DiagnosticArray",
}
OBSTACLES = {"obstacles": "sensor_msgs/msg/PointCloud2"}
DETECTIONS, SWEEPS, MOTION = "detections", "lidar/points", "odometry/local"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="measured, after a warm-up (20)"
    )
    parser.add_argument("--cameras", type=int, default=1, help="1 to 6 (1)")
    parser.add_argument(
        "--columns", type=int, default=2048, help="azimuth steps of the 64 beams (2048)"
    )
    parser.add_argument("--jpeg", action="store_true", help="CompressedImage instead of Image")
    parser.add_argument("--obstacles", action="store_true", help="listen to obstacles, too")
    parser.add_argument(
        "--tape",
        type=Path,
        metavar="DIR",
        help="keep the prepared messages here, to use them again",
    )
    parser.add_argument("--model", type=Path, metavar="ONNX", help="another network")


@dataclass(slots=True)
class Measured:
    """What a run left: the window on the system's clock, and the processes' notes."""

    since_ns: int = 0
    until_ns: int = 0
    before: dict[str, dict[int, tuple[str, int]]] = field(default_factory=dict)
    after: dict[str, dict[int, tuple[str, int]]] = field(default_factory=dict)
    noise_ns: list[int] = field(default_factory=list)

    def threads(self, name: str) -> dict[int, tuple[str, int]]:
        """CPU by thread of a process in the window."""
        return figures.spent(self.before[name], self.after[name])

    def cpu_ns(self, name: str) -> int:
        """CPU of a whole process in the window."""
        return sum(ns for _, ns in self.threads(name).values())


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    from mm_fusion.bench.tape import Recipe, prepared
    from mm_fusion.errors import ConfigError

    for name, low, high in (("seconds", 1.0, 600.0), ("cameras", 1, 6), ("columns", 64, 4096)):
        value = getattr(args, name)
        if not low <= value <= high:
            raise ConfigError(f"--{name}: must be within {low:g} .. {high:g}, got {value:g}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe = Recipe(WARM_UP_S + args.seconds + TAIL_S, args.cameras, args.columns, args.jpeg)
        tape = prepared(args.tape or folder / "tape", recipe, lambda _: None)
        network = _network(args, folder)
        measured = _live(args, folder, args.tape or folder / "tape", network)
        return _figures(args, folder, measured, tape.points, network)


def _network(args: argparse.Namespace, folder: Path) -> Path | None:
    """A network with enough camera slots; None: the packaged one has them."""
    from mm_fusion.bench.stand_in import write_stand_in
    from mm_fusion.perception.network import read_contract

    model: Path | None = args.model
    slots = 1 if model is None else read_contract(model).camera_slots
    return model if args.cameras <= slots else write_stand_in(folder, args.cameras, model)


# ------------------------------------------------------------------------------ the processes


def _inputs(args: argparse.Namespace) -> dict[str, str]:
    """Topics and types that fusion_node listens to."""
    from mm_fusion.bench.tape import CLOUD, COMPRESSED, IMAGE, image_topic

    kind = COMPRESSED if args.jpeg else IMAGE
    inputs = {image_topic(n, args.jpeg): kind for n in range(args.cameras)}
    infos = {f"camera_{n}/camera_info": "sensor_msgs/msg/CameraInfo" for n in range(args.cameras)}
    return {**inputs, **infos, SWEEPS: CLOUD, MOTION: "nav_msgs/msg/Odometry"}


def _settings(args: argparse.Namespace, folder: Path, network: Path | None) -> Path:
    """The nodes' parameter file."""
    from mm_fusion.bench.tape import image_topic

    topics = {
        "cameras": [image_topic(n, args.jpeg) for n in range(args.cameras)],
        "camera_infos": [f"camera_{n}/camera_info" for n in range(args.cameras)],
        "camera_compressed": args.jpeg,
    }
    tree: dict[str, Any] = {"topics": topics, "nodes": {"autostart": True}}
    if network is not None:
        tree["network"] = {"model": str(network.resolve())}
    path = folder / "parameters.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": tree}}))
    return path


def _live(args: argparse.Namespace, folder: Path, tape: Path, network: Path | None) -> Measured:
    settings = ("--ros-args", "--params-file", str(_settings(args, folder, network)))
    environ = environment(free_domain(), folder)
    results = {**RESULTS, **(OBSTACLES if args.obstacles else {})}
    seconds = WARM_UP_S + args.seconds + TAIL_S
    with Family(environ, folder) as family:
        listening = [f"--topic={name}:{kind}" for name, kind in results.items()]
        idling = [f"--topic={name}:{kind}" for name, kind in _inputs(args).items()]
        children = {
            "listener": family.start(
                "bench_latency_listener", "--out", str(folder / "listener.json"), *listening
            ),
            "pose_node": family.start("pose_node", *settings),
            "fusion_node": family.start(
                "bench_latency_fusion", "--out", str(folder / "fusion.json"), *settings
            ),
        }
        (folder / "idle").mkdir()
        idle = ("--out", str(folder / "idle.json"), "--sensors", *idling)
        children["do_nothing_subscriber"] = Child(
            "bench_latency_listener", idle, environ, folder / "idle"
        )
        family.children.append(children["do_nothing_subscriber"])
        source = family.start(
            "bench_latency_source",
            *("--tape", str(tape), "--seconds", str(seconds), "--out", str(folder / "source.json")),
            *("--listeners", *(f"{name}={n}" for name, n in _listeners(args).items())),
        )
        family.wait(lambda: bool(source.said.get("playing")), "listeners to every topic", START_S)
        measured = _window(args.seconds, family, {"source": source, **children})
        family.wait(lambda: bool(source.said.get("played")), "the end of the tape", START_S)
        for child in (children["fusion_node"], *children.values(), source):
            child.may_end = True
            child.stop()
    return measured


def _listeners(args: argparse.Namespace) -> dict[str, int]:
    """How many subscribers each topic of the tape must have: the node and the idle one."""
    pose = dict.fromkeys(("imu/data", "wheel/odometry", "gps/fix"), 1)
    shared = {name: 2 for name in _inputs(args) if name != MOTION}
    return {**pose, **shared, "/tf_static": 2}


def _window(seconds: float, family: Family, children: dict[str, Child]) -> Measured:
    """Warm up, then measure; the processes run on."""
    measured = Measured()
    _pass(WARM_UP_S, family)
    noise = threading.Thread(target=_listen_to_noise, args=(seconds, measured.noise_ns))
    noise.start()
    measured.since_ns = time.time_ns()
    measured.before = {name: _threads(child.pid) for name, child in children.items()}
    _pass(seconds, family)
    measured.after = {name: _threads(child.pid) for name, child in children.items()}
    measured.until_ns = time.time_ns()
    noise.join()
    return measured


def _pass(seconds: float, family: Family) -> None:
    """Let time pass while all children live."""
    end_s = time.monotonic() + seconds
    family.wait(lambda: time.monotonic() >= end_s, "time to pass", seconds + START_S)


def _listen_to_noise(seconds: float, overshoots_ns: list[int]) -> None:
    """How much longer than asked for a sleep of 1 ms takes."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        before_ns = time.perf_counter_ns()
        time.sleep(0.001)
        overshoots_ns.append(time.perf_counter_ns() - before_ns - 1_000_000)
        time.sleep(PAUSE_S)


def _threads(pid: int) -> dict[int, tuple[str, int]]:
    """Name and CPU time in ns of every thread of a process, as the scheduler counts it."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            found[int(task.name)] = (name, int((task / "schedstat").read_text().split()[0]))
        except OSError:
            continue  # a thread that has just ended
    return found


# -------------------------------------------------------------------------------- the figures


def _figures(
    args: argparse.Namespace,
    folder: Path,
    measured: Measured,
    points: list[int],
    network: Path | None,
) -> dict[str, Any]:
    def read(name: str) -> Any:
        return json.loads((folder / f"{name}.json").read_text())

    since_ns, until_ns = measured.since_ns, measured.until_ns
    notes = figures.Notes.read(read("fusion"), since_ns, until_ns)
    source, heard, idle = read("source"), read("listener"), read("idle")
    waits = figures.sweep_waits_ns(notes)
    wall_ns = max(until_ns - since_ns, 1)
    return {
        "setup": _setup(args, notes, points, network),
        "latency_ms": figures.latency(notes),
        "cpu_ms_per_set": figures.cpu(
            notes, measured.threads("fusion_node"), measured.cpu_ns("do_nothing_subscriber")
        ),
        "callbacks": figures.callback_costs(notes),
        "sweeps": figures.answered(source["sweeps"], heard[DETECTIONS], since_ns, until_ns),
        "sets_given_up_for_newer": notes.given_up,
        "sweep_wait_ms": figures.percentiles(waits),
        "camera_period_ms": round(CAMERA_S * 1e3, 3),
        "sweeps_that_waited_longer": sum(w > CAMERA_S * 1e9 for w in waits),
        "do_nothing_subscriber_ms": _delays(source["sweeps"], idle, since_ns, until_ns),
        "cpu_share": {
            name: round(measured.cpu_ns(name) / wall_ns, 3) for name in sorted(measured.after)
        },
        "machine": {
            "cores": os.cpu_count(),
            "sleep_1ms_overshoot_ms": figures.percentiles(measured.noise_ns),
            "source_late_ms": figures.percentiles(source["lateness_ns"]),
        },
    }


def _setup(
    args: argparse.Namespace, notes: figures.Notes, points: list[int], network: Path | None
) -> dict[str, Any]:
    return {
        "seconds": args.seconds,
        "cameras": args.cameras,
        "picture": "1280x720 " + ("jpeg" if args.jpeg else "rgb8"),
        "camera_hz": round(1.0 / CAMERA_S, 1),
        "points_per_sweep": round(sum(points) / max(len(points), 1)),
        "listened_to": [*RESULTS, *(OBSTACLES if args.obstacles else ())],
        "network": _network_name(args, network),
        "sets": len(notes.sets),
        "sets_with_all_sensors": sum(s.missing == 0 for s in notes.sets),
        "detections_per_set": _mean([s.detections for s in notes.sets]),
        "tracks_per_set": _mean([s.tracks for s in notes.sets]),
    }


def _network_name(args: argparse.Namespace, network: Path | None) -> str:
    from mm_fusion.bench.stand_in import NOTE

    name = "the packaged network" if args.model is None else str(args.model)
    return name if network == args.model else f"{name}; {NOTE}"


def _mean(counts: list[int]) -> float:
    return round(sum(counts) / max(len(counts), 1), 1)


def _delays(
    sent: list[list[int]], idle: dict[str, list[list[int]]], since_ns: int, until_ns: int
) -> dict[str, Any]:
    """From the sending of a sweep to a callback that does nothing: the transport alone."""
    found = figures.answered(sent, idle[SWEEPS], since_ns, until_ns)
    return {
        "sweeps_received": found["answered"],
        "sweeps_lost": found["unanswered"],
        "sent_to_callback": found["from_sending_ms"],
    }
