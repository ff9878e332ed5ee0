"""The mirror's apt repository: whole, signed, and its dependencies within it or Debian's."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from virtual_rig.mirror import apt
from virtual_rig.mirror.packages import PACKAGES


@pytest.fixture(scope="module")
def repository() -> Path:
    """Built once for all tests, in the cache that boxes use."""
    return apt.repository()


def test_the_index_names_every_package_as_it_is(repository: Path) -> None:
    stanzas = (repository / "Packages").read_text().strip().split("\n\n")
    assert len(stanzas) == len(PACKAGES)
    for stanza in stanzas:
        fields = dict(re.findall(r"^([\w-]+): (.*)$", stanza, re.MULTILINE))
        content = (repository / fields["Filename"]).read_bytes()
        assert fields["SHA256"] == hashlib.sha256(content).hexdigest()
        assert fields["Size"] == str(len(content))


def test_the_release_names_the_index(repository: Path) -> None:
    release = (repository / "Release").read_text()
    for name in ("Packages", "Packages.gz"):
        digest = hashlib.sha256((repository / name).read_bytes()).hexdigest()
        assert re.search(rf"^ {digest} \d+ {re.escape(name)}$", release, re.MULTILINE)


def test_the_signature_is_good(repository: Path, tmp_path: Path) -> None:
    binary = tmp_path / "key.gpg"
    armored = (repository / "key.asc").read_bytes()
    dearmored = subprocess.run(["gpg", "--dearmor"], input=armored, check=True, capture_output=True)
    binary.write_bytes(dearmored.stdout)
    subprocess.run(
        ["gpgv", "--keyring", binary, repository / "InRelease"], check=True, capture_output=True
    )


def test_dependencies_are_here_or_debian_s() -> None:
    ours = {package.name for package in PACKAGES}
    ours |= {package.fields["Provides"] for package in PACKAGES if "Provides" in package.fields}
    for package in PACKAGES:
        for words in filter(None, package.fields.get("Depends", "").split(", ")):
            assert words.split()[0] in ours | {"dkms", "libc6"}


def test_a_second_build_is_the_first(repository: Path) -> None:
    before = (repository / "InRelease").stat().st_mtime_ns
    assert apt.repository() == repository
    assert (repository / "InRelease").stat().st_mtime_ns == before
