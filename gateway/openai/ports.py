"""What stored completions need of the outside."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from events.envelope import Recorded

StoredTimes = Mapping[tuple[UUID, str], datetime]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the list: it is in this order."""

    created_at: datetime
    """Of the conversation's first event."""
    conversation: UUID


@dataclass(frozen=True, slots=True)
class CompletionsWanted:
    """Which completions, in which order of their beginning."""

    tenant: UUID
    limit: int
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Pairs that all of them have, among others."""
    newest_first: bool = False
    after: Place | None = None
    """Of the last one that was read; it may be deleted by now, or not be listed yet."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Where a completion is."""

    place: Place
    answer: UUID


class CompletionList(Protocol):
    """Completions that are stored, whose answers have ended well. It may lag a moment."""

    async def find(self, wanted: CompletionsWanted) -> Sequence[Listed]:
        """At most `limit` of them. Raises StoreUnavailable."""


class Recordings(Protocol):
    """The streams themselves: they never lag."""

    async def load(self, stream: UUID) -> Sequence[Recorded]:
        """All events of a stream in order; empty if there is none. Raises StoreUnavailable."""

    async def stored_times(self, commands: Collection[tuple[UUID, str]]) -> StoredTimes:
        """When these commands, by tenant and id, were stored, by the database's clock.

        Raises StoreUnavailable.
        """
