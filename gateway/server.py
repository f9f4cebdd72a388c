"""Serves the gateway: uvicorn with bounds of our own, and an orderly end.

On the way out it stops taking connections, tells native streams to come again elsewhere, lets
OpenAI streams finish for `drain_seconds_max`, and then ends those with an error that says where the
answer can be read. Last, it tells the store which turns were delivered.
"""

import asyncio
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from socket import socket
from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.app import desk_of
from gateway.corked import CorkedTransport
from gateway.delivery import DELIVERED, Delivery, unacknowledged_bytes
from gateway.open_streams import OpenStreams
from gateway.sent_events import ABORT


@dataclass(frozen=True, slots=True)
class ServerLimits:
    connections_max: int = 10_000  # open streams are connections; beyond it is 503
    connections_waiting_max: int = 2_048  # the listen backlog: a burst of reconnecting clients
    head_bytes_max: int = 65_536  # request line and headers
    head_seconds_max: float = 10  # a connection that has not asked for anything by then is closed
    idle_seconds_max: int = 75  # longer than load balancers keep a connection (60 s)
    send_buffer_bytes_max: int = 65_536  # unsent bytes of one client; then its stream waits
    gathered_bytes_max: int = 16_384  # written in one turn of the loop before it is sent
    delivered_stay_seconds: float = 1  # a client that stays so long has read what it was sent
    last_frames_seconds: float = 1  # after draining, for the frames that say so
    last_request_seconds: float = 2  # while stopping an idle connection may ask once more: no race


class GatewayProtocol(HttpToolsProtocol):
    """Bounds what a client may send before its request is complete, and lets the app hang up."""

    limits = ServerLimits()

    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None
    _delivery: Delivery
    _leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # uvicorn narrows the type in the same way.
        transport.set_write_buffer_limits(high=self.limits.send_buffer_bytes_max)
        gathered_bytes = self.limits.gathered_bytes_max
        super().connection_made(
            CorkedTransport(transport, self.loop, gathered_bytes=gathered_bytes)
        )
        self._delivery = Delivery(
            self.loop,
            lambda: not unacknowledged_bytes(transport),
            self.limits.delivered_stay_seconds,
        )
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and self.parser is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.head_bytes_max:
                self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self.scope["extensions"] = {
            ABORT: self.transport.abort,  # type: ignore[dict-item]
            DELIVERED: self._delivery.asked(),  # type: ignore[dict-item]
        }
        # uvicorn types extensions as dicts; ASGI lets them be anything.
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_came()
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False  # its response says so, and the client asks elsewhere

    def eof_received(self) -> None:
        self._delivery.left()

    def connection_lost(self, exc: Exception | None) -> None:
        self._delivery.lost()
        self._head_came()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops. What closes an idle connection at once meets the client's next request
        on its way, which is then neither answered nor refused; so it may still come for a moment.
        """
        self._leaving = True
        self.timeout_keep_alive = self.limits.last_request_seconds  # type: ignore[assignment]
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = self.cycle.keep_alive and self.cycle.response_started
            return
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.limits.last_request_seconds, self._hang_up
        )

    def _hang_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.timeout_keep_alive_handler()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(
            self.limits.head_seconds_max, self.timeout_keep_alive_handler
        )

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class GatewayServer(uvicorn.Server):
    """A uvicorn whose end we order: it leaves signals alone and drains our streams."""

    def __init__(
        self, config: uvicorn.Config, streams: OpenStreams, started: Callable[[int], None]
    ) -> None:
        super().__init__(config)
        self._streams = streams
        self._tell_started = started

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_started(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._streams.drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_gateway(
    app: FastAPI,
    *,
    host: str,
    port: int,
    listener: socket | None = None,
    stopping: asyncio.Event | None = None,
    started: Callable[[int], None] = lambda port: None,
    limits: ServerLimits | None = None,
) -> None:
    """Serves until `stopping` is set (None: until SIGTERM or SIGINT), drains, and returns.

    Connections are taken from `listener` if there is one, which others may share.

    `started` is told the port once connections are taken. Run it in a uvloop for speed. Raises
    OSError if the address can't be had.
    """
    limits = limits or ServerLimits()
    desk = desk_of(app)
    streams = desk.open_streams
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=cast("type[asyncio.Protocol]", _protocol(limits)),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=limits.connections_waiting_max,
        limit_concurrency=limits.connections_max,
        timeout_keep_alive=limits.idle_seconds_max,
        timeout_graceful_shutdown=math.ceil(streams.drain_seconds_max + limits.last_frames_seconds),
    )
    server = GatewayServer(config, streams, started)
    with nullcontext(stopping) if stopping else stopped_by_signal() as stop:
        await _serve_until(stop, server, listener)
        await desk.repeats.close()


async def _serve_until(
    stopping: asyncio.Event, server: uvicorn.Server, listener: socket | None
) -> None:
    stops = asyncio.create_task(_stop_when(stopping, server))
    try:
        await server.serve(None if listener is None else [listener])
    except SystemExit as error:  # uvicorn leaves like this when it can't listen
        at = f"{server.config.host}:{server.config.port}"
        raise OSError(f"can't listen on {at}; is another program there?") from error
    finally:
        stops.cancel()
        with suppress(asyncio.CancelledError):
            await stops


@contextmanager
def stopped_by_signal() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for name in signals:
        loop.add_signal_handler(name, stopping.set)
    try:
        yield stopping
    finally:
        for name in signals:
            loop.remove_signal_handler(name)


async def _stop_when(stopping: asyncio.Event, server: uvicorn.Server) -> None:
    await stopping.wait()
    server.should_exit = True


def _protocol(limits: ServerLimits) -> type[GatewayProtocol]:
    return type("BoundProtocol", (GatewayProtocol,), {"limits": limits})
