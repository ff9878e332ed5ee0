"""The README's pictures, made from what the commands really print: `python docs/pictures.py`."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 80

PICTURES: Mapping[str, Sequence[str]] = {
    "plan.svg": (
        "rig-runtime",
        "plan",
        "docs/examples/deepseek-r1-distill-qwen-7b",
        "--rig",
        "virtual_rig/rigs/mining-rig.json",
        "--context-tokens",
        "32768",
        "--sequences",
        "1",
    ),
    "gpus.svg": ("rig-runtime", "gpus", "--rig", "virtual_rig/rigs/mining-rig.json"),
}


def picture(words: Sequence[str]) -> str:
    """An SVG of a terminal in which the command has run."""
    program = Path(sys.executable).with_name(words[0])
    environment = dict(os.environ, COLUMNS=str(COLUMNS), FORCE_COLOR="1", TERM="xterm-256color")
    done = subprocess.run(
        [str(program), *words[1:]],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("$ " + " ".join(words), style="bold"))
    for line in done.stdout.rstrip().splitlines():
        console.print(Text.from_ansi(line), soft_wrap=True)
    return console.export_svg(title=" ".join(words[:2]), unique_id="rig")


def main() -> None:
    """Write every picture beside this file."""
    for name, words in PICTURES.items():
        (ROOT / "docs" / name).write_text(picture(words), encoding="utf-8")


if __name__ == "__main__":
    main()
