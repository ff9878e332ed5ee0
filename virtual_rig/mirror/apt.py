"""Builds the mirror's apt repository: packages, index, signature; flat, as NVIDIA's own is.

deb [signed-by=KEY] http://10.77.N.1:8077/apt/ /
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path

from virtual_rig import paths
from virtual_rig.base import locked
from virtual_rig.command import require, run
from virtual_rig.mirror.packages import PACKAGE_VERSION, PACKAGES, VERSION, Package
from virtual_rig.nvml import build

_FILES = Path(__file__).parent / "files"
_SIGNER = "Virtual rig package mirror"


def repository() -> Path:
    """The repository's folder, built where this version of it is not there yet."""
    folder = paths.cache() / "mirror" / "apt"
    mark = folder / ".digest"
    wanted = _digest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(".apt.lock")):
        if not mark.exists() or mark.read_text(encoding="ascii") != wanted:
            require("dpkg-deb", "gpg", "gcc", "/usr/include/stdio.h")
            _build(folder, wanted)
    return folder


def _digest() -> str:
    digest = hashlib.sha256(str(build.library()).encode())
    for source in (
        Path(__file__),
        *sorted(_FILES.rglob("*")),
        Path(__file__).parent / "packages.py",
    ):
        if source.is_file():
            digest.update(source.read_bytes())
    return digest.hexdigest()


def _build(folder: Path, digest: str) -> None:
    """In a folder beside it, which then takes its place."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".apt.") as beside:
        place = Path(beside, "apt")
        place.mkdir()
        made = _made(Path(beside))
        index = "\n".join(_pack(package, Path(beside), place, made) for package in PACKAGES)
        _write_index(place, index)
        _sign(place)
        (place / ".digest").write_text(digest, encoding="ascii")
        shutil.rmtree(folder, ignore_errors=True)
        place.rename(folder)


def _made(beside: Path) -> Mapping[str, Path]:
    """The files that are compiled."""
    smi, cuda = beside / "nvidia-smi", beside / "libcuda"
    # Position independent and with nothing of a newer C library than the boxes have.
    run(["gcc", "-std=c11", "-O2", "-o", smi, _FILES / "nvidia-smi.c", "-ldl"])
    shared: list[str | Path] = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    run(["gcc", "-std=c11", "-O2", *shared, "-o", cuda, _FILES / "libcuda.c"])
    return {"nvidia-smi": smi, "libcuda": cuda, "libnvidia-ml": build.library()}


def _pack(package: Package, beside: Path, place: Path, made: Mapping[str, Path]) -> str:
    """Build one package; its stanza of the index."""
    tree = beside / package.name
    for path, content in package.files.items():
        _put(tree / path, content, made)
    for path, target in package.links.items():
        (tree / path).symlink_to(target)
    control = _control(package)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(control, encoding="utf-8")
    for name, script in package.scripts.items():
        (tree / "DEBIAN" / name).write_text(script, encoding="utf-8")
        (tree / "DEBIAN" / name).chmod(0o755)
    deb = place / f"{package.name}_{PACKAGE_VERSION}_{package.architecture}.deb"
    run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, deb])
    packed = deb.read_bytes()
    return control + (
        f"Filename: ./{deb.name}\nSize: {len(packed)}\n"
        f"SHA256: {hashlib.sha256(packed).hexdigest()}\n"
    )


def _put(target: Path, content: str, made: Mapping[str, Path]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if content.startswith("@"):
        name = content[1:]
        shutil.copyfile(made.get(name, _FILES / name), target)
        if name == "dkms/dkms.conf":
            text = target.read_text(encoding="ascii").replace("@VERSION@", VERSION)
            target.write_text(text, encoding="ascii")
    else:
        target.write_text(content, encoding="utf-8")
    target.chmod(0o755 if target.parent.name == "bin" else 0o644)


def _control(package: Package) -> str:
    lines = {
        "Package": package.name,
        "Version": PACKAGE_VERSION,
        "Architecture": package.architecture,
        "Maintainer": _SIGNER,
        "Section": "contrib/libs",
        "Priority": "optional",
        **package.fields,
        "Description": f"{package.summary}\n A stand-in of the virtual rig.",
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


def _write_index(place: Path, index: str) -> None:
    files = {"Packages": index.encode(), "Packages.gz": gzip.compress(index.encode())}
    sums = []
    for name, packed in files.items():
        (place / name).write_bytes(packed)
        sums.append(f" {hashlib.sha256(packed).hexdigest()} {len(packed)} {name}")
    head = f"Origin: {_SIGNER}\nLabel: {_SIGNER}\nDate: {formatdate(usegmt=True)}\nSHA256:\n"
    (place / "Release").write_text(head + "\n".join(sums) + "\n", encoding="ascii")


def _sign(place: Path) -> None:
    """With a key that is made for this cache; `key.asc` is its public half."""
    home = paths.cache() / "mirror-key"
    home.mkdir(mode=0o700, exist_ok=True)
    gpg: list[str | Path] = ["gpg", "--batch", "--no-tty", "--homedir", home]
    try:
        if not list(home.glob("private-keys-v1.d/*.key")):
            passphrase: list[str | Path] = ["--pinentry-mode", "loopback", "--passphrase", ""]
            run([*gpg, *passphrase, "--quick-generate-key", _SIGNER, "ed25519", "sign", "never"])
        run([*gpg, "--yes", "--output", place / "InRelease", "--clearsign", place / "Release"])
        run([*gpg, "--yes", "--armor", "--output", place / "key.asc", "--export"])
    finally:
        run(["gpgconf", "--homedir", home, "--kill", "all"])
