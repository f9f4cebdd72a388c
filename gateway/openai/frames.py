"""How an answer looks on OpenAI's wire: chunks of a stream, or one object.

The official clients want no `id:` and no `retry:` here, and a ping of one line: after an empty line
they would read it as an event without data. A stream that only ends counts as a success there, so
it ends with a finish reason and [DONE], or with an error.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from events.answers import Entry, EntryEnd, Logprobs
from events.conversations import Band, EndKind
from gateway.again import NOT_AGAIN
from gateway.errors import Declined, status_of
from gateway.event_stream import Whole
from gateway.openai import errors

DONE = b"data: [DONE]\n\n"
STATUS_OF_FAILURE = {
    "refused": 400,
    "overloaded": 429,
    "engine": 502,
    "no_engine": 503,
    "deadline": 504,
}
"""By the reason of a failed answer; others are 500."""
AGAIN_AFTER_FAILURE = {
    "overloaded": {"retry-after": "10"},
    "no_engine": {"retry-after": "10"},
    "deadline": NOT_AGAIN,
    "poisonous": NOT_AGAIN,
    "unreadable": NOT_AGAIN,
}
"""What clients are told then about sending it again. It has waited long for an engine after the
first two, and will again if it comes at once. The time that they gave it is over after a deadline;
after the others it would end so again, and a poisonous one might take workers down once more."""


def finish_reason(end: EntryEnd) -> str:
    """OpenAI's word for it. It has none for a cancelled answer: what was said then stops."""
    return "length" if end.reason == "length" else "stop"


def failure(end: EntryEnd) -> tuple[int, dict[str, Any]]:
    """Status and body for an answer that failed."""
    status = STATUS_OF_FAILURE.get(end.reason, 500)
    message = end.error or f"the answer failed ({end.reason})"
    return status, errors.body_of(status, end.reason, message)


def usage(end: EntryEnd) -> dict[str, int]:
    prompt, completion = end.usage.prompt_tokens, end.usage.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def logprobs_of(logprobs: Logprobs) -> dict[str, Any] | None:
    """None where the engine gives none. A part of a character has no text and no bytes here."""
    if not logprobs:
        return None
    content = [
        {
            **_token(one.token, one.logprob),
            "top_logprobs": [_token(token, logprob) for token, logprob in one.top],
        }
        for one in logprobs
    ]
    return {"content": content, "refusal": None}


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


@dataclass(frozen=True, slots=True)
class Head:
    """What every object about one completion says."""

    answer: UUID
    created: int
    model: str
    band: Band

    @property
    def id(self) -> str:
        return f"chatcmpl-{self.answer.hex}"

    def as_object(self, kind: str) -> dict[str, Any]:
        """`service_tier` is the band that it was answered in: they have the same names."""
        named = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**named, "service_tier": self.band.value}


class ChatFrames:
    """The same bytes for the same answer, for ever."""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        said = orjson.dumps(head.as_object("chat.completion.chunk"))
        self._head = b"data: " + said[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._before_text = self._head + b'{"index":0,"delta":{"content":'
        self._after_text = b',"finish_reason":null}' + self._tail
        self._without_logprobs = b'},"logprobs":null' + self._after_text
        self._include_usage = include_usage

    def opening(self) -> bytes:
        delta = b'{"index":0,"delta":{"role":"assistant","content":""}'
        return self._head + delta + b',"logprobs":null,"finish_reason":null}' + self._tail

    def ping(self) -> bytes:
        return b": ping\n"

    def entry(self, entry: Entry) -> bytes:
        text = b""
        if entry.text:
            text = self._before_text + orjson.dumps(entry.text)
            if entry.logprobs:
                logprobs = orjson.dumps(logprobs_of(entry.logprobs))
                text += b'},"logprobs":' + logprobs + self._after_text
            else:
                text += self._without_logprobs
        if entry.end is None:
            return text
        if entry.end.kind is EndKind.FAIL:
            return text + _frame(failure(entry.end)[1])
        reason = finish_reason(entry.end).encode()
        finish = b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"%b"}' % reason
        last = self._head + finish + self._tail
        if self._include_usage:
            last += self._head + b'],"usage":' + orjson.dumps(usage(entry.end)) + b"}\n\n"
        return text + last + DONE

    def broken(self, error: Declined) -> bytes:
        return _frame(errors.body_of(status_of(error), error.CODE, str(error)))


def _frame(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def completion(head: Head, whole: Whole) -> dict[str, Any]:
    """The whole answer as one object. Its end should be a finish or a cancel."""
    message = {
        "role": "assistant",
        "content": whole.text,
        "refusal": None,
    }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": logprobs_of(whole.logprobs),
        "finish_reason": finish_reason(whole.end),
    }
    return {
        **head.as_object("chat.completion"),
        "choices": [choice],
        "usage": usage(whole.end),
    }
