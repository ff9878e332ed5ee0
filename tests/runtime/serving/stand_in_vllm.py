"""A small real process with vLLM's manners, for tests: `stand_in_vllm.py serve MODEL [flags]`.

It reads MODEL/manners.json at its start, listens on --port, starts one worker process a rank
that is named as vLLM names it, and makes files in /dev/shm. It plays: a slow start, an exit with a
text, a hang, a death in the middle of a stream, a deaf ear for SIGTERM, orphans that live on.
Files that it writes into MODEL: `starts` (a line each), `cancelled` when a client has left.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PR_SET_NAME = 15
MODEL = Path(sys.argv[2] if len(sys.argv) > 2 else "")
FLAGS = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=False))
MANNERS: dict[str, Any] = {
    "start_seconds": 0.0,
    "say": [],
    "exit": None,  # exit with this status after `say`
    "unready_probes": 0,  # so many first requests fail although /health says 200
    "chunks": 3,
    "chunk_seconds": 0.0,
    "die_after_chunks": None,
    "skip_done": False,
    "is_deaf": False,
    "chat_status": 200,
    "unknown_paths": [],  # as vLLM has no embeddings of a chat model
}
DEATHS = MODEL / "deaths"  # so many chats will each kill their engine
HANG = MODEL / "hang"  # while this file exists, no request is answered


def name_process(name: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def shared_memory(name: str) -> mmap.mmap:
    """A named file in /dev/shm, held as vLLM holds its own."""
    descriptor = os.open(f"/dev/shm/{name}", os.O_CREAT | os.O_RDWR, 0o600)
    os.ftruncate(descriptor, 4096)
    return mmap.mmap(descriptor, 4096)


def start_workers(count: int) -> None:
    """Workers outlive their parent, as vLLM's do when the API server is killed."""
    for rank in range(count):
        words = [f"VLLM::Worker_TP{rank}", "-S", __file__, "worker"]
        subprocess.Popen(words, executable=sys.executable)


def work() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    name_process("VLLM::Worker_TP")  # the kernel keeps 15 characters
    held = shared_memory(f"psm_standin_{os.getpid()}")
    while True:
        signal.pause()
        assert held


