"""A TCP proxy before Postgres that loses connections at the worst moments."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 65_536
APPEND = b"thalweg.conversations."
"""The types of events: only the call that stores them, and commits, sends them."""


class Cut(Enum):
    """What happens to the next append, which is its commit."""

    NOT = "nothing"
    BEFORE = "the connection is lost before Postgres gets it"
    AFTER = "Postgres gets it, and the connection is lost before its answer comes"


@dataclass
class Proxy:
    url: str
    """Of Postgres through the proxy."""
    next_cut: Cut = Cut.NOT
    cuts: int = 0
    _streams: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut_all(self) -> None:
        """Loses every connection now."""
        for stream in self._streams:
            stream.transport.abort()


@asynccontextmanager
async def proxy_before(database_url: str) -> AsyncIterator[Proxy]:
    parts = urlsplit(database_url)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
        proxy._streams |= {to_client, to_server}
        lost = asyncio.Event()
        upward = asyncio.create_task(_up(proxy, client, to_server, lost))
        downward = asyncio.create_task(_down(server, to_client, lost))
        try:
            await asyncio.wait((upward, downward), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (upward, downward):
                one.cancel()
            await asyncio.gather(upward, downward, return_exceptions=True)
            proxy._streams -= {to_client, to_server}
            to_client.transport.abort()
            to_server.close()  # sends what is left: an append that was passed on arrives
            with contextlib.suppress(OSError):
                await to_server.wait_closed()
            tasks.discard(task)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    user, _, _ = parts.netloc.rpartition("@")
    proxy = Proxy(urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}")))
    try:
        yield proxy
    finally:
        listening.close()
        proxy.cut_all()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _up(
    proxy: Proxy, client: asyncio.StreamReader, to_server: asyncio.StreamWriter, lost: asyncio.Event
) -> None:
    while data := await client.read(CHUNK_BYTES):
        if APPEND in data and proxy.next_cut is not Cut.NOT:
            cut, proxy.next_cut = proxy.next_cut, Cut.NOT
            proxy.cuts += 1
            if cut is Cut.BEFORE:
                return
            lost.set()
        to_server.write(data)
        await to_server.drain()


async def _down(
    server: asyncio.StreamReader, to_client: asyncio.StreamWriter, lost: asyncio.Event
) -> None:
    while data := await server.read(CHUNK_BYTES):
        if lost.is_set():
            return  # this is the answer to the append: nobody will hear it
        to_client.write(data)
        await to_client.drain()
