"""`rig-runtime serve` as a process, over the stand-in: what clients and systemd see of it."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from rig_runtime.service import free_port

CHAT = "/v1/chat/completions"
Until = Callable[[Callable[[], Any], str], Any]


def chat(**more: object) -> dict[str, object]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], **more}


def events(text: str) -> list[Any]:
    """The data of each server-sent event; [DONE] as that word."""
    data = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


@pytest.fixture
def service(make_service: Any) -> Any:
    """A service that has just been started; the model may still be loading."""
    made = make_service()
    made.start()
    return made


@pytest.fixture
def client(service: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.address, timeout=30) as client:
        yield client


def test_a_day_in_its_life(
    service: Any,
    client: httpx.Client,
    stand_in: Any,
    own_shared_files: Callable[[], set[str]],
) -> None:
    """One service for all that does not break it, because each start takes a second."""
    whole = client.post(CHAT, json=chat(temperature=0.5), headers={"x-request-id": "my-1"})
    assert whole.status_code == 200
    assert whole.headers["x-request-id"] == "my-1"
    assert whole.json()["choices"][0]["message"]["content"] == "a whole answer"
    assert whole.json()["seen"] == {"request_id": "my-1", "body": chat(temperature=0.5)}

    streamed = client.post(CHAT, json=chat(stream=True))
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert [e if e == "[DONE]" else e["choices"][0]["text"] for e in events(streamed.text)] == [
        "0 ",
        "1 ",
        "2 ",
        "[DONE]",
    ]
    assert client.post("/v1/completions", json={"model": "tiny", "prompt": "a"}).is_success
    assert client.get("/ready").json() == {"ready": True, "models": {"tiny": "ready"}}

    (listed,) = client.get("/v1/models").json()["data"]
    assert (listed["id"], listed["max_model_len"]) == ("tiny", 2048)
    assert client.get("/v1/models/tiny").json()["id"] == "tiny"

    model = service.until_phase("ready")
    assert [rank["rank"] for rank in model["ranks"]] == [0, 1]
    assert [rank["uuid"] for rank in model["ranks"]] == model["plan"]["gpu_set"]
    assert all(rank["pid"] in model["pids"] for rank in model["ranks"])
    used = [card["uuid"] for card in service.status()["cards"] if card["models"] == ["tiny"]]
    assert sorted(used) == sorted(model["plan"]["gpu_set"])

    assert service.stop() == 0
    assert service.engine_processes() == []
    assert own_shared_files() == set()
    assert "a whole answer" not in service.log()
    assert '"content"' not in service.log()
    assert not (service.directory / "run" / "control.sock").exists()


ERRORS = [
    ("POST", CHAT, b"{", 400, "invalid_body"),
    ("POST", CHAT, b"", 400, "invalid_body"),
    ("POST", CHAT, b"[1]", 400, "invalid_body"),
    ("POST", CHAT, b'{"model": 1}', 400, "invalid_body"),
    ("POST", CHAT, b"[" * 100_000, 400, "invalid_body"),
    ("POST", CHAT, b'{"model": "gpt-4"}', 404, "model_not_found"),
    ("GET", "/v1/models/none", None, 404, "model_not_found"),
    ("GET", CHAT, None, 405, "method_not_allowed"),
    ("GET", "/nothing", None, 404, "not_found"),
    ("POST", CHAT, b"x" * (1 << 20), 413, "body_too_large"),
]


def test_errors_have_one_shape(make_service: Any) -> None:
    service = make_service("max_body_bytes = 200000")
    service.start()
    with httpx.Client(base_url=service.address) as client:
        for method, path, body, status, code in ERRORS:
            response = client.request(method, path, content=body)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (status, code)
            assert error["source"] == response.headers["x-rig-error-source"] == "gateway"
            assert error["message"]
            assert response.headers["x-request-id"]
    assert "Traceback" not in service.log()


def test_an_engine_s_own_error_passes_and_says_whose_it_is(
    make_service: Any, stand_in: Any
) -> None:
    stand_in.manners(chat_status=422)
    service = make_service()
    service.start()
    response = httpx.post(service.address + CHAT, json=chat(), timeout=30)
    assert response.status_code == 422
    assert response.headers["x-rig-error-source"] == "engine"
    assert response.json()["object"] == "chat.completion"


def test_keys(make_service: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice {hashlib.sha256(b'right').hexdigest()}\n")
    service = make_service(f'api_keys_file = "{keys}"')
    service.start()
    with httpx.Client(base_url=service.address) as client:
        for header, status in [
            ({}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            ({"authorization": "Basic right"}, 401),
            ({"authorization": "right"}, 401),
            ({"authorization": "bearer right"}, 200),
        ]:
            assert client.get("/v1/models", headers=header).status_code == status
        assert client.post(CHAT, json=chat()).status_code == 401
        assert client.get("/health").status_code == 200
    assert '"key": "alice"' in service.log()
    assert "right" not in service.log()


@pytest.mark.parametrize("victim", ["api server", "worker"])
def test_a_death_in_mid_stream_is_told_and_mended(
    service: Any, client: httpx.Client, stand_in: Any, victim: str
) -> None:
    stand_in.manners(chunks=1000, chunk_seconds=0.05)
    service.stop()
    service.start()
    ranks = service.until_phase("ready")["ranks"]
    with client.stream("POST", CHAT, json=chat(stream=True)) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        pid = stand_in.starts()[-1] if victim == "api server" else ranks[1]["pid"]
        os.kill(pid, signal.SIGKILL)
        *_, last = [line for line in lines if line]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_died"
    stand_in.manners()
    assert client.post(CHAT, json=chat()).status_code == 200
    assert len(stand_in.starts()) >= 2


@pytest.mark.parametrize("manners", [{"die_after_chunks": 1}, {"skip_done": True}])
def test_a_stream_without_its_end_gets_an_error_event(
    make_service: Any, stand_in: Any, manners: dict[str, object]
) -> None:
    stand_in.manners(**manners)
    service = make_service()
    service.start()
    answer = httpx.post(service.address + CHAT, json=chat(stream=True), timeout=30)
    *_, last = events(answer.text)
    assert last["error"]["source"] == "engine"
    with (
        openai.OpenAI(base_url=f"{service.address}/v1", api_key="x", max_retries=0) as client,
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Hi"}], stream=True
        ) as stream,
        pytest.raises(openai.APIError, match="The engine of tiny"),
    ):
        list(stream)


@pytest.mark.parametrize("answer_first", [False, True])
def test_a_request_that_finds_a_dying_engine_gets_the_next_one(
    make_service: Any, stand_in: Any, answer_first: bool
) -> None:
    service = make_service()
    service.start()
    service.until_phase("ready")
    (stand_in.model / "deaths").write_text("1")
    with httpx.Client(base_url=service.address, timeout=30) as client:
        answer = client.post(CHAT, json=chat(answer_first=answer_first))
    assert answer.status_code == 200
    assert len(stand_in.starts()) == 2


def test_a_request_that_kills_every_engine_is_given_up(make_service: Any, stand_in: Any) -> None:
    service = make_service()
    service.start()
    service.until_phase("ready")
    (stand_in.model / "deaths").write_text("100")
    with httpx.Client(base_url=service.address, timeout=30) as client:
        for starts in (2, 4):
            answer = client.post(CHAT, json=chat())
            assert answer.status_code == 502
            assert answer.json()["error"]["code"] == "engine_died"
            assert answer.headers["retry-after"]
            assert len(stand_in.starts()) in (starts, starts + 1)
        (stand_in.model / "deaths").unlink()
        assert client.post(CHAT, json=chat()).status_code == 200


def test_a_client_that_leaves_cancels_its_work(
    make_service: Any, stand_in: Any, until: Until
) -> None:
    stand_in.manners(chunks=1000, chunk_seconds=0.05)
    service = make_service()
    service.start()
    with httpx.stream("POST", service.address + CHAT, json=chat(stream=True)) as response:
        next(response.iter_lines())
    until((stand_in.model / "cancelled").exists, "the cancelled work")
    assert service.model()["requests_running"] == 0
    assert '"status": 499' in service.log() or '"status": 200' in service.log()


def test_three_deaths_in_a_row_end_in_a_clear_state(make_service: Any, stand_in: Any) -> None:
    stand_in.manners(say=["torch.OutOfMemoryError: CUDA out of memory."], exit=1)
    service = make_service()
    service.start()
    with httpx.Client(base_url=service.address, timeout=30) as client:
        waited = client.post(CHAT, json=chat())
        assert waited.status_code == 503
        error = waited.json()["error"]
        assert (error["code"], error["source"]) == ("model_failed", "engine")
        assert "A card ran out of memory: torch.OutOfMemoryError" in error["message"]
        assert "retry-after" not in waited.headers
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
    assert len(stand_in.starts()) == 3
    status = subprocess.run(
        [sys.executable, "-m", "rig_runtime", "status", "--config", str(service.config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert status.returncode == 1
    assert "failed" in status.stdout
    assert service.stop() == 0


def test_a_hopeless_start_is_not_repeated(make_service: Any, stand_in: Any) -> None:
    stand_in.manners(say=["ValueError: no such flag"], exit=1)
    service = make_service()
    service.start()
    service.until_phase("failed")
    assert len(stand_in.starts()) == 1


def test_the_queue_is_bounded_and_has_a_deadline(make_service: Any, stand_in: Any) -> None:
    stand_in.manners(start_seconds=60)
    service = make_service("queue_limit = 2\nqueue_timeout_seconds = 1.5")
    service.start()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(
            pool.map(
                lambda _: httpx.post(service.address + CHAT, json=chat(), timeout=30), range(5)
            )
        )
    codes = sorted(answer.json()["error"]["code"] for answer in answers)
    assert codes == ["queue_full"] * 3 + ["queue_timeout"] * 2
    assert all(answer.headers["retry-after"] for answer in answers)
    assert service.stop() == 0
    assert service.engine_processes() == []


def test_many_wait_for_a_start_and_all_are_answered(make_service: Any, stand_in: Any) -> None:
    stand_in.manners(start_seconds=1.0)
    service = make_service()
    service.start()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(
                lambda _: httpx.post(service.address + CHAT, json=chat(), timeout=30).status_code,
                range(50),
            )
        )
    assert answers == [200] * 50
    assert len(stand_in.starts()) == 1


def test_stop_lets_a_running_stream_finish(make_service: Any, stand_in: Any) -> None:
    stand_in.manners(chunks=20, chunk_seconds=0.05)
    service = make_service()
    service.start()
    with httpx.stream("POST", service.address + CHAT, json=chat(stream=True)) as response:
        lines = response.iter_lines()
        next(lines)
        service.process.send_signal(signal.SIGTERM)
        *_, last = [line for line in lines if line]
    assert last == "data: [DONE]"
    assert service.process.wait(10) == 0


def test_stop_cuts_a_stream_that_takes_too_long_and_says_so(
    make_service: Any, stand_in: Any
) -> None:
    stand_in.manners(chunks=10_000, chunk_seconds=0.05)
    service = make_service("drain_timeout_seconds = 0.5")
    service.start()
    with httpx.stream("POST", service.address + CHAT, json=chat(stream=True)) as response:
        lines = response.iter_lines()
        next(lines)
        service.process.send_signal(signal.SIGTERM)
        *_, last = [line for line in lines if line]
    assert "engine_died" in last
    assert service.process.wait(15) == 0
    assert service.engine_processes() == []


def test_while_it_drains_new_requests_are_sent_away(
    make_service: Any, stand_in: Any, until: Until
) -> None:
    stand_in.manners(chunks=60, chunk_seconds=0.05)
    service = make_service()
    service.start()
    with httpx.stream("POST", service.address + CHAT, json=chat(stream=True)) as response:
        lines = response.iter_lines()
        next(lines)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.model()["phase"] == "draining", "the drain")
        refused = httpx.post(service.address + CHAT, json=chat())
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "stopping"
        *_, last = [line for line in lines if line]
    assert last == "data: [DONE]"


def test_stop_during_a_load(make_service: Any, stand_in: Any, until: Until) -> None:
    stand_in.manners(start_seconds=60)
    service = make_service()
    service.start()
    until(stand_in.starts, "the engine's start")
    started = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - started < 10
    assert service.engine_processes() == []


def test_after_a_kill_the_next_service_sweeps(
    make_service: Any, stand_in: Any, own_shared_files: Callable[[], set[str]]
) -> None:
    service = make_service()
    service.start()
    service.until_phase("ready")
    service.process.kill()
    service.process.wait()
    old = {process.pid for process in service.engine_processes()}
    assert len(old) == 3
    service.start()
    assert not old & {process.pid for process in service.engine_processes()}
    assert "ended 3 processes" in service.log()
    assert service.stop() == 0
    assert own_shared_files() == set()


def test_systemd_is_told(make_service: Any, tmp_path: Path) -> None:
    service = make_service()
    messages: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(30)

        def read_until(start: str) -> None:
            while not messages or not messages[-1].startswith(start):
                messages.append(notified.recv(4096).decode())

        service.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")
        read_until("STATUS=tiny ready")
        read_until("WATCHDOG=1")
        service.process.send_signal(signal.SIGTERM)
        read_until("STOPPING=1")
        assert service.process.wait(20) == 0
    assert messages[0].startswith("READY=1\n")


def serve_once(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rig_runtime", "serve", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_taken_port_is_one_message(make_service: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = make_service(port=taken.getsockname()[1])
        done = serve_once(*service.arguments)
    assert done.returncode == 2
    assert "Another process listens there" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_only_one_service_a_directory(make_service: Any) -> None:
    service = make_service()
    service.start()
    text = service.config.read_text()
    other = service.config.with_name("other.toml")
    other.write_text(text.replace(service.address.rpartition(":")[2], str(free_port())))
    done = serve_once("--config", str(other), *service.arguments[2:])
    assert done.returncode == 2
    assert "Only one rig-runtime may serve" in done.stderr
    assert service.model()["phase"] in ("starting", "ready")


@pytest.mark.parametrize(
    ("rig", "change", "status", "said"),
    [
        ("no-cards.json", ('"cpu"', '"cuda"'), 3, "card"),
        ("reference.json", ('/venv"', '/nothing"'), 1, "vLLM is needed"),
        ("reference.json", ("[engines.vllm]", "[engines.none]"), 2, "engines.none"),
        ("reference.json", ('/model"', '/missing"'), 2, "missing"),
        ("reference.json", ("tensor_parallel_size = 2", "tensor_parallel_size = 3"), 3, "3"),
        ("reference.json", ("[gateway]", '[gateway]\nhost = "0.0.0.0"'), 2, "api_keys_file"),
        (
            "reference.json",
            ("[gateway]", '[gateway]\nhost = "192.0.2.1"\napi_keys_file = "K"'),
            2,
            "192.0.2.1",
        ),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(
    make_service: Any,
    stand_in: Any,
    rigs: Path,
    tmp_path: Path,
    rig: str,
    change: tuple[str, str],
    status: int,
    said: str,
) -> None:
    (tmp_path / "keys").write_text(f"a {'0' * 64}\n")
    service = make_service()
    text = service.config.read_text().replace(*change)
    service.config.write_text(text.replace('"K"', f'"{tmp_path}/keys"'))
    done = serve_once("--config", str(service.config), "--rig", str(rigs / rig))
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert stand_in.starts() == []


def test_status_without_a_service_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rig_runtime", "status", "--socket", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "systemctl start rig-runtime" in done.stderr
