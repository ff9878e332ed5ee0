"""The runtime on the rig: its user, environment, configuration, keys, models and service."""

from __future__ import annotations

from io import BytesIO

from pyinfra import host
from pyinfra.api import QuoteString, StringCommand, deploy, operation
from pyinfra.facts.files import File
from pyinfra.operations import files, server

from tasks.commands import Commands
from tasks.environments import environment_current
from tasks.installation import CONFIG, KEYS, Installation
from tasks.package_source import system_packages
from tasks.service_facts import PROGRAM, UNIT, Gpus, Service, Status
from tasks.templates import written

USER = "rig-runtime"
COMMAND_LINK = "/usr/local/bin/rig-runtime"
# systemd only says that a start failed; what the service itself said of it is in the journal.
SAID = (
    f"{UNIT} || {{ journalctl --unit {UNIT} --lines 40 --output cat --no-pager "
    "| grep '^rig-runtime serve: ' | tail -n 1 >&2; false; }"
)


@deploy("Engines")
def engines(installation: Installation | None) -> None:
    """uv, and vLLM in an environment of its own."""
    if installation is None:
        return
    system_packages(
        name="What the engines need of the system", packages=list(installation.packages)
    )
    environment_current(name="uv, which makes environments", environment=installation.tools)
    if installation.vllm:
        environment_current(name="vLLM", environment=installation.vllm)


@deploy("Runtime")
def runtime(installation: Installation | None) -> None:
    """The runtime, configured and running; restarted only where it runs from something older.

    Without an engine there is nothing to run: then it is installed for its commands alone.
    """
    if installation is None:
        return
    environment_current(name="rig-runtime", environment=installation.runtime)
    files.link(name="rig-runtime on the path", path=COMMAND_LINK, target=PROGRAM)
    server.user(
        name="Its own user",
        user=USER,
        system=True,
        shell="/usr/sbin/nologin",
        home="/var/lib/rig-runtime",
        ensure_home=False,
    )
    files.directory(
        name="Its state", path="/var/lib/rig-runtime", user=USER, group=USER, mode="750"
    )
    files.put(
        name="Its configuration",
        src=BytesIO(installation.config.encode()),
        dest=CONFIG,
        user="root",
        group=USER,
        mode="640",
    )
    written(
        "api-keys", KEYS, name="Its API keys", group=USER, mode="640", line=installation.key_line
    )
    for path in installation.tiny_models:
        tiny_model(name=f"A tiny model at {path}", path=path)
    if installation.vllm is None:
        return
    written(
        "rig-runtime.service",
        f"/etc/systemd/system/{UNIT}",
        name="Its service",
        digest=installation.digest,
    )
    service_current(name="The service runs from all this", digest=installation.digest)


@operation()
def tiny_model(path: str) -> Commands:
    """A tiny random model, made whole beside its place and then put there."""
    if host.get_fact(File, path=f"{path}/config.json"):
        host.noop(f"{path} is there")
        return
    place, part = QuoteString(path), QuoteString(f"{path}.part")
    yield StringCommand("rm -rf", place, part)
    yield StringCommand("install -d -m 755", QuoteString(path.rpartition("/")[0]))
    yield StringCommand(PROGRAM, "selftest --make-only", part, ">/dev/null")
    yield StringCommand("chmod -R a+rX", part, "&& mv", part, place)


@operation()
def service_current(digest: str) -> Commands:
    """Enabled, started, and restarted where it runs from something older, or could do better now:
    on other cards than it planned with, or after a model failed for good.
    """
    state = host.get_fact(Service)
    if state["needs_reload"] or not state["enabled"]:
        yield StringCommand("systemctl daemon-reload")
    if not state["enabled"]:
        yield StringCommand("systemctl enable", UNIT)
    if not state["active"]:
        yield StringCommand("systemctl reset-failed", UNIT, "2>/dev/null; systemctl start", SAID)
    elif state["running_digest"] != digest or _is_outdated():
        yield StringCommand("systemctl restart", SAID)
    else:
        host.noop("the service runs from what is installed")


def _is_outdated() -> bool:
    """Whether the running service planned with other cards than NVML shows, or gave a model up."""
    status, gpus = host.get_fact(Status), host.get_fact(Gpus)["gpus"]
    if status is None:
        return False
    planned = {card["uuid"] for card in status["cards"]}
    on_other_cards = bool(planned) and gpus is not None and planned != {gpu["uuid"] for gpu in gpus}
    return on_other_cards or any(model["phase"] == "failed" for model in status["models"])
