"""From the last sensor's arrival to the published result, live over DDS."""

from __future__ import annotations

import argparse
from typing import Any

from mm_fusion.errors import MmFusionError

HELP = "From the last sensor's arrival to the published result, live over DDS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    del parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    del args
    raise MmFusionError("bench latency: being written")
