"""Responses that stay open: they end when the client leaves, takes nothing, or we are stopping.

A stream pulls: the next entry is asked for when the last one is with the operating system, so that
a slow reader holds a cursor and not a buffer. One sweep for all streams watches for peers that take
nothing, instead of a timer for every frame.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from starlette.types import Receive

from gateway.limits import GatewayLimits

SWEEPS_PER_LIMIT = 4  # a silent peer is found at most a quarter of the limit too late


class Interrupt(Enum):
    GONE = "the client has left"
    SLOW = "the client takes nothing"
    DRAINING = "this gateway is stopping"


class OpenStream:
    """One response under way. Used by its own task, interrupted by others."""

    __slots__ = ("_closed", "patient", "reason", "scope", "sending_since")

    def __init__(self, *, patient: bool) -> None:
        self.patient = patient
        """Goes on while the gateway drains, as far as there is time."""
        self.reason: Interrupt | None = None
        self.sending_since: float | None = None
        self.scope = asyncio.timeout(None)
        self._closed = False

    def interrupt(self, reason: Interrupt) -> None:
        """Ends the work inside `scope`. The first reason stays."""
        if self.reason is None and not self._closed:
            self.reason = reason
            self.scope.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        self._closed = True


class OpenStreams:
    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self._open: set[OpenStream] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._drain_ends: asyncio.TimerHandle | None = None
        self.draining = False
        self.send_seconds_max = limits.send_seconds_max
        self.drain_seconds_max = limits.drain_seconds_max

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def opened(self, receive: Receive, *, patient: bool) -> AsyncIterator[OpenStream]:
        """Work that is cut short by an interrupt: the block ends early, with `reason` set."""
        stream = OpenStream(patient=patient)
        self._open.add(stream)
        watching = asyncio.create_task(_watch(receive, stream))
        self._start_sweep()
        try:
            async with stream.scope:
                if self.draining and not patient:
                    stream.interrupt(Interrupt.DRAINING)
                yield stream
        except TimeoutError:
            if stream.reason is None:
                raise
        finally:
            stream.close()
            self._open.discard(stream)
            watching.cancel()

    def drain(self) -> None:
        """Ends what can be read elsewhere at once, and everything after `drain_seconds_max`."""
        if self.draining:
            return
        self.draining = True
        for stream in tuple(self._open):
            if not stream.patient:
                stream.interrupt(Interrupt.DRAINING)
        loop = asyncio.get_running_loop()
        self._drain_ends = loop.call_later(self._limits.drain_seconds_max, self._interrupt_all)

    def _interrupt_all(self) -> None:
        for stream in tuple(self._open):
            stream.interrupt(Interrupt.DRAINING)

    def _start_sweep(self) -> None:
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            every = self._limits.send_seconds_max / SWEEPS_PER_LIMIT
            self._sweep = loop.call_later(every, self._sweep_once)

    def _sweep_once(self) -> None:
        self._sweep = None
        oldest = asyncio.get_running_loop().time() - self._limits.send_seconds_max
        for stream in tuple(self._open):
            if stream.sending_since is not None and stream.sending_since < oldest:
                stream.interrupt(Interrupt.SLOW)
        if self._open:
            self._start_sweep()


async def _watch(receive: Receive, stream: OpenStream) -> None:
    """The server says when the client has left; writing to it would not."""
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.interrupt(Interrupt.GONE)
