"""What correcting a sweep for motion costs, and what error it leaves."""

from __future__ import annotations

import argparse
from typing import Any

from mm_fusion.errors import MmFusionError

HELP = "What correcting a sweep for motion costs, and what error it leaves"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    del parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    del args
    raise MmFusionError("bench deskew: being written")
