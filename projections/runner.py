"""Applies deliveries to a projection, in batches of one transaction each.

Rows, the position of each stream and the offset of each partition are written together, so that a
kill at any moment leaves them in agreement. Per stream: lower or equal positions are dropped, the
next one is applied, a gap waits `gap_seconds_max`. Then, or when an event can't be read or applied,
its stream is parked: its events go to the dead letters in order, and all other streams go on. If
what a parked stream waits for comes after all, its dead letters are applied without being asked.
"""

import logging
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from events import trace
from events.codec import Undecodable
from projections import tables as sqls
from projections import versions
from projections.dead_letters import apply_letters
from projections.deliveries import Delivery
from projections.progress import (
    Batch,
    BuildDropped,
    batch_of,
    bury,
    is_outage,
    lock_offsets,
    park,
    save_positions,
    where,
)
from projections.projection import Projection
from projections.reasons import reason_of
from projections.tables import Db

log = logging.getLogger("thalweg.projections")

HELD_EVENTS_MAX = 10_000
HELD_BYTES_MAX = 64 * 1024 * 1024
"""Of events behind gaps that are kept in memory; with more, streams are parked without waiting."""


class Runner:
    """Keeps one projection up to date. In memory is only what waits behind a gap."""

    def __init__(
        self,
        projection: Projection,
        *,
        gap_seconds_max: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.projection = projection
        self._tables = projection.tables
        self._gap_seconds_max = gap_seconds_max
        self._clock = clock
        self._types = frozenset(cls.TYPE for cls in projection.types)
        self._held: list[Delivery] = []
        self._held_since: dict[UUID, float] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._returning: set[UUID] = set()
        """Streams that go on by themselves and have more dead letters than one transaction takes.
        After a death in between, `dead-letters retry` goes on."""
        self.live = False
        """Whether readers followed this build when the last batch was applied."""

    def create(self, connection: Db) -> None:
        """Makes the tables. Raises BuildDropped if another is live and this one not registered."""
        if not versions.adopt(connection, self._tables):
            raise BuildDropped(self._tables.label)
        sqls.create(connection, self._tables, self.projection.own_tables)
        sqls.create_indexes(connection, self._tables, self.projection.own_indexes)

    def offsets(self, connection: Db, topic: str) -> dict[int, int]:
        """Where to read on in each partition that was ever read; the others from the beginning."""
        rows = connection.execute(self._tables.compose(sqls.OFFSETS), (topic,)).fetchall()
        return dict(rows)

    @property
    def waits(self) -> bool:
        """Whether events wait behind a gap: then `apply` wants to be called, if with no batch."""
        return bool(self._held or self._returning)

    def apply(self, connection: Db, batch: Sequence[Delivery]) -> int:
        """Applies a batch in one transaction; returns how many events changed rows.

        If it raises, nothing was written and nothing is remembered: apply the same batch again.
        """
        arrived = [*self._held, *batch]
        if self._held:  # what fills a gap arrives behind those that wait for it
            arrived.sort(key=lambda one: one.position)
        if not arrived and not self._returning:
            return 0
        following = dict(self._next)
        for one in batch:
            following[one.topic, one.partition] = one.offset + 1
        with connection.transaction():
            state, applied = self._write(connection, arrived, following)
        self._next = following
        self._held = state.held
        self._returning = state.returning
        self.live = state.live
        behind = {one.stream for one in state.held if one.stream is not None}
        now = self._clock()
        self._held_since = {stream: self._held_since.get(stream, now) for stream in behind}
        return applied

    # one transaction ------------------------------------------------------------------------

    def _write(
        self, connection: Db, arrived: list[Delivery], following: dict[tuple[str, int], int]
    ) -> tuple[Batch, int]:
        done = lock_offsets(connection, self._tables, following)
        fresh = [one for one in arrived if one.offset >= done[one.topic, one.partition]]
        state = batch_of(
            connection,
            self._tables,
            list({one.stream for one in fresh if one.stream} | self._returning),
        )
        state.returned = self._returning & state.parked
        for one in fresh:
            self._sort_in(connection, state, one)
        applied = self._apply_rows(connection, state)
        for stream in state.returned:
            applied += self._apply_letters(connection, state, stream)
        save_positions(connection, self._tables, state)
        self._save_offsets(connection, state, following)
        return state, applied

    def _sort_in(self, connection: Db, state: Batch, one: Delivery) -> None:
        if one.stream is None:
            with trace.within(one.traceparent):
                log.error("a record is not an event of ours", extra=where(one))
            bury(connection, self._tables, one, "its envelope can't be read")
            return
        at = state.at(one.stream)
        if one.position <= at:
            return
        if one.stream in state.parked:
            bury(connection, self._tables, one, "its stream is parked")
            if one.position == at + 1:
                state.returned.add(one.stream)
        elif one.position > at + 1:
            self._wait_for_gap(connection, state, one, one.stream, at)
        else:
            try:
                event = one.event_of(self._types)
            except Undecodable as error:
                park(connection, self._tables, state, one, str(error))
                return
            state.next_ones.append((one, event))
            state.move(one.stream, one.position)

    def _wait_for_gap(
        self, connection: Db, state: Batch, one: Delivery, stream: UUID, at: int
    ) -> None:
        since = self._held_since.setdefault(stream, self._clock())
        waited = self._clock() - since
        bounded = len(state.held) < HELD_EVENTS_MAX and state.held_bytes < HELD_BYTES_MAX
        if waited < self._gap_seconds_max and bounded:
            state.held.append(one)
            state.held_bytes += len(one.value or b"")
        else:
            problem = (
                f"position {at + 1} did not come within {self._gap_seconds_max:g} s"
                if bounded
                else f"position {at + 1} is missing, and too many events wait in memory already"
            )
            park(connection, self._tables, state, one, problem)

    def _apply_rows(self, connection: Db, state: Batch) -> int:
        events = [event for _, event in state.next_ones if event is not None]
        if not events:
            return 0
        try:
            with connection.transaction():
                self.projection.apply(connection, events, live=state.live)
            return len(events)
        except Exception as error:
            if is_outage(error):
                raise
            return self._apply_one_by_one(connection, state)

    def _apply_one_by_one(self, connection: Db, state: Batch) -> int:
        applied = 0
        failed: set[UUID | None] = set()
        for one, event in state.next_ones:
            if one.stream in failed:
                bury(connection, self._tables, one, "its stream is parked")
                continue
            if event is None:
                continue
            try:
                with connection.transaction():
                    self.projection.apply(connection, [event], live=state.live)
                applied += 1
            except Exception as error:
                if is_outage(error):
                    raise
                failed.add(one.stream)
                park(
                    connection, self._tables, state, one, f"it can't be applied: {reason_of(error)}"
                )
                state.positions[event.stream] = event.position - 1
        return applied

    def _apply_letters(self, connection: Db, state: Batch, stream: UUID) -> int:
        outcome = apply_letters(connection, self.projection, state, stream)
        if outcome.problem is None and outcome.left:
            state.returning.add(stream)
        elif outcome.problem is None:
            about = {"stream": str(stream), "projection": self._tables.label}
            log.warning("a parked stream goes on: what it waited for has come", extra=about)
        return outcome.applied

    def _save_offsets(
        self, connection: Db, state: Batch, following: dict[tuple[str, int], int]
    ) -> None:
        """What waits behind a gap is read again after a restart, so offsets stay before it."""
        safe = dict(following)
        for one in state.held:
            key = one.topic, one.partition
            safe[key] = min(safe[key], one.offset)
        connection.execute(
            self._tables.compose(sqls.SAVE_OFFSETS),
            ([key[0] for key in safe], [key[1] for key in safe], list(safe.values())),
        )
