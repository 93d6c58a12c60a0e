"""How a parameter is declared once and read everywhere.

A parameter is a field of a frozen dataclass (see ``config``), made with :func:`param`: default,
description, unit and range stand in one place. The commented YAML file, the ROS parameter
declarations, the ``--set`` option and the README table are all derived from there.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mm_fusion.errors import ConfigError

_SCIENTIFIC = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")

Value = bool | int | float | str | tuple[str, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One leaf of the configuration, under its dotted name."""

    name: str
    kind: str  # bool, int, float, str, str[] or float[]
    default: Value
    description: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    any_length: bool = False

    def range_text(self) -> str:
        """The allowed values in words, "" where anything of the type goes."""
        if self.choices:
            return " | ".join(self.choices)
        if self.low is None and self.high is None:
            return ""
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        return f"{low} .. {high}"


def param(
    default: Value,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    any_length: bool = False,
) -> Any:
    """Declare a parameter as a dataclass field. ``low`` and ``high`` are allowed values too.

    A list of numbers is as long as its default, unless it may have ``any_length`` but none.
    """
    meta = {
        "description": description,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": tuple(choices),
        "any_length": any_length,
    }
    return dataclasses.field(default=default, metadata=meta)


def _kind(annotation: Any, name: str) -> str:
    if annotation in (bool, int, float, str):
        return str(annotation.__name__)
    if typing.get_origin(annotation) is tuple:
        inner = typing.get_args(annotation)[0]
        if inner in (str, float):
            return f"{inner.__name__}[]"
    if isinstance(annotation, types.GenericAlias):
        raise TypeError(f"{name}: tuples of str or float only")
    raise TypeError(f"{name}: unsupported parameter type {annotation}")


def describe(config_type: type, prefix: str = "") -> Iterator[Parameter]:
    """Every parameter of a configuration dataclass and its sections, in the order of the source."""
    hints = typing.get_type_hints(config_type)
    for f in dataclasses.fields(config_type):
        name = f"{prefix}{f.name}"
        annotation = hints[f.name]
        if dataclasses.is_dataclass(annotation):
            yield from describe(typing.cast(type, annotation), f"{name}.")
            continue
        meta = f.metadata
        yield Parameter(
            name=name,
            kind=_kind(annotation, name),
            default=typing.cast(Value, f.default),
            description=meta["description"],
            unit=meta["unit"],
            low=meta["low"],
            high=meta["high"],
            choices=meta["choices"],
            any_length=meta["any_length"],
        )


def _number(p: Parameter, value: Any) -> int | float:
    if isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        value = float(value)  # YAML 1.1 takes 1e-5 for text; ROS and everyone else do not
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{p.name}: must be {p.kind}, got {value!r}")
    if not math.isfinite(value):
        raise ConfigError(f"{p.name}: must be finite, got {value!r}")
    if (p.low is not None and value < p.low) or (p.high is not None and value > p.high):
        unit = f" {p.unit}" if p.unit else ""
        raise ConfigError(f"{p.name}: must be within {p.range_text()}{unit}, got {value!r}")
    return value


def _numbers(p: Parameter, values: Sequence[Any]) -> tuple[float, ...]:
    assert isinstance(p.default, tuple)
    if p.any_length and not values:
        raise ConfigError(f"{p.name}: must have at least one number, got none")
    if not p.any_length and len(values) != len(p.default):
        raise ConfigError(f"{p.name}: must have {len(p.default)} numbers, got {len(values)}")
    return tuple(float(_number(p, v)) for v in values)


def check(p: Parameter, value: Any) -> Value:
    """The value in the parameter's own type, or ConfigError naming the parameter and the rule."""
    if p.kind == "bool":
        if not isinstance(value, bool):
            raise ConfigError(f"{p.name}: must be true or false, got {value!r}")
        return value
    if p.kind == "int":
        number = _number(p, value)
        if not float(number).is_integer():
            raise ConfigError(f"{p.name}: must be a whole number, got {value!r}")
        return int(number)
    if p.kind == "float":
        return float(_number(p, value))
    if p.kind == "str":
        if value is False and "off" in p.choices:
            value = "off"  # YAML reads an unquoted off as false
        if not isinstance(value, str):
            raise ConfigError(f"{p.name}: must be text, got {value!r}")
        if p.choices and value not in p.choices:
            raise ConfigError(f"{p.name}: must be one of {', '.join(p.choices)}, got {value!r}")
        return value
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{p.name}: must be a list, got {value!r}")
    if p.kind == "str[]":
        if not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{p.name}: must be a list of texts, got {value!r}")
        # ROS parameters cannot hold an empty list of texts; [""] stands for it.
        return tuple(value) or ("",)
    return _numbers(p, value)


