"""`histories@1`, as the gateway's port `Histories` wants it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import TupleRow

from events.conversations import Attachment
from gateway.read_ports import (
    ActivityPlace,
    Changed,
    ConversationRow,
    Found,
    FoundPlace,
    NodePlace,
    NodeRow,
    Read,
)
from infra.read_models import search
from infra.read_models.applied import AppliedPositions
from infra.read_models.models import ReadModels
from projections.conversations import Histories as Projection
from projections.conversations import unpack_metadata
from projections.exact_text import exact, exact_or_none, storable

ANSWERING_CONVERSATIONS_MAX = 64
"""With answers under way, of one subject: a feed follows fewer."""

LIST = """
SELECT conversation, tenant, subject, kind, created_at, last_activity, title, opening, metadata,
       archived, deleted, head, model, messages, answers, jsonb_array_length(unread),
       ARRAY(SELECT jsonb_object_keys(answering)), position,
       EXISTS (SELECT FROM {parked} WHERE stream = conversation)
FROM {main}
WHERE tenant = %(tenant)s AND subject = %(subject)s AND kind = 'conversation' AND NOT deleted
  AND (%(archived)s::bool IS NULL OR archived = %(archived)s)
  AND (%(at)s::timestamptz IS NULL OR (last_activity, conversation) < (%(at)s, %(below)s::uuid))
ORDER BY last_activity DESC, conversation DESC LIMIT %(limit)s
"""
FIND = """
SELECT conversation, tenant, subject, kind, created_at, last_activity, title, opening, metadata,
       archived, deleted, head, model, messages, answers, jsonb_array_length(unread),
       ARRAY(SELECT jsonb_object_keys(answering)), position,
       EXISTS (SELECT FROM {parked} WHERE stream = conversation)
FROM {main} WHERE conversation = %s AND tenant = %s AND NOT deleted
"""
TREE = """
SELECT position, node, parent, coalesce(text_bytes, 0) FROM {main_nodes}
WHERE conversation = %s ORDER BY position
"""
NODES = """
SELECT position, node, parent, role, created_at, text, attachments, edits, model, band, status,
       reason, error, prompt_tokens, completion_tokens, ended_at
FROM {main_nodes} WHERE conversation = %s AND position = ANY(%s)
"""
LAST_NUMBER = "SELECT number FROM {main_heads} WHERE tenant = %s AND subject = %s"
CHANGES = """
SELECT number, conversation, tenant, subject, kind, created_at, last_activity, title, opening,
       metadata, archived, deleted, head, model, messages, answers, jsonb_array_length(unread),
       ARRAY(SELECT jsonb_object_keys(answering)), position,
       EXISTS (SELECT FROM {parked} WHERE stream = conversation)
