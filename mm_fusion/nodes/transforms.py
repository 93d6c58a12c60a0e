"""Extrinsics from TF, read only as long as somebody still needs one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.nodes import qos
from mm_fusion.perception.calibration import Calibration
from mm_fusion.samples import Rejection
from mm_fusion.wire import FrameTransforms, StampedTransform


class TransformInput:
    """Hands every transform of /tf_static to ``use``, and of /tf while a needed one is missing.

    Most robots put their sensors' places on /tf_static. On some they come on /tf, at a rate that
    would cost a Python process more than all sensors together; so /tf is read until every frame
    in ``needed`` is connected with the base, and again when a new one turns up. Sensors on moving
    joints therefore keep the place where they were first seen.
    """

    def __init__(
        self,
        node: Node,
        config: Config,
        use: Callable[[StampedTransform], None],
        reject: Callable[[Rejection], None],
    ) -> None:
        self._node = node
        # Where the robot is, is what the pose road finds out; only its build is read here.
        self._moving_frames = {config.frames.odom, config.frames.map}
        self._use = use
        self._reject = reject
        self._known = Calibration(config)
        self._moving: Any = None
        self.needed: set[str] = set()
        self._static = node.create_subscription(
            TFMessage, "/tf_static", lambda m: self._on(m, "tf_static"), qos.latched()
        )
        self._listen(True)

    def missing(self) -> list[str]:
        """Needed frames whose place on the robot is unknown."""
        return sorted(f for f in self.needed if self._known.base_from(f) is None)

    def tend(self) -> None:
        """Open or close /tf; to be called now and then."""
        self._listen(not self.needed or bool(self.missing()))

    def close(self) -> None:
        """Close both topics."""
        self._listen(False)
        self._node.destroy_subscription(self._static)

    def _listen(self, wanted: bool) -> None:
        if wanted and self._moving is None:
            self._moving = self._node.create_subscription(
                TFMessage, "/tf", lambda m: self._on(m, "tf"), qos.transforms()
            )
        elif not wanted and self._moving is not None:
            self._node.destroy_subscription(self._moving)
            self._moving = None

    def _on(self, message: TFMessage, sensor: str) -> None:
        decoded = wire.from_message(message, sensor)
        if isinstance(decoded, Rejection):
            self._reject(decoded)
            return
        assert isinstance(decoded, FrameTransforms)
        for rejection in decoded.rejections:
            self._reject(rejection)
        for t in decoded.transforms:
            if t.parent not in self._moving_frames:
                self._known.set_transform(t.parent, t.child, t.parent_from_child)
                self._use(t)
