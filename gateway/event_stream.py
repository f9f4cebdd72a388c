"""Sends an answer's entries as server-sent events, or waits for all of them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from events.answers import Entry, EntryEnd
from gateway.answer_streams import IDLE, AnswerStreamUnavailable, Idle
from gateway.errors import Declined, Draining, Unavailable
from gateway.open_streams import Interrupt, OpenStream, OpenStreams

logger = logging.getLogger("thalweg.gateway")

ABORT = "thalweg.abort"
"""The extension of our server (gateway/server.py) that drops a connection with what is unsent."""


class Frames(Protocol):
    """How one face of the gateway writes a stream. Each method returns whole frames."""

    def opening(self) -> bytes:
        """What comes first."""

    def ping(self) -> bytes: ...

    def entry(self, entry: Entry) -> bytes:
        """One entry; for the end, all that is left to say. May be empty."""

    def broken(self, error: Declined) -> bytes:
        """The stream ends here although the answer goes on."""


class EventStream(Response):
    """The response that carries a stream. One task, one write per entry, no buffer of its own."""

    def __init__(
        self,
        open_streams: OpenStreams,
        answer: UUID,
        entries: AsyncIterator[Entry | Idle],
        frames: Frames,
        headers: Mapping[str, str],
        *,
        patient: bool,
        seen_end: Callable[[UUID], None],
    ) -> None:
        self.status_code = 200
        self.media_type = "text/event-stream"
        self.background = None
        self.init_headers(
            {
                "cache-control": "no-store",
                "x-accel-buffering": "no",  # nginx would gather frames
                **headers,
            }
        )
        self._open_streams = open_streams
        self._answer = answer
        self._entries = entries
        self._frames = frames
        self._patient = patient
        self._seen_end = seen_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        last: bytes | None = None
        async with self._open_streams.opened(receive, patient=self._patient) as stream:
            try:
                await self._pump(stream, send)
                return
            except AnswerStreamUnavailable:
                last = self._frames.broken(Unavailable(self._answer))
            except Exception:
                logger.exception("a stream broke", extra={"answer": str(self._answer)})
                last = self._frames.broken(Unavailable(self._answer))
        match stream.reason:
            case Interrupt.GONE:
                return
            case Interrupt.SLOW:
                await self._drop(scope, receive)
                return
            case Interrupt.DRAINING:
                last = self._frames.broken(Draining(self._answer))
        try:
            async with asyncio.timeout(self._open_streams.send_seconds_max):
                await send({"type": "http.response.body", "body": last or b"", "more_body": False})
        except TimeoutError:
            await self._drop(scope, receive)

    async def _pump(self, stream: OpenStream, send: Send) -> None:
        """Passes entries on until the end. What is sent is sent whole, or not at all."""
        loop = asyncio.get_running_loop()

        async def put(frame: bytes, *, more: bool = True) -> None:
            stream.sending_since = loop.time()
            await send({"type": "http.response.body", "body": frame, "more_body": more})
            stream.sending_since = None

        async with closing(self._entries) as entries:
            await put(self._frames.opening())
            async for item in entries:
                if item is IDLE:
                    await put(self._frames.ping())
                    continue
                frame = self._frames.entry(item)
                if item.end is not None:
                    self._seen_end(self._answer)
                    await put(frame, more=False)
                    return
                if frame:
                    await put(frame)
            await put(b"", more=False)

    async def _drop(self, scope: Scope, receive: Receive) -> None:
        """Forgets a peer that takes nothing, with what lies in its socket's buffer."""
        logger.info("dropped a client that takes nothing", extra={"answer": str(self._answer)})
        abort = scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()
            while (await receive())["type"] != "http.disconnect":
                pass


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that has ended."""

    text: str
    end: EntryEnd


async def gathered(
    open_streams: OpenStreams,
    receive: Receive,
    answer: UUID,
    entries: AsyncIterator[Entry | Idle],
    *,
    seen_end: Callable[[UUID], None],
) -> Whole | None:
    """All of an answer; None if the client left. Sends nothing meanwhile.

    Raises Unavailable and Draining: the answer goes on, only this wait is over.
    """
    said: list[Entry] = []
    async with open_streams.opened(receive, patient=True) as stream, closing(entries) as items:
        try:
            said = [item async for item in items if item is not IDLE]
        except AnswerStreamUnavailable:
            raise Unavailable(answer) from None
    if stream.reason is Interrupt.GONE:
        return None
    if stream.reason is not None:
        raise Draining(answer)
    end = said[-1].end if said else None
    if end is None:
        raise Unavailable(answer)
    seen_end(answer)
    return Whole("".join(entry.text for entry in said), end)


async def peeked(
    answer: UUID, entries: AsyncIterator[Entry | Idle]
) -> AsyncIterator[Entry | Idle] | None:
    """The same entries, or None if there are none: waits for the first. Raises Unavailable."""
    try:
        first = await anext(entries)
    except StopAsyncIteration:
        return None
    except AnswerStreamUnavailable:
        raise Unavailable(answer) from None

    async def all_of_them() -> AsyncIterator[Entry | Idle]:
        async with closing(entries) as rest:
            yield first
            async for item in rest:
                yield item

    return all_of_them()


def closing(
    entries: AsyncIterator[Entry | Idle],
) -> AbstractAsyncContextManager[AsyncIterator[Entry | Idle]]:
    """Closes generators when they are left; other iterators have nothing to close."""
    if isinstance(entries, AsyncGenerator):
        return aclosing(entries)
    return nullcontext(entries)
