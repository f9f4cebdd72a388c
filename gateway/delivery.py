"""Whether a response has reached its client, as far as a server can tell.

HTTP acknowledges nothing: what was written may lie in a buffer on the way when the connection
breaks. So a response counts as delivered once the peer's host has taken all of it and the client
stayed: it asked for something else on the same connection, or kept it open for a while. One that
has read a stream for that long may leave at its end at once, as the official clients do. A client
that leaves sooner may have all of it, or not: that is not known, and counts as not delivered.
"""

import asyncio
import fcntl
import logging
import struct
import termios
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

logger = logging.getLogger("thalweg.gateway")

DELIVERED = "thalweg.delivered"
"""The extension of our server (gateway/server.py): `Delivery.sent` of the connection."""


class Delivery:
    """The last response of one connection. Told by the server what happens on it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, taken: Callable[[], bool], stay_seconds: float
    ) -> None:
        """`taken`: whether the peer's host has acknowledged every byte."""
        self._loop = loop
        self._taken = taken
        self._stay_seconds = stay_seconds
        self._requests = 0
        self._lost = False
        self._then: Callable[[], None] | None = None
        self._seen_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def asked(self) -> "Sent":
        """A request begins: who asks has read the response before. Call the result when this
        one's response has been written in full."""
        self._requests += 1
        self._confirm()
        request = self._requests

        def sent(then: Callable[[], None], *, started_at: float) -> None:
            if self._lost:
                return
            if self._requests > request:  # it was asked for more before this was written
                then()
                return
            self._then, self._seen_since = then, started_at
            self._timer = self._loop.call_later(self._stay_seconds, self._stayed)

        return sent

    def left(self) -> None:
        """The client has closed its side."""
        if self._loop.time() - self._seen_since >= self._stay_seconds and self._taken():
            self._confirm()
        self.lost()

    def lost(self) -> None:
        self._lost = True
        self._forget()

    def _stayed(self) -> None:
        if self._taken():
            self._confirm()
        else:  # a peer that is gone without a word takes nothing; a slow one needs a while
            self._timer = self._loop.call_later(self._stay_seconds, self._stayed)

    def _confirm(self) -> None:
        then = self._then
        self._forget()
        if then is not None:
            then()

    def _forget(self) -> None:
        self._then = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


Sent = Callable[..., None]


def unacknowledged_bytes(transport: asyncio.BaseTransport) -> int:
    """What the peer's host has not taken yet; 0 where the system does not say."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return 0
    try:
        answer = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])


class Watched(Response):
    """Another response, and what to do once it has been delivered."""

    def __init__(
        self, response: Response, *, whole: Callable[[], bool], then: Callable[[], None]
    ) -> None:
        """`whole`: asked at the end, whether all that there is to say was sent."""
        self._response = response
        self._whole = whole
        self._then = then
        self.status_code = response.status_code
        self.background = None
        self.body = response.body if hasattr(response, "body") else b""
        self.raw_headers = response.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        started_at: float | None = None

        async def watched(message: Message) -> None:
            nonlocal started_at
            await send(message)
            if started_at is None:
                started_at = loop.time()

        await self._response(scope, receive, watched)
        sent: Any = scope.get("extensions", {}).get(DELIVERED)
        if sent is not None and started_at is not None and self._whole():
            sent(self._then, started_at=started_at)
