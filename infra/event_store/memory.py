"""An event store in memory, for fast tests; it passes the same contract suite as the real one."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import UUID

from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.popo import POPOApplicationRecorder

from commands.store import Append, Attempt, PositionTaken, Receipt
from events.codec import Undecodable
from events.conversations import AnswerEnded, AnswerRequested, ConversationDeleted
from events.envelope import Recorded
from events.ids import TenantId
from events.sealing import ContentKey
from infra.event_store.answers import STOPPED_READABLE_SECONDS, AnswerRow
from infra.event_store.content_keys import (
    KEYS_PER_SWEEP_MAX,
    UNENDED_SECONDS_MAX,
    UNSTORED_SECONDS_MAX,
    keys_of,
)
from infra.event_store.mapper import EventMapper, with_keys
from infra.event_store.recorder import CommandKey, StoredCommand
from infra.event_store.turns import REPEAT_SECONDS_MAX
from infra.event_store.writer import receipt_of


class MemoryRecorder(POPOApplicationRecorder):
    """eventsourcing's recorder of plain objects, with idempotency rows."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: dict[CommandKey, StoredCommand] = {}

    def _assert_uniqueness(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        super()._assert_uniqueness(stored_events, **kwargs)
        append: Append | None = kwargs.get("append")
        if append is not None and (append.tenant, append.command) in self.commands:
            raise IntegrityError(f"command already recorded: {append.command}")

    def _update_table(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        append: Append | None = kwargs.get("append")
        if append is not None:
            self.commands[append.tenant, append.command] = StoredCommand(
                append.stream, append.events[-1].position, append.fingerprint, datetime.now(UTC)
            )
        return super()._update_table(stored_events, **kwargs)


@dataclass(slots=True)
class MemoryTurn:
    """A row of the turns table."""

    begun_by: Attempt
    number: int
    joined_by: str | None = None
    began_at: float = field(default_factory=monotonic)


class MemoryStore:
    """A commands.store.EventStore of any context, with the conversations' index of answers."""

    def __init__(
        self,
        *,
        unstored_seconds_max: float = UNSTORED_SECONDS_MAX,
        unended_seconds_max: float = UNENDED_SECONDS_MAX,
        repeat_seconds_max: float = REPEAT_SECONDS_MAX,
    ) -> None:
        self.recorder = MemoryRecorder()
        self.turns: dict[CommandKey, MemoryTurn] = {}
        """Those that may still be joined, oldest first."""
        self._repeat_seconds_max = repeat_seconds_max
        self._mapper = EventMapper()
        self._asked: dict[UUID, tuple[AnswerRow, float, float]] = {}
        self._ended_at: dict[UUID, float] = {}
        self._deleted_at: dict[UUID, float] = {}
        self.stopped_readable_seconds = STOPPED_READABLE_SECONDS
        self._keys: dict[UUID, tuple[ContentKey | None, float]] = {}
        self._unstored_seconds_max = unstored_seconds_max
        self._unended_seconds_max = unended_seconds_max

    async def load(self, stream: UUID) -> Sequence[Recorded]:
        stored_events = self.recorder.select_events(stream)
        return with_keys([self._mapper.decode(one) for one in stored_events], self._find_keys)

    async def append(self, append: Append) -> Receipt:
        if not append.events:
            raise ValueError("an append has at least one event")
        stored_events = [self._mapper.encode(recorded) for recorded in append.events]
        key = (append.tenant, append.command)
        if append.attempt is not None and append.attempt.number > 0:
            joined = await self.join(append.command, append.attempt)
            if joined is not None:
                return joined
        try:
            self.recorder.insert_events(stored_events, append=append)
        except IntegrityError:
            if key in self.recorder.commands:
                return receipt_of(append, self.recorder.commands[key])
            raise PositionTaken from None
        stored = self.recorder.commands[key]
        self._index(append.events)
        self._keep_keys(append)
        if append.attempt is not None:
            self.turns[key] = MemoryTurn(append.attempt, append.attempt.number)
        return Receipt(stored.stream, stored.position, stored.stored_at)

    async def keep_command(
        self, tenant: UUID, command: str, fingerprint: bytes, stream: UUID, position: int
    ) -> Receipt:
        fresh = StoredCommand(stream, position, fingerprint, datetime.now(UTC))
        stored = self.recorder.commands.setdefault((tenant, command), fresh)
        return receipt_of(Append(tenant, command, fingerprint, stream, ()), stored)

    async def receipt(self, tenant: UUID, command: str, fingerprint: bytes) -> Receipt | None:
        stored = self.recorder.commands.get((tenant, command))
        if stored is None:
            return None
        return receipt_of(Append(tenant, command, fingerprint, stored.stream, ()), stored)

    async def stored_times(self, commands: Collection[CommandKey]) -> dict[CommandKey, datetime]:
        """As ConversationStore."""
        known = self.recorder.commands
        return {key: known[key].stored_at for key in commands if key in known}

    async def find_answer(self, answer: UUID) -> AnswerRow | None:
        """As ConversationStore."""
        if answer not in self._asked:
            return None
        row, asked_at, deadline_seconds = self._asked[answer]
        age = monotonic() - asked_at
        return replace(
            row,
            age_seconds=age,
            seconds_left=deadline_seconds - age,
            expired=self._keys.get(row.conversation, (True, 0))[0] is None,
            gone=self._is_gone(row),
        )

    async def find_asked(
        self, answer: UUID, stream: UUID
    ) -> tuple[AnswerRow | None, Sequence[Recorded] | Exception]:
        """As ConversationStore."""
        row = await self.find_answer(answer)
        try:
            return row, await self.load(stream)
        except Undecodable as error:
            return row, error

    def _is_gone(self, row: AnswerRow) -> bool:
        if row.conversation not in self._deleted_at or row.answer not in self._ended_at:
            return False
        ended_at = self._ended_at[row.answer]
        over = monotonic() - self.stopped_readable_seconds
        return ended_at < max(self._deleted_at[row.conversation], over)

    async def unanswered(self) -> dict[UUID, int]:
        """As ConversationStore."""
        return dict(Counter(row.tenant for row, _, _ in self._asked.values() if not row.ended))

    async def join(self, command: str, attempt: Attempt) -> Receipt | None:
        """As ConversationStore."""
        oldest = monotonic() - self._repeat_seconds_max
        open_ones = [
            (turn.joined_by == command, turn.began_at, key)
            for key, turn in self.turns.items()
            if (turn.begun_by.key, turn.begun_by.asked) == (attempt.key, attempt.asked)
            and turn.began_at > oldest
            and (turn.number < attempt.number or turn.joined_by == command)
        ]
        if not open_ones:
            return None
        key = max(open_ones)[2]
        self.turns[key].number, self.turns[key].joined_by = attempt.number, command
        stored = self.recorder.commands[key]
        return Receipt(stored.stream, stored.position, stored.stored_at, True, joined=key[1])

    async def settle(self, turns: Sequence[CommandKey]) -> None:
        """As ConversationStore."""
        for turn in turns:
            self.turns.pop(turn, None)

    async def sweep_turns(self) -> int:
        """As ConversationStore."""
        oldest = monotonic() - self._repeat_seconds_max
        old = [key for key, turn in self.turns.items() if turn.began_at < oldest]
        await self.settle(old)
        return len(old)

    def _index(self, appended: Sequence[Recorded]) -> None:
        for recorded in appended:
            event = recorded.event
            if isinstance(event, AnswerRequested):
                row = AnswerRow(
                    event.answer,
                    TenantId(recorded.meta.tenant),
                    event.conversation,
                    seconds_left=event.deadline_seconds,
                    ended=False,
                    age_seconds=0,
                )
                self._asked[event.answer] = (row, monotonic(), event.deadline_seconds)
            elif isinstance(event, AnswerEnded) and event.answer in self._asked:
                row, asked_at, deadline_seconds = self._asked[event.answer]
                ended = replace(row, ended=True)
                self._asked[event.answer] = (ended, asked_at, deadline_seconds)
                self._ended_at.setdefault(event.answer, monotonic())
            elif isinstance(event, ConversationDeleted):
                self._deleted_at.setdefault(event.conversation, monotonic())

    def _find_keys(self, ids: Iterable[UUID]) -> dict[UUID, ContentKey]:
        found = {key_id: self._keys.get(key_id, (None, 0))[0] for key_id in ids}
        return {key_id: key for key_id, key in found.items() if key is not None}

    def _keep_keys(self, append: Append) -> None:
        fresh, used = keys_of([append])
        expires_at = monotonic() + self._unstored_seconds_max
        for key in (*fresh, *(key for key in used if self._find_keys([key.id]))):
            self._keys[key.id] = (key, expires_at)

    async def destroy_keys(self) -> int:
        """As ConversationStore."""
        now = monotonic()
        rows = [row for row, _, _ in self._asked.values()]
        answering = {row.conversation for row in rows if not row.ended}
        due = [
            stream
            for stream, (key, expires_at) in self._keys.items()
            if key is not None
            and expires_at < now
            and (stream not in answering or expires_at < now - self._unended_seconds_max)
        ][:KEYS_PER_SWEEP_MAX]
        self._keys |= {stream: (None, self._keys[stream][1]) for stream in due}
        return len(due)

    async def ping(self) -> None:
        """Memory is always there."""

    async def close(self) -> None:
        """There is nothing to close."""
