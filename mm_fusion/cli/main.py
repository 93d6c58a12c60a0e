"""``mm_fusion``: picks the command, and turns a user's mistake into one line."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import mm_fusion
from mm_fusion.errors import MmFusionError

COMMANDS = (
    "demo",
    "simulate",
    "replay",
    "evaluate",
    "report",
    "doctor",
    "check-model",
    "dataset",
    "train",
    "export",
    "bench",
    "params",
)

EPILOG = """examples:
  mm_fusion demo                                  simulate a drive, fuse it live, report
  mm_fusion replay BAG --out out/replay           run both roads over a bag, without ROS
  mm_fusion evaluate out/replay --truth BAG       score it against the bag's ground truth
  mm_fusion report out/replay                     write out/replay/report.html
  mm_fusion doctor                                what is wrong with the sensors, live or in a bag
  mm_fusion COMMAND --help                        options and examples of a command
"""


def command_module(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"mm_fusion.cli.{name.replace('-', '_')}")


def build_parser(chosen: str = "") -> argparse.ArgumentParser:
    """The parser; only the chosen command declares its options, since some load much for that."""
    parser = argparse.ArgumentParser(
        prog="mm_fusion",
        description=mm_fusion.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mm_fusion {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = command_module(name)
        sub = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            epilog=getattr(module, "EXAMPLES", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == chosen:
            module.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: success; 2: a user's mistake, said in one line; 130: interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((a for a in arguments if not a.startswith("-")), "")
    try:
        args = build_parser(chosen).parse_args(arguments)
        return int(command_module(args.command).run(args))
    except MmFusionError as error:
        print(f"mm_fusion: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mm_fusion: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (``| head``): nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _version() -> str:
    return mm_fusion.__version__


if __name__ == "__main__":
    sys.exit(main())
