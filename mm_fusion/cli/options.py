"""Options that several commands share."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mm_fusion import config
from mm_fusion.errors import ConfigError, MmFusionError


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """``--config FILE`` and ``--set KEY=VALUE``."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="parameter file (YAML, as the nodes take it)"
    )
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one parameter; may be given again (names: mm_fusion params)",
    )


def load_config(args: argparse.Namespace) -> config.Config:
    """The configuration of ``--config`` and ``--set``."""
    if args.config is None:
        return config.load(assignments=args.assignments)
    return config.load(read_text(args.config), str(args.config), args.assignments)


def read_text(path: Path) -> str:
    """The text of a file of the user's. Raises ConfigError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from error


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def print_result(result: Mapping[str, Any], as_json: bool, text: str) -> None:
    """The result on stdout, in the form the user asked for."""
    print(json.dumps(result, indent=2) if as_json else text.rstrip("\n"))


class Progress:
    """A progress bar on stderr: redrawn on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last_s = time.monotonic()
        self._label = ""

    def __call__(self, share: float, label: str) -> None:
        """Show how far ``label`` is, ``share`` in 0..1."""
        now_s = time.monotonic()
        pause_s = 0.1 if self._terminal else 10.0
        done = share >= 1.0
        if not done and label == self._label and now_s - self._last_s < pause_s:
            return
        if not self._terminal and label != self._label and not done:
            self._label = label
            return
        self._last_s, self._label = now_s, label
        bar = "█" * round(30 * share) + "░" * (30 - round(30 * share))
        text = f"{label:<24.24} {bar} {100 * share:3.0f} %"
        if self._terminal:
            print(f"\r{text}", end="\n" if done else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


def training_module(name: str) -> ModuleType:
    """``mm_fusion.training.<name>``. MmFusionError with the remedy where PyTorch is missing."""
    try:
        return importlib.import_module(f"mm_fusion.training.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "mm_fusion":
            raise
        raise MmFusionError(
            f"{name}: needs {error.name}, which is not installed: run"
            " 'python -m pip install torch onnxscript'"
        ) from error
