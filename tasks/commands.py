"""What an operation of ours yields, and how it fails its host or speaks of it."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, StringCommand
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.state import State

from tasks.problems import Problem, listing

Commands = Generator[StringCommand | FunctionCommand, None, None]


def failure(*problems: Problem) -> FunctionCommand:
    """A command that fails this host alone, with the problems as its message.

    An exception in an operation would end the run for all hosts.
    """
    text = listing(problems) if len(problems) > 1 else str(problems[0])
    return FunctionCommand(_say_and_fail, (text,), {})


def _say_and_fail(state: State, host: PyinfraHost, text: str) -> bool:
    for line in text.splitlines():
        host.log_styled(line, log_func=logger.error, fg="red")
    return False


def say(text: str) -> None:
    """Print lines for this host while the run executes; silent while pyinfra only prepares."""
    if host.state is not None and host.state.is_executing:
        for line in text.splitlines():
            host.log(line)
