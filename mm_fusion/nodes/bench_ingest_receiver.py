"""Receives what bench_ingest_sender publishes, in one of several ways.

At its end it prints one line of JSON: what was used, and by turn how many messages came, what the
whole process spent on the CPU between the first and the last of them, and how old they were.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, PointCloud2

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.geometry import RigidTransform
from mm_fusion.nodes import messages, process, qos
from mm_fusion.nodes.bench_ingest_sender import CLASSES, IMAGE_SIZE
from mm_fusion.nodes.managed import LONGEST_SPIN_S, Stop, make_executor
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.network import FusionNetwork
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.samples import CameraFrame, CameraModel, LidarSweep, SyncedSet
from mm_fusion.wire.cloud import DATATYPES

NAMES = {
    "image": "sensor_msgs/msg/Image",
    "cloud": "sensor_msgs/msg/PointCloud2",
    "imu": "sensor_msgs/msg/Imu",
}
EXECUTORS: dict[str, Callable[[], Any]] = {
    "ours": make_executor,
    "single": SingleThreadedExecutor,
    "multi": MultiThreadedExecutor,
}
Stamped = tuple[int, str]  # stamp in nanoseconds, frame_id


def untouched(raw: bytes) -> Stamped:
    """Nothing but the header, at its place in every message that begins with one."""
    sec, nanosec = np.frombuffer(raw, "<u4", 2, 4).tolist()
    return sec * 10**9 + nanosec, raw[16:20].decode()


def image_usual() -> tuple[str, Callable[[Any], Any]]:
    """cv_bridge where it is, else what it does with colours that need no change."""
    try:
        from cv_bridge import CvBridge
    except ImportError:

        def reshaped(message: Image) -> Any:
            pixels = np.frombuffer(message.data, np.uint8)
            return pixels.reshape(message.height, message.width, 3)

        return "rclpy message, numpy.frombuffer + reshape", reshaped
    bridge = CvBridge()
    return "rclpy message, cv_bridge", lambda message: bridge.imgmsg_to_cv2(message, "rgb8")


def cloud_usual() -> tuple[str, Callable[[Any], Any]]:
    """sensor_msgs_py where it is, else what its read_points does: a structured view."""
    try:
        from sensor_msgs_py.point_cloud2 import read_points
    except ImportError:
        return "rclpy message, numpy structured view", _points
    return "rclpy message, sensor_msgs_py.read_points", read_points


def _points(message: PointCloud2) -> Any:
    dtype = np.dtype(
        {
            "names": [f.name for f in message.fields],
            "formats": [f"<{DATATYPES[f.datatype]}" for f in message.fields],
            "offsets": [f.offset for f in message.fields],
            "itemsize": message.point_step,
        }
    )
    return np.frombuffer(message.data, dtype)


USUAL = {"image": image_usual, "cloud": cloud_usual}


class Worker:
    """The road to the boxes, run again and again on what came last: the busiest neighbour that
    a receiving thread can have in its process."""

    def __init__(self) -> None:
        config = Config()
        self._calibration = Calibration(config)
        network = FusionNetwork.from_config(config)
        self._pipeline = PerceptionPipeline(config, network, self._calibration)
        self._base = config.frames.base
        self._latest: dict[type, Any] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="network")
        self.sets = 0

    def give(self, sample: CameraFrame | LidarSweep) -> None:
        """Take a sample; the first of both kinds starts the work."""
        self._latest[type(sample)] = sample
        if len(self._latest) == 2 and not self._thread.is_alive():
            self._thread.start()

    def end(self) -> None:
        """Stop after the set under way."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        height, width = IMAGE_SIZE[:2]
        k = np.array([[1000.0, 0.0, width / 2], [0.0, 1000.0, height / 2], [0.0, 0.0, 1.0]])
        while not self._ended.is_set():
            frame, sweep = self._latest[CameraFrame], self._latest[LidarSweep]
            model = CameraModel(frame.sensor, frame.frame_id, height, width, k, "", np.zeros(0))
            self._calibration.set_camera(model)
            for name in {frame.frame_id, sweep.frame_id}:
                self._calibration.set_transform(self._base, name, RigidTransform.identity())
            self._pipeline.process(SyncedSet(sweep.stamp_ns, (sweep,), (frame,), (), {}))
            self.sets += 1


