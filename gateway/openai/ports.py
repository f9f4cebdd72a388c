"""What stored completions need of the outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from events.envelope import Recorded


@dataclass(frozen=True, slots=True)
class CompletionsWanted:
    """Which completions, in which order of their beginning."""

    tenant: UUID
    limit: int
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Pairs that all of them have, among others."""
    newest_first: bool = False
    after: UUID | None = None
    """The conversation of the last one that was read; it may be deleted by now."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Where a completion is."""

    conversation: UUID
    answer: UUID


class CompletionList(Protocol):
    """Completions that are stored, whose answers have ended well. It may lag a moment."""

    async def find(self, wanted: CompletionsWanted) -> Sequence[Listed]:
        """At most `limit` of them; none after one that is not known. Raises StoreUnavailable."""


class Recordings(Protocol):
    """The streams themselves: they never lag."""

    async def load(self, stream: UUID) -> Sequence[Recorded]:
        """All events of a stream in order; empty if there is none. Raises StoreUnavailable."""

    async def stored_at(self, tenant: UUID, command: str) -> datetime | None:
        """When a command was stored, by the database's clock. Raises StoreUnavailable."""