FROM (
    SELECT number, conversation FROM {main_numbers}
    WHERE tenant = %s AND subject = %s AND number > %s ORDER BY number LIMIT %s
) AS changed JOIN {main} USING (conversation)
ORDER BY number
"""
ANSWERING = """
SELECT conversation, ARRAY(SELECT jsonb_object_keys(answering)) FROM {main}
WHERE tenant = %s AND subject = %s AND kind = 'conversation' AND NOT deleted AND answering <> '{{}}'
ORDER BY last_activity DESC, conversation DESC LIMIT %s
"""


class HistoriesReadModel:
    """See gateway.read_ports.Histories."""

    tables = Projection.tables
    context = Projection.context

    def __init__(self, models: ReadModels) -> None:
        self._models = models
        self.applied = AppliedPositions(models, self.tables, self.context)

    async def conversations(
        self,
        tenant: UUID,
        subject: str,
        *,
        archived: bool | None,
        below: ActivityPlace | None,
        limit: int,
    ) -> Read[Sequence[ConversationRow]]:
        values = {
            "tenant": tenant,
            "subject": storable(subject),
            "archived": archived,
            "at": below and below.last_activity,
            "below": below and below.conversation,
            "limit": limit,
        }
        rows, seen = await self._models.read_seen(self.tables, self.context, LIST, values)
        return Read([conversation_row(row) for row in rows], seen)

    async def conversation(self, tenant: UUID, conversation: UUID) -> Read[ConversationRow | None]:
        values = (conversation, tenant)
        rows, seen = await self._models.read_seen(self.tables, self.context, FIND, values)
        return Read(conversation_row(rows[0]) if rows else None, seen)

    async def tree(self, conversation: UUID) -> Sequence[NodePlace]:
        rows = await self._models.read(self.tables, TREE, (conversation,))
        return [NodePlace(*row) for row in rows]

    async def nodes(self, conversation: UUID, positions: Sequence[int]) -> Read[Sequence[NodeRow]]:
        values = (conversation, list(positions))
        rows, seen = await self._models.read_seen(self.tables, self.context, NODES, values)
        return Read([_node_row(row) for row in rows], seen)

    async def search(
        self, tenant: UUID, subject: str, query: str, *, below: FoundPlace | None, limit: int
    ) -> Read[Sequence[Found]]:
        values = search.values(tenant, subject, query, below=below, limit=limit)
        rows, seen = await self._models.read_seen(self.tables, self.context, search.SEARCH, values)
        return Read([search.found(row) for row in rows], seen)

    async def last_number(self, tenant: UUID, subject: str) -> int:
        values = (tenant, storable(subject))
        rows = await self._models.read(self.tables, LAST_NUMBER, values)
        return int(rows[0][0]) if rows else 0

    async def changes(
        self, tenant: UUID, subject: str, *, above: int, limit: int
    ) -> Sequence[Changed]:
        values = (tenant, storable(subject), above, limit)
        rows = await self._models.read(self.tables, CHANGES, values)
        return [Changed(row[0], conversation_row(row[1:])) for row in rows]

    async def answering(self, tenant: UUID, subject: str) -> Mapping[UUID, UUID]:
        values = (tenant, storable(subject), ANSWERING_CONVERSATIONS_MAX)
        rows = await self._models.read(self.tables, ANSWERING, values)
        return {UUID(answer): conversation for conversation, open_ in rows for answer in open_}


def conversation_row(values: TupleRow) -> ConversationRow:
    """In the order of the statements above."""
    conversation, tenant, subject, kind, created_at, last_activity, title, opening, *rest = values
    metadata, archived, deleted, head, model, messages, answers, unread, answering, *last = rest
    position, parked = last
    return ConversationRow(
        conversation=conversation,
        tenant=tenant,
        subject=exact(subject),
        kind=kind,
        created_at=created_at,
        last_activity=last_activity,
        title=exact_or_none(title),
        opening=exact_or_none(opening),
        metadata=unpack_metadata(metadata),
        archived=archived,
        deleted=deleted,
        head=head,
        model=exact_or_none(model),
        messages=messages,
        answers=answers,
        unread=unread,
        answering=tuple(UUID(answer) for answer in answering),
        position=position,
        parked=parked,
    )


def _node_row(values: TupleRow) -> NodeRow:
    """In the order of NODES."""
    position, node, parent, role, created_at, text, attachments, edits, *of_answer = values
    model, band, status, reason, error, prompt_tokens, completion_tokens, ended_at = of_answer
    return NodeRow(
        position=position,
        node=node,
        parent=parent,
        role=role,
        created_at=created_at,
        text=exact_or_none(text),
        attachments=_attachments(attachments),
        edits=edits,
        model=exact_or_none(model),
        band=band,
        status=status,
        reason=exact_or_none(reason),
        error=exact_or_none(error),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        ended_at=ended_at,
    )


def _attachments(stored: str | None) -> tuple[Attachment, ...]:
    decoded: list[dict[str, Any]] = orjson.loads(stored) if stored else []
    return tuple(Attachment(**one) for one in decoded)
