"""Our tf2_msgs and vision_msgs are the published ones: same types by hash, same on the wire."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from support.domains import own_domain

ROOT = Path(__file__).resolve().parent.parent
INTERFACES = ROOT / "interfaces"

# As ROS 2 Jazzy publishes them: tf2_msgs 0.36, vision_msgs 4.1.1.
PUBLISHED = {
    "vision_msgs/msg/Detection3DArray": (
        "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
    ),
    "vision_msgs/msg/Detection3D": (
        "RIHS01_ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b"
    ),
    "vision_msgs/msg/BoundingBox3D": (
        "RIHS01_bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698"
    ),
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "RIHS01_41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc"
    ),
    "vision_msgs/msg/Detection2DArray": (
        "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968"
    ),
    "tf2_msgs/msg/TFMessage": (
        "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"
    ),
}


def definitions() -> dict[str, str]:
    """Type names and texts of the definitions in interfaces/."""
    return {
        f"{path.parent.parent.name}/msg/{path.stem}": path.read_text()
        for path in sorted(INTERFACES.glob("*/msg/*.msg"))
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_definition_has_the_published_hash(name: str) -> None:
    """Computed from our .msg files by rosbags, which knows the standard messages."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for defined, text in definitions().items():
        types.update(get_types_from_msg(text, defined))
    store.register({k: v for k, v in types.items() if k not in store.fielddefs})
    for defined, fields in types.items():
        assert store.fielddefs[defined][1] == fields[1], f"{defined} is not as rosbags has it"
    assert store.hash_rihs01(name) == PUBLISHED[name]


# In a process of its own: what the middleware itself announces, and a message there and back.
ANNOUNCE = """
import rclpy, sys, importlib, time
rclpy.init()
node = rclpy.create_node("announcer")
for name in sys.argv[1:]:
    package, _, leaf = name.split("/")
    type_ = getattr(importlib.import_module(package + ".msg"), leaf)
    node.create_publisher(type_, "t_" + leaf, 1)
    info = []
    end = time.monotonic() + 30
    while not info and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)
        info = node.get_publishers_info_by_topic("t_" + leaf)
    print(info[0].topic_type, info[0].topic_type_hash)
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose
from rclpy.serialization import deserialize_message, serialize_message
box = Detection3D(id="seven")
box.bbox.size.x = 4.5
box.results = [ObjectHypothesisWithPose()]
box.results[0].hypothesis.class_id = "car"
message = Detection3DArray(detections=[box])
message.header.frame_id = "base_link"
assert deserialize_message(serialize_message(message), Detection3DArray) == message
print("same")
"""


@pytest.mark.ros
def test_the_middleware_announces_the_published_hashes() -> None:
    environ = dict(os.environ)
    environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    with own_domain() as domain:
        done = subprocess.run(
            [sys.executable, "-c", ANNOUNCE, *PUBLISHED],
            env={**environ, "ROS_DOMAIN_ID": str(domain)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "same"
    assert dict(line.split() for line in lines[:-1]) == PUBLISHED


def test_the_packages_build_what_lies_in_them() -> None:
    """A definition that CMake is not told of would be missing without a word."""
    for folder in sorted(path for path in INTERFACES.iterdir() if path.is_dir()):
        listed = {
            line.strip()
            for line in (folder / "CMakeLists.txt").read_text().splitlines()
            if line.strip().endswith((".msg", ".srv"))
        }
        found = [*folder.glob("msg/*.msg"), *folder.glob("srv/*.srv")]
        assert listed == {path.relative_to(folder).as_posix() for path in found}
