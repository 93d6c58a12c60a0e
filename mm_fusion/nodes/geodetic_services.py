"""``to_ll``, ``from_ll`` and ``set_datum``, of robot_localization's types: what asks it asks here.

These answers have no room for a reason. What cannot be answered is NaN in every field, which no
place can be, and the reason is logged and counted.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node

from mm_fusion.pose.pipeline import PosePipeline

PACKAGE = "robot_localization"
_NO_DATUM = "the datum is not known yet: no good fix has come, and none was given"
_NOT_CONFIGURED = "the node is not configured"


class GeodeticServices:
    """The three services of ``node``; ``pipeline`` answers None while there is none."""

    def __init__(self, node: Node, pipeline: Callable[[], PosePipeline | None]) -> None:
        self._node, self._pipeline = node, pipeline
        self.refused = 0
        try:
            types = importlib.import_module(f"{PACKAGE}.srv")
        except ImportError:
            text = f"no to_ll, from_ll and set_datum: their types are those of {PACKAGE}, which is"
            node.get_logger().info(f"{text} not installed")
            return
        node.create_service(types.ToLL, "to_ll", self._to_ll)
        node.create_service(types.FromLL, "from_ll", self._from_ll)
        node.create_service(types.SetDatum, "set_datum", self._set_datum)

    def _refuse(self, service: str, reason: str) -> None:
        self.refused += 1
        self._node.get_logger().warning(f"{service}: {reason}")

    def _to_ll(self, request: Any, answer: Any) -> Any:
        point, out = request.map_point, answer.ll_point
        pipeline, found = self._pipeline(), None
        if pipeline is None:
            self._refuse("to_ll", _NOT_CONFIGURED)
        elif not all(map(math.isfinite, (point.x, point.y, point.z))):
            self._refuse("to_ll", f"not a point: {point.x}, {point.y}, {point.z}")
        else:
            found = pipeline.to_geodetic((point.x, point.y, point.z))
            if found is None:
                self._refuse("to_ll", _NO_DATUM)
        out.latitude, out.longitude, out.altitude = found or (math.nan,) * 3
        return answer

    def _from_ll(self, request: Any, answer: Any) -> Any:
        point, out = request.ll_point, answer.map_point
        pipeline, found = self._pipeline(), np.full(3, math.nan)
        if pipeline is None:
            self._refuse("from_ll", _NOT_CONFIGURED)
        else:
            place = pipeline.from_geodetic(point.latitude, point.longitude, point.altitude)
            if isinstance(place, str):
                self._refuse("from_ll", place or _NO_DATUM)
            else:
                found = place
        out.x, out.y, out.z = found.tolist()
        return answer

    def _set_datum(self, request: Any, answer: Any) -> Any:
        pose, pipeline = request.geo_pose, self._pipeline()
        q, p = pose.orientation, pose.position
        refused = _NOT_CONFIGURED
        if max(abs(q.x), abs(q.y), abs(q.z)) > 1e-3:
            refused = "the map is east-north-up about the datum: give it no orientation"
        elif pipeline is not None:
            refused = pipeline.set_datum(p.latitude, p.longitude, p.altitude)
        if refused:
            self._refuse("set_datum", refused)
        else:
            text = f"datum: {p.latitude:.9g} {p.longitude:.9g} {p.altitude:.9g}"
            self._node.get_logger().info(text)
        return answer
