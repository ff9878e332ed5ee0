"""The whole way, as somebody meets it: a clone, one command, an answered chat, and what follows."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from tests.e2e.clone import UP_SECONDS, WARM_UP_SECONDS, Clone, Newcomer

pytestmark = [pytest.mark.box, pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(1200)]

RELOAD_SECONDS = 240


def await_true(what: str, probe: Callable[[], object], seconds: float = RELOAD_SECONDS) -> Any:
    """The first true answer of `probe`; fails, saying what was awaited, when time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := probe():
            return found
    pytest.fail(f"not within {seconds} s: {what}")


def tiny(clone: Clone) -> dict[str, Any]:
    """The status of the one model, once it is ready."""

    def ready() -> dict[str, Any] | None:
        models = clone.status().get("models", [])
        return next((dict(m) for m in models if m["phase"] == "ready"), None)

    model: dict[str, Any] = await_true("the model is ready", ready)
    return model


def client(newcomer: Newcomer) -> openai.OpenAI:
    """The real client library, with the address and key that `./rig up` left."""
    line = next(x for x in newcomer.output.splitlines() if x.startswith("try"))
    words = line.split()
    url = urlsplit(next(word for word in words if word.startswith("http")))
    header = next((Path(word[1:]) for word in words if word.startswith("@")), None)
    key = header.read_text().split()[-1] if header else "none"
    return openai.OpenAI(base_url=f"http://{url.netloc}/v1", api_key=key, max_retries=0)


def ask(newcomer: Newcomer) -> str:
    """One short chat."""
    answer = client(newcomer).chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hello"}], max_tokens=8
    )
    return answer.choices[0].message.content or ""


def test_up_ends_with_plan_gateway_answer_and_a_line_to_try(newcomer: Newcomer) -> None:
    for word in ("RTX 3060", "RTX 3080", "used", "spare", "gateway", "http://10.77."):
        assert word in newcomer.output
    answer = next(x for x in newcomer.output.splitlines() if x.startswith("tiny "))
    assert len(answer.removeprefix("tiny").strip(" '")) > 0
    assert newcomer.seconds < UP_SECONDS


def test_the_curl_line_works_as_printed(newcomer: Newcomer) -> None:
    line = next(x for x in newcomer.output.splitlines() if x.startswith("try"))
    tiny(newcomer.clone)
    done = subprocess.run(
        ["bash", "-c", f"{line.removeprefix('try').strip()} --silent --fail"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["role"] == "assistant"


def test_without_the_key_nothing_is_served(newcomer: Newcomer) -> None:
    keyless = client(newcomer).with_options(api_key="wrong")
    with pytest.raises(openai.AuthenticationError):
        keyless.models.list()


def test_status_names_ranks_and_cards(newcomer: Newcomer) -> None:
    model = tiny(newcomer.clone)
    assert model["plan"]["tensor_parallel_size"] == 2
    assert [rank["uuid"] for rank in model["ranks"]] == model["plan"]["gpu_set"]
    processes = newcomer.clone.on_rig(
        "cat " + " ".join(f"/proc/{rank['pid']}/comm" for rank in model["ranks"])
    )
    assert processes.stdout.split() == ["VLLM::Worker_TP"] * 2


def test_up_again_is_quick_and_changes_nothing(newcomer: Newcomer) -> None:
    before = tiny(newcomer.clone)
    started = time.monotonic()
    done = newcomer.clone.run("./rig", "up", timeout_seconds=WARM_UP_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    assert time.monotonic() - started < WARM_UP_SECONDS
    assert "[rig] No changes" in done.stdout + done.stderr
    assert "[rig] Success" not in done.stdout + done.stderr
    after = tiny(newcomer.clone)
    assert after["pids"] == before["pids"]


def kill_in_mid_stream(newcomer: Newcomer) -> bool:
    """Whether the client was told; not where the last token had left before the rank died."""
    model = tiny(newcomer.clone)
    with newcomer.clone.armed(f"kill -KILL {model['ranks'][1]['pid']}") as kill:
        stream = client(newcomer).chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "count"}],
            max_tokens=1900,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        finished = False
        try:
            for number, chunk in enumerate(stream):
                if number == 3:
                    kill.communicate("now\n")
                finished = finished or bool(chunk.choices and chunk.choices[0].finish_reason)
        except openai.APIError:
            return True
        assert finished, "the stream ended in silence"
    return False


def test_a_killed_rank_is_told_to_the_client_and_the_next_request_is_served(
    newcomer: Newcomer,
) -> None:
    before = tiny(newcomer.clone)
    # On a busy machine all tokens may be on their way before the kill is: then once more.
    for _ in range(4):
        told = kill_in_mid_stream(newcomer)
        assert ask_when_ready(newcomer)
        if told:
            break
    assert told
    assert tiny(newcomer.clone)["pids"] != before["pids"]


def ask_when_ready(newcomer: Newcomer) -> bool:
    """A request sent while the engine restarts waits for it, or is refused for now."""

    def served() -> bool:
        try:
            ask(newcomer)
        except (openai.APIStatusError, openai.APIConnectionError):
            return False
        return True

    return bool(await_true("a chat is answered", served))


def test_after_a_reboot_the_service_is_active_and_answers(newcomer: Newcomer) -> None:
    tiny(newcomer.clone)
    boot = newcomer.clone.on_rig("cat /proc/sys/kernel/random/boot_id; cat /proc/1/stat").stdout
    newcomer.clone.on_rig("systemctl reboot")

    def rebooted() -> bool:
        done = newcomer.clone.on_rig("cat /proc/sys/kernel/random/boot_id; cat /proc/1/stat")
        return done.returncode == 0 and done.stdout != boot

    await_true("the rig has rebooted", rebooted)
    await_true(
        "the service is active",
        lambda: newcomer.clone.on_rig("systemctl is-active rig-runtime").stdout.strip() == "active",
    )
    assert ask_when_ready(newcomer)


def test_stopped_it_leaves_no_process_and_no_shared_memory(newcomer: Newcomer) -> None:
    clone = newcomer.clone
    tiny(clone)
    assert clone.on_rig("ls /dev/shm").stdout.strip()
    clone.on_rig("systemctl stop rig-runtime")
    owned = clone.on_rig("find /proc -maxdepth 1 -user rig-runtime").stdout
    shared = clone.on_rig("ls /dev/shm").stdout
    clone.on_rig("systemctl start rig-runtime")
    assert (owned.strip(), shared.strip()) == ("", "")


def test_after_a_swap_the_deploy_converges_and_says_what_the_plan_changes(
    newcomer: Newcomer,
) -> None:
    clone = newcomer.clone
    out = tiny(clone)["plan"]["gpu_set"][0]
    try:
        clone.python("-m", "virtual_rig", "cards", "rig", "take-out", out)
        swapped = clone.run("./rig", "up")
        assert swapped.returncode == 0, swapped.stderr[-4000:]
        assert out in swapped.stdout + swapped.stderr
        assert out not in tiny(clone)["plan"]["gpu_set"]
    finally:
        clone.python("-m", "virtual_rig", "cards", "rig", "put-in", out)
        clone.run("./rig", "up")
    assert out in tiny(clone)["plan"]["gpu_set"]
