"""Print every parameter with its default, unit, range and meaning, or check a parameter file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mm_fusion import config, parameters
from mm_fusion.cli.options import add_json_argument, read_text

NAME = "params"
HELP = "print all parameters, or check a parameter file"
EXAMPLES = """examples:
  mm_fusion params > my.yaml           the commented parameter file, to be edited
  mm_fusion params --format markdown   the table of the README
  mm_fusion params --check my.yaml     is this file right?
"""

YAML_HEADER = (
    "Every parameter of mm_fusion with its default. Written by 'mm_fusion params'.\n"
    "Values in brackets after the meaning are unit and range."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion params``."""
    parser.add_argument("--format", choices=("yaml", "markdown"), default="yaml")
    parser.add_argument("--check", type=Path, metavar="FILE", help="check this file and say so")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print or check."""
    if args.check is not None:
        values = config.load(read_text(args.check), str(args.check))
        changed = _changed(values)
        if args.json:
            print(json.dumps({"file": str(args.check), "valid": True, "changed": changed}))
        else:
            print(f"{args.check}: valid; {len(changed)} parameters differ from their defaults")
            for name, value in changed.items():
                print(f"  {name}: {value}")
        return 0
    if args.json:
        described = parameters.describe(config.Config)
        print(json.dumps([{**_row(p)} for p in described], indent=2))
    elif args.format == "markdown":
        print(parameters.to_markdown(config.Config), end="")
    else:
        print(parameters.to_yaml(config.Config, YAML_HEADER), end="")
    return 0


def _changed(values: config.Config) -> dict[str, parameters.Value]:
    default = parameters.flatten(config.Config())
    return {n: v for n, v in parameters.flatten(values).items() if v != default[n]}


def _row(p: parameters.Parameter) -> dict[str, object]:
    return {
        "name": p.name,
        "type": p.kind,
        "default": p.default,
        "unit": p.unit,
        "range": p.range_text(),
        "meaning": p.description,
    }
