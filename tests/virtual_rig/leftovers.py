"""What a box may have left on this machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from virtual_rig import paths, record

PROPAGATION = Path("/run/systemd/nspawn/propagate")


def of(folder: Path, number: int) -> list[str]:
    """Every trace of the box that had this folder and this network; empty where none is left."""
    name = paths.unique(folder)
    found = [f"process {pid}" for pid in record.processes_naming(folder)]
    found += [f"link vr{number}"] if _has("ip -json link show", f"vr{number}") else []
    found += [f"table {number}"] if _has("nft -j list tables", f"virtual_rig_{number}") else []
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*virtual-rig.{name}")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/virtual-rig.{name}")]
    found += [str(path) for path in PROPAGATION.glob(f"*{name}")]
    found += [str(folder)] if folder.exists() else []
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    return found + ([f"mounts of {folder}"] if str(folder) in mounts else [])


def _has(command: str, word: str) -> bool:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=True)
    return f'"{word}"' in json.dumps(json.loads(done.stdout))
