"""The command line: a contract. Exit codes: 0 done, 1 a check failed, 2 bad input, 3 nothing fits.

With `--json` one JSON object goes to standard output and nothing else; messages go to standard
error. Each sub-command is a module of `rig_runtime.commands`, imported only when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rig_runtime.errors import BadInput, CheckFailed, RigError, printable

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


INTERRUPTED = 130
"""As a shell says of a command that ended by SIGINT."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error becomes one message."""
    words = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return 0  # whoever read had enough
    except OSError as error:
        _forget_output()
        print(f"rig-runtime: {_from_system(error)}", file=sys.stderr)
        return CheckFailed.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(words: Sequence[str]) -> int:
    command = next((word for word in words if word in COMMANDS), "")
    try:
        arguments = _parser(words).parse_args(words)
        module = importlib.import_module(f"rig_runtime.commands.{arguments.command}")
        code: int = module.run(arguments)
    except RigError as error:
        if "--json" in words:
            print(json.dumps({"error": error.as_json()}))
        print(f"rig-runtime {command}".rstrip() + f": {error}", file=sys.stderr)
        return error.exit_code
    return code


def _prepare_streams() -> None:
    """What a stream's encoding lacks is escaped, and a stream that is closed takes nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """The interpreter flushes once more at its end, into nothing then."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _from_system(error: OSError) -> CheckFailed:
    place = f" {error.filename}" if error.filename else ""
    return CheckFailed(
        f"The system must let this command use{place or ' its files and its output'}.",
        found=error.strerror or str(error),
    )


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are bad input like any other: one message, and JSON where it was asked."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(
            "the arguments are not as they must be",
            found=printable(message, 300),
            how=f"see: {self.prog} --help",
        )


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Only the sub-command that was asked for is imported, so that the others cost nothing."""
    parser = _Parser(prog="rig-runtime", description=__doc__.split("\n")[0])
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
