"""Stores with their logs, and what the tests put into them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from commands.store import Append
from events.conversations import ConversationRenamed, ConversationStarted
from events.envelope import Event, Meta, Recorded
from events.ids import ConversationId, fresh_id
from gateway.log.ports import EventLog, Logged, Wanted
from infra.event_store import ConversationStore, MemoryStore

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
MINE, THEIRS = fresh_id(), fresh_id()
STEPS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Bench:
    store: ConversationStore | MemoryStore
    log: EventLog
    url: str = ""

    async def happened(
        self,
        *,
        tenant: UUID = MINE,
        at: datetime = NOON,
        titles: int = 1,
        stream: UUID | None = None,
        after: int = 0,
        command: str = "",
        size: int = 0,
    ) -> UUID:
        """A conversation of one tenant, begun and renamed at that time."""
        id_ = ConversationId(stream or fresh_id())
        events: list[Event] = [] if after else [ConversationStarted(conversation=id_)]
        events += [
            ConversationRenamed(conversation=id_, title=f"{n}{'x' * size}") for n in range(titles)
        ]
        meta = Meta(tenant, command or f"call:{fresh_id()}", "a", "s", at, fresh_id())
        recorded = [
            Recorded(fresh_id(), id_, position, meta, event)
            for position, event in enumerate(events, start=after + 1)
        ]
        await self.store.append(Append(tenant, meta.command, b"", id_, recorded))
        return id_


async def all_of(log: EventLog, wanted: Wanted, *, events_max: int = 7) -> list[Logged]:
    """A whole reading, step by step, until the end."""
    found: list[Logged] = []
    place = 0
    for _ in range(STEPS_MAX):
        step = await log.read(wanted, place, events_max=events_max)
        assert step.place >= place
        assert len(step.found) <= events_max
        assert all(place < one.place <= step.place for one in step.found)
        found += step.found
        place = step.place
        if step.at_end or step.past:
            return found
    raise AssertionError("the reading came to no end")


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)
