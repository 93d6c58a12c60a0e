"""A bag played over DDS through both nodes, their answers recorded."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mm_fusion import parameters
from mm_fusion.cli.domains import free_domain
from mm_fusion.cli.processes import Child, Family, environment
from mm_fusion.config import Config
from mm_fusion.errors import ConfigError, StageError
from mm_fusion.evaluation.topics import COMPRESSED_IMAGE, Inputs

Progress = Callable[[float, str], None]
START_S = 90.0
# Answers may still be under way when the last message has been played.
QUIET_S = 1.5
DRAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What to play and where to put it."""

    bag: Path
    duration_s: float
    inputs: Inputs
    config: Config
    out: Path
    logs: Path
    rate: float = 1.0


def run_live(run: LiveRun, show: Progress) -> dict[str, float]:
    """Play, fuse, record into ``run.out``; answers times and the nodes' share of a core.

    Raises StageError naming the process that did not start, ended, or had nothing to say.
    """
    run.logs.mkdir(parents=True, exist_ok=True)
    settings = _write_parameters(run)
    with Family(environment(free_domain(), run.logs), run.logs) as family:
        show(0.0, "start the nodes")
        clock = ("--ros-args", "-p", "use_sim_time:=true")
        recorder = family.start("recorder", "--out", str(run.out), *clock)
        nodes = [
            family.start(name, *clock, "--params-file", str(settings))
            for name in _nodes(run.inputs)
        ]
        outputs = _outputs(run.inputs)
        family.wait(
            lambda: all(recorder.said.get("publishers", {}).get(o) for o in outputs),
            f"a publisher of {' and '.join(outputs)}",
            START_S,
        )
        show(1.0, "start the nodes")
        started_s = time.monotonic()
        _play(run, family, recorder, show)
        played_s = time.monotonic() - started_s
        _drain(family, recorder)
        # The nodes' last diagnostics hold the counts of the whole run: the recorder ends last.
        for child in (*nodes, recorder):
            child.stop()
            child.may_end = True
        _check_outputs(recorder, outputs)
        shares = {f"{n.name}_cpu_share": round(n.cpu_s / played_s, 3) for n in nodes}
    return {"wall_s": round(played_s, 3), "bag_s": round(run.duration_s, 3), **shares}


def _nodes(inputs: Inputs) -> list[str]:
    names = []
    if inputs.pose():
        names.append("pose_node")
    if inputs.perception():
        names.append("fusion_node")
    return names


def _outputs(inputs: Inputs) -> list[str]:
    """What has to come, by the names of the recorder."""
    outputs = []
    if inputs.perception():
        outputs += ["detections", "fusion/status"]
    if inputs.pose():
        outputs.append("odometry/local")
    return outputs


def live_config(inputs: Inputs, config: Config) -> Config:
    """The configuration with the topics of a bag, as the nodes need it."""
    named = inputs.config(config)
    infos = tuple("" if t is None else t.name.lstrip("/") for t in inputs.camera_infos)
    kinds = {t.msgtype for t in inputs.cameras if t is not None}
    if len(kinds) > 1:
        raise ConfigError(
            f"topics.cameras: must all be of one type, got {', '.join(sorted(kinds))}"
        )
    topics = dataclasses.replace(
        named.topics, camera_infos=infos, camera_compressed=kinds == {COMPRESSED_IMAGE}
    )
    return dataclasses.replace(named, topics=topics)


def _write_parameters(run: LiveRun) -> Path:
    """The parameter file of both nodes: what differs from the defaults."""
    default = parameters.flatten(Config())
    tree: dict[str, Any] = {"nodes": {"autostart": True}}
    for name, value in parameters.flatten(run.config).items():
        if value != default[name]:
            section, _, leaf = name.rpartition(".")
            plain = list(value) if isinstance(value, tuple) else value
            (tree.setdefault(section, {}) if section else tree)[leaf] = plain
    path = run.logs / "parameters.yaml"
    text = yaml.safe_dump({"/**": {"ros__parameters": tree}})
    path.write_text(text, encoding="utf-8")
    return path


def _play(run: LiveRun, family: Family, recorder: Child, show: Progress) -> None:
    topics = [t.name for t in _played(run.inputs)]
    heard = [t.name for t in _measured(run.inputs)]
    player = family.start(
        "simulator_node",
        "--ros-args",
        *("-p", f"bag:={run.bag.resolve()}", "-p", f"rate:={run.rate:f}"),
        *("-p", "progress:=true"),
        *("-p", f"topics:={_listed(topics)}", "-p", f"wait_for:={_listed(heard)}"),
    )
    player.may_end = True

    def done() -> bool:
        said = player.said
        if said:
            answers = recorder.said.get("received", {}).get("detections", 0)
            show(min(said["played_s"] / said["duration_s"], 0.99), f"live: {answers} answers")
        return player.ended

    family.wait(done, "the end of the playback", START_S + 3.0 * run.duration_s / run.rate)
    player.stop()
    show(1.0, "live")


def _measured(inputs: Inputs) -> list[Any]:
    single = (*inputs.lidars, inputs.gps, inputs.imu, inputs.wheels)
    return [t for t in (*inputs.cameras, *single) if t is not None]


def _played(inputs: Inputs) -> list[Any]:
    infos = [t for t in inputs.camera_infos if t is not None]
    return [*_measured(inputs), *infos, *inputs.transforms]


def _listed(names: list[str]) -> str:
    return "[" + ", ".join(f"'{n}'" for n in names) + "]"


def _drain(family: Family, recorder: Child) -> None:
    """Wait until no more results come."""
    last: dict[str, Any] = {}
    since_s = time.monotonic()

    def quiet() -> bool:
        nonlocal last, since_s
        received = _results(recorder)
        if received != last:
            last, since_s = received, time.monotonic()
        return time.monotonic() - since_s > QUIET_S

    family.wait(quiet, "the last answers", DRAIN_S)


def _results(recorder: Child) -> dict[str, Any]:
    received: Mapping[str, Any] = recorder.said.get("received", {})
    # These two also say, again and again, that nothing comes any more.
    return {t: n for t, n in received.items() if t not in ("/diagnostics", "fusion/status")}


def _check_outputs(recorder: Child, outputs: list[str]) -> None:
    received = recorder.said.get("received", {})
    for topic in outputs:
        if not received.get(topic):
            raise StageError(f"the nodes ran, but nothing came on {topic}")
