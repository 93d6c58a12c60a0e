"""The launch files, under the real launch_ros where it is installed."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.live import ROOT, environment, wait_for
from support.live_bag import write_bag

LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
NODES = ("fusion_node", "pose_node", "simulator_node")
needs_launch_ros = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="launch_ros is not installed (a ROS installation has it): files only parsed",
)

# What ``ros2 launch`` does with a launch file and arguments.
RUNNER = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [a.split(":=", 1) for a in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
service = LaunchService(argv=sys.argv[2:])
included = IncludeLaunchDescription(source, launch_arguments=arguments)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda p: p.name)
def test_launch_files_parse(path: Path) -> None:
    """Each describes itself and has the function that launch asks for."""
    tree = ast.parse(path.read_text(), str(path))
    functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    assert "generate_launch_description" in functions
    assert (ast.get_docstring(tree) or "").count("ros2 launch mm_fusion " + path.name) == 1


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An installation prefix as colcon makes it: marker, share, executables in lib."""
    base = tmp_path / "prefix"
    share, lib = base / "share" / "mm_fusion", base / "lib" / "mm_fusion"
    marker = base / "share" / "ament_index" / "resource_index" / "packages" / "mm_fusion"
    for folder in (share, lib, marker.parent):
        folder.mkdir(parents=True)
    marker.touch()
    for folder in ("launch", "config"):
        shutil.copytree(ROOT / folder, share / folder)
    for name in NODES:
        program = lib / name
        words = [f"#!{sys.executable}", f"from mm_fusion.nodes.{name} import main", "main()", ""]
        program.write_text("\n".join(words))
        program.chmod(0o755)
    return base


@contextmanager
def launched(
    prefix: Path, domain: int, log: Path, file: str, *arguments: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A launch file running, and what it prints."""
    given = os.environ.get("AMENT_PREFIX_PATH")
    found = os.pathsep.join(p for p in (str(prefix), given, sys.prefix) if p)
    env = {**environment(domain), "AMENT_PREFIX_PATH": found, "ROS_LOG_DIR": str(log / "ros")}
    path = prefix / "share" / "mm_fusion" / "launch" / file
    text = log / "launch.log"
    with text.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(path), *arguments],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process, text
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60.0)
            print(text.read_text())


@needs_launch_ros
def test_robot_launch_brings_both_nodes_to_active(
    prefix: Path, domain: int, tmp_path: Path
) -> None:
    """GIVEN an installation WHEN fusion.launch.py runs THEN both nodes become active, end well."""
    with launched(prefix, domain, tmp_path, "fusion.launch.py") as (process, log):
        for node in ("pose_node", "fusion_node"):
            wait_for(lambda n=node: f"{n} is active" in log.read_text(), f"{node} active", 90.0)
        process.send_signal(signal.SIGINT)
        assert process.wait(60.0) == 0
        assert log.read_text().count("process has finished cleanly") == 2


@needs_launch_ros
def test_replay_launch_plays_and_ends(prefix: Path, domain: int, tmp_path: Path) -> None:
    """GIVEN a bag WHEN replay.launch.py runs THEN it is played to the end and all end."""
    bag = write_bag(tmp_path / "bag", 2.0)
    with launched(prefix, domain, tmp_path, "replay.launch.py", f"bag:={bag}") as (process, log):
        assert process.wait(120.0) == 0
        said = log.read_text()
        assert said.index("fusion_node is active") < said.index("played ")
        assert said.index("pose_node is active") < said.index("played ")
        assert "mode camera+lidar" in log.read_text()


@needs_launch_ros
def test_refused_configuration_is_said(prefix: Path, domain: int, tmp_path: Path) -> None:
    """GIVEN a parameter out of range WHEN launched THEN the node's own line stands there."""
    settings = tmp_path / "wrong.yaml"
    settings.write_text("/**:\n  ros__parameters:\n    sync:\n      deadline_s: 5.0\n")
    arguments = (f"params_file:={settings}",)
    with launched(prefix, domain, tmp_path, "fusion.launch.py", *arguments) as (_, log):
        words = "fusion_node refused to be configured"
        wait_for(lambda: words in log.read_text(), "the refusal", 90.0)
        assert "sync.deadline_s: must be within 0 .. 1 s, got 5.0" in log.read_text()
