"""Clients that take slowly, stutter, vanish without a word, or send a body byte by byte."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

from tests.fixtures.thalweg import RunningThalweg

RECEIVE_BYTES = 2_048  # of a socket: what its owner leaves there soon fills it
STUTTER_SECONDS = 0.2
STUTTER_BYTES = 100


def _head(thalweg: RunningThalweg, method: str, path: str, *lines: str) -> bytes:
    fields = [f"Authorization: Bearer {thalweg.api_key}", f"Host: 127.0.0.1:{thalweg.port}"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *fields, *lines, "", ""]).encode()


async def _connect(thalweg: RunningThalweg) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", thalweg.port))
    return one


async def _say(one: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(one, data)


async def takes_nothing(thalweg: RunningThalweg) -> None:
    """Asks for a long answer and never reads: what a proxy that stops forwarding does too."""
    body = json.dumps(
        {
            "model": "numbered",
            "stream": True,
            "messages": [{"role": "user", "content": "tokens=4000"}],
            "max_tokens": 4_000,
        }
    ).encode()
    one = await _connect(thalweg)
    with one:
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        await _say(one, _head(thalweg, "POST", "/v1/chat/completions", *lines) + body)
        await asyncio.Event().wait()


async def stutters(thalweg: RunningThalweg) -> None:
    """Takes an answer by a hundred bytes at a time."""
    body = json.dumps(
        {
            "model": "numbered",
            "stream": True,
            "messages": [{"role": "user", "content": "tokens=200"}],
            "max_tokens": 200,
        }
    ).encode()
    one = await _connect(thalweg)
    with one:
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        await _say(one, _head(thalweg, "POST", "/v1/chat/completions", *lines) + body)
        while await asyncio.get_running_loop().sock_recv(one, STUTTER_BYTES):  # noqa: ASYNC110
            await asyncio.sleep(STUTTER_SECONDS)


async def sends_slowly(thalweg: RunningThalweg) -> None:
    """A body of which a byte comes now and then (slowloris)."""
    one = await _connect(thalweg)
    with one, suppress(OSError):
        lines = (f"Idempotency-Key: {uuid4().hex}", "Content-Length: 100000")
        await _say(one, _head(thalweg, "POST", "/api/conversations", *lines))
        while True:
            await _say(one, b" ")
            await asyncio.sleep(STUTTER_SECONDS)


async def asks_slowly(thalweg: RunningThalweg) -> None:
    """A head without an end."""
    one = await _connect(thalweg)
    with one, suppress(OSError):
        await _say(one, b"GET /livez HTTP/1.1\r\n")
        while True:
            await _say(one, b"X-Y: z\r\n")
            await asyncio.sleep(STUTTER_SECONDS)


KINDS = (takes_nothing, stutters, sends_slowly, asks_slowly)


@asynccontextmanager
async def surrounded(thalweg: RunningThalweg, each: int) -> AsyncIterator[None]:
    """So many bad clients of each kind are there, until the block ends."""

    async def again(kind: object) -> None:
        while True:
            with suppress(OSError):
                await kind(thalweg)  # type: ignore[operator]
            await asyncio.sleep(STUTTER_SECONDS)

    bad = [asyncio.create_task(again(kind)) for kind in KINDS for _ in range(each)]
    try:
        yield
    finally:
        for one in bad:
            one.cancel()
        await asyncio.gather(*bad, return_exceptions=True)


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
