"""What is put on a host: configuration, key, wheels, lock files, the unit."""

from __future__ import annotations

import io
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.hosts import host_list_problems
from tasks.installation import KEYS, configuration, configuration_problems
from tasks.keys import api_key, key_folder, key_line
from tasks.locks import CHECKOUT, PYTHONS, RUNTIME_LOCK, metadata_wheel, vllm_locks
from tasks.templates import render
from tasks.wishes import Wishes

MODEL = {"name": "tiny", "path": "/var/lib/rig-runtime/models/tiny", "tiny": True}


def test_configuration_has_what_the_inventory_states() -> None:
    wishes = Wishes.model_validate(
        {"models": [{**MODEL, "tensor_parallel_size": 2}], "gateway": {"host": "0.0.0.0"}}
    )
    assert tomllib.loads(configuration(wishes, "cpu")) == {
        "gateway": {"api_keys_file": KEYS, "host": "0.0.0.0"},
        "engines": {"vllm": {"build": "cpu"}},
        "models": [{"name": "tiny", "path": MODEL["path"], "tensor_parallel_size": 2}],
    }


def test_power_supplies_of_the_inventory_are_the_runtimes() -> None:
    supply = {"name": "left", "watts": 650, "cards": ["GPU-1", "GPU-2"], "other_watts": None}
    wishes = Wishes.model_validate({"models": [MODEL], "rig": {"power_supplies": [supply]}})
    text = configuration(wishes, "cpu")
    assert tomllib.loads(text)["rig"]["power_supplies"] == [
        {"name": "left", "watts": 650, "cards": ["GPU-1", "GPU-2"]}
    ]
    assert configuration_problems(text) == []


def test_without_an_engine_there_is_no_section_for_it() -> None:
    assert "engines" not in tomllib.loads(configuration(Wishes(), None))


NAMES = st.text(min_size=1)
VALUES = st.recursive(
    st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1), st.booleans()),
    lambda values: st.lists(values) | st.dictionaries(NAMES, values),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, VALUES, min_size=1), st.lists(st.dictionaries(NAMES, VALUES)))
def test_any_values_survive_the_template(
    section: dict[str, Any], models: list[dict[str, Any]]
) -> None:
    text = render("config.toml", sections={"rig": section}, models=models)
    read = tomllib.loads(text)
    assert read["rig"] == section
    assert read.get("models", []) == models


def test_the_runtime_checks_its_configuration() -> None:
    good = Wishes.model_validate({"models": [MODEL]})
    assert configuration_problems(configuration(good, "cpu")) == []
    bad = Wishes.model_validate({"models": [MODEL], "gateway": {"prot": 1}})
    (problem,) = configuration_problems(configuration(bad, "cpu"))
    assert "gateway.prot" in str(problem)
    assert "/etc/rig-runtime/config.toml" in str(problem)


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "rig1"
    key = api_key(folder)
    assert api_key(folder) == key
    assert stat.S_IMODE((folder / "api-key").stat().st_mode) == 0o600
    assert (folder / "api-key.header").read_text() == f"Authorization: Bearer {key}\n"
    assert key not in key_line(key)
    name, digest = key_line(key).split()
    assert (name, len(digest)) == ("rig", 64)


def test_keys_of_virtual_rigs_go_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/a/.config")
    assert key_folder("rig", "/state/rig/known_hosts") == Path("/state/rig")
    assert key_folder("@ssh/rig1.lan", None) == Path("/home/a/.config/rig/@ssh_rig1.lan")


def test_metadata_wheel_is_installable(tmp_path: Path) -> None:
    name, content = metadata_wheel("vllm", "0.32.0+cpu")
    assert (name, content) == metadata_wheel("vllm", "0.32.0+cpu")
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    (tmp_path / name).write_bytes(content)
    target = tmp_path / "site"
    uv = str(Path(sys.executable).parent / "uv")
    words = ["--quiet", "--offline", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([uv, "pip", "install", *words, str(tmp_path / name)], check=True)
    asked = "from importlib.metadata import version; print(version('vllm'))"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={"PYTHONPATH": str(target)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "0.32.0+cpu"


def test_the_runtimes_lock_is_that_of_the_workspace() -> None:
    uv = Path(sys.executable).parent / "uv"
    words = "export --package rig-runtime --no-emit-workspace --format requirements-txt --frozen"
    exported = subprocess.run(
        [str(uv), *words.split(), "--offline", "--no-header", "--no-annotate", "--quiet"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert exported == RUNTIME_LOCK.read_text(), f"uv {words} … -o {RUNTIME_LOCK}"


def test_vllm_is_locked_for_cards_on_every_distribution() -> None:
    assert {f"cuda on Python {python}" for python in PYTHONS.values()} <= set(vllm_locks())


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_lock_files_are_hashed(build: str) -> None:
    for path in RUNTIME_LOCK.parent.glob(f"vllm-{build}-py*.txt"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        pinned = [line for line in lines if "==" in line]
        assert pinned
        assert all(line.endswith("\\") for line in pinned)
        assert not any("never" in line for line in lines)


@given(st.text("0123456789abcdef", min_size=16, max_size=16))
@settings(max_examples=5)
def test_the_unit_carries_the_digest_that_a_restart_is_decided_by(digest: str) -> None:
    assert f"\nEnvironment=RIG_DIGEST={digest}\n" in render("rig-runtime.service", digest=digest)


@pytest.mark.skipif(
    subprocess.run(["which", "systemd-analyze"], capture_output=True).returncode != 0,
    reason="needs systemd-analyze",
)
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "rig-runtime.service"
    text = render("rig-runtime.service", digest="0" * 16)
    unit.write_text(text.replace("/opt/rig/runtime/current/bin/rig-runtime", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "rig-runtime" in line]
    assert said == []


def test_hosts_are_checked_before_anything_connects(tmp_path: Path) -> None:
    key = tmp_path / "key"
    (none,) = host_list_problems([])
    assert "./rig up" in str(none)
    (missing,) = host_list_problems(["a", ("b", {"ssh_key": str(key)}), ("c", {})])
    assert "the SSH key of b must exist" in str(missing)
    key.touch()
    assert host_list_problems([("b", {"ssh_key": str(key)})]) == []
