"""Clients that take slowly, stutter, vanish without a word, or send a body byte by byte."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

from tests.faults.world import OWN_KEY, World
from tests.fixtures.thalweg import RunningThalweg

RECEIVE_BYTES = 2_048  # of a socket: what its owner leaves there soon fills it
TCP_REPAIR = 19  # Linux; the socket module has no name for it
STUTTER_SECONDS = 0.2
STUTTER_BYTES = 100
CONNECTION_BYTES_MAX = 1_048_576
"""Far above what an open connection takes (64 KiB), far below what its answer would."""
SPARE_BYTES = 67_108_864  # what the good ones and the allocator take
SPARE_DESCRIPTORS = 30  # good ones that come and go
SETTLED_SECONDS_MAX = 180
"""A peer that takes nothing is dropped after 30 s, a slow body after 30, a slow head after 10."""


def _head(thalweg: RunningThalweg, method: str, path: str, *lines: str) -> bytes:
    fields = [
        f"Authorization: Bearer {thalweg.api_key}",
        f"Host: 127.0.0.1:{thalweg.port}",
        f"Idempotency-Key: {OWN_KEY}{uuid4().hex}",
    ]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *fields, *lines, "", ""]).encode()


def _asking(thalweg: RunningThalweg, *, tokens: int) -> bytes:
    """A streamed chat completion of so many tokens."""
    body = json.dumps(
        {
            "model": "numbered",
            "stream": True,
            "messages": [{"role": "user", "content": f"tokens={tokens}"}],
            "max_tokens": tokens,
        }
    ).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return _head(thalweg, "POST", "/v1/chat/completions", *lines) + body


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
    one = await _connect(thalweg)
    with one:
        await _say(one, _asking(thalweg, tokens=4_000))
        await asyncio.Event().wait()


async def stutters(thalweg: RunningThalweg) -> None:
    """Takes an answer by a hundred bytes at a time."""
    one = await _connect(thalweg)
    with one:
        await _say(one, _asking(thalweg, tokens=200))
        while await asyncio.get_running_loop().sock_recv(one, STUTTER_BYTES):  # noqa: ASYNC110
            await asyncio.sleep(STUTTER_SECONDS)


async def vanishes(thalweg: RunningThalweg) -> None:
    """Its machine is gone in the middle of an answer: no word comes, neither FIN nor RST."""
    one = await _connect(thalweg)
    with one:
        await _say(one, _asking(thalweg, tokens=200))
        await asyncio.get_running_loop().sock_recv(one, STUTTER_BYTES)
        with suppress(PermissionError):  # only root may; else it is a client that hangs up
            one.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)  # closed without a word
    await asyncio.Event().wait()


async def sends_slowly(thalweg: RunningThalweg) -> None:
    """A body of which a byte comes now and then (slowloris)."""
    one = await _connect(thalweg)
    with one, suppress(OSError):
        await _say(one, _head(thalweg, "POST", "/api/conversations", "Content-Length: 100000"))
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


KINDS = (takes_nothing, stutters, vanishes, sends_slowly, asks_slowly)


@asynccontextmanager
async def surrounded(thalweg: RunningThalweg, each: int) -> AsyncIterator[None]:
    """So many bad clients of each kind are there, until the block ends."""

    async def again(kind: Callable[[RunningThalweg], Awaitable[None]]) -> None:
        while True:
            with suppress(OSError):
                await kind(thalweg)
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


async def _has_few(pid: int, descriptors_max: int) -> int:
    """Waits until a process has no more; how many it has."""
    async with asyncio.timeout(SETTLED_SECONDS_MAX):
        while (found := descriptors(pid)) > descriptors_max:  # noqa: ASYNC110
            await asyncio.sleep(STUTTER_SECONDS)
    return found


async def among_bad_clients(world: World) -> None:
    """They are there for a while; the gateway stays small, and lets go of them afterwards."""
    thalweg, each = world.thalweg, int(world.seconds(15, 100))
    (gateway,) = thalweg.pids("gateway")
    memory, open_before = memory_bytes(gateway), descriptors(gateway)
    async with surrounded(thalweg, each):
        await asyncio.sleep(world.seconds(5, 60))
        bad = each * len(KINDS)
        # Who comes again may be there before a busy gateway has let go of his last connection.
        opened = await _has_few(gateway, open_before + bad + SPARE_DESCRIPTORS) - open_before
        grown = memory_bytes(gateway) - memory
        world.note(f"{bad} bad clients: {grown} bytes, {opened} descriptors")
        assert grown < bad * CONNECTION_BYTES_MAX + SPARE_BYTES, f"{grown} bytes"
    await _has_few(gateway, open_before + SPARE_DESCRIPTORS)
    assert thalweg.pids("gateway") == [gateway]
