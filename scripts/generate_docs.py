"""Writes what is derived from the parameters: config/fusion.yaml and the table in README.md.

Each parameter is declared once, in mm_fusion/config.py. ``--check`` writes nothing and fails where
a file differs from what it should be.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mm_fusion import parameters
from mm_fusion.config import Config

ROOT = Path(__file__).resolve().parent.parent
YAML = ROOT / "config" / "fusion.yaml"
README = ROOT / "README.md"
BEGIN, END = "<!-- parameters -->", "<!-- /parameters -->"
HEADER = """\
Every parameter of mm_fusion with its default, [unit, allowed range].
Written by `make docs` from mm_fusion/config.py. Copy it, keep the lines you change, pass it on:
ros2 launch mm_fusion fusion.launch.py params_file:=my.yaml
mm_fusion replay BAG --config my.yaml"""


def yaml_text() -> str:
    """The whole of config/fusion.yaml."""
    return parameters.to_yaml(Config, HEADER)


def readme_text(readme: str) -> str:
    """A README with the parameter table of today between its markers."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise SystemExit(f"README.md: must hold {BEGIN} and {END} once each")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{parameters.to_markdown(Config)}{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes what is derived from the parameters.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    check = parser.parse_args().check
    wanted = {YAML: yaml_text()}
    if README.exists():
        wanted[README] = readme_text(README.read_text())
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path.name} is not what the parameters say; run: make docs", file=sys.stderr)
        else:
            path.write_text(wanted[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
