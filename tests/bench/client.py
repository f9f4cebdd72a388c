"""A client that costs almost nothing, so that the load does not eat what it measures."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import orjson

ANSWER_SECONDS_MAX = 180
TOKENS_MAX = 1_000
_TEXT = rb': ?"((?: \d+(?:@c\d+)?)+)"'
CONTENT = re.compile(rb'"content"' + _TEXT)
"""What chat completions say, streamed or not."""
DELTA = re.compile(rb'"delta"' + _TEXT)
"""What a streamed Response says; its last events say the whole text again."""
TEXT = re.compile(rb'"text"' + _TEXT)
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


@dataclass(frozen=True)
class Target:
    """Something that answers: an engine, Thalweg, or one of its peers."""

    port: int
    api_key: str = "none"
    path: str = CHAT
    model: str = "numbered"
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More of the body."""

    def said(self, *, stream: bool) -> re.Pattern[bytes]:
        if self.path == CHAT:
            return CONTENT
        return DELTA if stream else TEXT

    def request(self, content: str, *, stream: bool, headers: str = "") -> bytes:
        """The bytes of a POST that asks for one answer; `headers` end with a line break each."""
        body: dict[str, Any] = {"model": self.model, "stream": stream, **self.extra}
        if self.path == CHAT:
            body["messages"] = [{"role": "user", "content": content}]
            body["max_tokens"] = TOKENS_MAX
        else:
            body["input"] = content
            body["max_output_tokens"] = TOKENS_MAX
        sent = orjson.dumps(body)
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {self.api_key}\r\n"
            f"{headers}Content-Length: {len(sent)}\r\n\r\n"
        )
        return head.encode() + sent


@dataclass
class Answer:
    """One answer: when what arrived."""

    asked_at: float
    said: re.Pattern[bytes] = CONTENT
    status: int = 0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """(time, tokens) of each piece of the body that holds tokens."""
    ended_at: float = 0.0
    """0: it has not ended."""
    body: bytearray = field(default_factory=bytearray)

    @property
    def first_token_seconds(self) -> float:
        return self.arrivals[0][0] - self.asked_at

    @property
    def tokens(self) -> list[bytes]:
        """All tokens, in their order, as the engine said them."""
        return [token for text in self.said.findall(self.body) for token in text.split()]

    @property
    def numbers(self) -> list[int]:
        return [int(token.partition(b"@")[0]) for token in self.tokens]


class Connection(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self, said: re.Pattern[bytes] = CONTENT) -> None:
        self._said = said
        self.answer = Answer(0.0)
        """What has come of the last answer."""
        self._done: asyncio.Future[Answer] | None = None
        self.accepted = asyncio.Event()
        """Set when a first response has begun, or none can any more."""
        self.begun = asyncio.Event()
        """Set when a first token has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def connection_lost(self, error: Exception | None) -> None:
        self.accepted.set()
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(f"closed in mid answer: {error}"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_status(self, _: bytes) -> None:
        self.answer.status = self._parser.get_status_code()
        self.accepted.set()

    def on_body(self, piece: bytes) -> None:
        tokens = sum(text.count(b" ") for text in self._said.findall(piece))
        if tokens:
            self.answer.arrivals.append((time.perf_counter(), tokens))
            self.begun.set()
        self.answer.body += piece

    def on_message_complete(self) -> None:
        self.answer.ended_at = time.perf_counter()
        if self._done is not None and not self._done.done():
            self._done.set_result(self.answer)

    async def ask(self, request: bytes) -> Answer:
        """Raises ConnectionError when the connection breaks; `answer` then has what came."""
        if self._transport.is_closing():
            raise ConnectionError("closed before it was asked")
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self.answer = Answer(time.perf_counter(), self._said)
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            return await self._done

    def close(self) -> None:
        self._transport.abort()


async def connect(port: int, said: re.Pattern[bytes] = CONTENT) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(said), "127.0.0.1", port)
    return connection


def chat_request(content: str, *, stream: bool, api_key: str = "none") -> bytes:
    """POST /v1/chat/completions, the same for an engine and for Thalweg."""
    return Target(0, api_key).request(content, stream=stream)
