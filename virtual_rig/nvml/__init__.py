"""The simulated NVML library: what pynvml and nvidia-smi load where there are no cards."""

from __future__ import annotations

import hashlib
from pathlib import Path

from virtual_rig import paths, scenario
from virtual_rig.nvml import build
from virtual_rig.nvml.flat import as_snapshot_says, flat

SCENARIO_VARIABLE = "VIRTUAL_RIG_NVML"


def environment(snapshot: Path, flat_file: Path | None = None) -> dict[str, str]:
    """The environment variables under which a program sees the cards of this snapshot.

    The flat file that the library reads is written to `flat_file`, or to a place in the cache
    that belongs to the snapshot's path; call again after a change of the snapshot, and a running
    program sees it.
    """
    cards = scenario.read(snapshot)
    place = flat_file or _flat_file_of(snapshot)
    place.parent.mkdir(parents=True, exist_ok=True)
    scenario.replace_file(place, flat(cards, as_snapshot_says(cards)))
    library = build.library()
    return {"LD_LIBRARY_PATH": str(library.parent), SCENARIO_VARIABLE: str(place)}


def _flat_file_of(snapshot: Path) -> Path:
    digest = hashlib.sha256(str(snapshot.resolve()).encode()).hexdigest()[:16]
    return paths.cache() / "nvml" / "scenarios" / digest
