"""Kill and revive every sensor in turn under load, live over DDS, and see what fusion does.

Every sensor is a process of its own (simulated pictures of 1280 x 720 at 30 Hz per camera, 64-beam
sweeps at 10 Hz, IMU 200 Hz, wheels 50 Hz, GPS 5 Hz); it is killed with SIGKILL, stays dead for
--dead seconds, and is started anew. pose_node and fusion_node run as they do on a robot.

Times are the sensors' own, from the stamps, unless a name says ``said``: those are wall-clock times
until the status of a result was received, network and transport included. ``mode_change_s`` is
from the dead sensor's last stamp to the first result without it; ``mode_change_periods`` is that in
periods of the sensor, or of the results where those are longer (a camera of 30 Hz can only be seen
to be missing ten times a second); ``results_still_with``: results after its last stamp that still
have it, for a picture may be a little older than the sweep. ``longest_gap_s`` is between two
results, from before the death until the return; ``full_after_s`` from the revived sensor's first
stamp to the first result with all of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mm_fusion.cli.domains import free_domain
from mm_fusion.cli.processes import Child, Family, environment
from mm_fusion.errors import StageError
from mm_fusion.samples import NS_PER_S, Mode

HELP = "kill and revive every sensor in turn, live over DDS"
START_S = 90.0
PATIENCE_S = 30.0
STEADY_RESULTS = 10  # with all sensors, before the next death
LIDAR, IMU, WHEELS, GPS = "lidar/points", "imu/data", "wheel/odometry", "gps/fix"
RESULTS_S = 0.1  # the sweeps' period is the results'
ALL = "all"
LISTENER = "bench_faults_listener"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--cameras", type=int, default=1, help="1 to 6 (1)")
    parser.add_argument(
        "--columns", type=int, default=1024, help="azimuth steps of the 64 beams (1024)"
    )
    parser.add_argument("--dead", type=float, default=2.0, help="seconds without the sensor (2)")
    parser.add_argument(
        "--sensors",
        nargs="*",
        default=[],
        metavar="TOPIC",
        help="only these die; all: all cameras and LIDARs at once (everyone, then all)",
    )
    parser.add_argument(
        "--tape", type=Path, metavar="DIR", help="keep the prepared messages here, to use again"
    )
    parser.add_argument("--model", type=Path, metavar="ONNX", help="another network")


@dataclass(frozen=True, slots=True)
class Said:
    """One status of fusion: of a result, or that there is none (mode none)."""

    stamp_ns: int
    came_ns: int
    mode: str
    missing: tuple[str, ...]
    since_ns: dict[str, int]

    @property
    def full(self) -> bool:
        """Whether every sensor took part."""
        return self.mode == Mode.CAMERA_LIDAR.value and not self.missing


class Log:
    """What the listener has written so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = ""
        self.said: list[Said] = []

    def look(self) -> list[Said]:
        """All of it, the newest last."""
        if not self._path.exists():
            return self.said
        with self._path.open() as lines:
            lines.seek(self._read)
            text = self._rest + lines.read()
            self._read = lines.tell()
        *whole, self._rest = text.split("\n")
        for line in whole:
            values = json.loads(line)
            values["missing"] = tuple(values["missing"])
            self.said.append(Said(**values))
        return self.said


