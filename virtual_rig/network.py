"""The box's network: its own namespace, a cable to this machine, and NAT to the outside.

Box N has 10.77.N.2, this machine's end of the cable is vrN with 10.77.N.1. The namespace is held
open by the supervisor's file descriptor alone: when the supervisor ends, however it ends, the
kernel removes the namespace and with it both ends of the cable and their addresses. Only the NAT
table outlives it, and is removed by `down` and by the next box.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import threading
from pathlib import Path

from virtual_rig import paths
from virtual_rig.base import locked
from virtual_rig.command import is_there, run
from virtual_rig.errors import VirtualRigError

_CLONE_NEWNET = 0x40000000
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_FORWARDING_WAS_OFF = Path("/run/virtual-rig-forwarding-was-off")
_NUMBERS = range(1, 255)


def box_address(number: int) -> str:
    """The box's address."""
    return f"10.77.{number}.2"


def gateway_address(number: int) -> str:
    """This machine's address as the box sees it."""
    return f"10.77.{number}.1"


def connect() -> tuple[int, str]:
    """A new network, connected: its number, and the path of its namespace in this process."""
    path = _new_namespace()
    with locked(paths.locks() / "network"):
        _sweep()
        number = _free_number()
        link = f"vr{number}"
        run(["ip", "link", "add", link, "type", "veth", "peer", "name", "host0", "netns", path])
        _allow_forwarding()
        run(["nft", "-f", "-"], given=_nat(number))
    run(["ip", "address", "add", f"{gateway_address(number)}/24", "dev", link])
    run(["ip", "link", "set", link, "up"])
    inside = ["nsenter", f"--net={path}", "ip"]
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "address", "add", f"{box_address(number)}/24", "dev", "host0"])
    run([*inside, "link", "set", "host0", "up"])
    run([*inside, "route", "add", "default", "via", gateway_address(number)])
    return number, path


def disconnect(number: int | None) -> None:
    """Remove what `connect` made, as far as it is still there.

    None, for a box that died before it knew its number, removes what such ones left.
    """
    with locked(paths.locks() / "network"):
        if not (is_there("ip") and is_there("nft")):
            return  # without them nothing was ever connected
        if number and f"vr{number}" in _links():
            # The kernel may be removing it itself in this moment: then there is nothing to do.
            with contextlib.suppress(VirtualRigError):
                run(["ip", "link", "delete", f"vr{number}"])
        _sweep()


def _new_namespace() -> str:
    """A network namespace that lives as long as this process: the path of its descriptor.

    `unshare` moves only the calling thread, so a thread of its own is spent on it.
    """
    descriptors: list[int] = []

    def enter() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0:
            descriptors.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if not descriptors:
        raise VirtualRigError(
            "A virtual rig needs a network namespace of its own",
            found="the kernel refused to make one",
            how="Run it as root, on a kernel with CONFIG_NET_NS",
        )
    return f"/proc/{os.getpid()}/fd/{descriptors[0]}"


def _links() -> set[str]:
    return {link["ifname"] for link in json.loads(run(["ip", "-json", "link", "show"]))}


def _free_number() -> int:
    links = _links()
    for number in _NUMBERS:
        if f"vr{number}" not in links and not _is_routed(number):
            return number
    raise VirtualRigError(
        "A virtual rig needs a free network 10.77.N.0/24",
        found="all of them are in use on this machine",
        how="Remove boxes with: python -m virtual_rig down NAME",
    )


def _is_routed(number: int) -> bool:
    """Whether something else on this machine has this very network.

    A wider route (a company's 10.0.0.0/8) does not count: ours is more specific and wins.
    """
    routes = json.loads(run(["ip", "-json", "route", "show", "match", f"{box_address(number)}/32"]))
    return any(str(route["dst"]).startswith("10.77.") for route in routes)


def _table(number: int) -> str:
    return f"virtual_rig_{number}"


def _nat(number: int) -> str:
    table = _table(number)
    return f"""
        table ip {table}
        delete table ip {table}
        table ip {table} {{
            chain outgoing {{
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr {box_address(number)} oifname != "vr{number}" masquerade
            }}
        }}
    """


def _allow_forwarding() -> None:
    if _FORWARDING.read_text(encoding="ascii").strip() == "0":
        _FORWARDING_WAS_OFF.touch()
        _FORWARDING.write_text("1", encoding="ascii")


def _sweep() -> None:
    """Remove the NAT tables of networks that are gone; after the last one, forwarding as it was."""
    links = _links()
    tables = json.loads(run(["nft", "-j", "list", "tables"]))["nftables"]
    names = [entry["table"]["name"] for entry in tables if "table" in entry]
    ours = {name: name.removeprefix("virtual_rig_") for name in names if "virtual_rig_" in name}
    for name, number in ours.items():
        if f"vr{number}" not in links:
            run(["nft", "delete", "table", "ip", name])
    if not any(f"vr{number}" in links for number in _NUMBERS) and _FORWARDING_WAS_OFF.exists():
        _FORWARDING.write_text("0", encoding="ascii")
        _FORWARDING_WAS_OFF.unlink()
