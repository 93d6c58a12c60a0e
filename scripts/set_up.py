"""Makes the environment in .venv: `set_up.py [--with test] [--with training]`.

Each step leaves a stamp of everything it depends on, so that a second run does only what changed.
Runs before anything is installed: standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import machine
import message_packages
from machine import SetupError

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements"
STAMPS = VENV / "mm_fusion-setup.json"
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Linked, not copied, into the environment: what is edited in the checkout is what runs.
SHARED = ("config", "launch", "models", "package.xml")


def say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


def digest(paths: Iterable[Path], *words: str) -> str:
    """A hash over files and words; a changed one makes its step run again."""
    total = hashlib.sha256("\0".join(words).encode())
    for path in sorted(paths):
        total.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return total.hexdigest()[:16]


class Environment:
    """The virtual environment with its stamps, and how commands are run in it."""

    def __init__(self, with_ros: bool) -> None:
        self.with_ros = with_ros
        self.environ = machine.clean_environment(os.environ, with_ros)
        self.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        self.python = VENV / "bin" / "python"

    @property
    def stamps(self) -> dict[str, str]:
        return json.loads(STAMPS.read_text()) if STAMPS.exists() else {}

    def done(self, step: str, stamp: str) -> bool:
        return self.stamps.get(step) == stamp

    def mark(self, step: str, stamp: str | None) -> None:
        stamps = self.stamps
        stamps.pop(step, None)
        if stamp is not None:
            stamps[step] = stamp
        temporary = STAMPS.with_suffix(".new")
        temporary.write_text(json.dumps(stamps, indent=1) + "\n")
        temporary.replace(STAMPS)

    @contextmanager
    def step(self, name: str, stamp: str, sentence: str) -> Iterator[bool]:
        """Yields whether there is work; marks it done when it went well, and says how long."""
        if self.done(name, stamp):
            yield False
            return
        say(sentence)
        self.mark(name, None)
        begin = time.monotonic()
        yield True
        self.mark(name, stamp)
        say(f"  done in {time.monotonic() - begin:.0f} s")

    def pip(self, *arguments: str | Path, check: bool = True) -> bool:
        """Run pip; its output is shown only when it fails and that matters."""
        command = [str(self.python), "-m", "pip", *map(str, arguments)]
        done = subprocess.run(
            command, env=self.environ, text=True, capture_output=True, check=False, cwd=ROOT
        )
        if done.returncode and check:
            print((done.stdout + done.stderr)[-6000:], file=sys.stderr)
            raise SetupError(f"pip failed: {' '.join(command)}")
        return done.returncode == 0

    def install(self, *files: str) -> None:
        """Install requirements files at the pinned versions."""
        wanted = [part for name in files for part in ("-r", REQUIREMENTS / name)]
        self.pip("install", "--constraint", REQUIREMENTS / self.constraints, *wanted)

    @property
    def constraints(self) -> str:
        """Message packages of a ROS installation are compiled for its own NumPy generation."""
        probe = "import numpy, sys; sys.exit(int(numpy.__version__.split('.')[0]) < 2)"
        old = self.with_ros and not machine.succeeds([sys.executable, "-c", probe], os.environ)
        return "constraints-numpy1.txt" if old else "constraints.txt"


def made_by(venv: Path) -> dict[str, str]:
    """What a virtual environment says about its making; empty where there is none."""
    settings = venv / "pyvenv.cfg"
    if not settings.exists() or not (venv / "bin" / "python").exists():
        return {}
    pairs = (line.split("=", 1) for line in settings.read_text().splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def make_venv(env: Environment) -> None:
    """Make .venv, anew where it was made by another Python, elsewhere, or for the other ROS."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    source = f"a sourced ROS 2 {machine.ROS_DISTRO}" if env.with_ros else "ROS 2 from PyPI wheels"
    kind = f"Python {version} with {source}"
    stamp = f"{kind} in {VENV}"
    found = made_by(VENV)
    shared = found.get("include-system-site-packages") == "true"
    fits = found.get("version", "").startswith(f"{version}.") and shared == env.with_ros
    if fits and env.stamps.get("venv", stamp) == stamp:
        if "venv" not in env.stamps:
            env.mark("venv", stamp)
        return
    missing = machine.missing_for_venv()
    if missing:
        machine.install_packages(missing, "this Python makes no virtual environments")
    if VENV.exists():
        say(f"{VENV.name} was made for something else; making it anew")
        shutil.rmtree(VENV)
    say(f"{kind}, in {VENV.name}")
    options = ["--system-site-packages"] if env.with_ros else []
    command = [sys.executable, "-m", "venv", *options, str(VENV)]
    if subprocess.run(command, env=env.environ, check=False).returncode:
        raise SetupError(f"could not make the virtual environment: {' '.join(command)}")
    env.mark("venv", stamp)


