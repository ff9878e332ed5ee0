"""`./rig up [HOST...]`, `./rig down`, `./rig test`: parse, run, one message for an error."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence

from rig_runtime.errors import RigError

COMMANDS = {
    "up": "provision a rig and answer a chat: this machine's virtual rig, or the hosts named",
    "down": "remove the virtual rig without a trace",
    "test": "lint, types and every test that this machine can run",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes as everywhere in this project: 0 done, 1 a check failed, 2 bad input, 3 no fit."""
    arguments = _parser().parse_args(argv)
    started = time.monotonic()
    try:
        code: int = importlib.import_module(f"toolkit.{arguments.command}").run(arguments)
    except RigError as error:
        print(f"rig {arguments.command}: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("rig: stopped; run the same command again to go on from here", file=sys.stderr)
        code = 130
    print(f"rig {arguments.command}: {_duration(time.monotonic() - started)}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./rig", description=__doc__.split("\n")[0])
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        importlib.import_module(f"toolkit.{name}").add_arguments(subparser)
    return parser


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
