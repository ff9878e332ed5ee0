"""The box's root: an overlay over the base image, and what this machine lends it."""

from __future__ import annotations

import configparser
import os
import shutil
from pathlib import Path

from virtual_rig import paths, ssh
from virtual_rig.command import run
from virtual_rig.scenario import Scenario

_CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
_LOCAL_CERTIFICATES = Path("usr/local/share/ca-certificates")
_PIP_CONFIGURATIONS = ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")
_PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_ARCHIVES = Path("var/cache/apt/archives")
_DISPLAY_MANAGER = """\
[Unit]
Description=Display manager (the virtual rig's stand-in: it shows nothing and holds the card)

[Service]
ExecStart=/bin/sleep infinity

[Install]
Alias=display-manager.service
"""


def mount(folder: Path, image: Path, suite: str) -> None:
    """Mount a throw-away disk over the image, with what earlier boxes downloaded on it."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(exist_ok=True)
    lend_archives(folder, suite)
    options = f"lowerdir={image},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    run(["mount", "-t", "overlay", "overlay", "-o", options, folder / "root"])


def prepare(root: Path, name: str, scenario: Scenario) -> None:
    """Make the image this box: its name, who may log in, how it reaches the outside."""
    (root / "etc/hostname").write_text(f"{name}\n", encoding="ascii")
    hosts = f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n"
    (root / "etc/hosts").write_text(hosts, encoding="ascii")
    (root / "etc/machine-id").write_text("", encoding="ascii")
    ssh.authorize(root)
    _lend_name_servers(root)
    _lend_certificates(root)
    _lend_pip_configuration(root)
    if any(process.kind == "graphics" for card in scenario.gpus for process in card.processes):
        _install_display_manager(root)


def lend_archives(folder: Path, suite: str) -> None:
    """Give a box the packages that earlier boxes downloaded (hard links: no room, no time)."""
    archives = folder / "upper" / _ARCHIVES
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    _link_packages(_archive_cache(suite), archives)


def keep_archives(folder: Path, suite: str) -> None:
    """Keep what this box downloaded for the next one. apt moves only complete files here."""
    _link_packages(folder / "upper" / _ARCHIVES, _archive_cache(suite))


def _archive_cache(suite: str) -> Path:
    cache = paths.cache() / "archives" / suite
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _link_packages(source: Path, target: Path) -> None:
    for package in source.glob("*.deb"):
        there = target / package.name
        if there.exists() or not package.is_file():
            continue
        try:
            os.link(package, there)
        except FileExistsError:
            continue
        except OSError:
            shutil.copy2(package, there)


def _lend_name_servers(root: Path) -> None:
    """This machine's name servers; those behind a stub resolver, which no box can reach."""
    own = Path("/etc/resolv.conf").read_text(encoding="utf-8")
    behind = Path("/run/systemd/resolve/resolv.conf")
    text = behind.read_text(encoding="utf-8") if "127.0.0.53" in own and behind.exists() else own
    target = root / "etc/resolv.conf"
    target.unlink(missing_ok=True)
    target.write_text(text, encoding="utf-8")


def _lend_certificates(root: Path) -> None:
    """The authorities that this machine trusts, also after update-ca-certificates in the box."""
    bundle = "/" / _CERTIFICATES
    if bundle.exists():
        shutil.copyfile(bundle, root / _CERTIFICATES)
    local = "/" / _LOCAL_CERTIFICATES
    for certificate in local.glob("*.crt") if local.is_dir() else ():
        shutil.copyfile(certificate, root / _LOCAL_CERTIFICATES / certificate.name)


def _lend_pip_configuration(root: Path) -> None:
    """This machine's pip settings that mean something elsewhere: addresses, not files."""
    own = configparser.RawConfigParser()
    own.read([os.path.expanduser(path) for path in _PIP_CONFIGURATIONS])
    lent = {}
    for option in _PIP_OPTIONS:
        words = own.get("global", option, fallback="").split()
        reachable = [word for word in words if not word.startswith(("file:", "/"))]
        if reachable:
            lent[option] = " ".join(reachable)
    lines = [f"{option} = {value}" for option, value in lent.items()]
    text = "\n".join(["[global]", f"cert = /{_CERTIFICATES}", *lines]) + "\n"
    (root / "etc/pip.conf").write_text(text, encoding="utf-8")


def _install_display_manager(root: Path) -> None:
    """A rig whose snapshot shows a desktop gets what starts one, to be found and turned off."""
    unit = root / "usr/lib/systemd/system/gdm.service"
    unit.write_text(_DISPLAY_MANAGER, encoding="ascii")
    (root / "etc/systemd/system/display-manager.service").symlink_to(
        "/lib/systemd/system/gdm.service"
    )
