"""Answers whose chunks go to a feed. Each is read by a task of its own, a few entries ahead."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from uuid import UUID

from events.answers import Entry
from events.ids import AnswerId, ConversationId
from gateway.answer_streams import IDLE, AnswerRef, AnswerStreamUnavailable
from gateway.errors import Declined, Unavailable
from gateway.event_stream import closing
from gateway.feed_cursor import FOLLOWED_MAX
from gateway.ports import Streams

log = logging.getLogger("thalweg.gateway")

ENTRIES_MAX = 16
"""Read and not yet sent, of all answers of one feed: a slow reader holds little."""
WAITING_MAX = 64
"""Answers that wait for a place; further ones are read at their own addresses."""
AGAIN_SECONDS = 5.0
"""Before an answer that could not be read is tried again: what is away is not pressed."""


@dataclass(slots=True)
class Followed:
    """One answer. It is forgotten once it was read to its end and nothing brings it up again."""

    conversation: UUID
    next_index: int
    recorded: bool
    """The conversation says that it is not open: it will not be asked for anew."""
    ended: bool = False
    task: asyncio.Task[None] | None = None
    """None: it waits for a place."""


class FollowedAnswers:
    def __init__(
        self,
        streams: Streams,
        tenant: UUID,
        wake: Callable[[], None],
        *,
        fixed: bool,
        again_seconds: float = AGAIN_SECONDS,
    ) -> None:
        """`fixed`: the reader has named the answers, so none is added or forgotten."""
        self._streams = streams
        self._tenant = tenant
        self._wake = wake
        self._fixed = fixed
        self._again_seconds = again_seconds
        self._followed: dict[UUID, Followed] = {}
        self._waiting: dict[UUID, Followed] = {}
        self._read: asyncio.Queue[tuple[UUID, Entry | Declined | None]] = asyncio.Queue(ENTRIES_MAX)

    @property
    def cursors(self) -> dict[UUID, int]:
        return {answer: one.next_index for answer, one in self._followed.items()}

    def follow(
        self, answer: UUID, conversation: UUID, next_index: int = 0, *, recorded: bool = False
    ) -> None:
        """Reads an answer from an index on, as soon as there is room."""
        if answer in self._followed or answer in self._waiting:
            return
        one = Followed(conversation, next_index, recorded)
        if len(self._followed) < FOLLOWED_MAX:
            self._begin(answer, one)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting[answer] = one

    def are_open(self, conversation: UUID, answers: Collection[UUID]) -> None:
        """A conversation says which of its answers have no end."""
        if self._fixed:
            return
        for answer, one in [*self._followed.items(), *self._waiting.items()]:
            if one.conversation == conversation and answer not in answers:
                one.recorded = True
                self._forget(answer, one)
        for answer in answers:
            self.follow(answer, conversation)

    def entries(self) -> Iterator[tuple[UUID, UUID, Entry | Declined]]:
        """(answer, conversation, entry) of all that was read; the cursors move with it.

        Instead of an entry, why an answer can't be read now, or at all: its cursor stays.
        """
        while not self._read.empty():
            answer, entry = self._read.get_nowait()
            one = self._followed[answer]
            if entry is None:
                one.ended = True
                self._forget(answer, one)
                continue
            if isinstance(entry, Entry):
                one.next_index = entry.index + 1
            yield answer, one.conversation, entry

    async def close(self) -> None:
        tasks = [one.task for one in self._followed.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, answer: UUID, one: Followed) -> None:
        self._followed[answer] = one
        ref = AnswerRef(AnswerId(answer), ConversationId(one.conversation), self._tenant)
        one.task = asyncio.create_task(self._follow(ref, one.next_index - 1))

    def _forget(self, answer: UUID, one: Followed) -> None:
        if self._fixed or not (one.ended and one.recorded):
            return
        del self._followed[answer]
        if self._waiting:
            waiting = next(iter(self._waiting))
            self._begin(waiting, self._waiting.pop(waiting))

    async def _follow(self, ref: AnswerRef, after: int) -> None:
        """To the end, or to a reason that nothing mends: whatever else happens, it goes on."""
        told = False
        while True:
            try:
                async with closing(self._streams.read(ref, after=after)) as entries:
                    async for entry in entries:
                        if entry is not IDLE:
                            await self._put(ref.answer, entry)
                            after, told = entry.index, False
                break
            except AnswerStreamUnavailable:
                pass
            except Declined as why:
                await self._put(ref.answer, why)
                break
            except Exception:
                log.exception("a feed has lost an answer", extra={"answer": str(ref.answer)})
            if not told:
                await self._put(ref.answer, Unavailable(ref.answer))
                told = True
            await asyncio.sleep(self._again_seconds)
        await self._put(ref.answer, None)

    async def _put(self, answer: UUID, entry: Entry | Declined | None) -> None:
        await self._read.put((answer, entry))
        self._wake()
