"""Both sides of the live streams together, and the same in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from events.answers import Entry, EntryEnd
from events.conversations import EndKind, Usage
from events.ids import AnswerId, ConversationId, fresh_id
from gateway.answer_streams import AnswerRef, LiveStreams, Source, SourceUnavailable
from processors.answers.recorder_ports import LiveUnavailable, LiveWriter, Run, RunRefused

FINISH = EntryEnd(EndKind.FINISH, "stop", None, Usage(prompt_tokens=3, completion_tokens=9))


@dataclass
class Sides:
    writer: LiveWriter
    reader: LiveStreams
    flush: Callable[[], Awaitable[None]]


def a_ref() -> AnswerRef:
    return AnswerRef(AnswerId(fresh_id()), ConversationId(fresh_id()), fresh_id())


def said(*texts: str, first: int = 0) -> list[Entry]:
    return [Entry(index, text) for index, text in enumerate(texts, first)]


def words(number: int, first: int = 0) -> list[Entry]:
    return said(*(f"word {index} " for index in range(first, first + number)), first=first)


def a_run(ref: AnswerRef, entries: Sequence[Entry], *, recorded: bool = False) -> Run:
    first = entries[0].index if entries else 0
    return Run(ref.answer, first, entries, recorded)


async def collect(source: Source, after: int, until: int, seconds_max: float = 30) -> list[Entry]:
    """What a reader sees after index `after`, up to index `until`."""
    seen: list[Entry] = []
    cursor = after
    async with asyncio.timeout(seconds_max):
        while cursor < until:
            for entry in await source.after(cursor, seconds_max=1):
                seen.append(entry)
                cursor = entry.index
    return seen


@dataclass
class _Stream:
    entries: list[Entry] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryLiveStreams:
    """Both sides in one process. `away` makes every call fail; what is `refusing` takes nothing."""

    def __init__(self) -> None:
        self._streams: dict[UUID, _Stream] = {}
        self._marks: set[int] = set()
        self.kept_up = True
        self.away = False
        self.refusing: set[UUID] = set()
        self.signs = 0
        self.expiring: set[UUID] = set()

    def stream(self, answer: UUID) -> list[Entry]:
        return self._of(answer).entries

    def _of(self, answer: UUID) -> _Stream:
        return self._streams.setdefault(answer, _Stream())

    async def append(self, runs: Sequence[Run]) -> Sequence[int | RunRefused]:
        await asyncio.sleep(0)
        if self.away:
            raise LiveUnavailable("away")
        return [self._append(run) for run in runs]

    def _append(self, run: Run) -> int | RunRefused:
        if run.answer in self.refusing:
            return RunRefused("as the test wants it")
        stream = self._of(run.answer)
        if len(stream.entries) >= run.first:
            stream.entries += run.entries[len(stream.entries) - run.first :]
            stream.news.set()
        if stream.entries and run.recorded:
            self.expiring.add(run.answer)
        return len(stream.entries)

    async def keep_up(self, partitions: Iterable[int], recorder: str) -> frozenset[int]:
        if self.away:
            raise LiveUnavailable("away")
        self.signs += 1
        without = frozenset(partitions) - self._marks
        self._marks |= without
        return without

    async def flush(self) -> None:
        self._marks.clear()
        for stream in self._streams.values():
            stream.entries.clear()

    @asynccontextmanager
    async def follow(self, ref: AnswerRef) -> AsyncIterator["_MemoryCursor"]:
        yield _MemoryCursor(self, self._of(ref.answer))

    async def is_kept_up(self, ref: AnswerRef) -> bool:
        if self.away:
            raise SourceUnavailable("away")
        return self.kept_up and bool(self._marks)


@dataclass
class _MemoryCursor:
    _streams: MemoryLiveStreams
    _stream: _Stream

    async def after(self, index: int, *, seconds_max: float) -> Sequence[Entry]:
        try:
            async with asyncio.timeout(seconds_max):
                while True:
                    if self._streams.away:
                        raise SourceUnavailable("away")
                    run = self._stream.entries[index + 1 :]
                    if run or seconds_max == 0:
                        return run
                    self._stream.news.clear()
                    await self._stream.news.wait()
        except TimeoutError:
            return ()


class Follows(Protocol):
    def follow(self, ref: AnswerRef) -> AbstractAsyncContextManager[Source]: ...
