"""Two LIDARs over DDS: one cloud of both, and each costs only its own part when it dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from perception import scenes
from sensor_msgs.msg import PointCloud2
from support import live_drive as drive
from support.live import Bench, NodeProcess, wait_for
from tf2_msgs.msg import TFMessage

from mm_fusion import wire
from mm_fusion.samples import LidarSweep
from mm_fusion.wire import encode

FRONT, REAR = "front/points", "rear/points"
PERIOD_NS, REAR_LATER_NS = 100_000_000, 13_000_000
WALL_M = 12.0


def cloud(stamp_ns: int, frame_id: str) -> bytes:
    """A wall 12 m ahead of the LIDAR, above the ground."""
    spread = np.random.default_rng(stamp_ns % 1009)
    dtype = np.dtype([(n, "<f4") for n in ("x", "y", "z", "intensity", "time")])
    points = np.zeros(1500, dtype)
    points["x"] = WALL_M
    points["y"] = spread.uniform(-2.0, 2.0, len(points))
    points["z"] = spread.uniform(-1.0, 0.2, len(points))
    points["intensity"] = 50.0
    points["time"] = np.linspace(-0.1, 0.0, len(points))
    return encode.encode_pointcloud2(points, stamp_ns, frame_id)


def values(message: Any) -> dict[str, str]:
    return {v.key: v.value for status in message.status for v in status.values}


def walls(message: Any) -> dict[str, int]:
    """How many obstacle points stand ahead and behind, where the two walls are."""
    assert isinstance(message, LidarSweep), message
    x = message.points["x"]
    ahead, behind = np.abs(x - WALL_M) < 0.1, np.abs(x + WALL_M) < 0.1
    assert (ahead | behind).all()
    return {"ahead": int(ahead.sum()), "behind": int(behind.sum())}


def test_two_lidars_make_one_cloud_and_either_may_die(
    bench: Bench, domain: int, tmp_path: Path
) -> None:
    """GIVEN a LIDAR that looks ahead and one that looks back WHEN both speak THEN each set has
    both and the obstacles have both walls; WHEN one dies THEN the other's go on, and it is named;
    WHEN it returns THEN both are there again."""
    bench.listen(DiagnosticArray, "fusion/status")
    bench.listen_raw({"obstacles": "sensor_msgs/msg/PointCloud2"})
    for topic in (FRONT, REAR):
        bench.advertise(PointCloud2, topic)
    bench.advertise(TFMessage, "/tf_static", latched=True).publish(drive.static_transforms())
    settings = {
        "nodes.autostart": "true",
        "network.model": str(scenes.write_network(tmp_path)),
        "network.queue_size": 100,
        "network.patience_s": 1000.0,
        "topics.lidars": f"[{FRONT}, {REAR}]",
        "topics.cameras": "['']",
        "calibration.extrinsics": "['rear 0 0 1.8 0 0 3.14159265']",
    }
    stamps = iter(range(drive.START_NS, 2 * drive.START_NS, PERIOD_NS))

    def say(*topics: str) -> None:
        stamp_ns = next(stamps)
        events = {
            FRONT: drive.Event(stamp_ns, FRONT, cloud(stamp_ns, "lidar")),
            REAR: drive.Event(stamp_ns, REAR, cloud(stamp_ns + REAR_LATER_NS, "rear")),
        }
        bench.play([events[t] for t in topics])

    def last() -> dict[str, str]:
        received = bench.received["fusion/status"]
        return values(received[-1]) if received else {}

    def heard(missing: str, *topics: str) -> bool:
        say(*topics)
        return last().get("mode") == "lidar" and last().get("missing") == missing

    def seen() -> dict[str, int]:
        received = bench.received["obstacles"]
        if not received:  # they come behind the status that calls for a look
            return {"ahead": 0, "behind": 0}
        return walls(wire.decode("sensor_msgs/msg/PointCloud2", received[-1], "obstacles"))

    with NodeProcess("fusion_node", domain, tmp_path, **settings):
        bench.wait_matched(FRONT, REAR)
        bench.wait_published("fusion/status", "obstacles")
        wait_for(lambda: heard("", FRONT, REAR), "a set of both")
        assert float(last()[f"dt_ms.{REAR}"]) == REAR_LATER_NS / 1e6
        wait_for(lambda: heard("", FRONT, REAR) and all(seen().values()), "both walls")
        wait_for(lambda: heard(FRONT, REAR), "a set of the rear one alone")
        wait_for(lambda: heard(FRONT, REAR) and not seen()["ahead"], "the wall behind alone")
        assert seen()["behind"] > 0
        wait_for(lambda: heard("", FRONT, REAR), "both again")
