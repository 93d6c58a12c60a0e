"""What matching costs, and whether it is optimal."""

from __future__ import annotations

import argparse
from typing import Any

from mm_fusion.errors import MmFusionError

HELP = "What matching costs, and whether it is optimal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    del parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    del args
    raise MmFusionError("bench sync: being written")
