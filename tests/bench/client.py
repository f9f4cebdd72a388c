"""A client that costs almost nothing, so that the load does not eat what it measures."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import cast

import httptools
import orjson

ANSWER_SECONDS_MAX = 60
SAID = re.compile(rb'"content": ?"((?: \d+)+)"')


@dataclass
class Answer:
    """One answer: when what arrived."""

    asked_at: float
    status: int = 0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """(time, tokens) of each piece of the body that holds tokens."""
    ended_at: float = 0.0
    body: bytearray = field(default_factory=bytearray)

    @property
    def first_token_seconds(self) -> float:
        return self.arrivals[0][0] - self.asked_at

    @property
    def numbers(self) -> list[int]:
        """All tokens, in their order."""
        return [int(n) for text in SAID.findall(self.body) for n in text.split()]


class Connection(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._answer = Answer(0.0)
        self._done: asyncio.Future[Answer] | None = None
        self.begun = asyncio.Event()
        """Set when a first token has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(f"closed in mid answer: {error}"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_status(self, _: bytes) -> None:
        self._answer.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        tokens = sum(text.count(b" ") for text in SAID.findall(piece))
        if tokens:
            self._answer.arrivals.append((time.perf_counter(), tokens))
            self.begun.set()
        self._answer.body += piece

    def on_message_complete(self) -> None:
        self._answer.ended_at = time.perf_counter()
        if self._done is not None and not self._done.done():
            self._done.set_result(self._answer)

    async def ask(self, request: bytes) -> Answer:
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.perf_counter())
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            return await self._done

    def close(self) -> None:
        self._transport.abort()


async def connect(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


def chat_request(content: str, *, stream: bool, api_key: str = "none") -> bytes:
    """POST /v1/chat/completions, the same for an engine and for Thalweg."""
    body = orjson.dumps(
        {
            "model": "numbered",
            "messages": [{"role": "user", "content": content}],
            "stream": stream,
            "max_tokens": 1_000,
        }
    )
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
