"""`thalweg chat`: a question through the gateway's OpenAI route, the answer as it is said."""

from __future__ import annotations

import http.client
import json
import sys
import uuid
from collections.abc import Iterator
from typing import Any

from infra.settings import Settings

FAILED = 1
SILENCE_SECONDS_MAX = 120.0  # longer than keepalive_seconds and an engine's first token


def chat(settings: Settings, message: str, *, model: str | None = None) -> int:
    """Prints the answer as it comes; the exit status says whether it came to its end."""
    try:
        key = (settings.home / "api-key").read_text().strip()
    except FileNotFoundError:
        print(f"There is no {settings.home / 'api-key'}; start with `thalweg up`.", file=sys.stderr)
        return FAILED
    connection = http.client.HTTPConnection(
        settings.local_host, settings.port, timeout=SILENCE_SECONDS_MAX
    )
    try:
        return _ask(connection, key, message, model)
    except (OSError, http.client.HTTPException) as problem:
        address = f"{settings.local_host}:{settings.port}"
        print(f"The gateway at {address} does not answer: {problem}.", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print()
        return FAILED
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, key: str, message: str, model: str | None) -> int:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    if model is None:
        connection.request("GET", "/v1/models", headers=headers)
        listed = json.loads(connection.getresponse().read())
        model = next((entry["id"] for entry in listed.get("data", [])), "default")
    question = {
        "model": model,
        "messages": [{"role": "user", "content": message}],
        "stream": True,
    }
    headers["Idempotency-Key"] = str(uuid.uuid4())
    connection.request("POST", "/v1/chat/completions", json.dumps(question), headers)
    response = connection.getresponse()
    if response.status != http.client.OK:
        print(_words(response.read()), file=sys.stderr)
        return FAILED
    for frame in _frames(response):
        if "error" in frame:
            print(f"\n{frame['error'].get('message', frame['error'])}", file=sys.stderr)
            return FAILED
        for choice in frame.get("choices", []):
            print(choice.get("delta", {}).get("content") or "", end="", flush=True)
    print()
    return 0


def _frames(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in response:
        data = line.strip().removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            yield json.loads(data)


def _words(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
