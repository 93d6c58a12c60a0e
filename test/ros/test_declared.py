"""ROS parameters come from the configuration, with its meaning, types and ranges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from mm_fusion import parameters
from mm_fusion.config import Config
from mm_fusion.errors import ConfigError
from mm_fusion.nodes.declared import DeclaredParameters

Make = Callable[..., tuple[Node, DeclaredParameters]]


@pytest.fixture
def make(domain: int) -> Iterator[Make]:
    """Makes nodes with their parameters given at start."""
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    nodes: list[Node] = []

    def made(**overrides: object) -> tuple[Node, DeclaredParameters]:
        given = [Parameter(name.replace("__", "."), value=v) for name, v in overrides.items()]
        node = Node("declared", context=context, parameter_overrides=given)
        nodes.append(node)
        return node, DeclaredParameters(node, Config)

    yield made
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def test_defaults_and_descriptions_are_the_configurations(make: Make) -> None:
    node, declared = make()
    assert declared.build() == Config()
    for p in parameters.describe(Config):
        assert p.description in node.describe_parameter(p.name).description
    deadline = node.describe_parameter("sync.deadline_s")
    assert "[s]" in deadline.description
    limits = deadline.floating_point_range[0]
    assert (limits.from_value, limits.to_value, limits.step) == (0.0, 1.0, 0.0)
    queue = node.describe_parameter("network.queue_size").integer_range[0]
    assert (queue.from_value, queue.to_value, queue.step) == (1, 100, 0)
    provider = node.describe_parameter("network.provider")
    assert provider.additional_constraints == "one of auto, tensorrt, cuda, cpu"


def test_values_given_at_start_are_taken(make: Make) -> None:
    _, declared = make(sync__deadline_s=0.2, topics__cameras=["left"], network__threads=3)
    config = declared.build()
    assert config.sync.deadline_s == 0.2
    assert config.topics.cameras == ("left",)
    assert config.network.threads == 3


def test_whole_number_serves_as_a_float(make: Make) -> None:
    """As it does in a parameter file given to ``--config``."""
    _, declared = make(sync__deadline_s=1)
    assert declared.build().sync.deadline_s == 1.0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sync__deadline_s", 5.0, "sync.deadline_s: must be within 0 .. 1 s, got 5.0"),
        ("sync__deadline_s", "soon", "sync.deadline_s: must be float, got 'soon'"),
        ("network__queue_size", 2.5, "network.queue_size: must be a whole number, got 2.5"),
        ("network__use_lidar", 1, "network.use_lidar: must be true or false, got 1"),
        ("pose__datum", [1.0], "pose.datum: must have 3 numbers, got 1"),
        ("sync__dead_line_s", 0.1, "no such parameter; did you mean sync.deadline_s?"),
    ],
)
def test_wrong_value_at_start_is_refused_until_it_is_right(
    make: Make, name: str, value: object, words: str
) -> None:
    node, declared = make(**{name: value})
    with pytest.raises(ConfigError, match=re.escape(words)):
        declared.build()
    if name == "sync__deadline_s":
        node.set_parameters([Parameter("sync.deadline_s", value=0.3)])
        assert declared.build().sync.deadline_s == 0.3


def test_wrong_value_later_is_refused_at_once(make: Make) -> None:
    node, declared = make()
    for name, value in (
        ("sync.deadline_s", 5.0),
        ("sync.deadline_s", "soon"),
        ("network.provider", "tpu"),
        ("pose.datum", [1.0, 2.0]),
    ):
        answer = node.set_parameters([Parameter(name, value=value)])[0]
        assert not answer.successful
        assert answer.reason
    assert declared.build() == Config()
