"""`rig-runtime check`: validate a configuration file, with file, key, value and what is allowed."""

from __future__ import annotations

import argparse

from rig_runtime import config
from rig_runtime.cli import add_common_arguments
from rig_runtime.units import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="the file is for another machine: its models and key files need not be here",
    )


def run(arguments: argparse.Namespace) -> int:
    path = arguments.config or config.DEFAULT_PATH
    checked = config.load(path, check_paths=not arguments.elsewhere)
    if arguments.json:
        from rig_runtime.commands.as_json import print_json

        print_json({"ok": True, "config": str(path), "models": [m.name for m in checked.models]})
    else:
        print(f"{path} is valid: {counted(len(checked.models), 'model')}, {_address(checked)}")
    return 0


def _address(checked: config.Config) -> str:
    return f"gateway on {checked.gateway.host}:{checked.gateway.port}"
