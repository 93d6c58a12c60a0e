"""The laws of the house, held by reading the source: imports, sizes, words."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mm_fusion"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "test").rglob("*.py"))
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.py")), *sorted((ROOT / "launch").glob("*.py"))]

# The core: no ROS, no files, no clock, no threads. Time comes in on the samples.
CORE = (
    *("samples.py", "geometry.py", "geodesy.py", "wire", "sync", "perception", "pose", "health"),
)
CLOCKS_FILES_THREADS = {
    *("asyncio", "concurrent", "datetime", "glob", "io", "multiprocessing", "os", "queue"),
    *("shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time", "rosbags"),
}
# The network is a file: these two modules open and run it.
OPENS_THE_MODEL = {"perception/network.py", "perception/runtime.py"}

ROS_PACKAGES = {
    *("rclpy", "launch", "launch_ros", "ament_index_python", "tf2_ros", "message_filters"),
    *("sensor_msgs", "nav_msgs", "geometry_msgs", "std_msgs", "std_srvs", "vision_msgs"),
    *("tf2_msgs", "diagnostic_msgs", "visualization_msgs", "builtin_interfaces", "rosgraph_msgs"),
    *("lifecycle_msgs", "rcl_interfaces", "rosidl_runtime_py"),
}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level names of imported modules, wherever in the file they are imported."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module or "", node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                yield str(argument.value), node.lineno


def inside(path: Path) -> str:
    """The path within the package, with forward slashes."""
    return path.relative_to(PACKAGE).as_posix()


def below_root(path: Path) -> str:
    """The path within the checkout."""
    return path.relative_to(ROOT).as_posix()


def offenders(packages: set[str], allowed: tuple[str, ...]) -> list[str]:
    """Imports of packages outside the allowed places."""
    return [
        f"{inside(path)}:{line} imports {name}"
        for path in SOURCES
        if not inside(path).startswith(allowed)
        for name, line in imports(path)
        if name.split(".")[0] in packages
    ]


def test_the_package_is_there() -> None:
    assert len(SOURCES) > 20


def test_ros_is_only_in_the_nodes() -> None:
    assert offenders(ROS_PACKAGES, ("nodes/",)) == []


@pytest.mark.parametrize(
    ("packages", "allowed"),
    [
        ({"torch", "torchvision", "onnxscript"}, ("training/",)),
        ({"onnxruntime"}, ("perception/runtime.py",)),
        ({"open3d"}, ("sim/",)),
        ({"matplotlib", "evo"}, ("evaluation/",)),
    ],
)
def test_a_library_stays_in_its_room(packages: set[str], allowed: tuple[str, ...]) -> None:
    assert offenders(packages, allowed) == []


def core_files() -> list[Path]:
    return [path for path in SOURCES if inside(path).split("/")[0] in CORE]


def test_the_core_has_every_room() -> None:
    assert {inside(path).split("/")[0] for path in core_files()} == set(CORE)


@pytest.mark.parametrize("path", core_files(), ids=inside)
def test_the_core_knows_no_files_clocks_or_threads(path: Path) -> None:
    forbidden = set(CLOCKS_FILES_THREADS)
    if inside(path) in OPENS_THE_MODEL:
        forbidden.remove("os")
    else:
        forbidden.add("pathlib")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"open", "print", "input"}, f"line {node.lineno}"
    found = [f"{name} in line {line}" for name, line in imports(path) if name in forbidden]
    assert found == []


@pytest.mark.parametrize("path", core_files(), ids=inside)
def test_the_core_imports_only_the_core(path: Path) -> None:
    outer = ("nodes", "cli", "sim", "datasets", "evaluation", "training", "resources")
    outer += ("bench", "doctor")
    found = [
        f"{name} in line {line}"
        for name, line in imports(path)
        if name.startswith("mm_fusion.")
        and name.split(".")[1] in outer
        # The packaged network's path is the one thing the model's module asks of the package.
        and not (inside(path) in OPENS_THE_MODEL and name == "mm_fusion.resources")
    ]
    assert found == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, *SCRIPTS], ids=below_root)
def test_no_file_is_over_500_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS], ids=below_root)
def test_no_function_is_over_50_lines(path: Path) -> None:
    """Counted from ``def`` to the last line, without the docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body
            described = 0
            if ast.get_docstring(node) is not None:
                described = (body[0].end_lineno or 0) - body[0].lineno + 1
            lines = (node.end_lineno or 0) - node.lineno + 1 - described
            assert lines <= 50, f"{node.name}, line {node.lineno}: {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=inside)
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "no docstring"
        if re.search(r"^(def|class) ", text, flags=re.MULTILINE):
            assert "from __future__ import annotations" in text


def test_no_exception_is_swallowed() -> None:
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or ast.unparse(node.type) in (
                    "Exception",
                    "BaseException",
                )
                empty = all(isinstance(part, ast.Pass) for part in node.body)
                if node.type is None or (broad and empty):
                    found.append(f"{inside(path)}:{node.lineno}")
    assert found == []


def test_the_project_speaks_of_itself_only() -> None:
    """No machine's paths and no numbers of somebody's issue tracker in what users read."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    words = re.compile(
        r"(?<![\w.])/work/|\bissue #?\d|\bthis session\b|shared/(?:design|ros-env|examples)\b"
    )
    found = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix not in {".onnx", ".png", ".npz", ".mcap", ".db3"} and path.is_file():
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                if words.search(line) and path != Path(__file__).resolve():
                    found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert found == []
