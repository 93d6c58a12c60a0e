"""Publishes made-up images and clouds for ``mm_fusion bench ingest``, turn after turn.

``--plan`` is a JSON list of turns, each a list of streams that run at the same time:
``{"topic", "kind", "count", "rate_hz"}``. A turn begins when each of its topics has a listener. The
header's frame_id carries the number of the turn, the stamp the moment of publishing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image, Imu, PointCloud2

from mm_fusion.nodes import messages, process, qos
from mm_fusion.samples import U8
from mm_fusion.wire import encode

IMAGE_SIZE = (1080, 1920, 3)
CLOUD_POINTS = 120_000
POINT = np.dtype(
    {
        "names": ["x", "y", "z", "intensity", "ring", "t"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u2", "<u4"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)
CLASSES = {"image": Image, "cloud": PointCloud2, "imu": Imu}
PATIENCE_S = 30.0
# A listener known here may yet have to hear of this publisher.
SETTLE_S = 0.5


def image_pixels(rng: np.random.Generator) -> U8:
    """A picture of noise: uint8 [1080,1920,3]."""
    return rng.integers(0, 256, IMAGE_SIZE, np.uint8)


def cloud_points(rng: np.random.Generator) -> npt.NDArray[np.void]:
    """A sweep [120000] of a tenth of a second, its points around the sensor."""
    points = np.zeros(CLOUD_POINTS, POINT)
    for axis in "xyz":
        points[axis] = rng.normal(0.0, 20.0, CLOUD_POINTS)
    points["intensity"] = rng.uniform(0.0, 255.0, CLOUD_POINTS)
    points["t"] = np.linspace(0, 99_000_000, CLOUD_POINTS)
    return points


class Sender(Node):
    """Publishes the turns of a plan."""

    def __init__(self) -> None:
        super().__init__("bench_sender")
        rng = np.random.default_rng(1)
        self._pixels = image_pixels(rng)
        self._points = cloud_points(rng)
        self._named: dict[str, Publisher] = {}

    def run(self, plan: list[list[dict[str, Any]]]) -> None:
        """All turns. Topics are announced before the first, so that discovery is over early."""
        for stream in [s for turn in plan for s in turn]:
            if stream["topic"] not in self._named:
                self._named[stream["topic"]] = self.create_publisher(
                    CLASSES[stream["kind"]], stream["topic"], qos.sensor()
                )
        for number, turn in enumerate(plan):
            self._wait([s["topic"] for s in turn])
            self._turn(number, turn)
        time.sleep(SETTLE_S)  # the last ones shall still be read

    def _wait(self, topics: list[str]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not all(self._named[t].get_subscription_count() for t in topics):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"nobody listens to one of {', '.join(topics)}")
            time.sleep(0.02)
        time.sleep(SETTLE_S)

    def _turn(self, number: int, turn: list[dict[str, Any]]) -> None:
        # Triggered together, the hard case: all cameras' images come in one burst, also those of
        # several senders.
        due = [
            (n / stream["rate_hz"], index)
            for index, stream in enumerate(turn)
            for n in range(stream["count"])
        ]
        begun_s = time.monotonic() + 1.0 - time.time() % 1.0
        for due_s, index in sorted(due):
            pause_s = begun_s + due_s - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            self._publish(turn[index], f"{number:04d}")

    def _publish(self, stream: dict[str, Any], frame_id: str) -> None:
        publisher, now_ns = self._named[stream["topic"]], time.time_ns()
        if stream["kind"] == "image":
            publisher.publish(encode.encode_image(self._pixels, "rgb8", now_ns, frame_id))
        elif stream["kind"] == "cloud":
            publisher.publish(encode.encode_pointcloud2(self._points, now_ns, frame_id))
        else:
            publisher.publish(Imu(header=messages.header(now_ns, frame_id)))


def main() -> None:
    """Publish the plan, then end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=json.loads, required=True)
    args = parser.parse_args()
    process.begin([sys.argv[0]])
    node = Sender()
    try:
        node.run(args.plan)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
