"""The chat that `./rig up` ends with, against a small real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from rig_runtime.errors import CheckFailed
from toolkit import chat


class Gateway(BaseHTTPRequestHandler):
    """Answers `/ready` and one chat for the key `secret`."""

    def do_GET(self) -> None:
        self._answer(200, {"ready": True})

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        if self.headers.get("Authorization") != "Bearer secret":
            self._answer(401, {"error": {"message": "no such key"}})
            return
        text = f"{body['model']} heard: {body['messages'][0]['content']}"
        self._answer(200, {"choices": [{"message": {"role": "assistant", "content": text}}]})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def gateway() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_answer_is_the_text_of_the_first_choice(gateway: str) -> None:
    chat.await_ready(gateway)
    assert chat.ask(gateway, "tiny", "secret", "hi") == "tiny heard: hi"


def test_a_refusal_says_what_the_gateway_said(gateway: str) -> None:
    with pytest.raises(CheckFailed, match=r"HTTP 401.*no such key"):
        chat.ask(gateway, "tiny", "wrong")


def test_the_curl_line_keeps_the_key_out_of_argv(gateway: str) -> None:
    line = chat.curl_line(gateway, "tiny", Path("/keys/header"))
    assert "-H @/keys/header" in line
    assert "secret" not in line
