"""What an installation has kept since a case began: the checker's second input.

From the event store (events and idempotency rows) and from Kafka, where repeats are kept: to drop
them is for who judges.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from events.answers import entries_of_ended
from events.codec import Undecodable, decode_stored, from_cloudevent
from events.conversations import (
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    ConversationRenamed,
    ConversationStarted,
    MessagePosted,
)
from events.envelope import Event
from events.topics import Topics
from infra.kafka.consumer import LogReader
from infra.kafka.offsets import OffsetQueries
from infra.settings import Settings

RELAYED_SECONDS_MAX = 120
"""A relay that was killed has its lease back and has caught up by then."""
CONTEXT = "conversations"

HEAD = "SELECT coalesce(max(notification_id), 0) FROM conversations.stored_events"
EVENTS = (
    "SELECT originator_id, originator_version, topic, state FROM conversations.stored_events"
    " WHERE notification_id > %s ORDER BY notification_id"
)
COMMANDS = (
    "SELECT command, stream, position FROM conversations.commands"
    " WHERE stream = ANY(%s) OR command = ANY(%s)"
)
KNOWN = (
    "SELECT DISTINCT originator_id FROM conversations.stored_events WHERE originator_id = ANY(%s)"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """One event in the event store."""

    id: str
    stream: str
    position: int
    command: str
    """The command id: of a client's it is `key:` and its idempotency key."""
    what: str
    """started, posted, asked, ended, cancel, renamed; else the event's type."""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Logged:
    """One record of the domain topic."""

    id: str
    stream: str
    position: int
    partition: int


@dataclass(frozen=True, slots=True)
class Stored:
    events: Sequence[Kept] = ()
    """In the order of their commits."""
    log: Sequence[Logged] = ()
    """In the order of each partition, repeats included."""
    commands: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Idempotency rows: stream and position by command id."""
    unheard_of: frozenset[str] = frozenset()
    """Streams that are in Kafka and not in the event store at all."""
    garbage: int = 0
    """Records of the domain topic that are no events."""


@dataclass(frozen=True, slots=True)
class Base:
    """Where event store and log ended when the case began."""

    head: int
    offsets: Mapping[int, int]


async def base_of(settings: Settings) -> Base:
    topic = Topics().domain(CONTEXT)
    queries = OffsetQueries(settings.kafka_servers)
    try:
        offsets = await queries.end_offsets(topic, range(settings.partitions))
    finally:
        await queries.close()
    with psycopg.connect(settings.database_url(CONTEXT)) as connection:
        row = connection.execute(HEAD).fetchone()
    assert row is not None
    return Base(int(row[0]), offsets)


async def stored_since(settings: Settings, base: Base, keys: Sequence[str]) -> Stored:
    """Everything since then. `keys`: the idempotency keys that clients have used."""
    with psycopg.connect(settings.database_url(CONTEXT)) as connection:
        rows = connection.execute(EVENTS, (base.head,)).fetchall()
        events = [kept(*row) for row in rows]
        streams = list({row[0] for row in rows})
        commands = {
            command: (str(stream), int(position))
            for command, stream, position in connection.execute(
                COMMANDS, (streams, [f"key:{key}" for key in keys])
            )
        }
        log, garbage = await _log_since(settings, base, events)
        others = list({UUID(one.stream) for one in log} - set(streams))
        known = {row[0] for row in connection.execute(KNOWN, (others,))}
    return Stored(events, log, commands, frozenset(map(str, set(others) - known)), garbage)


def kept(stream: UUID, position: int, type_name: str, state: bytes) -> Kept:
    recorded = decode_stored(stream, position, type_name, bytes(state))
    what, facts = in_words(recorded.event)
    return Kept(str(recorded.id), str(stream), position, recorded.meta.command, what, facts)


def in_words(event: Event) -> tuple[str, dict[str, Any]]:
    match event:
        case ConversationStarted():
            return "started", {"title": event.title}
        case MessagePosted():
            return "posted", {"content": event.content}
        case AnswerRequested():
            return "asked", {"answer": str(event.answer)}
        case AnswerCancelRequested():
            return "cancel", {"answer": str(event.answer)}
        case ConversationRenamed():
            return "renamed", {"title": event.title}
        case AnswerEnded():
            return "ended", {
                "answer": str(event.answer),
                "kind": event.kind.value,
                "reason": event.reason,
                "chunks": [entry.text for entry in entries_of_ended(event)],
                "seams": [seam.index for seam in event.seams],
            }
    return event.TYPE, {}


async def _log_since(
    settings: Settings, base: Base, events: Sequence[Kept]
) -> tuple[list[Logged], int]:
    """Reads until every event has come, in vain for a while at most, and then what is there; and
    how many records are no events."""
    missing = {one.id for one in events}
    found: list[Logged] = []
    garbage = 0
    reader = LogReader(settings.kafka_servers)
    topic = Topics().domain(CONTEXT)
    try:
        await reader.assign({(topic, number): at for number, at in base.offsets.items()})
        ends = await reader.end_offsets(topic, range(settings.partitions))
        at = dict(base.offsets)
        deadline = time.monotonic() + RELAYED_SECONDS_MAX
        while missing or any(at[number] < end for number, end in ends.items()):
            if time.monotonic() > deadline:
                break
            for record in await reader.read(records_max=5_000, seconds_max=0.1):
                at[record.partition] = record.offset + 1
                try:
                    one = from_cloudevent(record.headers, record.value)
                except Undecodable:
                    garbage += 1
                    continue
                found.append(Logged(str(one.id), str(one.stream), one.position, record.partition))
                missing.discard(str(one.id))
    finally:
        await reader.close()
    return found, garbage
