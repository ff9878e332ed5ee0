"""The command line: up, down, list, ssh, cards, mirror.

Exit codes: 0 done, 1 this machine cannot do it now, 2 bad input or usage. With `--json` one JSON
object goes to standard output and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from virtual_rig import api, cards, paths, record, scenario
from virtual_rig.base import SUITES
from virtual_rig.errors import BadInput, VirtualRigError
from virtual_rig.mirror import wheels

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error becomes one message."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.run
    try:
        if command is not _mirror:
            api.require_root()
        return command(arguments)
    except VirtualRigError as error:
        if getattr(arguments, "json", False):
            print(json.dumps({"error": error.as_json()}))
        print(f"virtual_rig {arguments.command}: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m virtual_rig", description="A rig of software")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Command, summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run)
        return command

    up = add("up", _up, "bring up a fresh box, or switch one on")
    up.add_argument("name", nargs="?", default="rig")
    up.add_argument("--suite", default="bookworm", help=" or ".join(SUITES))
    up.add_argument(
        "--cards",
        type=Path,
        default=paths.MINING_RIG,
        help="a rig snapshot, as rig-runtime gpus --json prints it (default: a mining rig)",
    )
    up.add_argument("--json", action="store_true")
    down = add("down", _down, "remove a box, living or dead, without a trace")
    down.add_argument("name", nargs="?", default="rig")
    down.add_argument("--all", action="store_true", help="every box")
    down.add_argument("--purge-cache", action="store_true", help="base images and packages too")
    boxes = add("list", _list, "the boxes and what they do")
    boxes.add_argument("--json", action="store_true")
    ssh = add("ssh", _ssh, "a shell or a command in a box, as root")
    ssh.add_argument("name")
    ssh.add_argument("words", nargs=argparse.REMAINDER)
    _add_cards(add("cards", _cards, "show or change the cards of a box"))
    mirror = add("mirror", _mirror, "fill the mirror that boxes install from")
    mirror.add_argument("--wheels", type=Path, action="append", default=[], metavar="REQUIREMENTS")
    mirror.add_argument("--python-version", default="3.11")
    mirror.add_argument("--fallback-index", metavar="URL", help="asked where pip finds no wheel")
    return parser


def _add_cards(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("show", help="the scenario as JSON")
    for action, what in (
        ("take-out", "a card leaves the box"),
        ("put-in", "a card that was taken out comes back, or those of a snapshot come in"),
        ("lose", "a card falls off the bus (Xid 79)"),
        ("restore", "a lost card answers again"),
        ("unload", "all compute processes leave a card"),
        ("load", "a foreign process takes memory of a card"),
        ("display", "a desktop starts on a card, or leaves it, until the next boot"),
    ):
        subparser = actions.add_parser(action, help=what, description=what)
        subparser.add_argument("uuid", metavar="UUID-OR-FILE" if action == "put-in" else "UUID")
        if action == "load":
            subparser.add_argument("--used-mib", type=int, required=True)
            subparser.add_argument("--process", default="foreign")
        if action == "display":
            subparser.add_argument("switch", choices=("on", "off"))


def _tell(what: str) -> None:
    print(f"virtual_rig: {what}", file=sys.stderr, flush=True)


def _up(arguments: argparse.Namespace) -> int:
    box = api.up(arguments.name, suite=arguments.suite, cards=arguments.cards, tell=_tell)
    if arguments.json:
        print(json.dumps(box.as_json()))
    else:
        print(f"{box.name} ({box.suite}) answers at {box.address}")
        print(f"  a shell:  python -m virtual_rig ssh {box.name}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    names = [arguments.name]
    if arguments.all:
        names = [folder.name for folder in record.folders()]
    for name in names:
        was_there = api.down(name)
        print(f"{name} is removed" if was_there else f"there is no box {name}")
    if arguments.purge_cache:
        shutil.rmtree(paths.cache(), ignore_errors=True)
        print(f"{paths.cache()} is removed")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    rows = []
    for folder in record.folders():
        box = api.find(folder.name)
        there = record.read(folder)
        rows.append(
            {
                "name": folder.name,
                "phase": api.phase_of(folder),
                "suite": there.suite if there else None,
                "address": box.address if box else None,
                "boots": there.boots if there else 0,
                "driver": there.driver if there else None,
            }
        )
    if arguments.json:
        print(json.dumps({"boxes": rows}))
        return 0
    for row in rows:
        print(f"{row['name']:16} {row['phase']:9} {row['suite'] or '-':10} {row['address'] or '-'}")
    return 0


def _ssh(arguments: argparse.Namespace) -> int:
    argv = _living(arguments.name).ssh_command(arguments.words)
    os.execvp(argv[0], argv)


def _cards(arguments: argparse.Namespace) -> int:
    path = record.folder_of(arguments.name) / "scenario.json"
    if not path.exists():
        raise _unknown(arguments.name)
    if arguments.action in (None, "show"):
        print(scenario.read(path).model_dump_json(indent=1))
        return 0
    with scenario.editing(path) as edit:
        edit.scenario = _changed(edit.scenario, arguments)
    return 0


def _changed(before: scenario.Scenario, arguments: argparse.Namespace) -> scenario.Scenario:
    if arguments.action == "load":
        return cards.load(before, arguments.uuid, arguments.used_mib << 20, arguments.process)
    if arguments.action == "display":
        return cards.display(before, arguments.uuid, arguments.switch == "on")
    if arguments.action == "put-in" and not arguments.uuid.startswith("GPU-"):
        return cards.put_in_new(before, scenario.read(Path(arguments.uuid)).gpus)
    change: dict[str, Callable[[scenario.Scenario, str], scenario.Scenario]] = {
        "take-out": cards.take_out,
        "put-in": cards.put_in,
        "lose": cards.lose,
        "restore": cards.restore,
        "unload": cards.unload,
    }
    return change[arguments.action](before, arguments.uuid)


def _mirror(arguments: argparse.Namespace) -> int:
    for requirements in arguments.wheels:
        house = wheels.add_wheels(
            requirements, arguments.python_version, fallback_index=arguments.fallback_index
        )
        print(house)
    return 0


def _living(name: str) -> api.Box:
    box = api.find(name)
    if box is None:
        raise _unknown(name)
    return box


def _unknown(name: str) -> BadInput:
    boxes = ", ".join(folder.name for folder in record.folders()) or "none"
    return BadInput(
        f"There must be a living box named {name}",
        found=f"the boxes are: {boxes}",
        how=f"Bring it up with: python -m virtual_rig up {name}",
    )


if __name__ == "__main__":
    sys.exit(main())
