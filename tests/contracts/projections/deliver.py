"""Events as a relay would send them, without a Kafka."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from events.accounts import KeyCreated, KeyRevoked, TenantCreated
from events.codec import to_cloudevent
from events.conversations import (
    AnswerEnded,
    ConversationStarted,
    EndKind,
    MessagePosted,
    Role,
    Usage,
)
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, ConversationId, KeyId, MessageId, TenantId, fresh_id
from projections import tables as sqls
from projections.deliveries import Delivery, delivery
from projections.projection import Projection
from projections.tables import Db

AGE = "UPDATE projection_builds SET state = 'old' WHERE name = %s AND version = %s AND build = %s"
TENANT = TenantId(UUID(int=7))
TOPIC = "thalweg.conversations"


class Partition:
    """Counts offsets."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.end = 0

    def send(self, recorded: Iterable[Recorded]) -> list[Delivery]:
        return [self.send_raw(*to_cloudevent(one)[1:]) for one in recorded]

    def send_raw(self, headers: Sequence[tuple[str, bytes]], value: bytes | None) -> Delivery:
        self.end += 1
        return delivery(TOPIC, self.number, self.end - 1, headers, value)


def drop_live(db: Db, projection: Projection) -> None:
    """As if it had never been built: the next to come builds it from the log again."""
    tables = projection.tables
    db.execute(AGE, (tables.name, tables.version, tables.build))
    assert sqls.drop(db, tables, projection.own_suffixes)


def recorded_stream(stream: UUID, events: Sequence[Event], *, first: int = 1) -> list[Recorded]:
    meta = Meta(TENANT, "c", "test", "somebody", datetime(2026, 11, 1, tzinfo=UTC), fresh_id())
    return [
        Recorded(fresh_id(), stream, position, meta, event)
        for position, event in enumerate(events, first)
    ]


def ended(conversation: UUID, answer: UUID, text: str = "a\0b c") -> AnswerEnded:
    return AnswerEnded(
        conversation=ConversationId(conversation),
        answer=AnswerId(answer),
        kind=EndKind.FINISH,
        reason="stop",
        text=text,
        chunk_lengths=(2, len(text) - 2, 0),
        usage=Usage(prompt_tokens=2, completion_tokens=3),
    )


def a_conversation(*, answers: int = 1) -> list[Recorded]:
    stream = ConversationId(fresh_id())
    events: list[Event] = [ConversationStarted(conversation=stream)]
    for _ in range(answers):
        events.append(
            MessagePosted(
                conversation=stream,
                message=MessageId(fresh_id()),
                role=Role.USER,
                content="?",
                parent=None,
            )
        )
        events.append(ended(stream, fresh_id()))
    return recorded_stream(stream, events)


def an_account() -> list[Recorded]:
    key = KeyId(fresh_id())
    return recorded_stream(
        TENANT,
        [
            TenantCreated(tenant=TENANT, name="default"),
            KeyCreated(tenant=TENANT, key=key, name="first", owner="o", key_hash="a" * 64),
            KeyCreated(
                tenant=TENANT, key=KeyId(fresh_id()), name="next", owner="o", key_hash="b" * 64
            ),
            KeyRevoked(tenant=TENANT, key=key),
        ],
    )