def build(config_type: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """A configuration from dotted names; what is not named keeps its default.

    Raises ConfigError for an unknown name, a wrong type, or a value out of range.
    """
    known = {p.name: p for p in describe(config_type)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        import difflib

        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{unknown[0]}: no such parameter{hint}")
    checked = {name: check(known[name], value) for name, value in values.items()}
    return _assemble(config_type, checked, prefix)


def _assemble(config_type: type, values: Mapping[str, Value], prefix: str) -> Any:
    hints = typing.get_type_hints(config_type)
    arguments: dict[str, Any] = {}
    for f in dataclasses.fields(config_type):
        name = f"{prefix}{f.name}"
        if dataclasses.is_dataclass(hints[f.name]):
            arguments[f.name] = _assemble(typing.cast(type, hints[f.name]), values, f"{name}.")
        elif name in values:
            arguments[f.name] = values[name]
    return config_type(**arguments)


def flatten(config: Any, prefix: str = "") -> dict[str, Value]:
    """The dotted names and values of a configuration."""
    out: dict[str, Value] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            out.update(flatten(value, f"{prefix}{f.name}."))
        else:
            out[f"{prefix}{f.name}"] = value
    return out


def parse_yaml(text: str, source: str = "configuration") -> dict[str, Any]:
    """Dotted names and values from a ROS parameter file (any node name) or a plain mapping.

    Raises ConfigError for text that is no YAML mapping.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source}: must be a mapping of parameters, got {type(tree).__name__}")
    values: dict[str, Any] = {}
    for key, branch in tree.items():
        if isinstance(branch, Mapping) and "ros__parameters" in branch:
            values.update(_dotted(branch["ros__parameters"]))
        else:
            values.update(_dotted({key: branch}))
    # use_sim_time belongs to every ROS node, not to this configuration.
    values.pop("use_sim_time", None)
    return values


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out.update(_dotted(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = value
    return out


def parse_assignment(text: str) -> tuple[str, Any]:
    """``key=value`` as ``--set`` takes it; the value is read as YAML, so lists are ``[a, b]``."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: must be key=value")
    try:
        return key.strip(), yaml.safe_load(value) if value.strip() else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not valid YAML") from error


def format_value(value: Value) -> str:
    """A value as it stands in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(format_value(v) for v in value) + "]"
    text = repr(value)
    if isinstance(value, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")  # without the point YAML 1.1 reads a text
    return text


def to_yaml(config_type: type, header: str) -> str:
    """The commented parameter file with every default, as ROS 2 reads it."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    lines += ["/**:", "  ros__parameters:"]
    section = ""
    for p in describe(config_type):
        path, _, leaf = p.name.rpartition(".")
        if path != section:
            section = path
            lines += ["", f"    {section}:"]
        limits = ", ".join(t for t in (p.unit, p.range_text()) if t)
        indent = " " * (6 if path else 4)
        lines.append(f"{indent}# {p.description}" + (f" [{limits}]" if limits else ""))
        lines.append(f"{indent}{leaf}: {format_value(p.default)}")
    return "\n".join(lines) + "\n"


def to_markdown(config_type: type) -> str:
    """The parameter table of the README."""
    lines = ["| parameter | default | unit, range | meaning |", "|---|---|---|---|"]
    for p in describe(config_type):
        limits = ", ".join(t for t in (p.unit, p.range_text().replace("|", "\\|")) if t)
        default = format_value(p.default)
        lines.append(f"| `{p.name}` | `{default}` | {limits} | {p.description} |")
    return "\n".join(lines) + "\n"
