"""Train the fusion network on simulated frames."""

from __future__ import annotations

import argparse

from mm_fusion.cli.options import add_json_argument, print_result, training_module

NAME = "train"
HELP = "train the fusion network"
EXAMPLES = """examples:
  mm_fusion train --frames data/train --out out/train
  mm_fusion train --frames data/train --out out/train --resume
  mm_fusion export --checkpoint out/train/checkpoint.pt --out models
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``mm_fusion train``."""
    training_module(NAME).add_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train and print what came of it."""
    result = training_module(NAME).run(args)
    print_result(result, args.json, "\n".join(f"{k}: {v}" for k, v in result.items()))
    return 0
