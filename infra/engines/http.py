"""HTTP to one inference server: bounded waits, bounded sizes, and closing that cancels at once.

Every failure of the transport becomes EngineFailed here, so that the adapters only have to
understand what was said. Nothing is ever half-closed: TGI takes that for a cancel.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from yarl import URL

from events import trace
from infra.engines.sse import EventReader, EventTooLong
from processors.answers.engine import EngineFailed

CONNECTIONS_MAX = 1_024
"""Open connections to one engine. A worker holds far fewer answers; this bounds a mistake."""

IDLE_SECONDS_MAX = 10
"""An idle connection is kept this long: less than the 60 s and more of usual servers."""

BODY_BYTES_MAX = 33_554_432
"""A body that is not a stream. /chat_tokenize lists each token of a prompt: about 60 bytes each."""

ERROR_BYTES_MAX = 65_536
"""The body of an error, of which only a sentence is used."""

CALL_SECONDS_MAX = 10.0
"""Calls that generate nothing: the router answers them by itself, a long prompt takes longest."""

HEALTH_SECONDS_MAX = 5.0
"""TGI's probe runs a real prefill after an error, behind the step that is running."""

AFTER_FINISH_SECONDS_MAX = 1.0
"""After a finish reason, for the usage and the end of the body."""

AFTER_FINISH_READS_MAX = 3
"""The same in pieces: an engine that goes on talking is closed instead."""


@dataclass(frozen=True, slots=True)
class Timers:
    """How long each wait of one generation may take."""

    connect_seconds_max: float = 2.0
    first_token_seconds_max: float = 60.0
    between_tokens_seconds_max: float = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer to a call."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body's value, None if it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


class EventStream:
    """The events of one response, read with a deadline that its user moves on."""

    def __init__(self, name: str, response: aiohttp.ClientResponse, deadline: float) -> None:
        self._name, self._response = name, response
        self._reader = EventReader()
        self._loop = asyncio.get_running_loop()
        self.deadline = deadline
        """Loop time at which waiting ends. Comments do not move it: a stuck engine has them too."""
        self.status = response.status

    async def read(self) -> list[bytes] | None:
        """The data of the events that ended with the next bytes; None after the last. Raises
        EngineFailed."""
        arrived = await self._wait(self._response.content.readany())
        try:
            return self._reader.feed(arrived) if arrived else None
        except EventTooLong as error:
            raise EngineFailed(f"{self._name}: {error}") from None

    def wait_at_most(self, seconds_max: float) -> None:
        """The next wait ends this long from now."""
        self.deadline = self._loop.time() + seconds_max

    async def error(self) -> Reply:
        """The whole body of a refusal, cut at its bound."""
        body = await self._wait(read_at_most(self._response, ERROR_BYTES_MAX))
        return Reply(self._response.status, body)

    async def finish(self) -> None:
        """Reads what follows the last event, if it is short: the connection can serve again."""
        try:
            async with asyncio.timeout(AFTER_FINISH_SECONDS_MAX):
                for _ in range(AFTER_FINISH_READS_MAX):
                    if not await self._response.content.readany():
                        return
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._response.close()

    async def _wait(self, reading: Coroutine[Any, Any, bytes]) -> bytes:
        try:
            async with asyncio.timeout_at(self.deadline):
                return await reading
        except TimeoutError:
            raise silent(self._name) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise broken(self._name, error) from error


class HttpEngine:
    """One session to one server; it begins with the first call, in the loop of that call."""

    def __init__(self, url: str, timers: Timers) -> None:
        self._url = URL(url)
        self.name = str(self._url.with_user(None))
        self.timers = timers
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds_max: float = CALL_SECONDS_MAX,
        bytes_max: int = BODY_BYTES_MAX,
    ) -> Reply:
        """A call that is not a stream. Raises EngineFailed if there is no whole answer in time."""
        try:
            async with (
                asyncio.timeout(seconds_max),
                self._request(method, path, body) as response,
            ):
                return Reply(response.status, await read_at_most(response, bytes_max))
        except TimeoutError as error:
            raise EngineFailed(
                f"{self.name}: {path} was not answered within {seconds_max:g} s", kind="silent"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise broken(self.name, error) from error

    @asynccontextmanager
    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[EventStream]:
        """Posts, and gives the response's events. Leaving closes the connection, which cancels the
        work, unless the body was read to its end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timers.first_token_seconds_max
        response = await self._open(path, body, deadline)
        try:
            yield EventStream(self.name, response, deadline)
        finally:
            response.close()  # does nothing if the body was read to its end

    async def _open(
        self, path: str, body: Mapping[str, Any], deadline: float
    ) -> aiohttp.ClientResponse:
        context = _Call()
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    return await self._request("POST", path, body, context)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # The server had closed an idle connection just when it was used again.
                    if not context.reused:
                        raise
                    return await self._request("POST", path, body)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ServerTimeoutError):
                raise broken(self.name, error) from error
            raise silent(self.name) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise broken(self.name, error) from error

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        context: "_Call | None" = None,
    ) -> "aiohttp.client._RequestContextManager":
        if self._session is None or self._session.closed:
            self._session = self._new_session()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if (current := trace.current.get()) is not None:
            headers["traceparent"] = current
        return self._session.request(
            method,
            self._url.joinpath(path.lstrip("/")),
            data=None if body is None else orjson.dumps(body),
            headers=headers,
            allow_redirects=False,
            trace_request_ctx=context,
        )

    def _new_session(self) -> aiohttp.ClientSession:
        traces = aiohttp.TraceConfig()
        traces.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(  # sets TCP_NODELAY on each connection
                limit=CONNECTIONS_MAX, keepalive_timeout=IDLE_SECONDS_MAX
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.timers.connect_seconds_max),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[traces],
            auto_decompress=False,  # a small compressed body may be a huge one
            skip_auto_headers=("Accept-Encoding",),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class _Call:
    reused = False


async def _note_reuse(_session: object, call: Any, _params: object) -> None:
    if isinstance(call.trace_request_ctx, _Call):
        call.trace_request_ctx.reused = True


async def read_at_most(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The whole body; ValueError if it is longer than the bound."""
    parts: list[bytes] = []
    left = bytes_max
    while part := await response.content.readany():
        parts.append(part)
        left -= len(part)
        if left < 0:
            response.close()
            raise ValueError(f"its answer is longer than {bytes_max} bytes")
    return b"".join(parts)


def silent(name: str) -> EngineFailed:
    return EngineFailed(
        f"{name}: no token came in time; it may be stuck or overloaded", kind="silent"
    )


def broken(name: str, error: Exception) -> EngineFailed:
    kind = type(error).__name__
    reached = not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return EngineFailed(f"{name}: {kind}: {error}"[:500], kind=kind, reached=reached)
