"""Builds the simulated libnvidia-ml.so.1 from `source/`, once for each version of its text.

Every name that nvidia-ml-py or nvidia-smi may look up exists: those that are not written by hand
are weak stubs that answer "not supported".
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from virtual_rig import paths
from virtual_rig.errors import VirtualRigError

SONAME = "libnvidia-ml.so.1"
_SOURCE = Path(__file__).parent / "source"
_LOOKED_UP = re.compile(r'_nvmlGetFunctionPointer\("(\w+)"\)')
_ONLY_NVIDIA_SMI = frozenset({"nvmlDeviceRemoveGpu_v2"})
# No _GNU_SOURCE: with it, newer C libraries turn strtoull into a function that the C library of
# Debian 12 does not have, and the library is to load in boxes older than this machine.
_FLAGS = (
    "-std=c11 -D_DEFAULT_SOURCE -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden "
    f"-pthread -Wl,-soname,{SONAME}"
).split()


def library() -> Path:
    """The library, built where this version of it is not there yet."""
    stubs = _stubs()
    sources = sorted(_SOURCE.glob("*.[ch]"))
    digest = hashlib.sha256("\0".join([*_FLAGS, stubs]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    folder = paths.cache() / "nvml" / digest.hexdigest()[:16]
    built = folder / SONAME
    if not built.exists():
        _compile([source for source in sources if source.suffix == ".c"], stubs, built)
    return built


def looked_up_names() -> frozenset[str]:
    """Every function name that nvidia-ml-py or nvidia-smi asks a library for."""
    found = importlib.util.find_spec("pynvml")
    if found is None or found.origin is None:
        raise VirtualRigError(
            "The simulated NVML library is built from the names that nvidia-ml-py looks up",
            found="nvidia-ml-py is not installed in this Python environment",
            how="Run: uv sync",
        )
    text = Path(found.origin).read_text(encoding="utf-8")
    return frozenset(_LOOKED_UP.findall(text)) | _ONLY_NVIDIA_SMI


def _stubs() -> str:
    lines = [
        "extern void trace(const char *format, ...);",
        '#define STUB __attribute__((weak, visibility("default")))',
    ]
    for name in sorted(looked_up_names()):
        lines.append(f'STUB int {name}(void) {{ trace("no {name}\\n"); return 3; }}')
    return "\n".join(lines) + "\n"


def _compile(sources: list[Path], stubs: str, built: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise VirtualRigError(
            "The simulated NVML library is compiled on this machine",
            found="there is no C compiler",
            how="Run: apt-get install gcc libc6-dev",
        )
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        stub_source, result = Path(folder, "stubs.c"), Path(folder, SONAME)
        stub_source.write_text(stubs, encoding="utf-8")
        done = subprocess.run(
            [compiler, *_FLAGS, "-o", str(result), *map(str, sources), str(stub_source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise VirtualRigError(
                "The simulated NVML library must compile",
                found=done.stderr.strip()[-800:],
                how="If a header is missing, run: apt-get install libc6-dev",
            )
        result.chmod(0o755)
        os.replace(result, built)
