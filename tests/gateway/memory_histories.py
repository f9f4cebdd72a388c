"""`histories` in memory: the fold of the projection over events, read as the tables are."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from commands.errors import StoreUnavailable
from events.conversations import Kind
from events.envelope import Recorded
from gateway.read_ports import (
    ActivityPlace,
    Changed,
    ConversationRow,
    Found,
    FoundPlace,
    NodePlace,
    NodeRow,
    Read,
    Seen,
    StreamPosition,
)
from projections.histories_fold import CANCELLING, Node, Row, apply_end, fold

CONTEXT = "conversations"

T = TypeVar("T")


class MemoryApplied:
    """How far `MemoryHistories` is. Its one partition's offset is how many events it has seen."""

    def __init__(self, histories: "MemoryHistories") -> None:
        self._histories = histories

    async def wait(self, after: Sequence[StreamPosition | Seen], *, seconds_max: float) -> bool:
        try:
            async with asyncio.timeout(seconds_max):
                while not all(self._has(one) for one in after):  # noqa: ASYNC110 (a fake polls)
                    await asyncio.sleep(0.001)
        except TimeoutError:
            return all(self._has(one) for one in after)
        return True

    async def seen(self) -> Seen:
        return Seen(CONTEXT, {0: self._histories.seen})

    async def parked(self, streams: Sequence[UUID]) -> bool:
        return bool(self._histories.parked.intersection(streams))

    def _has(self, after: StreamPosition | Seen) -> bool:
        self._histories.catch_up()
        if isinstance(after, Seen):
            return after.context != CONTEXT or self._histories.seen >= after.offsets.get(0, 0)
        reached = self._histories.positions.get(after.stream, 0) >= after.position
        return reached or after.stream in self._histories.parked


