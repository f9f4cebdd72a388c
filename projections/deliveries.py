"""A record of a domain topic as a projection gets it: read as far as its envelope."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from events.catalog import BY_TYPE
from events.codec import Headers, Undecodable, from_attributes
from events.envelope import Recorded
from events.ids import parse_id

POSITION_MAX = 2**63 - 1
"""What a column can hold."""


@dataclass(slots=True)
class Delivery:
    """What Kafka delivered, and what its headers say it is."""

    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes]]
    value: bytes | None
    stream: UUID | None
    """None: the envelope is damaged, nobody knows whose event it is."""
    position: int
    type_name: str
    attributes: Mapping[str, bytes] = field(repr=False, compare=False)
    """The headers by name."""
    decoded: Recorded | None = None
    """If it was read ahead; see `read_ahead`."""

    @property
    def traceparent(self) -> str | None:
        """Of the request that led to the event."""
        found = self.attributes.get("ce_traceparent")
        return None if found is None else found.decode(errors="replace")

    def decode(self) -> Recorded:
        """The event. Raises Undecodable."""
        return self.decoded or from_attributes(self.attributes, self.value)

    def read_ahead(self, types: Collection[str]) -> None:
        """Decodes it now if it is of one of these types, and can be decoded."""
        with suppress(Undecodable):
            self.decoded = self.event_of(types)

    def event_of(self, types: Collection[str]) -> Recorded | None:
        """The event if it is of one of these types; None if of another. Raises Undecodable, for a
        type that this program does not know too: it may be one that matters to a newer one.
        """
        return self.decode() if self.type_name in types or self.type_name not in BY_TYPE else None


def delivery(
    topic: str,
    partition: int,
    offset: int,
    headers: Sequence[tuple[str, bytes]] | None,
    value: bytes | None,
) -> Delivery:
    found = dict(headers or ())
    try:
        stream: UUID | None = parse_id(found["ce_subject"].decode())
        position = int(found["ce_sequence"])
        if not 1 <= position <= POSITION_MAX:
            raise ValueError
    except (KeyError, ValueError):
        stream, position = None, 0
    type_name = found.get("ce_type", b"").decode(errors="replace")
    return Delivery(
        topic, partition, offset, headers or (), value, stream, position, type_name, found
    )


def pack_headers(headers: Headers | Sequence[tuple[str, bytes]]) -> bytes:
    """Headers as one field of a dead letter; latin-1 keeps every byte."""
    return orjson.dumps([(name, content.decode("latin-1")) for name, content in headers])


def unpack_headers(packed: bytes) -> Headers:
    """The inverse of `pack_headers`."""
    return [(name, content.encode("latin-1")) for name, content in orjson.loads(packed)]
