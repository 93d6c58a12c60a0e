"""Write report.html of a run: one self-contained file."""

from __future__ import annotations

import argparse
from pathlib import Path

from mm_fusion.cli.options import add_json_argument, print_result

NAME = "report"
HELP = "write report.html of a run"
EXAMPLES = """examples:
  mm_fusion report out/replay
  mm_fusion report out/replay --truth out/drive
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion report``."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="output of replay or demo")
    parser.add_argument(
        "--truth", type=Path, metavar="BAG", help="bag with truth (default: the run's own)"
    )
    parser.add_argument(
        "--bag", type=Path, help="bag with points and images (default: the run's own)"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from mm_fusion.evaluation.report import write_report

    path = write_report(args.directory, args.truth, args.bag)
    print_result({"report": str(path)}, args.json, str(path))
    return 0
