"""NVML -> Rig: the only module that imports pynvml. Milliwatts, MHz and MiB die here.

One card that is lost or half dead does not blind the tool to the others: it stays in the list
with the reason. A value that a card does not report becomes None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pynvml

from rig_runtime.errors import CheckFailed
from rig_runtime.gpus import Gpu, GpuProcess, Link, Rig

T = TypeVar("T")

PCI_DEVICES = Path("/sys/bus/pci/devices")
MAX_NVLINKS = 18
"""Links of one card: NVML_NVLINK_MAX_LINKS."""

P2P_READ = 0
"""nvmlP2PCapsIndex_t NVML_P2P_CAPS_INDEX_READ; nvidia-ml-py 13 has a tuple by that name."""

TOPOLOGY_PATHS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "INTERNAL",
    pynvml.NVML_TOPOLOGY_SINGLE: "PIX",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "PXB",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "PHB",
    pynvml.NVML_TOPOLOGY_NODE: "NODE",
    pynvml.NVML_TOPOLOGY_SYSTEM: "SYS",
}

DRIVER_ADVICE = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "libnvidia-ml.so.1 is not installed",
        "provision this machine (pyinfra inventory.py deploy.py), or plan for another one with "
        "--rig FILE",
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "the library is there, but the kernel module nvidia is not loaded",
        "load it with 'modprobe nvidia'; if that fails, 'dkms status' and 'journalctl -k -g "
        "nvidia' say why (after a driver installation the machine may need its reboot)",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the loaded kernel module and the library are of different driver versions",
        "reboot: the driver was updated while the old module was loaded",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "the driver refuses this user",
        "add the user to the groups 'video' and 'render', or look at the modes of /dev/nvidia*",
    ),
}


def read_rig() -> Rig:
    """This machine's cards, links and driver. Raises CheckFailed where no driver answers."""
    with session():
        count = pynvml.nvmlDeviceGetCount()
        found = [_handle_or_reason(index) for index in range(count)]
        handles = [handle for handle, _ in found if handle is not None]
        gpus = [_read_gpu(handle) for handle in handles]
        reasons = [reason for handle, reason in found if handle is None]
        return Rig(
            driver_version=_ask(pynvml.nvmlSystemGetDriverVersion),
            gpus=(*gpus, *_lost_cards(reasons, {gpu.bus_id for gpu in gpus})),
            links=tuple(_links(list(zip(gpus, handles, strict=True)))),
        )


@contextmanager
def session() -> Iterator[None]:
    """NVML, initialised. Raises CheckFailed that says what is wrong with the driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        found, how = DRIVER_ADVICE.get(error.value, (f"NVML says: {error}", ""))
        raise CheckFailed(
            "NVIDIA's driver must answer to list the cards", found=found, how=how
        ) from error
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _ask(question: Callable[..., T], *arguments: object) -> T | None:
    """The answer, or None where the card does not report it."""
    try:
        return question(*arguments)
    except (pynvml.NVMLError, AttributeError):
        return None


def _handle_or_reason(index: int) -> tuple[Any, str]:
    """A card's handle, or None and why the driver cannot give one."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        pynvml.nvmlDeviceGetUUID(handle)
    except pynvml.NVMLError as error:
        return None, _reason(error)
    return handle, ""


def _reason(error: pynvml.NVMLError) -> str:
    if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
        return "it fell off the bus: check its power cables and riser, then reboot"
    return f"the driver cannot talk to it ({error})"


