"""A server that says given bytes, whatever they are, and ends the connection as it is told."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

from tests.contracts.engines import recordings

LENGTH = re.compile(rb"(?i)content-length: (\d+)")
INFO = recordings.read("01_info")[0].received
TOKENIZE = recordings.read("31_tokenize")[0].received
CHAT_TOKENIZE = recordings.read("30_chat_tokenize")[0].received
MODELS = recordings.read("03_models")[0].received
HELD_SECONDS_MAX = 30

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Bytes:
    """Says all of it, then closes, or waits until the client has gone."""

    data: bytes
    closes: bool = True

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.data)
        await writer.drain()
        if not self.closes:
            await client_gone(reader)


async def client_gone(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(HELD_SECONDS_MAX):
        while await reader.read(65_536):
            pass


class ReplayServer:
    """Says the recorded answers on the routes beside the one that is tested."""

    def __init__(self, script: Script | None = None) -> None:
        self.routes: dict[str, Script] = {
            "/info": Bytes(INFO),
            "/tokenize": Bytes(TOKENIZE),
            "/chat_tokenize": Bytes(CHAT_TOKENIZE),
            "/v1/models": Bytes(MODELS),
        }
        self.script = script
        """For every other route."""
        self.asked: Counter[str] = Counter()
        self.heads: dict[str, bytes] = {}
        """Of the last request to each route."""
        self.bodies: list[bytes] = []
        """What was posted to the routes that `script` answers."""
        self.gone = asyncio.Event()
        """Set when a connection that a script held open has ended."""
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> "ReplayServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        self._server.close()
        for writer in self._writers.values():
            writer.transport.abort()  # ends whatever its script waits for
        await asyncio.gather(*self._writers, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._writers[task] = writer
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            path = head.split(b" ")[1].decode()
            self.asked[path] += 1
            self.heads[path] = head
            script = self.routes.get(path)
            if script is None:
                assert self.script is not None, f"nobody expected {path}"
                self.bodies.append(body)
                script = self.script
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            del self._writers[task]
            writer.close()


def stream_head(*, length: int | None = None) -> bytes:
    """The head of a stream that ends with the connection, or after `length` bytes."""
    size = b"" if length is None else b"content-length: %d\r\n" % length
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + size + b"\r\n"
