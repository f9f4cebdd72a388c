"""`usage` in memory: sums over events."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, date
from uuid import UUID

from events.conversations import AnswerEnded, AnswerRequested
from events.envelope import Recorded
from gateway.read_ports import Read, Seen, StreamPosition, UsagePlace, UsageQuery, UsageRow


class AllApplied:
    """It is never behind."""

    async def wait(self, after: Sequence[StreamPosition | Seen], *, seconds_max: float) -> bool:
        return True

    async def seen(self) -> Seen:
        return Seen("conversations", {})

    async def parked(self, streams: Sequence[UUID]) -> bool:
        return False


class MemoryUsage:
    def __init__(self, events: Callable[[], Sequence[Recorded]]) -> None:
        self._events = events
        self.applied = AllApplied()

    async def rows(
        self, query: UsageQuery, *, behind: UsagePlace | None, limit: int
    ) -> Read[Sequence[UsageRow]]:
        sums: dict[UsagePlace, list[int]] = defaultdict(lambda: [0] * 5)
        for asked, ended in self._turns(query.tenant):
            event = ended.event
            assert isinstance(event, AnswerEnded)
            assert isinstance(asked.event, AnswerRequested)
            day = ended.meta.time.astimezone(UTC).date()
            model = asked.event.model
            if not query.first <= day <= query.last:
                continue
            if query.subject not in (None, asked.meta.subject) or query.model not in (None, model):
                continue
            place = UsagePlace(
                day if "day" in query.by else None,
                asked.meta.subject if "user" in query.by else None,
                model if "model" in query.by else None,
            )
            kind = ["finish", "fail", "cancelled"].index(event.kind.value)
            sums[place][0] += event.usage.prompt_tokens
            sums[place][1] += event.usage.completion_tokens
            sums[place][2 + kind] += 1
        rows = [UsageRow(place, *sums[place]) for place in sorted(sums, key=_key)]
        if behind is not None:
            rows = [row for row in rows if _key(row.place) > _key(behind)]
        return Read(rows[:limit], Seen("conversations", {0: len(self._events())}))

    def _turns(self, tenant: UUID) -> list[tuple[Recorded, Recorded]]:
        asked = {}
        turns = []
        for one in self._events():
            if one.meta.tenant != tenant:
                continue
            if isinstance(one.event, AnswerRequested):
                asked[one.event.answer] = one
            elif isinstance(one.event, AnswerEnded) and one.event.answer in asked:
                turns.append((asked.pop(one.event.answer), one))
        return turns


def _key(place: UsagePlace) -> tuple[date, str, str]:
    return place.day or date.min, place.subject or "", place.model or ""
