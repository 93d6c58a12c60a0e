"""mm_fusion as a ROS 2 package: its manifest, and what colcon installs of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from catkin_pkg.package import parse_package

import mm_fusion
from mm_fusion import resources
from mm_fusion.errors import MmFusionError

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("mm_fusion", "fusion_node", "pose_node", "simulator_node")


def test_the_manifest_is_valid_and_agrees_with_the_package() -> None:
    warnings: list[str] = []
    package = parse_package(ROOT / "package.xml", warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.package_format == 3
    assert package.get_build_type() == "ament_python"
    assert (package.name, package.version) == ("mm_fusion", mm_fusion.__version__)
    assert [str(text) for text in package.licenses] == ["Apache-2.0"]


@pytest.mark.parametrize("name", ["tf2_msgs", "vision_msgs"])
def test_the_manifests_of_the_message_packages_are_valid(name: str) -> None:
    warnings: list[str] = []
    package = parse_package(ROOT / "interfaces" / name / "package.xml", warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert "rosidl_interface_packages" in [group.name for group in package.member_of_groups]


def test_the_changelog_is_of_this_package() -> None:
    lines = (ROOT / "CHANGELOG.rst").read_text().splitlines()
    assert lines[1] == "Changelog for package mm_fusion"
    titles = [lines[i - 1] for i, line in enumerate(lines) if re.fullmatch(r"-{3,}", line)]
    assert titles == ["Forthcoming"] or titles[0].startswith(mm_fusion.__version__)


def test_shared_files_are_found_or_named() -> None:
    assert resources.share_path("config/fusion.yaml").is_file()
    with pytest.raises(MmFusionError, match=r"models/none\.onnx"):
        resources.share_path("models/none.onnx")
    with pytest.raises(MmFusionError, match="inside"):
        resources.share_path("../outside")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged colcon installation of this checkout."""
    base = tmp_path_factory.mktemp("colcon")
    command = [sys.executable, "-m", "colcon", "--log-base", str(base / "log"), "build"]
    command += ["--base-paths", str(ROOT), "--packages-select", "mm_fusion", "--merge-install"]
    command += ["--build-base", str(base / "build"), "--install-base", str(base / "install")]
    done = subprocess.run(
        command, cwd=base, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return base / "install"


def test_colcon_installs_what_ros_looks_for(prefix: Path) -> None:
    assert (prefix / "share/ament_index/resource_index/packages/mm_fusion").is_file()
    share = prefix / "share" / "mm_fusion"
    assert (share / "package.xml").is_file()
    for folder in ("config", "launch", "models"):
        here = {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
        assert here, folder
        assert {path.name for path in (share / folder).iterdir()} == here
    for name in PROGRAMS:
        assert os.access(prefix / "lib" / "mm_fusion" / name, os.X_OK), name


def test_the_installed_package_finds_its_files(prefix: Path, tmp_path: Path) -> None:
    """From the installation alone, with the checkout neither on the path nor the folder."""
    site = next(prefix.glob("**/mm_fusion/resources.py")).parent.parent
    assert site.name in ("site-packages", "dist-packages")
    probe = (
        "import mm_fusion, mm_fusion.resources as r;"
        "print(mm_fusion.__file__); print(r.share_path('config/fusion.yaml'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    module, found = done.stdout.split()
    assert Path(module).is_relative_to(prefix)
    assert Path(found) == prefix / "share" / "mm_fusion" / "config" / "fusion.yaml"


def test_the_installed_command_runs(prefix: Path, tmp_path: Path) -> None:
    site = next(prefix.glob("**/mm_fusion/resources.py")).parent.parent
    done = subprocess.run(
        [prefix / "lib" / "mm_fusion" / "mm_fusion", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "replay" in done.stdout
