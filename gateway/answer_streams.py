"""One answer's stream for one reader, from whichever source has it: no gap, no repeat.

The live stream in Redis serves as a rule: entries are pushed, nothing is polled. Where it does not
(Redis is away, was flushed, or its recorder is), the fold of the log in Kafka serves, and once the
end is recorded, the recorded end. All of them say the same text at the same index, so a reader may
change source at any index; only the next index is ever passed on.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, Protocol
from uuid import UUID

from events.answers import Entry
from events.ids import AnswerId, ConversationId

log = logging.getLogger("thalweg.gateway")


@dataclass(frozen=True, slots=True)
class AnswerRef:
    """Which answer. Whoever reads it may see everything of `tenant`: check that first."""

    answer: AnswerId
    conversation: ConversationId
    tenant: UUID
    just_asked: bool = False
    """It was asked for a moment ago by this very request: the recorded end is not looked for."""
    ended: bool = False
    """Its end is recorded: if the read model does not have it, the event store does, at once."""


class Quiet(Enum):
    IDLE = "idle"


IDLE: Final = Quiet.IDLE
"""Nothing was said for a while, and the stream goes on: send a ping."""
Idle = Literal[Quiet.IDLE]


class SourceUnavailable(Exception):
    """This source cannot be read now; another one may."""


@dataclass
class AnswerStreamUnavailable(Exception):
    """No source had anything new for too long. The cursor keeps: ask again with it."""

    answer: AnswerId
    after: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"nothing new of answer {self.answer} came within {self.seconds:g} s; "
            f"ask for its stream again, after index {self.after}"
        )


class Source(Protocol):
    """One answer's stream, from one place."""

    async def after(self, index: int, *, seconds_max: float) -> Sequence[Entry]:
        """The entries that follow `index`, as soon as there is one; none if none came in time.

        With `seconds_max=0` it says what is there now. Raises SourceUnavailable.
        """


class LiveStreams(Protocol):
    """What the recorder has put into Redis. Implementation: infra/live_streams.py."""

    def follow(self, ref: AnswerRef) -> AbstractAsyncContextManager[Source]:
        """Entering never fails: reading does."""

    async def is_kept_up(self, ref: AnswerRef) -> bool:
        """Whether a recorder keeps this stream up to date now. Raises SourceUnavailable."""


class TokenFolds(Protocol):
    """The fold of the log itself. Implementation: infra/token_reader.py."""

    def follow(self, ref: AnswerRef) -> AbstractAsyncContextManager[Source]:
        """Entering raises SourceUnavailable if there are too many readers already."""


