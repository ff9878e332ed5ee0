"""The APIs that an engine serves itself, through the gateway, with the APIs' own clients."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from rig_runtime.gateway.apis import FORWARDED, Api
from rig_runtime.gateway.errors import event
from rig_runtime.gateway.events import WholeEvents

ASKED: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def address(make_service: Any, stand_in: Any) -> str:
    service = make_service()
    service.start()
    found: str = service.address
    return found


@pytest.fixture
def anthropic_client(address: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=address, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def openai_client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_anthropics_messages(anthropic_client: anthropic.Anthropic) -> None:
    client = anthropic_client.messages
    whole = client.create(model="tiny", max_tokens=5, messages=ASKED)
    assert [block.text for block in whole.content if block.type == "text"] == ["a whole answer"]
    with client.stream(model="tiny", max_tokens=5, messages=ASKED) as stream:
        assert "".join(stream.text_stream) == "0 1 2 "
    assert client.count_tokens(model="tiny", messages=ASKED).input_tokens == 7
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.create(model="none", max_tokens=5, messages=ASKED)
    assert caught.value.response.json()["error"]["type"] == "not_found_error"


def test_openais_responses_and_embeddings(openai_client: openai.OpenAI) -> None:
    whole = openai_client.responses.create(model="tiny", input="Hi")
    assert whole.output_text == "a whole answer"
    stream = openai_client.responses.create(model="tiny", input="Hi", stream=True)
    kinds = [each.type for each in stream]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    made = openai_client.embeddings.create(model="tiny", input="Hi", encoding_format="float")
    assert made.data[0].embedding == [0.5, 0.25]


def test_a_death_in_mid_stream_is_an_error_to_anthropics_client(
    make_service: Any, stand_in: Any
) -> None:
    stand_in.manners(die_after_chunks=1)
    service = make_service()
    service.start()
    with (
        anthropic.Anthropic(base_url=service.address, api_key="none", max_retries=0) as client,
        pytest.raises(anthropic.APIError, match="ended before its answer did"),
        client.messages.stream(model="tiny", max_tokens=5, messages=ASKED) as stream,
    ):
        list(stream.text_stream)


@pytest.mark.parametrize("manners", [{"die_after_chunks": 1}, {"skip_done": True}])
def test_a_response_without_its_end_is_an_error_to_openais_client(
    make_service: Any, stand_in: Any, manners: dict[str, object]
) -> None:
    stand_in.manners(**manners)
    service = make_service()
    service.start()
    with openai.OpenAI(base_url=f"{service.address}/v1", api_key="none", max_retries=0) as client:
        stream = client.responses.create(model="tiny", input="Hi", stream=True)
        with pytest.raises(openai.APIError, match="ended before its answer did"):
            list(stream)


def test_what_an_engine_lacks_is_told(make_service: Any, stand_in: Any) -> None:
    stand_in.manners(unknown_paths=["/v1/embeddings", "/v1/messages"])
    service = make_service()
    service.start()
    with (
        openai.OpenAI(base_url=f"{service.address}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.APIStatusError, match="cannot be asked at /v1/embeddings") as caught,
    ):
        client.embeddings.create(model="tiny", input="Hi")
    assert caught.value.status_code == 501
    with (
        anthropic.Anthropic(base_url=service.address, api_key="none", max_retries=0) as other,
        pytest.raises(anthropic.APIStatusError, match="cannot be asked") as told,
    ):
        other.messages.create(model="tiny", max_tokens=5, messages=ASKED)
    assert told.value.response.json()["type"] == "error"


def test_anthropics_clients_send_their_key_their_way(make_service: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice {hashlib.sha256(b'right').hexdigest()}\n")
    service = make_service(f'api_keys_file = "{keys}"')
    service.start()
    for key, is_right in [("right", True), ("wrong", False)]:
        with anthropic.Anthropic(base_url=service.address, api_key=key, max_retries=0) as client:
            if is_right:
                assert client.messages.create(model="tiny", max_tokens=5, messages=ASKED).content
            else:
                with pytest.raises(anthropic.AuthenticationError, match="valid API key"):
                    client.messages.create(model="tiny", max_tokens=5, messages=ASKED)
    assert "right" not in service.log()


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("api", {api.shape: api for api in FORWARDED.values()}.values())
def test_each_apis_marks(api: Api, line_end: bytes) -> None:
    blank = line_end * 2
    for mark in api.ends:
        events = WholeEvents(api)
        events.feed(b"data: {}" + blank)
        assert not events.is_complete
        events.feed(mark + line_end + b"data: {}" + blank if mark[:1] == b"e" else mark + blank)
        assert events.is_complete
    told = WholeEvents(api)
    told.feed(event("engine_died", "why", api))
    assert told.has_error


def test_text_that_reads_like_a_mark_is_text() -> None:
    for api in FORWARDED.values():
        events = WholeEvents(api)
        events.feed(b'data: {"text": "event: message_stop data: [DONE] event: error"}\n\n')
        assert (events.is_complete, events.has_error) == (False, False)
