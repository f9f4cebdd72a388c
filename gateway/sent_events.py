"""A response of server-sent events: written frame by frame, ended in good order."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.open_streams import Interrupt, OpenStreams

logger = logging.getLogger("thalweg.gateway")

ABORT = "thalweg.abort"
"""The extension of our server (gateway/server.py) that drops a connection with what is unsent."""


class Put(Protocol):
    """Writes whole frames; returns when they are with the operating system."""

    async def __call__(self, frame: bytes, *, more: bool = True) -> None: ...


class SentEvents(Response, ABC):
    """The response that carries a stream. One task, one write a frame, no buffer of its own."""

    media_type = "text/event-stream"

    def __init__(
        self,
        open_streams: OpenStreams,
        headers: Mapping[str, str],
        *,
        patient: bool,
        about: Mapping[str, str],
    ) -> None:
        """`patient`: goes on while the gateway drains. `about`: what the log says of it."""
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "cache-control": "no-store",
                "x-accel-buffering": "no",  # nginx would gather frames
                **headers,
            }
        )
        self._open_streams = open_streams
        self._patient = patient
        self._about = about

    @abstractmethod
    async def pump(self, put: Put) -> None:
        """Writes all frames, the last one with `more=False`. Left early by an interrupt."""

    @abstractmethod
    def broken(self, error: Exception) -> bytes:
        """The last frame of a stream that `pump` could not go on with."""

    @abstractmethod
    def draining(self) -> bytes:
        """The last frame of a stream that goes on elsewhere."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        loop = asyncio.get_running_loop()
        last = b""
        async with self._open_streams.opened(receive, patient=self._patient) as stream:

            async def put(frame: bytes, *, more: bool = True) -> None:
                stream.sending_since = loop.time()
                await send({"type": "http.response.body", "body": frame, "more_body": more})
                stream.sending_since = None

            try:
                await self.pump(put)
                return
            except Exception as error:
                last = self.broken(error)
        match stream.reason:
            case Interrupt.GONE:
                return
            case Interrupt.SLOW:
                await self._drop(scope, receive)
                return
            case Interrupt.DRAINING:
                last = self.draining()
        try:
            async with asyncio.timeout(self._open_streams.send_seconds_max):
                await send({"type": "http.response.body", "body": last, "more_body": False})
        except TimeoutError:
            await self._drop(scope, receive)

    async def _drop(self, scope: Scope, receive: Receive) -> None:
        """Forgets a peer that takes nothing, with what lies in its socket's buffer."""
        logger.info("dropped a client that takes nothing", extra=dict(self._about))
        abort = scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()
            while (await receive())["type"] != "http.disconnect":
                pass
