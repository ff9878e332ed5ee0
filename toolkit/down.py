"""`./rig down`: the virtual rig is gone, without a trace."""

from __future__ import annotations

import argparse
import shutil

import virtual_rig
from toolkit.up import NAME
from virtual_rig import paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--cache` also forgets what makes the next start fast."""
    parser.add_argument(
        "--cache", action="store_true", help="also remove cached images, packages and wheels"
    )


def run(arguments: argparse.Namespace) -> int:
    """Removing what is not there is no error."""
    virtual_rig.down(NAME)
    if arguments.cache:
        shutil.rmtree(paths.cache(), ignore_errors=True)
    print(f"virtual rig '{NAME}' removed")
    return 0
