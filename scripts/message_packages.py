"""Builds the message packages of interfaces/ into the environment, with CMake.

Runs before anything is installed: standard library only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from machine import SetupError, succeeds

NAMES = ("tf2_msgs", "vision_msgs", "geographic_msgs", "robot_localization")  # each after its own

# Directories of the machine on which the ROS wheels were built, as their CMake files name them.
WHEEL_INCLUDE = re.compile(r"/opt/python/cp\d+-cp\d+/include/python3\.\d+")
WHEEL_NUMPY = re.compile(
    r"/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages/numpy/(?:_core|core)/include"
)

# On a ROS installation nothing else leads the loader to the libraries built here. Like the hook of
# the ROS wheels, it starts Python once more, because the loader reads its path only at the start.
HOOK = '''\
"""Leads the loader and the ament index to the message packages built into this environment."""

import os
import sys


def _with(name, path):
    parts = [part for part in os.environ.get(name, "").split(os.pathsep) if part]
    return os.pathsep.join(parts if path in parts else [path, *parts])


_wanted = {
    "LD_LIBRARY_PATH": _with("LD_LIBRARY_PATH", os.path.join(sys.prefix, "lib")),
    "AMENT_PREFIX_PATH": _with("AMENT_PREFIX_PATH", sys.prefix),
}
if any(os.environ.get(name) != value for name, value in _wanted.items()):
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **_wanted})
'''


def sources(root: Path, name: str) -> list[Path]:
    """The files of a message package."""
    folder = root / "interfaces" / name
    return [folder / "CMakeLists.txt", folder / "package.xml", *definitions(folder)]


def definitions(folder: Path) -> list[Path]:
    """The messages and services of a package."""
    return sorted([*folder.glob("msg/*.msg"), *folder.glob("srv/*.srv")])


def _module(name: str) -> str:
    """What must be importable where the package is there: of one, only services are used."""
    return f"{name}.srv" if name == "robot_localization" else f"{name}.msg"


def absent(environ: Mapping[str, str], python: str) -> tuple[str, ...]:
    """The message packages that the sourced ROS does not have."""
    return tuple(
        name for name in NAMES if not succeeds([python, "-c", f"import {_module(name)}"], environ)
    )


def mend_wheel_targets(prefix: Path, include: str, numpy_include: str) -> int:
    """Point the CMake files of the ROS wheels to this machine's headers; how many needed it."""
    mended = 0
    for path in (prefix / "share").rglob("*.cmake"):
        text = path.read_text()
        fixed = WHEEL_NUMPY.sub(lambda _: numpy_include, text)
        fixed = WHEEL_INCLUDE.sub(lambda _: include, fixed)
        if fixed != text:
            path.write_text(fixed)
            mended += 1
    return mended


def build(
    root: Path, prefix: Path, names: Iterable[str], environ: Mapping[str, str], *, with_ros: bool
) -> None:
    """Configure, compile and install the packages into ``prefix``."""
    python = prefix / "bin" / "python"
    environ = dict(environ)
    environ["PATH"] = os.pathsep.join([str(prefix / "bin"), environ.get("PATH", os.defpath)])
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
        old = environ.get(name, "")
        environ[name] = os.pathsep.join([str(prefix), old] if old else [str(prefix)])
    if with_ros:
        site = next((prefix / "lib").glob("python3.*/site-packages"))
        (site / "mm_fusion_interfaces.py").write_text(HOOK)
        (site / "mm_fusion_interfaces.pth").write_text("import mm_fusion_interfaces\n")
    else:
        probe = (
            "import numpy, sysconfig as c; print(c.get_path('include')); print(numpy.get_include())"
        )
        done = subprocess.run(
            [python, "-c", probe], env=environ, capture_output=True, text=True, check=True
        )
        mend_wheel_targets(prefix, *done.stdout.splitlines())
    for name in names:
        _build_one(root, name, prefix, environ)
    check = "; ".join(f"import {_module(name)}" for name in names)
    if not succeeds([str(python), "-c", check], environ):
        raise SetupError(f"built, but cannot be imported: {python} -c '{check}'")


def _build_one(root: Path, name: str, prefix: Path, environ: Mapping[str, str]) -> None:
    source, build_dir = root / "interfaces" / name, root / "build" / "interfaces" / name
    build_dir.mkdir(parents=True, exist_ok=True)
    (build_dir / "CMakeCache.txt").unlink(missing_ok=True)
    log = build_dir / "build.log"
    options = {
        "CMAKE_INSTALL_PREFIX": prefix,
        "CMAKE_BUILD_TYPE": "Release",
        "BUILD_TESTING": "OFF",
        "Python3_EXECUTABLE": prefix / "bin" / "python",
    }
    commands: list[list[str | Path]] = [
        ["cmake", "-S", source, "-B", build_dir, *(f"-D{k}={v}" for k, v in options.items())],
        ["cmake", "--build", build_dir, "--parallel", str(os.cpu_count() or 1)],
        ["cmake", "--install", build_dir],
    ]
    with log.open("w") as output:
        for command in commands:
            done = subprocess.run(
                command, env=environ, stdout=output, stderr=subprocess.STDOUT, check=False
            )
            if done.returncode:
                output.flush()
                print(log.read_text()[-4000:], file=sys.stderr)
                raise SetupError(f"building {source.name} failed; the whole output is in {log}")
