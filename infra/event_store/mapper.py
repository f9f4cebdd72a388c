"""Between our events and the rows that eventsourcing's recorders store.

The topic column holds the event's stable TYPE. eventsourcing would store `module:class` there and
import whatever it reads back; here a type that is not in the catalog is refused.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder

from events.codec import decode_stored, encode_stored, opened
from events.envelope import Recorded
from events.sealing import ContentKey, parse

FindKeys = Callable[[Iterable[UUID]], Mapping[UUID, ContentKey]]


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """A recorded event in the form that eventsourcing calls a domain event."""

    recorded: Recorded

    @property
    def originator_id(self) -> UUID:
        return self.recorded.stream

    @property
    def originator_version(self) -> int:
        return self.recorded.position


class EnvelopeTranscoder(Transcoder):
    """Recorded events to the bytes of the state column."""

    def encode(self, obj: Any) -> bytes:
        if not isinstance(obj, Recorded):
            raise TypeError(f"only recorded events are stored, not {type(obj).__name__}")
        return encode_stored(obj)

    def decode(self, data: bytes) -> Any:
        raise TypeError("a state can't be read without its row; use EventMapper.decode")


class EventMapper(Mapper[UUID]):
    """Uses events/codec.py. A cipher or compressor of eventsourcing's may be given, as ever."""

    def __init__(self) -> None:
        super().__init__(EnvelopeTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        if not isinstance(domain_event, DomainRecord):
            raise TypeError(f"only recorded events are stored, not {type(domain_event).__name__}")
        return self.encode(domain_event.recorded)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainRecord:
        return DomainRecord(self.decode(stored_event))

    def encode(self, recorded: Recorded) -> StoredEvent:
        """The row of an event."""
        return StoredEvent(
            originator_id=recorded.stream,
            originator_version=recorded.position,
            topic=recorded.event.TYPE,
            state=self.transcoder.encode(recorded),
        )

    def decode(self, stored_event: StoredEvent) -> Recorded:
        """The event of a row. Raises Undecodable; never imports by a name from the database."""
        stream = stored_event.originator_id
        if not isinstance(stream, UUID):
            raise TypeError("streams have UUIDs")
        return decode_stored(
            stream, stored_event.originator_version, stored_event.topic, stored_event.state
        )


def with_keys(recorded: Sequence[Recorded], find: FindKeys) -> Sequence[Recorded]:
    """Opens the events that are sealed, where their key is found; it is asked for only if one is.

    Raises Undecodable.
    """
    wanted = {parse(one.sealed).key for one in recorded if one.sealed is not None}
    if not wanted:
        return recorded
    keys = find(wanted)
    return [
        opened(one, keys[key_id])
        if one.sealed is not None and (key_id := parse(one.sealed).key) in keys
        else one
        for one in recorded
    ]