class Stage:
    """The running processes, and the sensors that come and go."""

    def __init__(self, family: Family, tape: Path, log: Log, sensors: dict[str, tuple[str, ...]]):
        self.log = log
        self._family = family
        self._tape = tape
        self._topics = sensors
        self._start_ns = time.time_ns()
        self._lives = 0
        self.alive: dict[str, Child] = {}

    def revive(self, sensor: str) -> Child:
        """Start a sensor's process."""
        self._lives += 1
        child = self._family.start(
            "bench_faults_sensor",
            *("--tape", str(self._tape), "--start-ns", str(self._start_ns)),
            *("--topics", *self._topics[sensor]),
            name=f"sensor_{self._lives}_{sensor.replace('/', '_')}",
        )
        self.alive[sensor] = child
        return child

    def kill(self, sensor: str) -> tuple[int, int]:
        """SIGKILL; answers the sensor's last stamp, and when it was killed."""
        child = self.alive.pop(sensor)
        self._family.children.remove(child)
        killed_ns = time.time_ns()
        child.kill()
        time.sleep(0.05)  # what it had printed is still being read
        return int(child.said["stamp_ns"]), killed_ns

    def wait(
        self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S
    ) -> None:
        """Wait for a condition while all that should live do."""
        self._family.wait(condition, what, patience_s, 0.01)

    def steady(self) -> None:
        """Wait for some results in a row with all sensors."""
        since = len(self.log.look())

        def reached() -> bool:
            last = self.log.look()[since:][-STEADY_RESULTS:]
            return len(last) == STEADY_RESULTS and all(s.full for s in last)

        self.wait(reached, f"{STEADY_RESULTS} results in a row with all sensors", START_S)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    from mm_fusion.bench.tape import Recipe, prepared
    from mm_fusion.errors import ConfigError

    for name, low, high in (("cameras", 1, 6), ("columns", 64, 4096), ("dead", 1.0, 60.0)):
        value = getattr(args, name)
        if not low <= value <= high:
            raise ConfigError(f"--{name}: must be within {low:g} .. {high:g}, got {value:g}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tape = args.tape or folder / "tape"
        streams = prepared(tape, Recipe(60.0, args.cameras, args.columns), lambda _: None).streams
        sensors = _sensors(args.cameras)
        unknown = set(args.sensors) - {*sensors, ALL}
        if unknown:
            known = ", ".join([*sensors, ALL])
            raise ConfigError(f"--sensors: must be among {known}, got {', '.join(unknown)}")
        periods_s = {s.topic: s.period_ns / NS_PER_S for s in streams}
        return _live(args, folder, tape, sensors, periods_s)


def _sensors(cameras: int) -> dict[str, tuple[str, ...]]:
    """The topics of each sensor, by its own."""
    seen = {
        f"camera_{n}/image_raw": (f"camera_{n}/camera_info", f"camera_{n}/image_raw")
        for n in range(cameras)
    }
    return {**seen, LIDAR: (LIDAR,), IMU: ("/tf_static", IMU), WHEELS: (WHEELS,), GPS: (GPS,)}


def _settings(args: argparse.Namespace, folder: Path) -> Path:
    """The nodes' parameter file."""
    from mm_fusion.bench.stand_in import write_stand_in

    topics = {
        "cameras": [f"camera_{n}/image_raw" for n in range(args.cameras)],
        "camera_infos": [f"camera_{n}/camera_info" for n in range(args.cameras)],
    }
    tree: dict[str, Any] = {"topics": topics, "nodes": {"autostart": True}}
    model = args.model or (write_stand_in(folder, args.cameras) if args.cameras > 1 else None)
    if model is not None:
        tree["network"] = {"model": str(model)}
    path = folder / "parameters.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": tree}}))
    return path


def _live(
    args: argparse.Namespace,
    folder: Path,
    tape: Path,
    sensors: dict[str, tuple[str, ...]],
    periods_s: dict[str, float],
) -> dict[str, Any]:
    settings = ("--ros-args", "--params-file", str(_settings(args, folder)))
    with Family(environment(free_domain(), folder), folder) as family:
        log = Log(folder / "said.jsonl")
        nodes = [family.start(LISTENER, "--out", str(folder / "said.jsonl"))]
        nodes += [family.start(name, *settings) for name in ("pose_node", "fusion_node")]
        stage = Stage(family, tape, log, sensors)
        for sensor in sensors:
            stage.revive(sensor)
        found: dict[str, Any] = {}
        for sensor in args.sensors or (*sensors, ALL):
            if sensor == ALL:
                seen = [s for s in sensors if s not in (IMU, WHEELS, GPS)]
                found[ALL] = blackout(stage, seen, periods_s, args.dead)
            else:
                found[sensor] = one_fault(stage, sensor, periods_s[sensor], args.dead)
        for child in nodes:
            child.may_end = True
            child.stop()
    return {"cameras": args.cameras, "dead_s": args.dead, "sensors": found, **verdict(found)}