def held_by_workers() -> list[str]:
    """The shared memory of this process's children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [
        f"psm_standin_{pid}" for pid in children if Path(f"/dev/shm/psm_standin_{pid}").exists()
    ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    probes = 0

    def log_message(self, *_: object) -> None:
        """The test reads no access log."""

    def do_GET(self) -> None:
        self.hang()
        self.answer(200, {})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.hang()
        if self.path in MANNERS["unknown_paths"]:
            self.answer_with(404, b'{"detail":"Not Found"}')
            return
        Handler.probes += 1
        if Handler.probes <= MANNERS["unready_probes"]:
            self.answer(500, {"error": {"message": "still warming up"}})
        elif "chat" in self.path and DEATHS.exists():
            self.die(request)
        elif request.get("stream"):
            self.stream(request)
        else:
            status = MANNERS["chat_status"] if "chat" in self.path else 200
            self.answer(status, self.whole(request))

    def die(self, request: dict[str, Any]) -> None:
        """As often as the file says, with an answer of status 500 or without any."""
        count = int(DEATHS.read_text())
        DEATHS.write_text(str(count - 1)) if count > 1 else DEATHS.unlink()
        if request.get("answer_first"):
            self.answer(500, {"error": {"message": "EngineDeadError"}})
            threading.Timer(0.2, os._exit, [0]).start()
        else:
            os._exit(0)

    def hang(self) -> None:
        while HANG.exists():
            time.sleep(0.05)

    def whole(self, request: dict[str, Any]) -> dict[str, Any]:
        """As each API has it."""
        usage = {"input_tokens": 1, "output_tokens": 1}
        if self.path.endswith("/count_tokens"):
            return {"input_tokens": 7}
        if self.path == "/v1/messages":
            content = [{"type": "text", "text": "a whole answer"}]
            return message(request, content=content, stop_reason="end_turn", usage=usage)
        if self.path == "/v1/responses":
            return response(request, "completed")
        if self.path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            return {"object": "list", "data": data, "model": request["model"], "usage": usage}
        return self.completion(request, "a whole answer")

    def completion(self, request: dict[str, Any], text: str) -> dict[str, Any]:
        key = "message" if "chat" in self.path else "text"
        value: object = {"role": "assistant", "content": text} if key == "message" else text
        return {
            "id": "cmpl-1",
            "object": "chat.completion" if key == "message" else "text_completion",
            "created": 1,
            "model": request["model"],
            "choices": [{"index": 0, key: value, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            "seen": {"request_id": self.headers.get("x-request-id"), "body": request},
        }

    def answer(self, status: int, body: dict[str, Any]) -> None:
        self.answer_with(status, json.dumps(body).encode())

    def answer_with(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, request: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.open_stream(request)
        for index in range(MANNERS["chunks"]):
            if index == MANNERS["die_after_chunks"]:
                self.event("data: {", whole=False)
                os._exit(0)
            if self.has_left(MANNERS["chunk_seconds"]):
                (MODEL / "cancelled").touch()
                self.close_connection = True
                return
            self.chunk(request, f"{index} ")
        if not MANNERS["skip_done"]:
            self.close_stream(request)
        self.wfile.write(b"0\r\n\r\n")

    def open_stream(self, request: dict[str, Any]) -> None:
        if self.path == "/v1/messages":
            usage = {"input_tokens": 1, "output_tokens": 0}
            first = message(request, content=[], stop_reason=None, usage=usage)
            self.named("message_start", message=first)
            block = {"type": "text", "text": ""}
            self.named("content_block_start", index=0, content_block=block)
        elif self.path == "/v1/responses":
            begun = response(request, "in_progress")
            self.named("response.created", sequence_number=0, response=begun)

    def chunk(self, request: dict[str, Any], text: str) -> None:
        if self.path == "/v1/messages":
            delta = {"type": "text_delta", "text": text}
            self.named("content_block_delta", index=0, delta=delta)
        elif self.path == "/v1/responses":
            place = {"item_id": "msg-1", "output_index": 0, "content_index": 0, "logprobs": []}
            self.named("response.output_text.delta", sequence_number=1, delta=text, **place)
        else:
            choice = {"index": 0, "delta": {"content": text}, "text": text}
            head = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1}
            chunk = {**head, "model": request["model"], "choices": [choice]}
            self.event(f"data: {json.dumps(chunk)}")

    def close_stream(self, request: dict[str, Any]) -> None:
        if self.path == "/v1/messages":
            self.named("content_block_stop", index=0)
            delta = {"stop_reason": "end_turn", "stop_sequence": None}
            self.named("message_delta", delta=delta, usage={"output_tokens": 3})
            self.named("message_stop")
        elif self.path == "/v1/responses":
            whole = response(request, "completed")
            self.named("response.completed", sequence_number=2, response=whole)
        else:
            self.event("data: [DONE]")

    def named(self, name: str, **content: object) -> None:
        """An event as Anthropic's API and OpenAI's responses have them."""
        self.event(f"event: {name}\ndata: {json.dumps({'type': name, **content})}")

    def event(self, text: str, *, whole: bool = True) -> None:
        data = (text + "\n\n" * whole).encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def has_left(self, seconds: float) -> bool:
        """Wait so long; True if the client closed its connection meanwhile."""
        return bool(select.select([self.connection], [], [], seconds)[0])


def message(request: dict[str, Any], **content: object) -> dict[str, Any]:
    """Of Anthropic's API."""
    head = {"id": "msg-1", "type": "message", "role": "assistant", "stop_sequence": None}
    return {**head, "model": request["model"], **content}


def response(request: dict[str, Any], status: str) -> dict[str, Any]:
    """Of OpenAI's responses."""
    text = {"type": "output_text", "text": "a whole answer", "annotations": []}
    item = {"id": "msg-1", "type": "message", "role": "assistant", "status": status}
    return {
        "id": "resp-1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": request["model"],
        "output": [{**item, "content": [text]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def main() -> None:
    if (MODEL / "manners.json").exists():
        MANNERS.update(json.loads((MODEL / "manners.json").read_text()))
    with (MODEL / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    for line in MANNERS["say"]:
        os.write(1, line.encode(errors="surrogateescape") + b"\n")
    if MANNERS["exit"] is not None:
        sys.exit(MANNERS["exit"])
    time.sleep(MANNERS["start_seconds"])
    if MANNERS["is_deaf"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    left_behind = shared_memory(f"vllm_dist_standin_{os.getpid()}-cpushm_0")
    left_behind.close()  # named, but in nobody's hands any more: as vLLM leaves them
    ranks = int(FLAGS["--tensor-parallel-size"])
    start_workers(ranks)
    while len(held_by_workers()) < ranks:
        time.sleep(0.01)
    server = ThreadingHTTPServer(("127.0.0.1", int(FLAGS["--port"])), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    work() if sys.argv[1] == "worker" else main()
