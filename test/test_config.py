"""The configuration of mm_fusion: every default is allowed, every mistake is named."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_fusion import config, parameters
from mm_fusion.config import Config
from mm_fusion.errors import CalibrationError, ConfigError

ALL = list(parameters.describe(Config))


@pytest.mark.parametrize("p", ALL, ids=lambda p: p.name)
def test_every_parameter_is_well_declared(p: parameters.Parameter) -> None:
    assert parameters.check(p, p.default) == p.default
    assert p.description
    assert not p.description.endswith(".")
    suffix_units = {"_s": "s", "_m": "m", "_hz": "Hz", "_rad": "rad", "_mps2": "m/s^2"}
    suffix = next((s for s in ("_mps2", "_rad", "_hz", "_s", "_m") if p.name.endswith(s)), "")
    if suffix and p.kind == "float":
        assert p.unit == suffix_units[suffix], p.name
        assert p.low is not None, "a measured quantity has limits"


def test_the_defaults_survive_every_way_in() -> None:
    assert config.from_values({}) == Config()
    assert config.load() == Config()
    assert config.load(parameters.to_yaml(Config, "x")) == Config()
    assert config.from_values(parameters.flatten(Config())) == Config()


def test_assignments_win_over_the_file() -> None:
    found = config.load("sync: {max_dt_s: 0.02, queue_size: 7}", "f", ["sync.max_dt_s=0.03"])
    assert (found.sync.max_dt_s, found.sync.queue_size) == (0.03, 7)


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"sync\.max_dt: no such.*sync\.max_dt_s"):
        config.load("", "", ["sync.max_dt=0.03"])
    with pytest.raises(ConfigError, match=r"robot\.yaml"):
        config.load("[", "robot.yaml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"topics.lidars": list("abcde")}, r"topics\.lidars: at most 4 .* got 5"),
        ({"topics.cameras": list("abcdefghijklm")}, r"topics\.cameras: at most 12 .* got 13"),
        ({"topics.lidars": ["a", "a"]}, r"topics\.lidars: names must differ"),
        ({"topics.cameras": ["a", ""]}, r"topics\.cameras: names must differ"),
        ({"sync.reference": "roof"}, r"sync\.reference: must be among .*lidar/points.* got roof"),
        ({"sync.required": ["roof"]}, r"sync\.required: must be among .* got roof"),
        (
            {"topics.cameras": ["a", "b", "c"], "sync.camera_offsets_s": [0.1, 0.2]},
            r"sync\.camera_offsets_s: .* one per camera \(3\), got 2",
        ),
        (
            {"topics.lidars": ["a"], "sync.lidar_offsets_s": [0.1, 0.2]},
            r"sync\.lidar_offsets_s: .* one per LIDAR \(1\), got 2",
        ),
        ({"sync.camera_offsets_s": []}, r"sync\.camera_offsets_s: must have at least one"),
        ({"sync.camera_offset_s": 0.1}, r"no such parameter; did you mean sync\.camera_offsets_s"),
    ],
)
def test_what_sensors_there_may_be(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.from_values(values)


def test_several_lidars_and_cameras_each_with_its_offset() -> None:
    found = config.from_values(
        {
            "topics.lidars": ["a", "b"],
            "topics.cameras": ["c", "d", "e"],
            "sync.lidar_offsets_s": [0.0, 0.01],
            "sync.camera_offsets_s": [0.02],
            "sync.reference": "d",
            "sync.required": ["a", "e"],
        }
    )
    assert found.topics.lidar_names() == ("a", "b")
    assert found.sync.lidar_offsets_s == (0.0, 0.01)
    assert config.from_values({"topics.lidars": [""]}).topics.lidar_names() == ()


@pytest.mark.parametrize(
    ("cameras", "infos", "wanted"),
    [
        (["camera/image_raw"], None, ("camera/camera_info",)),
        (["/a/image_rect", "/b/image"], None, ("/a/camera_info", "/b/camera_info")),
        (["image"], None, ("camera_info",)),
        (["/image"], None, ("/camera_info",)),
        (["/cam/image_raw/compressed"], None, ("/cam/camera_info",)),
        (["/a/image", "/b/image"], ["", "/b/special"], ("/a/camera_info", "/b/special")),
    ],
)
def test_camera_infos_are_beside_their_images(
    cameras: list[str], infos: list[str] | None, wanted: tuple[str, ...]
) -> None:
    values: dict[str, object] = {"topics.cameras": cameras}
    if infos is not None:
        values["topics.camera_infos"] = infos
    assert config.from_values(values).camera_info_topics() == wanted


def test_camera_infos_are_as_many_as_cameras() -> None:
    with pytest.raises(ConfigError, match=r"topics\.camera_infos.*\(1\), got 2"):
        config.from_values({"topics.camera_infos": ["a", "b"]})


def test_extrinsics_are_read_in_metres_and_radians() -> None:
    text = f"lidar 1 2 3 0 0 {math.pi / 2}"
    found = config.from_values({"calibration.extrinsics": [text, ""]}).extrinsics()
    assert list(found) == ["lidar"]
    # A quarter turn to the left and then the translation.
    np.testing.assert_allclose(found["lidar"].apply(np.array([1.0, 0, 0])), [1, 3, 3], atol=1e-12)


@pytest.mark.parametrize(
    "text", ["lidar 1 2 3", "lidar 1 2 3 0 0 north", "1 2 3 0 0 0", "lidar 1 2 3 0 0 0 1"]
)
def test_bad_extrinsics_are_refused_when_the_configuration_is_made(text: str) -> None:
    with pytest.raises(ConfigError, match=r"calibration\.extrinsics"):
        config.from_values({"calibration.extrinsics": [text]})


def test_extrinsics_that_are_not_finite_are_refused() -> None:
    with pytest.raises(CalibrationError, match="finite"):
        config.from_values({"calibration.extrinsics": ["lidar nan 0 0 0 0 0"]})