def one_fault(stage: Stage, sensor: str, period_s: float, dead_s: float) -> dict[str, Any]:
    """One sensor dies and returns."""
    stage.steady()
    begin = len(stage.log.look()) - STEADY_RESULTS
    last_ns, killed_ns = stage.kill(sensor)
    used = "/" in sensor and sensor not in (IMU, WHEELS, GPS)
    if used:
        stage.wait(
            lambda: _without(stage, sensor, last_ns) is not None, f"a result without {sensor}"
        )
    _pass(stage, killed_ns + round(dead_s * NS_PER_S))
    first_ns = _returned(stage, [sensor])
    stage.wait(lambda: _whole_from(stage, first_ns) is not None, f"results with all after {sensor}")
    stage.steady()
    said = stage.log.look()[begin:]
    whole = _whole_from(stage, first_ns)
    assert whole is not None
    figures: dict[str, Any] = {"period_s": round(period_s, 4), **_flow(said)}
    if used:
        first = _without(stage, sensor, last_ns)
        assert first is not None
        figures["mode_without"] = first.mode
        change_s = (first.stamp_ns - last_ns) / NS_PER_S
        figures["results_still_with"] = sum(last_ns < s.stamp_ns < first.stamp_ns for s in said)
        figures["mode_change_s"] = round(change_s, 3)
        figures["mode_change_periods"] = round(change_s / max(period_s, RESULTS_S), 2)
        figures["said_after_s"] = round((first.came_ns - last_ns) / NS_PER_S, 3)
        figures["since_is_first_without"] = first.since_ns.get(sensor) == first.stamp_ns
        figures["full_after_s"] = round((whole.stamp_ns - first_ns) / NS_PER_S, 3)
        figures["full_said_after_s"] = round((whole.came_ns - first_ns) / NS_PER_S, 3)
    return figures


def blackout(
    stage: Stage, sensors: Sequence[str], periods_s: dict[str, float], dead_s: float
) -> dict[str, Any]:
    """All that see die at once, and return."""
    stage.steady()
    period_s = max(periods_s[s] for s in sensors)
    dead = [stage.kill(s) for s in sensors]
    last_ns = max(stamp_ns for stamp_ns, _ in dead)
    none = Mode.NONE.value

    def nothing() -> list[Said]:
        return [s for s in stage.log.look() if s.mode == none and s.came_ns > last_ns]

    stage.wait(lambda: bool(nothing()), "mode none")
    _pass(stage, last_ns + round(dead_s * NS_PER_S))
    first_ns = _returned(stage, sensors)
    stage.wait(lambda: _whole_from(stage, first_ns) is not None, "results with all sensors")
    whole = _whole_from(stage, first_ns)
    assert whole is not None
    return {
        "period_s": round(period_s, 4),
        "mode_without": none,
        "none_said_after_s": round((nothing()[0].came_ns - last_ns) / NS_PER_S, 3),
        "none_said_after_periods": round((nothing()[0].came_ns - last_ns) / 1e9 / period_s, 2),
        "full_after_s": round((whole.stamp_ns - first_ns) / NS_PER_S, 3),
        "full_said_after_s": round((whole.came_ns - first_ns) / NS_PER_S, 3),
    }


def _pass(stage: Stage, until_ns: int) -> None:
    stage.wait(lambda: time.time_ns() >= until_ns, "the time", 120.0)


def _returned(stage: Stage, sensors: Sequence[str]) -> int:
    """Revive sensors; the last of their first stamps."""
    children = [stage.revive(s) for s in sensors]
    stage.wait(lambda: all(c.said for c in children), f"{', '.join(sensors)}", START_S)
    return max(int(c.said["first_ns"]) for c in children)


def _without(stage: Stage, sensor: str, last_ns: int) -> Said | None:
    """The first result after a stamp in which a sensor has no part; mode none is no result."""
    later = (s for s in stage.log.look() if s.stamp_ns > last_ns and s.mode != Mode.NONE.value)
    return next((s for s in later if sensor in s.missing), None)


def _whole_from(stage: Stage, first_ns: int) -> Said | None:
    """The first result from a stamp on in which every sensor has a part."""
    near_ns = NS_PER_S // 10  # a sweep may take a picture of a moment later
    later = (s for s in stage.log.look() if s.stamp_ns > first_ns - near_ns)
    return next((s for s in later if s.full), None)


def _flow(said: Sequence[Said]) -> dict[str, Any]:
    """How steadily results came: mode none is no result."""
    stamps = [s.stamp_ns for s in said if s.mode != Mode.NONE.value]
    if len(stamps) < 2:
        raise StageError("fusion stopped to give results")
    gaps = [(b - a) / NS_PER_S for a, b in itertools.pairwise(stamps)]
    modes = sorted({s.mode for s in said})
    return {
        "results": len(stamps),
        "modes": modes,
        "longest_gap_s": round(max(gaps), 3),
        "rate_hz": round(len(gaps) / (stamps[-1] - stamps[0]) * NS_PER_S, 2),
    }


def verdict(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The worst of every figure."""

    def worst(name: str) -> float | None:
        values = [f[name] for f in found.values() if name in f]
        return max(values) if values else None

    names = ("longest_gap_s", "mode_change_periods", "full_after_s", "none_said_after_periods")
    return {f"worst_{name}": worst(name) for name in names}
