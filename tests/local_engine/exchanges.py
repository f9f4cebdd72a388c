"""Exchanges with an HTTP server as bytes: read from recordings, or made with a live one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "contracts" / "tgi_recordings"
answer_seconds_max = 120.0
READ = re.compile(
    rb">>>>>>>> sent \[1\]\n(?P<sent>.*?)\n<<<<<<<< received \[1\][^\n]*\n(?P<received>.*?)"
    rb"\n-------- arrivals",
    re.DOTALL,
)

# How those bodies ended that were too long to be kept whole.
LONG_TAILS = {
    "40_too_long_stream": b'", "parameters": {"max_new_tokens": 5}}',
    "41_too_long_plain": b'", "parameters": {"max_new_tokens": 5}}',
    "42_max_new_tokens_huge_plain": b'", "parameters": {"max_new_tokens": 5000}}',
    "49_payload_over_limit": b'"}',
}


@dataclass(frozen=True)
class Answer:
    """One HTTP response; of a chunked one also the chunks."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: tuple[bytes, ...]

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[object]:
        """The data of each event, read as JSON but for the word at the end of OpenAI's streams."""
        found: list[object] = []
        for event in self.body.split(b"\n\n"):
            data = event.removeprefix(b"data:").strip()
            if event.startswith(b"data:"):
                found.append("[DONE]" if data == b"[DONE]" else json.loads(data))
        return found


@dataclass(frozen=True)
class Recording:
    """What was sent to the real router and what it answered."""

    name: str
    sent: bytes
    answer: Answer

    @classmethod
    def named(cls, name: str) -> Recording:
        (path,) = FOLDER.glob(f"{name}.txt")
        found = READ.search(path.read_bytes())
        assert found is not None, name
        # The recorder put a line end between head and body, and shortened long bodies.
        head, _, body = found["sent"].partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        wanted = int(length[1]) if length else 0
        body = body.removeprefix(b"\n")[:wanted]
        if len(body) < wanted:
            tail = LONG_TAILS[name]
            body = b'{"inputs": "' + b"x" * (wanted - 12 - len(tail)) + tail
        received_head, _, received_body = found["received"].partition(b"\r\n\r\n")
        received = received_head + b"\r\n\r\n" + received_body.removeprefix(b"\n")
        return cls(name, head + b"\r\n\r\n" + body, parsed(received))


def parsed(raw: bytes) -> Answer:
    """A whole response as it came."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    chunks: list[bytes] = []
    if headers.get("transfer-encoding") == "chunked":
        while body:
            size, _, rest = body.lstrip(b"\r\n").partition(b"\n")
            if not size.strip():
                break
            length = int(size, 16)
            if length:
                chunks.append(rest[:length])
            body = rest[length:] if length else b""
        body = b"".join(chunks)
    if "content-length" in headers:
        body = body[: int(headers["content-length"])]
    return Answer(int(first.split()[1]), headers, body, tuple(chunks))


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, closed afterwards whatever happens."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(port: int, sent: bytes) -> Answer:
    """Sends these bytes on a connection of their own and reads until the server closes it."""
    async with connected(port) as (reader, writer), asyncio.timeout(answer_seconds_max):
        writer.write(sent)
        return parsed(await reader.read(-1))


def post(path: str, body: object) -> bytes:
    """A POST of this JSON on a connection that ends with it."""
    data = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode() + data


def get(path: str) -> bytes:
    """A GET on a connection that ends with it."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
