"""Parameters: one declaration, and everything that is derived from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from mm_fusion import parameters
from mm_fusion.config import Config
from mm_fusion.errors import ConfigError
from mm_fusion.parameters import param


@dataclass(frozen=True)
class Engine:
    power_kw: float = param(80.0, "Power of the engine", unit="kW", low=0.0, high=500.0)
    cylinders: int = param(4, "How many cylinders", low=1)
    fuel: str = param("diesel", "What it burns", choices=("diesel", "petrol"))


@dataclass(frozen=True)
class Car:
    name: str = param("car", "What it is called")
    tags: tuple[str, ...] = param(("",), "Words about it")
    origin: tuple[float, ...] = param((0.0, 1.0), "Where it stands", unit="m", high=9.0)
    rusty: bool = param(False, "Whether it rusts")
    engine: Engine = field(default_factory=Engine)


def car(**values: Any) -> Car:
    found = parameters.build(Car, {k.replace("__", "."): v for k, v in values.items()})
    assert isinstance(found, Car)
    return found


def test_every_parameter_is_described_in_the_order_of_the_source() -> None:
    found = list(parameters.describe(Car))
    assert [(p.name, p.kind) for p in found] == [
        ("name", "str"),
        ("tags", "str[]"),
        ("origin", "float[]"),
        ("rusty", "bool"),
        ("engine.power_kw", "float"),
        ("engine.cylinders", "int"),
        ("engine.fuel", "str"),
    ]
    power = found[4]
    assert (power.default, power.unit, power.low, power.high) == (80.0, "kW", 0.0, 500.0)
    assert [p.range_text() for p in found[4:]] == ["0 .. 500", "1 .. inf", "diesel | petrol"]


def test_what_is_not_named_keeps_its_default() -> None:
    assert car() == Car()
    found = car(engine__power_kw=100, tags=["a", "b"], rusty=True, origin=[2, 3])
    assert found.engine == Engine(power_kw=100.0)
    assert isinstance(found.engine.power_kw, float)
    assert (found.tags, found.rusty, found.origin) == (("a", "b"), True, (2.0, 3.0))


def test_an_empty_list_of_texts_is_as_ros_can_hold_it() -> None:
    assert car(tags=[]).tags == ("",)


@pytest.mark.parametrize("value", [0.0, 500.0])
def test_limits_are_allowed_values(value: float) -> None:
    assert car(engine__power_kw=value).engine.power_kw == value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("engine.power_kw", -0.1, r"engine.power_kw: must be within 0 .. 500 kW, got -0.1"),
        ("engine.power_kw", 500.1, "within"),
        ("engine.power_kw", float("nan"), "finite"),
        ("engine.power_kw", "80", "must be float"),
        ("engine.power_kw", True, "must be float"),
        ("engine.power_kw", None, "must be float"),
        ("engine.cylinders", 0, "1 .. inf"),
        ("engine.cylinders", 4.5, "whole"),
        ("engine.fuel", "coal", "diesel, petrol"),
        ("engine.fuel", 3, "text"),
        ("rusty", 1, "true or false"),
        ("tags", "a", "list"),
        ("tags", [1], "list of texts"),
        ("origin", [1.0], "2 numbers"),
        ("origin", [1.0, 9.5], "-inf .. 9"),
        ("origin", ["a", "b"], "must be float"),
        ("engine.power", 3.0, "did you mean engine.power_kw"),
        ("wings", 2, "wings: no such parameter"),
        ("engine", 2, "no such parameter"),
    ],
)
def test_a_wrong_value_is_refused_with_name_and_rule(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parameters.build(Car, {name: value})
    assert name in str(caught.value)


def test_a_whole_float_is_an_int() -> None:
    found = car(engine__cylinders=6.0).engine.cylinders
    assert (found, type(found)) == (6, int)


def test_flatten_is_the_reverse_of_build() -> None:
    values = {"name": "x", "engine.fuel": "petrol", "origin": (3.0, 4.0)}
    flat = parameters.flatten(parameters.build(Car, values))
    assert flat == {
        "name": "x",
        "tags": ("",),
        "origin": (3.0, 4.0),
        "rusty": False,
        "engine.power_kw": 80.0,
        "engine.cylinders": 4,
        "engine.fuel": "petrol",
    }
    assert parameters.build(Car, flat) == parameters.build(Car, values)


@pytest.mark.parametrize(
    "text",
    [
        "engine: {power_kw: 90.0}\nname: z",
        "/**:\n  ros__parameters:\n    engine:\n      power_kw: 90.0\n    name: z",
        "my_node:\n  ros__parameters: {engine.power_kw: 90.0, name: z, use_sim_time: true}",
    ],
)
def test_yaml_as_ros_or_plain(text: str) -> None:
    assert parameters.parse_yaml(text) == {"engine.power_kw": 90.0, "name": "z"}


def test_yaml_that_is_empty_says_nothing() -> None:
    assert parameters.parse_yaml("") == {}
    assert parameters.parse_yaml("# only a comment\n") == {}


@pytest.mark.parametrize("text", ["a: [", "- a\n- b", "just words"])
def test_yaml_that_is_no_mapping_is_refused_with_its_source(text: str) -> None:
    with pytest.raises(ConfigError, match=r"robot\.yaml"):
        parameters.parse_yaml(text, "robot.yaml")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("engine.power_kw=90", ("engine.power_kw", 90)),
        ("tags=[a, b]", ("tags", ["a", "b"])),
        ("name=", ("name", "")),
        ("rusty=true", ("rusty", True)),
        ("name=a=b", ("name", "a=b")),
    ],
)
def test_assignments(text: str, wanted: Any) -> None:
    assert parameters.parse_assignment(text) == wanted


@pytest.mark.parametrize("text", ["name", "=3", "tags=[a", ""])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parameters.parse_assignment(text)


def test_the_written_yaml_holds_every_default_and_a_comment_on_each() -> None:
    text = parameters.to_yaml(Car, "About\n\ncars")
    # An independent reader finds the defaults where ROS looks for them.
    tree = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert tree["engine"] == {"power_kw": 80.0, "cylinders": 4, "fuel": "diesel"}
    assert parameters.build(Car, parameters.parse_yaml(text)) == Car()
    assert text.startswith("# About\n#\n# cars\n")
    assert "      # Power of the engine [kW, 0 .. 500]\n      power_kw: 80.0\n" in text


def test_the_written_table_has_a_row_per_parameter() -> None:
    rows = parameters.to_markdown(Car).splitlines()[2:]
    assert len(rows) == 7
    assert rows[4] == "| `engine.power_kw` | `80.0` | kW, 0 .. 500 | Power of the engine |"
    assert rows[6] == '| `engine.fuel` | `"diesel"` | diesel \\| petrol | What it burns |'


def test_an_unquoted_off_is_the_choice_of_that_name() -> None:
    """GIVEN a choice with off, WHEN YAML makes false of it, THEN it is off; true is no choice."""
    found = [p for p in parameters.describe(Config) if p.name == "pose.imu_orientation"]
    assert parameters.check(found[0], yaml.safe_load("off")) == "off"
    with pytest.raises(ConfigError, match=r"pose\.imu_orientation: must be text"):
        parameters.check(found[0], yaml.safe_load("on"))
