"""What of a batch of records a saga hears: little of it is decoded, for most of it is over at once.

A saga reads every event of its context and needs few of them. An instance that begins and is closed
in the same batch is neither decoded nor written anywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from events.codec import Undecodable, from_cloudevent
from events.envelope import Recorded
from infra.kafka.consumer import Record
from sagas.saga import Saga, Sent, State

TYPE_HEADER = "ce_type"


@dataclass(slots=True)
class Heard:
    opened: dict[UUID, Record] = field(default_factory=dict)
    """What begins in this batch and is not closed in it."""
    closed: dict[UUID, Record] = field(default_factory=dict)
    unreadable: list[tuple[Record, str]] = field(default_factory=list)
    """And why."""

    @property
    def instances(self) -> list[UUID]:
        return [*self.opened, *(one for one in self.closed if one not in self.opened)]

    def read(self, record: Record) -> Recorded | None:
        """The event; None: it is unreadable."""
        try:
            return from_cloudevent(record.headers, record.value)
        except Undecodable as error:
            self.unreadable.append((record, str(error)))
            return None


def hear(saga: Saga[State, Sent], records: Iterable[Record]) -> Heard:
    opens, closes = saga.opens.encode(), saga.closes.encode()
    heard = Heard()
    for record in records:
        kind = _type_of(record)
        if kind != opens and kind != closes:
            continue
        try:
            instance = saga.instance(orjson.loads(record.value or b""))
        except (ValueError, KeyError, TypeError) as error:
            heard.unreadable.append((record, f"nobody knows what it is about: {error!r}"))
            continue
        if kind == opens:
            heard.opened[instance] = record
        else:
            heard.opened.pop(instance, None)
            heard.closed[instance] = record
    return heard


def _type_of(record: Record) -> bytes | None:
    for name, value in record.headers:
        if name == TYPE_HEADER:
            return value
    return None