class Receiver(Node):
    """Subscribes and keeps account."""

    def __init__(self, way: str, streams: list[tuple[str, str]], worker: Worker | None) -> None:
        super().__init__("bench_receiver_" + way)
        self.used = ""
        self._worker = worker
        self._times: dict[str, array[int]] = defaultdict(lambda: array("q"))
        for kind, topic in streams:
            take = self._way(way, kind)
            callback = self._counting(take, f" {kind}")
            profile = qos.fast_sensor() if kind == "imu" else qos.sensor()
            self.create_subscription(CLASSES[kind], topic, callback, profile, raw=way != "usual")

    def _way(self, way: str, kind: str) -> Callable[[Any], Stamped]:
        if way == "usual":
            self.used, convert = USUAL[kind]()

            def usual(message: Any) -> Stamped:
                convert(message)
                return messages.stamp_ns(message.header.stamp), message.header.frame_id

            return usual
        self.used = "raw bytes, " + ("wire.decode" if way == "ours" else "untouched")
        return self._ours(NAMES[kind]) if way == "ours" else untouched

    def _ours(self, name: str) -> Callable[[bytes], Stamped]:
        worker = self._worker
        lidars = wire.Lidars()  # which keeps what it learned of a LIDAR, as a node's does

        def ours(raw: bytes) -> Stamped:
            sample: Any = wire.decode(name, raw, name, lidars, time.time_ns())
            if worker is not None and isinstance(sample, CameraFrame | LidarSweep):
                worker.give(sample)
            return sample.stamp_ns, sample.frame_id

        return ours

    def _counting(self, take: Callable[[Any], Stamped], kind: str) -> Callable[[Any], None]:
        def callback(message: Any) -> None:
            came_ns = time.time_ns()
            stamp_ns, turn = take(message)
            self._times[turn + kind].extend((came_ns - stamp_ns, time.process_time_ns(), came_ns))

        return callback

    def account(self) -> dict[str, Any]:
        """By turn and kind: messages, CPU and wall time from first to last, ages."""
        turns = {}
        for turn, flat in self._times.items():
            age_ns, cpu_ns, came_ns = np.frombuffer(flat, np.int64).reshape(-1, 3).T
            turns[turn] = {
                "arrived": len(age_ns),
                "cpu_ms": (int(cpu_ns[-1]) - int(cpu_ns[0])) / 1e6,
                "wall_ms": (int(came_ns[-1]) - int(came_ns[0])) / 1e6,
                "age_ms": [round(float(a) / 1e6, 3) for a in age_ns],
            }
        sets = self._worker.sets if self._worker is not None else 0
        return {"used": self.used, "sets": sets, "turns": turns}


def _stream(text: str) -> tuple[str, str]:
    kind, _, topic = text.partition("=")
    return kind, topic


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=("ours", "usual", "raw"), required=True)
    parser.add_argument("--stream", type=_stream, action="append", required=True)
    parser.add_argument("--executor", choices=EXECUTORS, default="ours")
    parser.add_argument("--plain", action="store_true", help="leave memory and profile alone")
    parser.add_argument("--network", action="store_true", help="run the network beside it")
    parser.add_argument("--switch-interval-s", type=float, default=0.0)
    return parser.parse_args()


def _serve(node: Node, executor: Any, stop: Stop) -> None:
    executor.add_node(node)
    while not stop.asked:
        executor.spin_once(timeout_sec=LONGEST_SPIN_S)
    executor.remove_node(node)


def main() -> None:
    """Receive until a signal comes, then say what came."""
    args = _arguments()
    if args.switch_interval_s > 0.0:
        sys.setswitchinterval(args.switch_interval_s)
    if args.plain:
        rclpy.init(args=[sys.argv[0]], signal_handler_options=SignalHandlerOptions.NO)
    else:
        process.begin([sys.argv[0]])
    stop = Stop()
    worker = Worker() if args.network else None
    node = Receiver(args.way, args.stream, worker)
    try:
        _serve(node, EXECUTORS[args.executor](), stop)
        if worker is not None:
            worker.end()
        print(json.dumps(node.account()), flush=True)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
