"""What the set-up finds on this machine: ROS, an NVIDIA driver, system libraries, apt.

Runs before anything is installed: standard library only.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

ROS_DISTRO = "jazzy"

# Shared libraries that wheels of the runtime load from the system, with their Debian packages.
DEBIAN_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
    "libidn2.so.0": "libidn2-0",
    "libstdc++.so.6": "libstdc++6",
    "libudev.so.1": "libudev1",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libz.so.1": "zlib1g",
}

# Wheels that bring these libraries where apt may not be used.
PACKAGED_LIBRARIES = {"libusb-1.0.so.0"}

# Set by another environment's Python or shell; they would lead ours to foreign libraries.
FOREIGN_VARIABLES = ("PYTHONHOME", "VIRTUAL_ENV", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")
ROS_VARIABLES = (
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "LD_LIBRARY_PATH",
    "ROS_DISTRO",
    "ROS_VERSION",
)
# Where one of these is set, LD_LIBRARY_PATH leads to another ROS.
LOADER_MARKS = ("AMENT_PREFIX_PATH", "ROS_DISTRO", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


def clean_environment(environ: Mapping[str, str], with_ros: bool) -> dict[str, str]:
    """The environment for tools of .venv: a sourced ROS stays only where it is used."""
    dropped = set(FOREIGN_VARIABLES)
    if not with_ros:
        dropped.add("PYTHONPATH")
    if not with_ros and any(name in environ for name in LOADER_MARKS):
        dropped.update(ROS_VARIABLES)
    return {key: value for key, value in environ.items() if key not in dropped}


def succeeds(command: Iterable[str], environ: Mapping[str, str] | None = None) -> bool:
    """Whether a command exists and ends with 0."""
    try:
        done = subprocess.run(
            list(command), capture_output=True, env=environ, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def ros_is_sourced(environ: Mapping[str, str], python: str = sys.executable) -> bool:
    """A sourced ROS 2 Jazzy whose rclpy this Python can import; another distribution is not it."""
    if environ.get("ROS_DISTRO") != ROS_DISTRO:
        return False
    return succeeds([python, "-c", "import rclpy"], environ)


def nvidia_driver(proc: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """The version of the NVIDIA driver, None without one."""
    if proc.exists():
        found = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", proc.read_text(errors="replace"))
        return found.group(1) if found else "unknown version"
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None


def inference_engine(driver: str | None, machine: str = platform.machine()) -> tuple[str, str]:
    """Which requirements file the network's engine comes from, and the sentence that says why."""
    if driver is None:
        return "inference-cpu.txt", "onnxruntime (CPU): no NVIDIA driver found"
    if machine != "x86_64":
        return "inference-cpu.txt", f"onnxruntime (CPU): no GPU wheel for {machine} on PyPI"
    return "inference-gpu.txt", f"onnxruntime-gpu (CUDA): NVIDIA driver {driver} found"


def missing_libraries(ldd_output: str) -> list[str]:
    """Names that ldd reports as not found."""
    return sorted(set(re.findall(r"^\s*(\S+) => not found", ldd_output, flags=re.MULTILINE)))


def packages_for(libraries: Iterable[str]) -> list[str]:
    """Debian packages of shared libraries. Raises SetupError for one that is not known."""
    names = list(libraries)
    unknown = [name for name in names if name not in DEBIAN_PACKAGES]
    if unknown:
        raise SetupError(f"system libraries missing: {', '.join(unknown)}; please install them")
    return sorted(DEBIAN_PACKAGES[name] for name in names)


def apt_prefix(environ: Mapping[str, str] = os.environ) -> list[str] | None:
    """How apt-get may be called without asking for a password; None where it may not."""
    if environ.get("MM_FUSION_NO_APT") or shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if succeeds(["sudo", "-n", "true"]) else None


def install_packages(packages: Iterable[str], reason: str) -> None:
    """Install Debian packages, or raise SetupError with the command to do it."""
    names = sorted(packages)
    command = ["apt-get", "install", "-y", "--no-install-recommends", *names]
    prefix = apt_prefix()
    by_hand = f"sudo apt-get update && sudo {' '.join(command)}"
    if prefix is None:
        raise SetupError(f"{reason}. Please run: {by_hand}")
    print(f"set-up: {reason}: installing {' '.join(names)} with apt", flush=True)
    quiet = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]
    for step in (["apt-get", "update"], command):
        done = subprocess.run([*quiet, *step], capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            raise SetupError(f"{reason}, and apt failed. Please run: {by_hand}")


def missing_for_venv() -> list[str]:
    """Debian packages without which this Python makes no virtual environment."""
    if succeeds([sys.executable, "-c", "import ensurepip, venv"]):
        return []
    return [f"python{sys.version_info.major}.{sys.version_info.minor}-venv"]


def missing_for_build() -> list[str]:
    """Debian packages without which no message package can be compiled."""
    packages = []
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++")):
        packages.append("g++")
    if shutil.which("make") is None:
        packages.append("make")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        packages.append(f"python{sys.version_info.major}.{sys.version_info.minor}-dev")
    return packages
