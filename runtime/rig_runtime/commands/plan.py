"""`rig-runtime plan`: which cards serve a model, at which context, how fast, and why.

Without a model, all configured models together: each on what those of higher priority, or named
before it, leave.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from rig_runtime.cli import add_common_arguments
from rig_runtime.commands.as_json import print_json
from rig_runtime.commands.inputs import config_of, model_of, models_of, rig_of
from rig_runtime.commands.memory import add_load_arguments
from rig_runtime.errors import BadInput
from rig_runtime.fleet import Member, plan_fleet
from rig_runtime.gpus import Rig, load_rig
from rig_runtime.models.fields import read_json_object
from rig_runtime.plan import Plan, nothing_fits, plan_model
from rig_runtime.plan_diff import changes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, rig=True)
    add_load_arguments(parser)
    parser.add_argument("model", nargs="?", help="a configured name, a directory, or a config.json")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="UUID", help="plan without this card"
    )
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="FILE",
        help="plan as if the cards of this snapshot were plugged in too",
    )

    parser.add_argument(
        "--diff",
        type=Path,
        metavar="FILE",
        help="say what changes against an earlier plan (the output of plan --json)",
    )


def run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    rig = _changed(rig_of(arguments), arguments)
    models = [model_of(arguments.model, config)] if arguments.model else models_of(config)
    models = [_with_arguments(model, arguments) for model in models]
    if arguments.model:
        plan = plan_model(models[0].shape, rig, models[0].request)
        _print_one(plan, arguments)
        return 0 if plan.feasible else nothing_fits(plan).exit_code
    if arguments.diff:
        raise BadInput("--diff compares one plan", works="plan MODEL --diff FILE")
    plans = plan_fleet(models, rig)
    _print_fleet(plans, arguments)
    return 0 if all(plan.feasible for plan in plans) else 3


def _with_arguments(model: Member, arguments: argparse.Namespace) -> Member:
    """The command line's wishes go before the configuration's."""
    wishes = ("engine", "tensor_parallel_size", "context_tokens", "sequences", "kv_cache_dtype")
    stated = {key: value for key in wishes if (value := getattr(arguments, key)) is not None}
    if (size := stated.get("tensor_parallel_size", 1)) > 8:
        raise BadInput(f"--tensor-parallel-size is {size}", works="1 to 8")
    if (count := stated.get("sequences", 1)) > 1024:
        raise BadInput(f"--sequences is {count}", works="1 to 1024")
    exclude = model.request.exclude | frozenset(arguments.exclude)
    request = model.request.model_copy(update={**stated, "exclude": exclude})
    return replace(model, request=request)


def _changed(rig: Rig, arguments: argparse.Namespace) -> Rig:
    """The rig with the cards of `--add` plugged in. Raises BadInput for a card that is no card."""
    for name in arguments.add:
        more = load_rig(Path(name))
        if twice := {gpu.uuid for gpu in rig.gpus} & {gpu.uuid for gpu in more.gpus}:
            raise BadInput(f"{name} adds a card that is there already", found=sorted(twice)[0])
        rig = rig.model_copy(
            update={"gpus": (*rig.gpus, *more.gpus), "links": (*rig.links, *more.links)}
        )
    known = {gpu.uuid for gpu in rig.gpus}
    if unknown := [uuid for uuid in arguments.exclude if uuid not in known]:
        raise BadInput(
            f"--exclude {unknown[0]}: no card has this UUID",
            works=", ".join(sorted(known)) or "there is no card",
        )
    return rig


def _print_one(plan: Plan, arguments: argparse.Namespace) -> None:
    changed = changes(_earlier(arguments.diff), plan) if arguments.diff else None
    if arguments.json:
        _say_what_is_wrong(plan)
        shown = plan.model_dump(mode="json")
        print_json(shown if changed is None else {**shown, "changes": list(changed)})
        return
    from rig_runtime.commands.show_plan import show_plan

    show_plan(plan, changed=changed)


def _say_what_is_wrong(plan: Plan) -> None:
    """Beside JSON, the error for people."""
    if not plan.feasible:
        print(f"rig-runtime plan: {nothing_fits(plan)}", file=sys.stderr)


def _print_fleet(plans: Sequence[Plan], arguments: argparse.Namespace) -> None:
    if arguments.json:
        for plan in plans:
            _say_what_is_wrong(plan)
        print_json({"plans": [plan.model_dump(mode="json") for plan in plans]})
        return
    from rig_runtime.commands.show_plan import show_plan

    for plan in plans:
        show_plan(plan)


def _earlier(path: Path) -> Plan:
    """A plan that was printed before. Raises BadInput."""
    values = dict(read_json_object(path).values)
    values.pop("changes", None)
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            f"{path} is no plan of this version",
            found=f"{place}: {first['msg']}",
            how="write one with: rig-runtime plan MODEL --json",
        ) from error
