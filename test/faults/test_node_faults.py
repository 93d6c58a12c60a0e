"""What the running node does when something in it raises, and when all its sensors fall silent."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from perception import scenes
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from support import live_drive as drive
from support.live import PATIENCE_S, ROOT, Bench, environment, wait_for
from tf2_msgs.msg import TFMessage

from mm_fusion.cli.processes import end_at_once

pytestmark = pytest.mark.ros

SENSORS = ("camera/image_raw", "camera/camera_info", "lidar/points")
RUNTIME = "RuntimeError('broken on purpose')"
OURS = "ContractError('broken on purpose')"
NODE = """
from mm_fusion.errors import ContractError
from mm_fusion.nodes import fusion_node, managed

class Broken(fusion_node.FusionNode):
    def build(self, config):
        super().build(config)
        def fail(*args):
            raise {error}
        if {place!r}:
            owner, name = {place!r}.rsplit(".", 1)
            setattr(eval(owner), name, fail)

managed.run_process(Broken)
"""


@contextmanager
def broken_node(
    tmp_path: Path, domain: int, place: str, error: str = RUNTIME
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """fusion_node in a process of its own, in which ``place`` raises; process and log."""
    script, log = tmp_path / "node.py", tmp_path / "node.log"
    script.write_text(textwrap.dedent(NODE.format(place=place, error=error)))
    settings = {
        "nodes.autostart": "true",
        "nodes.diagnostics_period_s": "0.2",
        "network.model": str(scenes.write_network(tmp_path)),
    }
    words = [w for key, value in settings.items() for w in ("-p", f"{key}:={value}")]
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, str(script), "--ros-args", *words],
            env=environment(domain),
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, log
    finally:
        end_at_once(process)


def advertise(bench: Bench) -> None:
    bench.listen(DiagnosticArray, "/diagnostics", "fusion/status")
    bench.advertise(Image, "camera/image_raw")
    bench.advertise(CameraInfo, "camera/camera_info")
    bench.advertise(PointCloud2, "lidar/points")
    bench.advertise(TFMessage, "/tf_static", latched=True).publish(drive.static_transforms())


def play(bench: Bench, seconds: float, begin_ns: int) -> None:
    """Camera and LIDAR for some seconds."""
    bench.play(e for e in drive.events(seconds, begin_ns) if e.topic in SENSORS)


def values(message: Any) -> dict[str, str]:
    """The keys and values of one message of diagnostics."""
    return {v.key: v.value for s in message.status for v in s.values}


@pytest.mark.parametrize("place", ["self._pipeline.process", "self._pipeline.synchronizer.add"])
def test_a_mistake_in_the_program_ends_the_node(
    bench: Bench, domain: int, tmp_path: Path, place: str
) -> None:
    """WHEN the worker or a callback raises THEN the process says so and ends with 1, it does not
    live on without results."""
    advertise(bench)
    with broken_node(tmp_path, domain, place) as (process, log):
        bench.wait_matched(*SENSORS)
        sensors = drive.standing(*SENSORS)
        bench.play_until(lambda: process.poll() is not None, "end of the process", sensors)
        assert process.returncode == 1
        assert "broken on purpose" in log.read_text()


def test_an_error_of_one_set_is_said_and_the_node_goes_on(
    bench: Bench, domain: int, tmp_path: Path
) -> None:
    """WHEN a set cannot be processed THEN diagnostics are ERROR with the reason, and the node
    still serves its inputs and ends cleanly."""
    advertise(bench)
    with broken_node(tmp_path, domain, "self._pipeline.process", OURS) as (process, _):
        bench.wait_matched(*SENSORS)

        def said() -> bool:
            found = [s for m in bench.received["/diagnostics"] for s in m.status]
            return any(s.level == b"\x02" and "broken on purpose" in s.message for s in found)

        bench.play_until(said, "error in the diagnostics", drive.standing(*SENSORS))
        assert process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_silence_of_all_sensors_is_said_and_ends(bench: Bench, domain: int, tmp_path: Path) -> None:
    """WHEN camera and LIDAR fall silent THEN the last sweep is answered all the same, mode none
    is said without any message that calls for it, and the return is a result with both."""
    advertise(bench)
    with broken_node(tmp_path, domain, ""):
        bench.wait_matched(*SENSORS)
        bench.wait_published("fusion/status")

        def modes() -> list[tuple[str, str]]:
            found = [values(m) for m in bench.received["fusion/status"]]
            return [(v["mode"], v["missing"]) for v in found]

        both = ("camera+lidar", "")
        begin_ns = bench.play_until(
            lambda: both in modes(), "set of both", drive.standing(*SENSORS)
        )
        # A last sweep whose picture never comes: it waits for its deadline in sensor time.
        play(bench, 2.0, begin_ns)
        last_ns = begin_ns + 2 * 10**9
        bench.publishers["lidar/points"].publish(drive.cloud(last_ns))

        # A busy machine that stalls the player for long hears of silence before; that is none.
        alone = ("lidar", "camera/image_raw")
        nobody = ("none", "camera/image_raw lidar/points")
        wait_for(lambda: modes()[-2:] == [alone, nobody], "the last sweep, then mode none")

        def errors() -> list[dict[str, str]]:
            found = [s for m in bench.received["/diagnostics"] for s in m.status]
            words = "no camera and no LIDAR"
            wrong = [s for s in found if s.level == b"\x02" and words in s.message]
            said = [{v.key: v.value for v in s.values} for s in wrong]
            return [v for v in said if v["lidar/points.missing_since_ns"] == str(last_ns)]

        said = wait_for(errors, "the error in the diagnostics")[-1]
        assert said["mode"] == "none"
        before = len(modes())
        play(bench, 1.0, begin_ns + 4 * 10**9)
        wait_for(lambda: both in modes()[before:], "the return")


def test_clocks_and_pictures_are_in_the_diagnostics(
    bench: Bench, domain: int, tmp_path: Path
) -> None:
    """WHEN a drive of 2023 is played at half speed without use_sim_time, its pictures all alike,
    THEN diagnostics give every sensor's clock, blame none of them, and name the still picture."""
    advertise(bench)
    with broken_node(tmp_path, domain, ""):
        bench.wait_matched(*SENSORS)
        events = [e for e in drive.events(4.0) if e.topic in SENSORS]
        alike = [
            replace(e, payload=drive.image(e.stamp_ns, noise_of=0))
            if e.topic == "camera/image_raw"
            else e
            for e in events
        ]
        bench.play(alike, rate=0.5)

        def still() -> list[Any]:
            found = [s for m in bench.received["/diagnostics"] for s in m.status]
            return [s for s in found if "its picture has stood still" in s.message]

        last = wait_for(still, "the still picture in the diagnostics")[-1]
        said = {v.key: v.value for v in last.values}
        for sensor in ("camera/image_raw", "lidar/points"):
            assert float(said[f"{sensor}.offset_ms"]) > 1e9
            assert int(said[f"{sensor}.jumps"]) == 0
            assert float(said[f"{sensor}.period_ms"]) == pytest.approx(100.0)
        assert "use_sim_time" in last.message
        assert "its clock is off" not in last.message
        assert "camera/image_raw: its picture has stood still" in last.message
