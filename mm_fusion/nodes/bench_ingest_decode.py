"""Finding the arrays in serialized messages, beside rclpy's deserialization, in one process.

Prints one line of JSON, in microseconds of CPU per message: the median of batches that alternate,
and, as ``after_idle``, of single calls after a pause as long as between two messages of a sensor,
when the processor's caches hold what others left there.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image, PointCloud2

from mm_fusion import wire
from mm_fusion.nodes import process
from mm_fusion.nodes.bench_ingest_receiver import NAMES, USUAL
from mm_fusion.nodes.bench_ingest_sender import cloud_points, image_pixels
from mm_fusion.samples import Rejection
from mm_fusion.wire import encode

STAMP_NS = 1_700_000_000_000_000_000
BATCHES = 9
CALLS = {"ours": 400, "peer": 8}  # in a batch
PAUSE_S, SINGLE_CALLS = 0.03, 25


def timed_us(call: Callable[[], Any], count: int) -> float:
    """Mean CPU time of a call."""
    start_ns = time.thread_time_ns()
    for _ in range(count):
        call()
    return (time.thread_time_ns() - start_ns) / count / 1e3


def compared(kind: str, raw: bytes, message_class: type) -> dict[str, Any]:
    """Medians of both ways, and the peer's over ours."""
    assert not isinstance(wire.decode(NAMES[kind], raw, kind), Rejection)
    lidars = wire.Lidars()  # which keeps what it learned of a LIDAR, as a node's does
    _, convert = USUAL[kind]()
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: wire.decode(NAMES[kind], raw, kind, lidars),
        "peer": lambda: convert(deserialize_message(raw, message_class)),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(BATCHES):
        for way, call in ways.items():
            found[way].append(timed_us(call, CALLS[way]))
    return {**_figures(found), "after_idle": _figures(_after_idle(ways))}


def _after_idle(ways: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(SINGLE_CALLS):
        for way, call in ways.items():
            time.sleep(PAUSE_S)
            found[way].append(timed_us(call, 1))
    return found


def _figures(found: dict[str, list[float]]) -> dict[str, float]:
    ours, peer = (statistics.median(found[way]) for way in ("ours", "peer"))
    return {"ours": round(ours, 2), "peer": round(peer, 1), "ratio": round(peer / ours, 1)}


def main() -> None:
    """Measure and print."""
    process.keep_memory()
    rng = np.random.default_rng(1)
    image = encode.encode_image(image_pixels(rng), "rgb8", STAMP_NS, "camera")
    cloud = encode.encode_pointcloud2(cloud_points(rng), STAMP_NS, "lidar")
    print(
        json.dumps(
            {
                "image": compared("image", image, Image),
                "cloud": compared("cloud", cloud, PointCloud2),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
