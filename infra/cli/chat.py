"""`thalweg chat`: a turn of a conversation, the answer as it is said."""

from __future__ import annotations

import http.client
import sys
import time
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from infra.cli.native import Api, Refused
from infra.settings import Settings

FAILED = 1
AGAIN_SECONDS = 1.0
"""Before a stream that broke off is opened again."""
STREAMS_MAX = 5
"""Times that an answer's stream is opened: a gateway that stops lets another one go on."""


def chat(
    settings: Settings, message: str, *, model: str | None = None, conversation: str | None = None
) -> int:
    """Prints the answer as it comes; the exit status says whether it came to its end."""
    try:
        with Api(settings) as api:
            if conversation is None:
                return _begin(api, message, model)
            path = f"/api/conversations/{quote(conversation, safe='')}"
            head = api.get(path)["head"]
            return _go_on(api, conversation, head, message, model)
    except Refused as refused:
        print(f"{refused}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print()
        return FAILED


def _begin(api: Api, message: str, model: str | None) -> int:
    conversation = api.post("/api/conversations", {})["conversation"]
    try:
        return _go_on(api, conversation, None, message, model)
    except Refused:
        api.delete(f"/api/conversations/{conversation}")  # it holds nothing
        raise


def _go_on(api: Api, conversation: str, head: str | None, message: str, model: str | None) -> int:
    try:
        posted = _post(api, conversation, head, message, model)
    except Refused as refused:
        if refused.problem.get("code") != "stale_head":
            raise
        # Somebody else's words, since ours are waited for below. They may change what is asked.
        raise Refused(
            "Something else was said in this conversation a moment ago, so your message was not "
            f"sent. Look at it: thalweg conversations show {conversation}; then send yours again."
        ) from None
    ended = _say(api, posted["answer"])
    with suppress(Refused):  # what is read lags by some 50 ms: the next turn finds this one
        api.get(f"/api/conversations/{quote(conversation, safe='')}", after=posted["receipt"])
    print(f"\nGo on: thalweg chat --conversation {conversation} MESSAGE", file=sys.stderr)
    return 0 if ended else FAILED


def _post(
    api: Api, conversation: str, parent: str | None, message: str, model: str | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"content": message, "parent": parent}
    if model is not None:
        body["model"] = model
    return api.post(f"/api/conversations/{conversation}/messages", body)


def _say(api: Api, answer: str) -> bool:
    """Whether the answer came to a good end."""
    last_id: str | None = None
    for _ in range(STREAMS_MAX):
        try:
            for id_, event, data in api.events(f"/api/answers/{answer}/stream", last_id):
                if event == "problem":
                    break
                last_id = id_
                print(data["text"], end="", flush=True)
                if event == "end":
                    print()
                    if data["kind"] == "fail":
                        print(data["error"] or data["reason"], file=sys.stderr)
                    return bool(data["kind"] == "finish")
        except (OSError, http.client.HTTPException):
            pass
        except Refused as refused:
            if refused.problem:
                raise
        time.sleep(AGAIN_SECONDS)
    print(f"\nIts stream broke off; read on at /api/answers/{answer}/stream.", file=sys.stderr)
    return False
