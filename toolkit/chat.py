"""One chat through the gateway, as a client would send it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig_runtime.errors import CheckFailed

PROMPT = "Say hello to the two cards."
READY_SECONDS = 600
ANSWER_SECONDS = 120
POLL_SECONDS = 0.5


def await_ready(base_url: str) -> None:
    """Return when every model answers; raise `CheckFailed` when one has failed or time is up."""
    deadline = time.monotonic() + READY_SECONDS
    last = "no answer yet"
    while time.monotonic() < deadline and '"failed"' not in last:
        try:
            with urllib.request.urlopen(f"{base_url}/ready", timeout=10):
                return
        except urllib.error.HTTPError as error:
            last = error.read().decode(errors="replace")
        except OSError as error:
            last = str(error)
        time.sleep(POLL_SECONDS)
    raise CheckFailed(
        f"Every model must answer at {base_url} within {READY_SECONDS} s",
        found=last,
        how="See why on the rig: rig-runtime status; journalctl -u rig-runtime",
    )


def ask(base_url: str, model: str, api_key: str | None, prompt: str = PROMPT) -> str:
    """The text of the answer to one chat. Raises `CheckFailed` with what the gateway said."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 48,
        "temperature": 0,
    }
    answer = _post(f"{base_url}/v1/chat/completions", body, api_key)
    return str(answer["choices"][0]["message"]["content"])


def curl_line(base_url: str, model: str, header_file: Path | None) -> str:
    """What a person types to do the same; the key stays in its file, out of argv."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    key = f" -H @{header_file}" if header_file else ""
    return (
        f"curl {base_url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"
    )


def _post(url: str, body: Mapping[str, Any], api_key: str | None) -> Any:
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        found = f"HTTP {error.code}: {error.read().decode(errors='replace')}"
        raise CheckFailed(f"{url} must answer a chat", found=found) from error
    except OSError as error:
        raise CheckFailed(f"{url} must answer a chat", found=str(error)) from error
