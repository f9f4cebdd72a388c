"""What reading the log needs of the outside: one context's event store, in commit order.

A *place* is where an event stands in the log of its context: it rises in commit order, with gaps.
A *position* is where it stands in its stream: dense, from 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from events.envelope import Recorded

CLOCKS_APART_MAX = timedelta(minutes=5)
"""An event has the time of the process that made it, and is committed a moment later: places and
times rise together only as far as clocks agree. Searches by time allow for this much."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events of a log."""

    tenant: UUID | None = None
    """None: every tenant's. Only for those who run the installation."""
    stream: UUID | None = None
    from_position: int = 1
    """Of the stream, if one is wanted."""
    types: frozenset[str] = frozenset()
    """Empty: every type."""
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""

    def takes(self, one: Recorded) -> bool:
        """The rule. A log may look for what it can find quickly, and then asks this."""
        return (
            (self.tenant is None or one.meta.tenant == self.tenant)
            and (self.stream is None or one.stream == self.stream)
            and one.position >= (self.from_position if self.stream is not None else 1)
            and (not self.types or one.event.TYPE in self.types)
            and (self.since is None or one.meta.time >= self.since)
            and (self.until is None or one.meta.time < self.until)
        )


@dataclass(frozen=True, slots=True)
class Logged:
    """One event where it stands in the log."""

    place: int
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class Step:
    """One bounded piece of a reading."""

    found: Sequence[Logged]
    place: int
    """Everything up to here was looked at: the next step reads after it."""
    at_end: bool
    """Nothing stands after `place` at this moment."""
    past: bool = False
    """Nothing that is wanted will ever stand after `place`: its time is over."""


@dataclass
class Unreadable(Exception):
    """The event at this place can't be read: it is damaged, or of a newer version of the program.
    Events before it were returned; reading after it is possible."""

    place: int

    def __str__(self) -> str:
        return f"the event at place {self.place} of the log is damaged, or of a newer version"


class EventLog(Protocol):
    """The log of one context. Implementations: infra/event_log/."""

    async def end(self) -> int:
        """The place of the last event; 0 if there is none. Raises StoreUnavailable."""

    async def before(self, time: datetime) -> int:
        """A place up to which every event is older than `time`, as near to it as clocks allow.

        Events that can't be read are taken to be as old as the next one that can. Raises
        StoreUnavailable.
        """

    async def tenant_of(self, stream: UUID) -> UUID | None:
        """Whose stream it is; None if there is none. Raises StoreUnavailable and Unreadable."""

    async def read(self, wanted: Wanted, after: int, *, events_max: int) -> Step:
        """The next events that are wanted, in commit order, from behind a place.

        Looks at a bounded number of events and bytes, so that it may find none and not be at the
        end. No event is ever committed at or before a place that was returned. Raises
        StoreUnavailable, and Unreadable for the event right after what was read so far.
        """