class RecordedEnds(Protocol):
    """Where ends are recorded: the read model, the event store."""

    async def entries(self, ref: AnswerRef) -> Sequence[Entry] | None:
        """All entries, if the answer's end is recorded here.

        Raises SourceUnavailable, and AnswerExpired if it is recorded and nobody can read it.
        """


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait for what."""

    read_seconds_max: float = 1.0
    """A live stream without news for this long is asked whether it is kept up to date."""
    ended_check_seconds: float = 5.0
    """A stream that is kept up and says nothing: look whether the end is recorded all the same."""
    folds_check_seconds: float = 20.0
    """The same for the log, which costs more: only against what nobody has thought of."""
    looks_doubled_max: int = 4
    """Each look at either that finds nothing doubles the time to the next, so often: thousands of
    silent streams would ask for nothing else."""
    lookup_seconds_max: float = 2.0
    """For one lookup of a recorded end; a database that hangs must not hold the log up."""
    keepalive_seconds: float = 15.0
    silent_seconds_max: float = 1260.0
    """Twice the longest answer and a minute: by then it has ended, or nobody will end it."""


class AnswerStreams:
    """Streams of answers for the readers of one gateway."""

    def __init__(
        self,
        live: LiveStreams,
        folds: TokenFolds,
        ends: Sequence[RecordedEnds],
        pace: Pace | None = None,
    ) -> None:
        """`ends` are asked in order; the first is the cheap one, that may lag."""
        self.live = live
        self.folds = folds
        self.ends = ends
        self.pace = pace if pace is not None else Pace()

    async def read(self, ref: AnswerRef, *, after: int = -1) -> AsyncGenerator[Entry | Idle, None]:
        """Entries of index > `after` in order, the end last; IDLE while there is nothing to say.

        An async generator: leave it through `contextlib.aclosing`. A slow reader holds a cursor,
        no buffer. Raises AnswerStreamUnavailable after `silent_seconds_max` without an entry, and
        AnswerExpired.
        """
        pace, now = self.pace, time.monotonic
        cursor = after
        spoke_at = pinged_at = now()
        async with AsyncExitStack() as stack:
            reading = await stack.enter_async_context(_Reading(self, ref))
            run = await reading.first(cursor)
            while True:
                for entry in run:
                    if entry.index <= cursor:
                        continue
                    if entry.index != cursor + 1:
                        break
                    cursor = entry.index
                    yield entry
                    if entry.end is not None:
                        return
                    spoke_at = pinged_at = now()
                if reading.over:
                    return
                if now() - spoke_at > pace.silent_seconds_max:
                    raise AnswerStreamUnavailable(ref.answer, cursor, pace.silent_seconds_max)
                if now() - pinged_at >= pace.keepalive_seconds:
                    yield IDLE
                    pinged_at = now()
                run = await reading.next(cursor)


class _Reading:
    """Chooses the source from which to read on."""

    def __init__(self, streams: AnswerStreams, ref: AnswerRef) -> None:
        self._streams = streams
        self._pace = streams.pace
        self._ref = ref
        self._stack = AsyncExitStack()
        self._folds_stack = AsyncExitStack()
        self._live: Source
        self._live_serves = True
        self._live_asked_at = 0.0
        self._folds: Source | None = None
        self._ended_checked_at = self._folds_checked_at = time.monotonic()
        self._ends_looked = self._folds_looked = 0
        """In vain, in a row, while the live stream was kept up."""
        self.over = False
        """All there will ever be has been returned."""

    async def __aenter__(self) -> "_Reading":
        self._live = await self._stack.enter_async_context(self._streams.live.follow(self._ref))
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._folds_stack.aclose()
        await self._stack.aclose()

    async def first(self, cursor: int) -> Sequence[Entry]:
        """What is there at once; an answer that ended long ago costs one lookup."""
        run = await self._from_live(cursor, 0)
        if run or self._ref.just_asked:
            return run
        ends = self._streams.ends if self._ref.ended else self._streams.ends[:1]
        return await self._from_ends(cursor, ends)

    async def next(self, cursor: int) -> Sequence[Entry]:
        """What follows, or nothing after `read_seconds_max` or a little more."""
        run = await self._next(cursor)
        if run:
            self._ends_looked = self._folds_looked = 0
        return run

    async def _next(self, cursor: int) -> Sequence[Entry]:
        if self._folds is None:
            run = await self._from_live(cursor, self._pace.read_seconds_max)
            if run:
                return run
            kept_up = await self._is_kept_up()
        else:
            run = await self._from_folds(self._folds, cursor)
            kept_up = False
            if time.monotonic() - self._live_asked_at >= self._pace.read_seconds_max:
                if not run:
                    run = await self._from_live(cursor, 0)
                kept_up = await self._is_kept_up()
            if kept_up:
                await self._leave_folds()
            if run:
                return run
        now, pace = time.monotonic(), self._pace
        if not kept_up:
            self._ends_looked = self._folds_looked = 0
        wait = pace.ended_check_seconds if kept_up else pace.read_seconds_max
        if now - self._ended_checked_at >= wait * 2**self._ends_looked or not self._live_serves:
            self._ends_looked = min(self._ends_looked + 1, pace.looks_doubled_max)
            run = await self._from_ends(cursor, self._streams.ends)
            if run or self.over:
                return run
        wait = pace.folds_check_seconds * 2**self._folds_looked
        if not kept_up or now - self._folds_checked_at >= wait:
            self._folds_looked = min(self._folds_looked + 1, pace.looks_doubled_max)
            await self._enter_folds()
        return ()

    async def _from_live(self, cursor: int, seconds_max: float) -> Sequence[Entry]:
        try:
            run = await self._live.after(cursor, seconds_max=seconds_max)
        except SourceUnavailable:
            self._live_serves = False
            return ()
        self._live_serves = True
        return run

    async def _is_kept_up(self) -> bool:
        self._live_asked_at = time.monotonic()
        if not self._live_serves:
            return False
        try:
            return await self._streams.live.is_kept_up(self._ref)
        except SourceUnavailable:
            return False

    async def _from_ends(self, cursor: int, ends: Sequence[RecordedEnds]) -> Sequence[Entry]:
        self._ended_checked_at = time.monotonic()
        for recorded in ends:
            try:
                async with asyncio.timeout(self._pace.lookup_seconds_max):
                    entries = await recorded.entries(self._ref)
            except (SourceUnavailable, TimeoutError):
                continue
            if entries is not None:
                self.over = True
                return entries[cursor + 1 :]
        return ()

    async def _enter_folds(self) -> None:
        self._folds_checked_at = time.monotonic()
        if self._folds is not None:
            return
        try:
            self._folds = await self._folds_stack.enter_async_context(
                self._streams.folds.follow(self._ref)
            )
        except SourceUnavailable as why:
            log.warning("an answer's log cannot be read", extra={"reason": str(why)})
            if not self._live_serves:
                await asyncio.sleep(self._pace.read_seconds_max)

    async def _leave_folds(self) -> None:
        self._folds = None
        await self._folds_stack.aclose()
        self._folds_stack = AsyncExitStack()

    async def _from_folds(self, folds: Source, cursor: int) -> Sequence[Entry]:
        try:
            return await folds.after(cursor, seconds_max=self._pace.read_seconds_max)
        except SourceUnavailable:
            await self._leave_folds()
            await asyncio.sleep(self._pace.read_seconds_max)
            return ()
