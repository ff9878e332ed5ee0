"""The command line: a contract. Exit codes: 0 done, 1 a check failed, 2 bad input, 3 nothing fits.

With `--json` one JSON object goes to standard output and nothing else; messages go to standard
error. Each sub-command is a module of `rig_runtime.commands`, imported only when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rig_runtime.errors import RigError

COMMANDS = {
    "gpus": "the cards: total, held and by whom, usable, link, watts",
    "models": "the configured models with shape and size",
    "memory": "bytes on each rank for one split",
    "plan": "which cards, which split, which context, and why",
    "check": "validate a configuration",
    "serve": "serve the configured models",
    "status": "what is resident on which card",
    "selftest": "make a tiny random model and serve it: proves the installation",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a `RigError` becomes one message."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(words).parse_args(words)
    module = importlib.import_module(f"rig_runtime.commands.{arguments.command}")
    try:
        code: int = module.run(arguments)
    except RigError as error:
        if getattr(arguments, "json", False):
            print(json.dumps({"error": error.as_json()}))
        print(f"rig-runtime {arguments.command}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Only the sub-command that was asked for is imported, so that the others cost nothing."""
    parser = argparse.ArgumentParser(prog="rig-runtime", description=__doc__.split("\n")[0])
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = next((word for word in words if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name == wanted:
            importlib.import_module(f"rig_runtime.commands.{name}").add_arguments(subparser)
    return parser


def add_common_arguments(parser: argparse.ArgumentParser, *, rig: bool = False) -> None:
    """`--json` and `--config`, and `--rig` for the commands that need cards."""
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--config", type=Path, default=None, help="the configuration file")
    if rig:
        parser.add_argument("--rig", type=Path, help="a snapshot instead of this machine's cards")
