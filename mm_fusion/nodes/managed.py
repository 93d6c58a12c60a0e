"""What both lifecycle nodes share: configuration, transitions, diagnostics, start and end."""

from __future__ import annotations

import abc
import gc
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from mm_fusion.config import Config
from mm_fusion.errors import MmFusionError
from mm_fusion.nodes import process, qos
from mm_fusion.nodes.declared import DeclaredParameters
from mm_fusion.nodes.diagnostics import Report

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE

# A signal is only seen between two calls of the executor; the idle cost is ten calls a second.
LONGEST_SPIN_S = 0.1
LAST_WORDS = Duration(seconds=1.0)


class ManagedNode(LifecycleNode, abc.ABC):
    """A lifecycle node around one road.

    Subclasses build the road in ``build``, open inputs in ``start``, close them in ``stop``, let
    go of the road in ``release``, and answer ``reports`` once per diagnostics period.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self._declared = DeclaredParameters(self, Config)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.result())
        self._timer: Any = None
        self._started = False
        self._is_simulated = False
        self.crashed = False  # set by a subclass's thread that died

    # ------------------------------------------------------------------ for the subclasses

    @abc.abstractmethod
    def build(self, config: Config) -> None:
        """Make everything of the road. An MmFusionError refuses the transition."""

    @abc.abstractmethod
    def start(self) -> None:
        """Open the inputs."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Close the inputs and wait for what is under way."""

    @abc.abstractmethod
    def release(self) -> None:
        """Let go of what ``build`` made."""

    @abc.abstractmethod
    def reports(self) -> list[Report]:
        """What /diagnostics says now."""

    def now_ns(self) -> int:
        """The node's clock. Without simulated time it is the system's, at a tenth of the cost;
        whether there is, is asked with every report."""
        return self.get_clock().now().nanoseconds if self._is_simulated else time.time_ns()

    # ----------------------------------------------------------------------- transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and build the road."""
        return self._refusable("configure", lambda: self._configure(state))

    def _configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        config = self._declared.build()
        self._is_simulated = self.get_clock().ros_time_is_active
        self.build(config)
        period_s = config.nodes.diagnostics_period_s
        # Steady time: with use_sim_time and a stopped clock, diagnostics must still come.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(period_s, self._tick, clock=steady)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open outputs, then inputs."""

        def activate() -> TransitionCallbackReturn:
            result = super(ManagedNode, self).on_activate(state)
            process.settle()
            self._started = True
            self.start()
            return result

        return self._refusable("activate", activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close inputs, finish what is under way, then close the outputs."""

        def deactivate() -> TransitionCallbackReturn:
            self._end()
            return super(ManagedNode, self).on_deactivate(state)

        return self._refusable("deactivate", deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the road."""
        return self._refusable("cleanup", lambda: self._let_go(state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End, from whatever state."""

        def shutdown() -> TransitionCallbackReturn:
            self._end()
            return self._let_go(state)

        return self._refusable("shutdown", shutdown)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an error in a transition: close everything, so that configure can be tried anew."""
        self._end()
        return self._let_go(state)

    def _end(self) -> None:
        if self._started:
            self._started = False
            self.stop()
            self._last_words()

    def _let_go(self, _: LifecycleState) -> TransitionCallbackReturn:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        gc.unfreeze()  # what the road has left may go
        self.release()
        return SUCCESS

    def _refusable(
        self, name: str, transition: Callable[[], TransitionCallbackReturn]
    ) -> TransitionCallbackReturn:
        """rclpy swallows what a transition raises; here it is said before the transition fails."""
        try:
            return transition()
        except MmFusionError as error:
            self.get_logger().error(f"cannot {name}: {' '.join(str(error).split())}")
            return FAILURE
        except Exception:
            self.get_logger().fatal(f"error in {name}:\n{traceback.format_exc()}")
            raise

    def _tick(self) -> None:
        self._is_simulated = self.get_clock().ros_time_is_active
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [r.message(self.get_fully_qualified_name()) for r in self.reports()]
        self._diagnostics.publish(message)

    def _last_words(self) -> None:
        """The diagnostics of the end; waits a little for who records them."""
        self._tick()
        self._diagnostics.wait_for_all_acked(LAST_WORDS)

    def autostart(self) -> bool:
        """Configure and activate. False where one of them was refused."""
        if self.trigger_configure() != SUCCESS:
            return False
        return bool(self.trigger_activate() == SUCCESS)

    def wants_autostart(self) -> bool:
        """The parameter nodes.autostart."""
        return bool(self.get_parameter("nodes.autostart").value)


# ----------------------------------------------------------------------- start and end


class Stop:
    """Set by SIGINT and SIGTERM."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.asked = True
        # A terminal and a launch file may both send one. Python would take the default action for
        # one that comes while the interpreter ends, and a clean end would look like a death.
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)


def make_executor() -> Any:
    """The executor of every node here; measurements: docs/decisions/0002-executor.md."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        from rclpy.executors import SingleThreadedExecutor

        return SingleThreadedExecutor()
    return EventsExecutor()


def spin(node: Node, stop: Stop, until: Callable[[], bool] = lambda: False) -> None:
    """Serve a node until a signal comes or ``until`` says so."""
    executor = make_executor()
    executor.add_node(node)
    try:
        while not stop.asked and not until() and rclpy.ok():
            # EventsExecutor.spin() of rclpy 7.1.6 burns a core and delivers nothing.
            executor.spin_once(timeout_sec=LONGEST_SPIN_S)
    finally:
        executor.remove_node(node)


def run_managed(make: Callable[[], ManagedNode], args: Sequence[str] | None = None) -> int:
    """The main function of a lifecycle node. 0 after a clean end, 1 where autostart was refused
    or a thread of the node died."""
    process.begin(args)
    stop = Stop()
    node = make()
    try:
        if node.wants_autostart() and not node.autostart():
            return 1
        spin(node, stop, until=lambda: node.crashed)
        node.trigger_shutdown()
        return 1 if node.crashed else 0
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def run_process(make: Callable[[], ManagedNode]) -> None:
    """Run a node and end the process with its exit code."""
    sys.exit(run_managed(make, sys.argv))