class MemoryHistories:
    """Lags, is away, or parks streams, when a test says so."""

    def __init__(self, events: Callable[[], Sequence[Recorded]]) -> None:
        self._events = events
        self.lags = False
        self.away = False
        self.refused = 0
        """Readings of changes that failed because it is away."""
        self.parked: set[UUID] = set()
        self.positions: dict[UUID, int] = {}
        self.seen = 0
        self.applied = MemoryApplied(self)
        self._rows: dict[UUID, Row] = {}
        self._nodes: dict[tuple[UUID, int], Node] = {}
        self._heads: dict[tuple[UUID, str], int] = {}
        self._numbers: dict[UUID, int] = {}
        self._wakes: dict[tuple[UUID, str], set[Callable[[], None]]] = {}

    # what the projection does ---------------------------------------------------------------

    def catch_up(self) -> None:
        if self.lags:
            return
        for one in self._events()[self.seen :]:
            self.seen += 1
            if one.stream not in self.parked:
                self._apply(one)

    def _apply(self, one: Recorded) -> None:
        changes = fold(self._rows, [one])
        self.positions[one.stream] = one.position
        self._rows.update(changes.rows)
        self._nodes.update(changes.nodes)
        for key in changes.cancelling:
            self._nodes[key].status = CANCELLING
        for end in changes.ends:
            apply_end(self._nodes[end.conversation, end.position], end)
        for key in [key for key in self._nodes if key[0] in changes.wiped]:
            del self._nodes[key]
        for conversation in changes.shown:
            row = self._rows[conversation]
            if row.kind == Kind.CONVERSATION:
                whose = row.tenant, row.subject
                self._heads[whose] = self._numbers[conversation] = self._heads.get(whose, 0) + 1
                for wake in self._wakes.get(whose, ()):
                    wake()

    # gateway.read_ports.Changes -------------------------------------------------------------

    @contextmanager
    def joined(self, tenant: UUID, subject: str, wake: Callable[[], None]) -> Iterator[None]:
        self._wakes.setdefault((tenant, subject), set()).add(wake)
        try:
            yield
        finally:
            self._wakes[tenant, subject].discard(wake)

    # gateway.read_ports.Histories -----------------------------------------------------------

    async def conversations(
        self,
        tenant: UUID,
        subject: str,
        *,
        archived: bool | None,
        below: ActivityPlace | None,
        limit: int,
    ) -> Read[Sequence[ConversationRow]]:
        rows = [
            row
            for row in self._of(tenant, subject)
            if (archived is None or row.archived == archived) and not row.deleted
        ]
        rows.sort(key=_activity, reverse=True)
        if below is not None:
            rows = [
                row for row in rows if _activity(row) < (below.last_activity, below.conversation)
            ]
        return self._read([self._shown(row) for row in rows[:limit]])

    async def conversation(self, tenant: UUID, conversation: UUID) -> Read[ConversationRow | None]:
        self.catch_up()
        row = self._rows.get(conversation)
        there = row is not None and row.tenant == tenant and not row.deleted
        return self._read(self._shown(row) if row and there else None)

    async def tree(self, conversation: UUID) -> Sequence[NodePlace]:
        self.catch_up()
        return [
            NodePlace(node.position, node.node, node.parent, len((node.text or "").encode()))
            for node in self._nodes.values()
            if node.conversation == conversation
        ]

    async def nodes(self, conversation: UUID, positions: Sequence[int]) -> Read[Sequence[NodeRow]]:
        found = [self._nodes.get((conversation, position)) for position in positions]
        return self._read([_node_row(node) for node in found if node is not None])

    async def search(
        self, tenant: UUID, subject: str, query: str, *, below: FoundPlace | None, limit: int
    ) -> Read[Sequence[Found]]:
        """Finds texts with every word of the query; the rank is how often they are there."""
        words = re.findall(r"\w+", query.lower())
        rows = {row.conversation: row for row in self._of(tenant, subject) if not row.deleted}
        found = []
        for node in self._nodes.values():
            text = (node.text or "").lower()
            if words and node.conversation in rows and all(word in text for word in words):
                found.append(_found(rows[node.conversation], node, words))
        found.sort(key=_rank, reverse=True)
        if below is not None:
            found = [
                one
                for one in found
                if _rank(one) < (below.rank, below.created_at, below.conversation, below.position)
            ]
        return self._read(found[:limit])

    async def last_number(self, tenant: UUID, subject: str) -> int:
        self.catch_up()
        return self._heads.get((tenant, subject), 0)

    async def changes(
        self, tenant: UUID, subject: str, *, above: int, limit: int
    ) -> Sequence[Changed]:
        if self.away:
            self.refused += 1
            raise StoreUnavailable("a test says so")
        found = [
            Changed(self._numbers[row.conversation], self._shown(row))
            for row in self._of(tenant, subject)
            if self._numbers[row.conversation] > above
        ]
        return sorted(found, key=lambda one: one.number)[:limit]

    async def answering(self, tenant: UUID, subject: str) -> Mapping[UUID, UUID]:
        return {
            answer: row.conversation
            for row in self._of(tenant, subject)
            if not row.deleted
            for answer in row.answering
        }

    def _of(self, tenant: UUID, subject: str) -> list[Row]:
        self.catch_up()
        return [
            row
            for row in self._rows.values()
            if (row.tenant, row.subject, row.kind) == (tenant, subject, Kind.CONVERSATION)
        ]

    def _read(self, value: T) -> Read[T]:
        return Read(value, Seen(CONTEXT, {0: self.seen}))

    def _shown(self, row: Row) -> ConversationRow:
        return ConversationRow(
            conversation=row.conversation,
            tenant=row.tenant,
            subject=row.subject,
            kind=row.kind,
            created_at=row.created_at,
            last_activity=row.last_activity,
            title=row.title,
            opening=row.opening,
            metadata=row.metadata,
            archived=row.archived,
            deleted=row.deleted,
            head=row.head,
            model=row.model,
            messages=row.messages,
            answers=row.answers,
            unread=len(row.unread),
            answering=tuple(row.answering),
            position=row.position,
            parked=row.conversation in self.parked,
        )


def _activity(row: Row) -> tuple[object, ...]:
    return row.last_activity, row.conversation


def _rank(one: Found) -> tuple[object, ...]:
    place = one.place
    return place.rank, place.created_at, place.conversation, place.position


def _found(row: Row, node: Node, words: Sequence[str]) -> Found:
    text = node.text or ""
    marks = [found.span() for found in re.finditer("|".join(words), text.lower())]
    return Found(
        place=FoundPlace(float(len(marks)), node.created_at, node.conversation, node.position),
        node=node.node,
        role=node.role,
        title=row.title,
        opening=row.opening,
        archived=row.archived,
        excerpt=text,
        marks=marks,
    )


def _node_row(node: Node) -> NodeRow:
    return NodeRow(
        position=node.position,
        node=node.node,
        parent=node.parent,
        role=node.role,
        created_at=node.created_at,
        text=node.text,
        attachments=node.attachments,
        edits=node.edits,
        model=node.model,
        band=node.band,
        status=node.status,
        reason=node.reason,
        error=node.error,
        prompt_tokens=node.prompt_tokens,
        completion_tokens=node.completion_tokens,
        ended_at=node.ended_at,
    )
