"""Appends to give to an event store."""

from datetime import UTC, datetime
from uuid import UUID

from commands.store import Append, Attempt
from events.conversations import (
    AnswerEnded,
    AnswerRequested,
    Band,
    ConversationStarted,
    EndKind,
    MessagePosted,
    Role,
    Sampling,
    Usage,
)
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, ConversationId, MessageId, TenantId, fresh_id

TENANT = TenantId(fresh_id())


def append(
    *events: Event,
    stream: UUID | None = None,
    after: int = 0,
    command: str | None = None,
    tenant: UUID = TENANT,
    fingerprint: bytes = b"asked",
    attempt: Attempt | None = None,
) -> Append:
    """An append of these events to a stream (or a fresh one) that has `after` events so far."""
    stream = stream or fresh_id()
    command = command or f"call:{fresh_id()}"
    meta = Meta(tenant, command, "tester", "somebody", datetime.now(UTC), fresh_id())
    given = events or (ConversationStarted(conversation=ConversationId(stream)),)
    recorded = [
        Recorded(fresh_id(), stream, position, meta, event)
        for position, event in enumerate(given, start=after + 1)
    ]
    return Append(tenant, command, fingerprint, stream, recorded, attempt)


def message(stream: UUID, text: str = "Hello") -> MessagePosted:
    return MessagePosted(
        conversation=ConversationId(stream),
        message=MessageId(fresh_id()),
        role=Role.USER,
        content=text,
        parent=None,
    )


def asked(stream: UUID, answer: AnswerId, seconds: float = 60) -> AnswerRequested:
    return AnswerRequested(
        conversation=ConversationId(stream),
        answer=answer,
        parent=fresh_id(),
        model="model",
        band=Band.DEFAULT,
        deadline_seconds=seconds,
        sampling=Sampling(max_tokens=10),
    )


def ended(stream: UUID, answer: AnswerId) -> AnswerEnded:
    return AnswerEnded(
        conversation=ConversationId(stream),
        answer=answer,
        kind=EndKind.FINISH,
        reason="stop",
        text="Yes.",
        chunk_lengths=(4,),
        usage=Usage(),
    )
