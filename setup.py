"""The ament_python package: colcon and pip build from here; set-up for users is the Makefile."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "mm_fusion"
ROOT = Path(__file__).resolve().parent


def shared(folder: str) -> list[tuple[str, list[str]]]:
    """The files of a folder, for the package's share directory, as setuptools wants them."""
    files: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            relative = path.relative_to(ROOT)
            files.setdefault(f"share/{NAME}/{relative.parent}", []).append(str(relative))
    return list(files.items())


def version() -> str:
    """The version in the package, which is the only place of it in Python."""
    for line in (ROOT / NAME / "__init__.py").read_text().splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise SystemExit(f"{NAME}/__init__.py has no __version__")


data_files = [
    ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
    (f"share/{NAME}", ["package.xml"]),
    *shared("config"),
    *shared("launch"),
    *shared("models"),
]
# An editable installation has the checkout itself: copies of these files would grow stale.
if "editable_wheel" in sys.argv:
    data_files = []

setup(
    name=NAME,
    version=version(),
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    data_files=data_files,
    python_requires=">=3.10,<3.13",
    zip_safe=True,
    maintainer="mm_fusion maintainers",
    maintainer_email="mm-fusion@users.noreply.github.com",
    description="Real-time camera, LIDAR and GPS fusion for ROS 2.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "mm_fusion = mm_fusion.cli.main:main",
            "fusion_node = mm_fusion.nodes.fusion_node:main",
            "pose_node = mm_fusion.nodes.pose_node:main",
            "simulator_node = mm_fusion.nodes.simulator_node:main",
        ],
    },
)