def _read_gpu(handle: Any) -> Gpu:
    total, reserved, used, lost = _memory(handle)
    bus_width = _ask(pynvml.nvmlDeviceGetMemoryBusWidth, handle)
    clock_mhz = _ask(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_MEM)
    limits = _ask(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, handle) or (None, None)
    active = _ask(pynvml.nvmlDeviceGetDisplayActive, handle)
    attached = _ask(pynvml.nvmlDeviceGetDisplayMode, handle)
    capability = _ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    return Gpu(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        bus_id=bus_id(_ask(pynvml.nvmlDeviceGetPciInfo, handle)),
        name=_ask(pynvml.nvmlDeviceGetName, handle) or "unknown card",
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        memory_total_bytes=total,
        memory_reserved_bytes=reserved,
        memory_used_bytes=used,
        memory_bandwidth_bytes_per_second=bandwidth(clock_mhz, bus_width),
        display_active=None if active is None else bool(active),
        display_attached=None if attached is None else bool(attached),
        pcie_gen_max=_ask(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        pcie_gen_current=_ask(pynvml.nvmlDeviceGetCurrPcieLinkGeneration, handle),
        pcie_width_max=_ask(pynvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
        pcie_width_current=_ask(pynvml.nvmlDeviceGetCurrPcieLinkWidth, handle),
        power_limit_watts=_watts(_ask(pynvml.nvmlDeviceGetPowerManagementLimit, handle)),
        power_default_watts=_watts(_ask(pynvml.nvmlDeviceGetPowerManagementDefaultLimit, handle)),
        power_min_watts=_watts(limits[0]),
        power_max_watts=_watts(limits[1]),
        processes=_processes(handle),
        unavailable=lost,
    )


def bandwidth(clock_mhz: int | None, bus_width_bits: int | None) -> int | None:
    """Memory bandwidth in bytes per second: clock x bus width x 2 (double data rate).

    NVML's memory clock of a GDDR6X card is half its data rate: an RTX 3080 reports 9501 MHz on
    320 bits, and its 760 GB/s is 9501e6 x 320 / 8 x 2. The same holds for GDDR6 and HBM.
    """
    if not clock_mhz or not bus_width_bits:
        return None
    return clock_mhz * 1_000_000 * bus_width_bits // 8 * 2


def bus_id(pci: Any) -> str:
    """NVML's PCI info as the address that lspci and sysfs use: '0000:01:00.0'."""
    if pci is None:
        return "unknown"
    return f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"


def _memory(handle: Any) -> tuple[int | None, int | None, int | None, str | None]:
    """Total, reserved and used bytes, and why the card is unusable where it is.

    The first version of the call counts what the driver reserves as used; only drivers before
    R510 lack the second.
    """
    try:
        info = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        return info.total, info.reserved, info.used, None
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            return None, None, None, _reason(error)
    try:
        info = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return info.total, None, info.used, None
    except pynvml.NVMLError as error:
        return None, None, None, _reason(error)


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _processes(handle: Any) -> tuple[GpuProcess, ...]:
    """What holds memory of the card; a process that draws and computes is listed once."""
    found: dict[int, GpuProcess] = {}
    graphics = _ask(pynvml.nvmlDeviceGetGraphicsRunningProcesses, handle) or []
    compute = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    for process in graphics:
        found[process.pid] = GpuProcess(
            pid=process.pid,
            kind="graphics",
            name=_process_name(process.pid),
            used_bytes=process.usedGpuMemory,
        )
    for process in compute:
        found.setdefault(
            process.pid,
            GpuProcess(
                pid=process.pid,
                kind="compute",
                name=_process_name(process.pid),
                used_bytes=process.usedGpuMemory,
            ),
        )
    return tuple(found[pid] for pid in sorted(found))


def _process_name(pid: int) -> str | None:
    path = _ask(pynvml.nvmlSystemGetProcessName, pid)
    return Path(path.split(" ", 1)[0]).name if path else None


def _lost_cards(reasons: list[str], seen: set[str]) -> tuple[Gpu, ...]:
    """Cards that the driver counts but cannot open.

    NVML gives no identity for them. The PCI tree still lists their place; where the places that
    NVML did not show are as many as the lost cards, each gets one.
    """
    if not reasons:
        return ()
    unseen = [address for address in _nvidia_addresses() if address not in seen]
    places = unseen if len(unseen) == len(reasons) else ["unknown"] * len(reasons)
    return tuple(
        Gpu(
            uuid=f"lost-{place if place != 'unknown' else number}",
            bus_id=place,
            name="unknown card",
            unavailable=reason,
        )
        for number, (place, reason) in enumerate(zip(places, reasons, strict=True))
    )


def _nvidia_addresses() -> list[str]:
    """PCI addresses of NVIDIA display controllers, from sysfs."""
    addresses = []
    for device in sorted(PCI_DEVICES.glob("*")):
        try:
            vendor = (device / "vendor").read_text().strip()
            display = (device / "class").read_text().startswith("0x03")
        except OSError:
            continue
        if vendor == "0x10de" and display:
            addresses.append(device.name.lower())
    return addresses


def _links(cards: list[tuple[Gpu, Any]]) -> Iterator[Link]:
    for position, (gpu_a, handle_a) in enumerate(cards):
        if gpu_a.unavailable:
            continue
        peers = _nvlink_peers(handle_a)
        for gpu_b, handle_b in cards[position + 1 :]:
            if gpu_b.unavailable:
                continue
            nvlinks = None if peers is None else peers.count(gpu_b.bus_id)
            yield Link(
                a=gpu_a.uuid,
                b=gpu_b.uuid,
                nvlinks=nvlinks,
                p2p=_peer_to_peer(handle_a, handle_b),
                path=f"NV{nvlinks}" if nvlinks else _path(handle_a, handle_b),
            )


def _nvlink_peers(handle: Any) -> list[str] | None:
    """The bus id at the far end of each active NVLink; empty for a card without NVLink."""
    peers = []
    for number in range(MAX_NVLINKS):
        try:
            if not pynvml.nvmlDeviceGetNvLinkState(handle, number):
                continue
            peers.append(bus_id(pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, number)))
        except pynvml.NVMLError as error:
            if error.value in (
                pynvml.NVML_ERROR_NOT_SUPPORTED,
                pynvml.NVML_ERROR_INVALID_ARGUMENT,
            ):
                return peers
            return None
    return peers


def _path(handle_a: Any, handle_b: Any) -> str | None:
    level = _ask(pynvml.nvmlDeviceGetTopologyCommonAncestor, handle_a, handle_b)
    return None if level is None else TOPOLOGY_PATHS.get(level)


def _peer_to_peer(handle_a: Any, handle_b: Any) -> bool | None:
    status = _ask(pynvml.nvmlDeviceGetP2PStatus, handle_a, handle_b, P2P_READ)
    return None if status is None else bool(status == pynvml.NVML_P2P_STATUS_OK)
