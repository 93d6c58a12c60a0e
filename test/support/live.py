"""Nodes in processes of their own, and a bench beside them that publishes and listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from support.live_drive import Event

from mm_fusion.cli.processes import end_at_once
from mm_fusion.nodes import qos
from mm_fusion.nodes.dynamic import message_class

ROOT = Path(__file__).resolve().parents[2]
# Long, because a test machine may be busy; a test that passes never waits for it.
PATIENCE_S = 40.0


def environment(domain: int) -> dict[str, str]:
    """The environment of a node under test: its own domain, nothing beyond this machine."""
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds.xml"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "RCUTILS_LOGGING_USE_STDOUT": "0",
    }


def wait_for(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait until a condition holds; its value. Fails, naming it, when it never does."""
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {patience_s:.0f} s in vain for: {what}")


class NodeProcess:
    """One node, run as the executable runs it. A context manager."""

    def __init__(self, name: str, domain: int, log: Path, **parameters: Any) -> None:
        arguments = [f"-p{key}:={value}" for key, value in parameters.items()]
        words = [w for a in arguments for w in ("-p", a[2:])]
        self.name = name
        self._log = log / f"{name}.log"
        self._file = self._log.open("w")
        ros_args = ["--ros-args", *words] if words else []
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"mm_fusion.nodes.{name}", *ros_args],
            env=environment(domain),
            cwd=ROOT,
            stdout=self._file,
            stderr=subprocess.STDOUT,
        )

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ask it to end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end_at_once(self.process)
        self._file.close()
        if kind is not None:
            print(f"--- log of {self.name}\n{self.log()}")


class Bench:
    """A ROS node in the test's own process, served by a thread of its own."""

    def __init__(self, domain: int) -> None:
        self._context = Context()
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("bench", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self.received: dict[str, list[Any]] = defaultdict(list)
        self.publishers: dict[str, Any] = {}

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join(PATIENCE_S)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    # ----------------------------------------------------------------------------- topics

    def listen(self, kind: type, *topics: str) -> None:
        """Keep every message of these topics in ``received``."""
        for topic in topics:
            self.node.create_subscription(
                kind, topic, self.received[topic].append, qos.transforms()
            )

    def listen_raw(self, topics: Mapping[str, str]) -> None:
        """Keep every message of these topics (name: type) in ``received``, as bytes."""
        for topic, type_name in topics.items():
            self.node.create_subscription(
                message_class(type_name),
                topic,
                self.received[topic].append,
                qos.transforms(),
                raw=True,
            )

    def advertise(self, kind: type, topic: str, latched: bool = False) -> Any:
        """A publisher."""
        profile = qos.latched() if latched else qos.result()
        self.publishers[topic] = self.node.create_publisher(kind, topic, profile)
        return self.publishers[topic]

    def wait_matched(self, *topics: str) -> None:
        """Wait until somebody listens to each of the advertised topics.

        They may not know of us yet, and what is published before they do is lost; nobody can see
        that from here. What must arrive is published again and again, or after :meth:`play_until`
        has had an answer.
        """
        for topic in topics:
            publisher = self.publishers[topic]
            wait_for(lambda p=publisher: p.get_subscription_count() > 0, f"a listener of {topic}")

    def wait_published(self, *topics: str) -> None:
        """Wait until every one of the topics listened to has somebody who publishes it; they may
        not know of us yet, either, and publish nothing for us until they do."""
        for topic in topics:
            wait_for(lambda t=topic: self.node.count_publishers(t), f"a publisher of {topic}")

    def play(
        self,
        events: Iterable[Event],
        rate: float = 1.0,
        ready: Callable[[Event], Any] = lambda _: True,
    ) -> None:
        """Publish events at their distances in time, each no sooner than ``ready`` says: what is
        slower than the drive, on a busy machine, would lose messages on the way."""
        begun_s, first_ns = time.monotonic(), None
        for event in events:
            first_ns = first_ns or event.stamp_ns
            due_s = begun_s + (event.stamp_ns - first_ns) / 1e9 / rate
            pause_s = due_s - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            asked_s = time.monotonic()
            wait_for(lambda e=event: ready(e), f"the nodes before {event.topic} {event.stamp_ns}")
            begun_s += time.monotonic() - asked_s
            self.publishers[event.topic].publish(event.payload)

    def play_until(
        self,
        answered: Callable[[], Any],
        what: str,
        beats: Iterable[list[Event]],
        rate: float = 1.0,
    ) -> int:
        """Publish beat after beat until ``answered`` says so; the stamp at which to go on.

        An answer shows that both ends know each other, there and back. Of two that meet one is
        always the first to know, and what it says meanwhile is lost.
        """
        next_ns = 0

        def coming() -> Iterator[Event]:
            nonlocal next_ns
            deadline_s = time.monotonic() + PATIENCE_S
            for beat in beats:
                next_ns = beat[0].stamp_ns
                if answered():
                    return
                assert time.monotonic() < deadline_s, f"played {PATIENCE_S:.0f} s, no {what}"
                yield from beat

        self.play(coming(), rate)
        return next_ns

    # -------------------------------------------------------------------------- lifecycle

    def call(self, kind: type, service: str, request: Any) -> Any:
        """Call a service and wait for its answer."""
        client = self.node.create_client(kind, service)
        try:
            assert client.wait_for_service(PATIENCE_S), f"no service {service}"
            future = client.call_async(request)
            wait_for(future.done, f"an answer of {service}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change_state(self, node: str, transition: int) -> bool:
        """Ask for a transition; whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def state(self, node: str) -> str:
        """The label of the node's state."""
        answer = self.call(GetState, f"{node}/get_state", GetState.Request())
        return str(answer.current_state.label)

    def set_parameter(self, node: str, name: str, value: Any) -> str:
        """Set a parameter; "" where it was taken, else why not."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        result = self.call(SetParameters, f"{node}/set_parameters", request).results[0]
        return "" if result.successful else str(result.reason)

    def configure(self, node: str) -> bool:
        """The configure transition."""
        return self.change_state(node, Transition.TRANSITION_CONFIGURE)

    def activate(self, node: str) -> bool:
        """The activate transition."""
        return self.change_state(node, Transition.TRANSITION_ACTIVATE)
