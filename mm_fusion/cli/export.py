"""Write a trained network as ONNX with its contract."""

from __future__ import annotations

import argparse
from types import ModuleType

from mm_fusion.cli.options import add_json_argument, print_result
from mm_fusion.errors import MmFusionError

NAME = "export"
HELP = "write a trained network as ONNX with its contract"
EXAMPLES = """examples:
  mm_fusion export --checkpoint out/train/checkpoint.pt --out models
  mm_fusion check-model models/fusion.onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion export``."""
    _module().add_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Export and print what came of it."""
    result = _module().run(args)
    print_result(result, args.json, "\n".join(f"{k}: {v}" for k, v in result.items()))
    return 0


def _module() -> ModuleType:
    try:
        from mm_fusion.training import export
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "mm_fusion":
            raise
        raise MmFusionError(
            f"export: needs {error.name}, which is not installed: run"
            " 'python -m pip install torch onnxscript'"
        ) from error
    return export
