"""What the write side needs of an event store. Implemented in infra/event_store/."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from events.envelope import Recorded


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a command was stored: `stream:position` is a token for reads that must see it."""

    stream: UUID
    position: int
    """Of the command's last event."""
    stored_at: datetime
    """The database's time. The same command gives the same receipt for ever."""
    repeated: bool = False
    """The command had been stored before, or changed nothing; no event was stored now."""
    joined: str | None = None
    """The earlier command that this one turned out to be a repeat of; the rest is that one's."""

    def __str__(self) -> str:
        return f"{self.stream}:{self.position}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A send of a client that numbers its sends, and gives them no key (docs/decisions/0008)."""

    key: UUID
    """The API key that it came with."""
    asked: bytes
    """Digest of what was asked (route and body): equal for all sends of one turn."""
    number: int = 0
    """0: the first send; n: the n-th repeat of it."""


@dataclass(frozen=True, slots=True)
class Append:
    """Events of one command for one stream, to be stored together with its idempotency row."""

    tenant: UUID
    command: str
    fingerprint: bytes
    """Digest of what was asked (route and body): the same command id with another is an error."""
    stream: UUID
    events: Sequence[Recorded]
    """Positions are dense and follow the position that the decider saw."""
    attempt: Attempt | None = None
    """Begins a turn that a later attempt may join; a repeat joins one instead, if it can."""


class PositionTaken(Exception):
    """Another command has appended to the stream first. Nothing was stored."""


class EventStore(Protocol):
    """The streams of one bounded context."""

    async def load(self, stream: UUID) -> Sequence[Recorded]:
        """All events of a stream in order; empty if there is none. Raises StoreUnavailable."""

    async def append(self, append: Append) -> Receipt:
        """Stores events and idempotency row in one transaction; returns when it is committed.

        The same command again: returns the stored receipt, with `repeated`. Raises PositionTaken,
        CommandReused, StoreSaturated, and StoreUnavailable when it cannot be known (after having
        looked for the command id) whether the transaction was committed.

        With an `attempt` that is a repeat: the newest turn of the same key and digest that began
        within `repeat_seconds_max`, was not settled, and whose last attempt has a lower number is
        joined, in the same transaction: its receipt is returned, with `joined`, and nothing is
        stored. Else a new turn begins, so that each turn is joined once by each number.
        """

    async def keep_command(
        self, tenant: UUID, command: str, fingerprint: bytes, stream: UUID, position: int
    ) -> Receipt:
        """Stores the idempotency row of a command that changed nothing of the stream at `position`.

        A repeat changes nothing either then, however the stream went on. There is no event of it:
        nobody who reads the log hears of it. The same command again: returns the stored receipt.
        Raises CommandReused, and StoreUnavailable: then it may have been stored.
        """

    async def receipt(self, tenant: UUID, command: str, fingerprint: bytes) -> Receipt | None:
        """What the command with that id got, if it was stored. Raises CommandReused."""
