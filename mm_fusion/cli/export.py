"""Write a trained network as ONNX with its contract."""

from __future__ import annotations

import argparse

from mm_fusion.cli.options import add_json_argument, print_result, training_module

NAME = "export"
HELP = "write a trained network as ONNX with its contract"
EXAMPLES = """examples:
  mm_fusion export --checkpoint out/train/checkpoint.pt --out models
  mm_fusion check-model models/fusion.onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion export``."""
    training_module(NAME).add_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Export and print what came of it."""
    result = training_module(NAME).run(args)
    print_result(result, args.json, "\n".join(f"{k}: {v}" for k, v in result.items()))
    return 0