def install_runtime(env: Environment, engine: str) -> None:
    """The package's dependencies, ROS, and the network's engine for this machine."""
    files = ["runtime.txt", engine] + ([] if env.with_ros else ["ros.txt"])
    paths = [REQUIREMENTS / name for name in (*files, env.constraints)]
    with env.step("runtime", digest(paths), "installing the dependencies") as work:
        if not work:
            return
        # The two engines share a folder: the other one has to go first.
        other = "onnxruntime" if "gpu" in engine else "onnxruntime-gpu"
        env.pip("uninstall", "-y", other, check=False)
        env.install(*files)
        check_libraries(env)


def check_libraries(env: Environment) -> None:
    """Install the system libraries that compiled wheels miss here, or name the command."""
    site = next((VENV / "lib").glob("python3.*/site-packages"))
    binaries = [
        *site.glob("open3d/lib*.so*"),
        *site.glob("open3d/cpu/*.so"),
        *site.glob("cv2/*.so"),
    ]
    missing: set[str] = set()
    for binary in binaries:
        done = subprocess.run(
            ["ldd", binary], env=env.environ, capture_output=True, text=True, check=False
        )
        missing.update(machine.missing_libraries(done.stdout))
    brought = {path.name for path in site.glob("open3d/lib*.so*")} | machine.PACKAGED_LIBRARIES
    missing -= brought
    if missing:
        reason = f"system libraries missing ({', '.join(sorted(missing))})"
        machine.install_packages(machine.packages_for(missing), reason)


def build_interfaces(env: Environment) -> None:
    """The message packages of interfaces/, where the ROS in use has none."""
    absent = (
        message_packages.absent(env.environ, sys.executable)
        if env.with_ros
        else message_packages.NAMES
    )
    if not absent:
        return
    sources = [path for name in absent for path in message_packages.sources(ROOT, name)]
    tools = ["ros-build.txt"] if not env.with_ros else []
    stamp = digest(
        [*sources, *(REQUIREMENTS / name for name in (*tools, env.constraints))], *absent
    )
    with env.step("interfaces", stamp, f"building {' and '.join(absent)}") as work:
        if not work:
            return
        missing = machine.missing_for_build()
        if missing:
            machine.install_packages(missing, "building message packages needs more")
        if tools:
            env.install(*tools)
        message_packages.build(ROOT, VENV, absent, env.environ, with_ros=env.with_ros)


def install_package(env: Environment) -> None:
    """mm_fusion itself, editable, with its share folder as links into the checkout."""
    paths = [ROOT / name for name in ("setup.py", "setup.cfg")]
    with env.step("package", digest(paths), "installing mm_fusion into the environment") as work:
        if not work:
            return
        env.pip("install", "--no-deps", "--no-build-isolation", "--editable", ROOT)
        share = VENV / "share" / "mm_fusion"
        programs = VENV / "lib" / "mm_fusion"
        marker = VENV / "share" / "ament_index" / "resource_index" / "packages" / "mm_fusion"
        for folder in (share, programs, marker.parent):
            folder.mkdir(parents=True, exist_ok=True)
        marker.write_bytes(b"")
        for name in SHARED:
            link(share / name, ROOT / name)
        for name in ("mm_fusion", "fusion_node", "pose_node", "simulator_node"):
            link(programs / name, VENV / "bin" / name)


def link(path: Path, target: Path) -> None:
    """A relative symbolic link, in place of whatever link was there."""
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def install_training(env: Environment) -> None:
    """PyTorch; where there is no NVIDIA driver its CPU build, which spares the CUDA libraries."""
    driver = machine.nvidia_driver()
    paths = [REQUIREMENTS / name for name in ("training.txt", "torch.txt", env.constraints)]
    kind = "cpu" if driver is None else "cuda"
    with env.step("training", digest(paths, kind), f"installing PyTorch ({kind})") as work:
        if not work:
            return
        env.install("training.txt")
        wanted = ["-r", REQUIREMENTS / "torch.txt", "-c", REQUIREMENTS / env.constraints]
        from_cpu_index = ["--retries", "1", "--extra-index-url", PYTORCH_CPU_INDEX]
        if driver is None and env.pip("install", *from_cpu_index, *wanted, check=False):
            return
        env.pip("install", *wanted)


def install_test(env: Environment) -> None:
    """Test runner and linters."""
    paths = [REQUIREMENTS / name for name in ("test.txt", env.constraints)]
    with env.step("test", digest(paths), "installing the test tools") as work:
        if work:
            env.install("test.txt")


@contextmanager
def alone() -> Iterator[None]:
    """One set-up of this checkout at a time."""
    with open(ROOT / ".set-up.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up of this checkout is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the environment in .venv.")
    parser.add_argument(
        "--with", dest="extras", action="append", default=[], choices=("test", "training")
    )
    extras = parser.parse_args().extras
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        raise SetupError(f"Python 3.10, 3.11 or 3.12 is needed, this is {sys.version.split()[0]}")
    with alone():
        env = Environment(machine.ros_is_sourced(os.environ))
        make_venv(env)
        engine, reason = machine.inference_engine(machine.nvidia_driver())
        install_runtime(env, engine)
        build_interfaces(env)
        install_package(env)
        if "training" in extras:
            install_training(env)
        if "test" in extras:
            install_test(env)
    say(f"ready in {VENV.name}; the network runs on {reason}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        sys.exit(f"set-up: {error}")
