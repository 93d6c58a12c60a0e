"""ROS parameters from the one configuration: declared, described, range-checked."""

from __future__ import annotations

import sys
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from mm_fusion import parameters
from mm_fusion.errors import ConfigError

# Parameters that rclpy gives every node; they are no mistake of the user's.
_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service", "qos_overrides.")
_TYPES = {
    "bool": RosParameter.Type.BOOL,
    "int": RosParameter.Type.INTEGER,
    "float": RosParameter.Type.DOUBLE,
    "str": RosParameter.Type.STRING,
    "str[]": RosParameter.Type.STRING_ARRAY,
    "float[]": RosParameter.Type.DOUBLE_ARRAY,
}


class DeclaredParameters:
    """The parameters of a configuration class, declared on a node.

    A wrong value at start does not end the process: the node comes up, and :meth:`build` (called
    when it configures) raises ConfigError naming the parameter and its rule, until the parameter
    is set to something right. A wrong value set later is refused at once with the same message.
    """

    def __init__(self, node: Node, config_type: type) -> None:
        self._node = node
        self._type = config_type
        self._was_built = False
        self._known = {p.name: p for p in parameters.describe(config_type)}
        overrides = node._parameter_overrides
        self._errors: dict[str, str] = {
            name: _unknown(name, self._known)
            for name in sorted(overrides)
            if name not in self._known and not name.startswith(_OF_EVERY_NODE)
        }
        for p in self._known.values():
            value = p.default
            if p.name in overrides:
                value = self._checked(p, overrides[p.name].value)
            # The checked value is given as the default: rclpy would refuse a wrong override by
            # ending the process with a traceback, and a whole number where a float is meant.
            node.declare_parameter(p.name, _plain(value), descriptor(p), ignore_override=True)
        node.add_on_set_parameters_callback(self._on_set)

    def _checked(self, p: parameters.Parameter, value: Any) -> parameters.Value:
        try:
            return parameters.check(p, value)
        except ConfigError as error:
            self._errors[p.name] = str(error)
            return p.default

    def _on_set(self, changes: list[RosParameter]) -> SetParametersResult:
        known = [c for c in changes if c.name in self._known]
        for change in known:
            try:
                parameters.check(self._known[change.name], change.value)
            except ConfigError as error:
                return SetParametersResult(successful=False, reason=str(error))
        for change in known:
            self._errors.pop(change.name, None)
            if self._was_built:
                text = f"{change.name}: taken over when the node is configured again"
                self._node.get_logger().info(text)
        return SetParametersResult(successful=True)

    def build(self) -> Any:
        """The configuration of now. Raises ConfigError for what was wrong and still is."""
        self._was_built = True
        if self._errors:
            raise ConfigError("; ".join(self._errors.values()))
        values = {name: self._node.get_parameter(name).value for name in self._known}
        return parameters.build(self._type, values)


def _unknown(name: str, known: dict[str, parameters.Parameter]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"{name}: no such parameter" + (f"; did you mean {close[0]}?" if close else "")


def _plain(value: parameters.Value) -> Any:
    return list(value) if isinstance(value, tuple) else value


def descriptor(p: parameters.Parameter) -> ParameterDescriptor:
    """What ``ros2 param describe`` says: meaning, unit, choices, type and range."""
    out = ParameterDescriptor(name=p.name, type=_TYPES[p.kind].value, description=p.description)
    if p.unit:
        out.description += f" [{p.unit}]"
    if p.choices:
        out.additional_constraints = "one of " + ", ".join(p.choices)
    if p.kind == "float[]":
        count = "one or more" if p.any_length else f"exactly {len(p.default)}"  # type: ignore[arg-type]
        out.additional_constraints = f"{count} numbers"
    if p.low is None and p.high is None:
        return out
    if p.kind == "int":
        low = -(2**31) if p.low is None else int(p.low)
        high = 2**31 - 1 if p.high is None else int(p.high)
        out.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
    elif p.kind == "float":
        top = sys.float_info.max
        low, high = -top if p.low is None else p.low, top if p.high is None else p.high
        out.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    return out
