"""The log of a store in memory, for fast tests; it passes the contract suite of the real one."""

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from eventsourcing.persistence import Notification, StoredEvent

from events.codec import Undecodable
from events.envelope import Recorded
from gateway.log.ports import CLOCKS_APART_MAX, Logged, Step, Unreadable, Wanted
from infra.event_store import MemoryStore
from infra.event_store.mapper import EventMapper


class MemoryLog:
    """See gateway.log.ports.EventLog."""

    def __init__(self, store: MemoryStore, *, scanned_max: int = 5_000) -> None:
        self._recorder = store.recorder
        self._mapper = EventMapper()
        self._scanned_max = scanned_max

    async def end(self) -> int:
        return self._recorder.max_notification_id() or 0

    async def before(self, time: datetime) -> int:
        place = 0
        for row in self._rows(0, await self.end()):
            with suppress(Unreadable):
                if self._decode(row).meta.time >= time - CLOCKS_APART_MAX:
                    break
                place = row.id
        return place

    async def tenant_of(self, stream: UUID) -> UUID | None:
        rows = [row for row in self._rows(0, await self.end()) if row.originator_id == stream]
        return self._decode(rows[0]).meta.tenant if rows else None

    async def read(self, wanted: Wanted, after: int, *, events_max: int) -> Step:
        end = await self.end()
        found: list[Logged] = []
        place = after
        for row in self._rows(after, self._scanned_max):
            try:
                recorded = self._decode(row)
            except Unreadable:
                if place > after:
                    return Step(found, place, False)
                raise
            place = row.id
            if wanted.takes(recorded):
                found.append(Logged(place, recorded))
            if wanted.until and recorded.meta.time >= wanted.until + CLOCKS_APART_MAX:
                return Step(found, place, place >= end, past=True)
            if len(found) == events_max:
                break
        late = wanted.until and datetime.now(UTC) >= wanted.until + CLOCKS_APART_MAX
        return Step(found, place, place >= end, past=bool(late) and place >= end)

    def _rows(self, after: int, limit: int) -> list[Notification]:
        found = self._recorder.select_notifications(after, limit, inclusive_of_start=False)
        return list(found)

    def _decode(self, row: Notification) -> Recorded:
        try:
            return self._mapper.decode(
                StoredEvent(row.originator_id, row.originator_version, row.topic, row.state)
            )
        except Undecodable as error:
            raise Unreadable(row.id) from error
