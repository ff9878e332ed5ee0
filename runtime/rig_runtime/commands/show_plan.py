"""A plan for people: what runs where, a bar for each card, the reasons and the fixes."""

from __future__ import annotations

import re
import textwrap

from rich.console import Console
from rich.text import Text

from rig_runtime.commands.console import BAR_CELLS, Segment, bar, console
from rig_runtime.errors import RigError
from rig_runtime.plan import CardVerdict, Plan, nothing_fits
from rig_runtime.units import gib, size, tokens
from rig_runtime.verdicts import SPLIT_WORDS

FEWEST_CELLS = 8
BESIDE_BAR = 50
"""Columns of a card's line that are not its bar."""

LEGEND = "r reserved  h held  W weights  K KV cache  c compute and fixed  . free"
NO_BREAK = "\N{NO-BREAK SPACE}"
THOUSANDS = re.compile(r"(?<=\d) (?=\d{3}\b)")
"""The thin grouping of a number, which no line ends in."""

VERDICT_STYLES = {"used": "bold green", "spare": "cyan", "excluded": "yellow"}


def show_plan(plan: Plan, *, changed: tuple[str, ...] | None = None) -> None:
    """Print one plan; 80 columns are enough, colour only repeats what letters say.

    `changed` is what is different from an earlier plan; empty where nothing is.
    """
    out = console()
    style, lines = _headline(plan)
    for number, line in enumerate(lines):
        out.print(Text(_fill(line, out, "  ", "" if number == 0 else "  "), style=style))
        style = ""
    if plan.cards:
        out.print()
    for card in plan.cards:
        out.print(_card_line(card, out.width), no_wrap=True, overflow="ellipsis")
        out.print(_wrapped(card.reason, out, "    "))
    if plan.cards:
        out.print(Text(LEGEND, style="dim"))
    _section(out, "Set first, for the power supplies", _limits(plan))
    if changed is not None:
        _section(out, "Changed", changed or ("nothing",))
    _section(out, "What would help", _help(plan))
    _section(out, "Considered", _considered(plan))
    _section(out, "Notes", plan.notes)


def _help(plan: Plan) -> tuple[str, ...]:
    """The fixes; where there are none, what the error says of what works."""
    if plan.fixes or plan.feasible:
        return plan.fixes
    error = nothing_fits(plan)
    return tuple(part for part in (error.works, error.how) if part)


def _considered(plan: Plan) -> tuple[str, ...]:
    """The alternatives, without the one that the headline names."""
    said = plan.problem.found if plan.problem else ""
    return tuple(each.why_not for each in plan.alternatives if each.why_not not in said)


def _wrapped(text: str, out: Console, indent: str, first: str | None = None) -> Text:
    return Text(_fill(text, out, indent, first))


def _fill(text: str, out: Console, indent: str, first: str | None = None) -> str:
    start = indent if first is None else first
    whole = THOUSANDS.sub(NO_BREAK, text)
    filled = textwrap.fill(whole, out.width, initial_indent=start, subsequent_indent=indent)
    return filled.replace(NO_BREAK, " ")


def _headline(plan: Plan) -> tuple[str, list[str]]:
    """The style of the first line, and the lines."""
    if not plan.feasible:
        error = nothing_fits(plan)
        return "bold red", [f"no plan: {RigError(error.needed, found=error.found)}"]
    names = [_short(card) for card in plan.cards if card.verdict == "used"]
    counted = " + ".join(
        f"{names.count(name)} x {name}" if names.count(name) > 1 else name
        for name in dict.fromkeys(names)
    )
    exact = "" if plan.weights_exact else "about "
    facts = [
        f"{exact}{size(plan.weights_bytes)} of weights",
        f"{plan.sequences} x {tokens(plan.context_tokens or 0)} tokens of context "
        f"(at most {tokens(plan.max_context_tokens or 0)})",
    ]
    if plan.expected_decode_tokens_per_second is not None:
        facts.append(f"about {plan.expected_decode_tokens_per_second:.0f} tokens/s")
    if plan.expected_power_watts is not None:
        facts.append(f"up to {plan.expected_power_watts:.0f} W")
    return "bold", [
        f"{plan.model}: {plan.engine} on {counted}{SPLIT_WORDS[plan.split]}",
        ", ".join(facts),
    ]


def _card_line(card: CardVerdict, width: int) -> Text:
    line = Text(f"{_short(card)[:20]:20} ")
    line.append(f"{card.verdict:9}", style=VERDICT_STYLES[card.verdict])
    cells = min(BAR_CELLS, max(FEWEST_CELLS, width - BESIDE_BAR))
    line.append(bar(_segments(card), card.total_bytes or 0, cells))
    total = "?" if card.total_bytes is None else gib(card.total_bytes)
    line.append(f" {gib(card.needed_bytes).removesuffix(' GiB')} / {total}")
    return line


def _segments(card: CardVerdict) -> list[Segment]:
    segments: list[Segment] = [
        ("r", "dim", card.reserved_bytes or 0),
        ("h", "red", card.held_bytes or 0),
    ]
    if parts := card.parts:
        segments += [
            ("W", "blue", parts.weights_bytes),
            ("K", "green", parts.kv_cache_bytes + parts.state_bytes),
            ("c", "magenta", parts.compute_bytes + parts.fixed_bytes),
        ]
    return segments


def _limits(plan: Plan) -> tuple[str, ...]:
    names = {card.uuid: f"{_short(card)} at {card.bus_id}" for card in plan.cards}
    limits = plan.power_limits_watts.items()
    return tuple(f"{names.get(uuid, uuid)}: a limit of {watts:.0f} W" for uuid, watts in limits)


def _section(out: Console, title: str, lines: tuple[str, ...]) -> None:
    if lines:
        out.print(Text(f"\n{title}", style="bold"))
    for line in lines:
        out.print(_wrapped(line, out, "    ", "  - "))


def _short(card: CardVerdict) -> str:
    return card.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
