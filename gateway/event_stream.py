"""Sends an answer's entries as server-sent events, or waits for all of them."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from starlette.types import Receive

from events import trace
from events.answers import Entry, EntryEnd, Logprobs
from events.conversations import EndKind
from gateway.answer_streams import IDLE, AnswerStreamUnavailable, Idle
from gateway.errors import AnswerExpired, Declined, Draining, Unavailable
from gateway.meter import Followed
from gateway.open_streams import Interrupt, OpenStreams
from gateway.sent_events import Put, SentEvents

logger = logging.getLogger("thalweg.gateway")


class Frames(Protocol):
    """How one face of the gateway writes a stream. Each method returns whole frames."""

    def opening(self) -> bytes:
        """What comes first."""

    def ping(self) -> bytes: ...

    def entry(self, entry: Entry) -> bytes:
        """One entry; for the end, all that is left to say. May be empty."""

    def broken(self, error: Declined) -> bytes:
        """The stream ends here although the answer goes on."""


class EventStream(SentEvents):
    """The stream of one answer. What is sent is sent whole, or not at all."""

    def __init__(
        self,
        open_streams: OpenStreams,
        answer: UUID,
        entries: AsyncIterator[Entry | Idle],
        frames: Frames,
        headers: Mapping[str, str],
        *,
        patient: bool,
        followed: Followed,
        before_failure: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`before_failure`: what is to be done before a client learns that the answer failed."""
        super().__init__(open_streams, headers, patient=patient, about={"answer": str(answer)})
        self._answer = answer
        self._entries = entries
        self._frames = frames
        self._followed = followed
        self._before_failure = before_failure
        self.whole = False
        """The end has been written."""

    async def pump(self, put: Put) -> None:
        """Passes entries on until the end."""
        try:
            await self._pump(put)
        finally:
            self._followed.left(self._answer)

    async def _pump(self, put: Put) -> None:
        began, told = trace.now_ns(), False
        async with closing(self._entries) as entries:
            await put(self._frames.opening())
            async for item in entries:
                if item is IDLE:
                    await put(self._frames.ping())
                    continue
                if item.text and not told:
                    self._followed.first(self._answer)
                frame = self._frames.entry(item)
                if item.end is not None:
                    self._followed.end(self._answer, item.end)
                    if item.end.kind is EndKind.FAIL and self._before_failure is not None:
                        await self._before_failure()
                    await put(frame, more=False)
                    self.whole = True
                elif frame:
                    await put(frame)
                if not told:
                    told = True
                    trace.stage("first frame", trace.current.get(), began)
                if item.end is not None:
                    return
            await put(b"", more=False)

    def broken(self, error: Exception) -> bytes:
        if isinstance(error, AnswerExpired):
            return self._frames.broken(error)
        if not isinstance(error, AnswerStreamUnavailable):
            logger.error("a stream broke", extra={"answer": str(self._answer)}, exc_info=error)
        return self._frames.broken(Unavailable(self._answer))

    def draining(self) -> bytes:
        return self._frames.broken(Draining(self._answer))


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that has ended."""

    text: str
    end: EntryEnd
    logprobs: Logprobs = ()


async def gathered(
    open_streams: OpenStreams,
    receive: Receive,
    answer: UUID,
    entries: AsyncIterator[Entry | Idle],
    *,
    followed: Followed,
) -> Whole | None:
    """All of an answer; None if the client left. Sends nothing meanwhile.

    Raises Unavailable and Draining: the answer goes on, only this wait is over.
    """
    said: list[Entry] = []
    began = trace.now_ns()
    async with open_streams.opened(receive, patient=True) as stream, closing(entries) as items:
        try:
            async for item in items:
                if item is IDLE:
                    continue
                if item.text and not said:
                    followed.first(answer)
                said.append(item)
        except AnswerStreamUnavailable:
            raise Unavailable(answer) from None
    if stream.reason is Interrupt.GONE:
        return None
    if stream.reason is not None:
        raise Draining(answer)
    end = said[-1].end if said else None
    if end is None:
        raise Unavailable(answer)
    followed.end(answer, end)
    trace.stage("whole answer", trace.current.get(), began)
    logprobs = tuple(one for entry in said for one in entry.logprobs)
    return Whole("".join(entry.text for entry in said), end, logprobs)


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
