"""What the installed runtime says of itself and of the cards."""

from __future__ import annotations

import json
from typing import Any, TypedDict

from pyinfra.api import FactBase

UNIT = "rig-runtime.service"
PROGRAM = "/opt/rig/runtime/current/bin/rig-runtime"
# How long a started service may take to plan every model, in tenths of a second.
_PLANNING_TENTHS = 200


class ServiceState(TypedDict):
    """The unit as systemd has it. `running_digest` is what the running process was started from."""

    active: bool
    enabled: bool
    needs_reload: bool
    running_digest: str | None


class Cards(TypedDict):
    """The cards that NVML shows, as the runtime's snapshot has them; None where NVML fails."""

    gpus: list[dict[str, Any]] | None
    driver_version: str | None


class Service(FactBase[ServiceState]):
    """Active, enabled, stale, and the digest in the environment of the running process."""

    def command(self) -> str:
        return (
            f"systemctl show {UNIT} -p ActiveState -p UnitFileState -p NeedDaemonReload; "
            f"pid=$(systemctl show {UNIT} -p MainPID --value); "
            'if [ "${pid:-0}" != 0 ]; then '
            "tr '\\0' '\\n' <\"/proc/$pid/environ\" 2>/dev/null | grep ^RIG_DIGEST=; fi; true"
        )

    def process(self, output: list[str]) -> ServiceState:
        found = dict(line.strip().partition("=")[::2] for line in output)
        return {
            "active": found.get("ActiveState") == "active",
            "enabled": found.get("UnitFileState") == "enabled",
            "needs_reload": found.get("NeedDaemonReload") == "yes",
            "running_digest": found.get("RIG_DIGEST") or None,
        }


class Gpus(FactBase[Cards]):
    """`rig-runtime gpus --json`: NVML as the runtime sees it."""

    @staticmethod
    def default() -> Cards:
        return {"gpus": None, "driver_version": None}

    def command(self) -> str:
        return f"{PROGRAM} gpus --json 2>/dev/null || true"

    def process(self, output: list[str]) -> Cards:
        answer = _json(output)
        return {"gpus": answer.get("gpus"), "driver_version": answer.get("driver_version")}


class Status(FactBase[dict[str, Any] | None]):
    """`rig-runtime status --json`, once every model has a plan; None without an answer."""

    def command(self) -> str:
        return (
            f"i=0; while [ $i -lt {_PLANNING_TENTHS} ]; do "
            f"answer=$({PROGRAM} status --json 2>/dev/null); "
            'case "$answer" in *\'"plan": null\'*) ;; ?*) break ;; esac; '
            f"systemctl is-active --quiet {UNIT} || break; "
            "i=$((i + 5)); sleep 0.5; done; "
            'echo "$answer"'
        )

    def process(self, output: list[str]) -> dict[str, Any] | None:
        return _json(output) or None


class Health(FactBase[bool]):
    """Whether the gateway answers /health at an address, asked from the rig itself."""

    @staticmethod
    def default() -> bool:
        return False

    def command(self, address: str) -> str:
        script = (
            "import sys, urllib.request as r; "
            "r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=10)"
        )
        python = f"{PROGRAM.rpartition('/')[0]}/python"
        return f"{python} -c '{script}' '{address}/health' >/dev/null 2>&1 && echo yes || echo no"

    def process(self, output: list[str]) -> bool:
        return output[0].strip() == "yes"


def _json(output: list[str]) -> dict[str, Any]:
    """The one JSON object of a command that prints nothing else; {} where it printed none."""
    try:
        answer = json.loads("\n".join(output) or "{}")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
