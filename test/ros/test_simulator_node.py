"""simulator_node and the recorder: what goes in at one end comes out at the other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, NavSatFix
from support import live_drive as drive
from support.live import ROOT, Bench, NodeProcess, environment, wait_for
from support.live_bag import TYPES, write_bag

from mm_fusion import parameters
from mm_fusion.config import SimulatorConfig
from mm_fusion.evaluation.bags import Bag
from mm_fusion.nodes import qos
from mm_fusion.nodes.messages import stamp_ns

RECORDED = {t: k for t, k in TYPES.items() if t != "/tf_static"}


def contents(path: Path) -> dict[str, list[bytes]]:
    """Every message's bytes by topic, without what DDS adds: it fills up to whole words."""
    out: dict[str, list[bytes]] = defaultdict(list)
    with Bag(path) as bag:
        for message in bag.messages([f"/{t}" for t in RECORDED]):
            body = bytes(message.raw)[4:]
            out[message.topic].append(body + bytes(-len(body) % 4))
    return out


def test_bag_is_played_and_recorded_byte_by_byte(domain: int, tmp_path: Path) -> None:
    """GIVEN a recorder WHEN a bag is played THEN the same bytes are in the new bag, in order."""
    bag, copy = write_bag(tmp_path / "bag", 2.0), tmp_path / "copy"
    topics = [w for t, k in RECORDED.items() for w in ("--topic", f"{t}:{k}")]
    recorder = subprocess.Popen(
        [sys.executable, "-m", "mm_fusion.nodes.recorder", "--out", str(copy), *topics],
        env=environment(domain),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        settings = {"bag": bag, "wait_for": json.dumps(list(RECORDED)), "progress": "true"}
        with NodeProcess("simulator_node", domain, tmp_path, **settings) as player:
            assert player.process.wait(60.0) == 0
            said = [json.loads(x) for x in player.log().splitlines() if x.startswith("{")][-1]
    finally:
        recorder.terminate()
        assert recorder.wait(30.0) == 0
    original = contents(bag)
    assert contents(copy) == original
    latched = 1
    assert said["messages"] == sum(map(len, original.values())) + latched


def test_clock_and_pace(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN twice the speed WHEN played THEN it takes half the time, and /clock runs along."""
    bag = write_bag(tmp_path / "bag", 4.0)
    came_s: list[float] = []
    bench.node.create_subscription(
        Imu, "imu/data", lambda _: came_s.append(time.monotonic()), qos.fast_sensor()
    )
    clocks: list[int] = []
    bench.node.create_subscription(
        Clock, "/clock", lambda m: clocks.append(stamp_ns(m.clock)), qos.sensor()
    )
    settings = {"bag": bag, "rate": "2.0", "wait_for": "['imu/data']", "topics": "['imu/data']"}
    with NodeProcess("simulator_node", domain, tmp_path, **settings) as player:
        assert player.process.wait(60.0) == 0
    # 399 steps of 10 ms at twice the speed; unpaced they take a tenth of that. A busy machine makes
    # it longer, or shorter by what the first one waited for us.
    assert 1.0 < came_s[-1] - came_s[0] < 6.0
    assert clocks == sorted(clocks)
    assert drive.START_NS <= clocks[0] < clocks[-1] <= drive.START_NS + 4_000_000_000


def test_latched_topics_reach_those_who_come_late(
    bench: Bench, domain: int, tmp_path: Path
) -> None:
    """GIVEN a player that waits WHEN somebody comes THEN /tf_static is there before the rest."""
    from tf2_msgs.msg import TFMessage

    bag = write_bag(tmp_path / "bag", 1.0)
    settings = {"bag": bag, "wait_for": "['gps/fix']"}
    with NodeProcess("simulator_node", domain, tmp_path, **settings) as player:
        wait_for(lambda: bench.node.count_publishers("/tf_static"), "the player")
        frames: list[str] = []
        bench.node.create_subscription(
            TFMessage,
            "/tf_static",
            lambda m: frames.extend(t.child_frame_id for t in m.transforms),
            qos.latched(),
        )
        wait_for(lambda: frames, "the latched transforms")
        assert set(frames) == set(drive.EXTRINSICS)
        assert player.process.poll() is None
        bench.listen(NavSatFix, "gps/fix")
        assert player.process.wait(60.0) == 0


def test_simulated_drive_is_played(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN no bag WHEN it starts THEN it simulates a drive, and every sensor speaks."""
    bench.listen_raw(RECORDED)
    settings = {"duration_s": "1.0", "wait_for": json.dumps(list(RECORDED))}
    with NodeProcess("simulator_node", domain, tmp_path, **settings) as player:
        assert player.process.wait(240.0) == 0
    rates_hz = {"imu/data": 100, "wheel/odometry": 50, "gps/fix": 5, "camera/image_raw": 10}
    for topic, rate_hz in rates_hz.items():
        assert len(bench.received[topic]) == pytest.approx(rate_hz, abs=1 + 0.1 * rate_hz)
    assert len(bench.received["lidar/points"]) == pytest.approx(10, abs=2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bag": "/nowhere"}, "/nowhere: no such bag"),
        ({"bag": "BAG", "topics": "['sonar']"}, "no topic sonar (parameter topics)"),
        ({"bag": "BAG", "wait_for": "['sonar']"}, "wait_for: sonar is not played"),
        (
            {"bag": "BAG", "wait_for": "['gps/fix']", "wait_s": "0.2"},
            "nobody subscribed to gps/fix in 0.2 s",
        ),
        ({"bag": "BAG", "rate": "-1.0"}, "rate: must be within 0.01 .. 100"),
    ],
)
def test_mistakes_end_in_one_line(
    domain: int, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    """GIVEN a mistake WHEN it starts THEN it says so in one line and ends with 1."""
    bag = write_bag(tmp_path / "bag", 0.5)
    given = {k: str(bag) if v == "BAG" else v for k, v in settings.items()}
    with NodeProcess("simulator_node", domain, tmp_path, **given) as player:
        assert player.process.wait(60.0) == 1
        assert words in player.log()
        assert "Traceback" not in player.log()


def test_described_parameters_are_the_declared_ones() -> None:
    """The table in the node's page comes from the configuration."""
    table = parameters.to_markdown(SimulatorConfig)
    assert table in (ROOT / "docs" / "simulator_node.md").read_text()
