"""Applies deliveries to a projection, in batches of one transaction each.

Rows, the position of each stream and the offset of each partition are written together, so that a
kill at any moment leaves them in agreement. Per stream: lower or equal positions are dropped, the
next one is applied, a gap waits `gap_seconds_max`. Then, or when an event can't be read or applied,
its stream is parked: its events go to the dead letters in order, and all other streams go on.
"""

import logging
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import LiteralString, Protocol, TypeVar
from uuid import UUID

import psycopg

from events import trace
from events.codec import Undecodable
from events.envelope import Event, Recorded
from projections import tables as sqls
from projections import versions
from projections.deliveries import Delivery, delivery, pack_headers, unpack_headers
from projections.reasons import reason_of
from projections.tables import Db, Tables

log = logging.getLogger("thalweg.projections")

HELD_EVENTS_MAX = 10_000
"""Events behind gaps that are kept in memory; with more, streams are parked without waiting."""

BOUNDS_OF_POSTGRES = "54"
"""The class of SQLSTATE for rows and statements that are beyond its limits: never an outage."""


class BuildDropped(Exception):
    """The build is no longer in the registry: nobody feeds it."""


class Projection(Protocol):
    """One read model: `name@version`, its tables, and what events do to them."""

    tables: Tables
    context: str
    """Whose events it follows."""
    types: frozenset[type[Event]]
    """Those that change its rows; of all others only the position counts."""
    own_tables: LiteralString
    """SQL that makes its tables where they are missing."""
    own_indexes: LiteralString
    """SQL that makes those of its indexes which no `apply` needs, where they are missing."""
    own_suffixes: tuple[str, ...]
    digested_suffixes: tuple[str, ...]
    """Tables whose rows follow from the events alone: those of two builds are compared."""

    def apply(self, connection: Db, events: Sequence[Recorded], *, live: bool) -> None:
        """Writes what the events say, in their order. Any error parks the stream of the event.

        `live`: readers follow this build. Only then are those told who wait for changes.
        """


P = TypeVar("P", bound=Projection)


def beside(projection: P, build: int) -> P:
    """The same projection with the tables of another build."""
    other = copy(projection)
    other.tables = replace(projection.tables, build=build)
    return other


@dataclass
class _Batch:
    """What one transaction has found and decided."""

    positions: dict[UUID, int]
    live: bool = False
    parked: set[UUID] = field(default_factory=set)
    discarded: set[tuple[UUID, int]] = field(default_factory=set)
    changed: set[UUID] = field(default_factory=set)
    next_ones: list[tuple[Delivery, Recorded | None]] = field(default_factory=list)
    """What follows in its stream, in order; None: of a type that changes no rows."""
    held: list[Delivery] = field(default_factory=list)


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

    def create(self, connection: Db) -> None:
        """Makes the tables. Raises BuildDropped if another is live and this one not registered."""
        if not versions.adopt(connection, self._tables):
            raise BuildDropped(self._tables.label)
        sqls.create(connection, self._tables, self.projection.own_tables)
        sqls.create_indexes(connection, self._tables, self.projection.own_indexes)

    def drop(self, connection: Db) -> None:
        """Removes this version with its positions: the next run builds it from the log again."""
        sqls.drop(connection, self._tables, self.projection.own_suffixes)

    def offsets(self, connection: Db, topic: str) -> dict[int, int]:
        """Where to read on in each partition that was ever read; the others from the beginning."""
        rows = connection.execute(self._tables.compose(sqls.OFFSETS), (topic,)).fetchall()
        return dict(rows)

    @property
    def waits(self) -> bool:
        """Whether events wait behind a gap: then `apply` wants to be called, if with no batch."""
        return bool(self._held)

    def apply(self, connection: Db, batch: Sequence[Delivery]) -> int:
        """Applies a batch in one transaction; returns how many events changed rows.

        If it raises, nothing was written and nothing is remembered: apply the same batch again.
        """
        arrived = [*self._held, *batch]
        if self._held:  # what fills a gap arrives behind those that wait for it
            arrived.sort(key=lambda one: one.position)
        if not arrived:
            return 0
        following = dict(self._next)
        for one in batch:
            following[one.topic, one.partition] = one.offset + 1
        with connection.transaction():
            state, applied = self._write(connection, arrived, following)
        self._next = following
        self._held = state.held
        behind = {one.stream for one in state.held if one.stream is not None}
        now = self._clock()
        self._held_since = {stream: self._held_since.get(stream, now) for stream in behind}
        return applied

    def retry(self, connection: Db, stream: UUID) -> int:
        """Applies the dead letters of a parked stream, and frees it if none is left; how many."""
        done = 0
        with connection.transaction():
            rows = connection.execute(self._tables.compose(sqls.BURIED), (stream,)).fetchall()
            state = self._state(connection, [stream])
            for topic, partition, offset, headers, value in rows:
                one = delivery(topic, partition, offset, unpack_headers(headers), value)
                if one.position > state.positions.get(stream, 0) + 1:
                    break
                if one.position == state.positions.get(stream, 0) + 1:
                    try:
                        with connection.transaction():
                            if one.type_name in self._types:
                                self.projection.apply(connection, [one.decode()], live=state.live)
                    except Exception as error:
                        if is_outage(error):
                            raise
                        break
                    state.positions[stream] = one.position
                    state.changed.add(stream)
                connection.execute(self._tables.compose(sqls.UNBURY), (topic, partition, offset))
                done += 1
            if done == len(rows):
                connection.execute(self._tables.compose(sqls.UNPARK), (stream,))
            self._save_positions(connection, state)
        return done

    # one transaction ------------------------------------------------------------------------

    def _write(
        self, connection: Db, arrived: list[Delivery], following: dict[tuple[str, int], int]
    ) -> tuple[_Batch, int]:
        done = self._lock_offsets(connection, following)
        fresh = [one for one in arrived if one.offset >= done[one.topic, one.partition]]
        state = self._state(connection, list({one.stream for one in fresh if one.stream}))
        for one in fresh:
            self._sort_in(connection, state, one)
        applied = self._apply_rows(connection, state)
        self._save_positions(connection, state)
        self._save_offsets(connection, state, following)
        return state, applied

    def _lock_offsets(
        self, connection: Db, following: dict[tuple[str, int], int]
    ) -> dict[tuple[str, int], int]:
        """How far the partitions are, locked: another runner of the same projection waits here."""
        topics, partitions = [key[0] for key in following], [key[1] for key in following]
        statement = self._tables.compose(sqls.LOCK_OFFSETS)
        rows = connection.execute(statement, (topics, partitions)).fetchall()
        if len(rows) < len(following):
            ensure = self._tables.compose(sqls.ENSURE_OFFSETS)
            connection.execute(ensure, (topics, partitions))
            rows = connection.execute(statement, (topics, partitions)).fetchall()
        return {(topic, partition): at for topic, partition, at in rows}

    def _state(self, connection: Db, streams: list[UUID]) -> _Batch:
        positions = connection.execute(self._tables.compose(sqls.POSITIONS), (streams,))
        state = _Batch(dict(positions.fetchall()))
        tables = self._tables
        values = {"name": tables.name, "version": tables.version, "build": tables.build}
        marks = connection.execute(tables.compose(sqls.MARKS), {**values, "streams": streams})
        registered = False
        for mark, stream, position in marks:
            if mark == "parked":
                state.parked.add(stream)
            elif mark == "discarded":
                state.discarded.add((stream, position))
            else:
                registered = True
                state.live = mark == versions.State.LIVE
        if not registered:
            raise BuildDropped(tables.label)
        return state

    def _sort_in(self, connection: Db, state: _Batch, one: Delivery) -> None:
        if one.stream is None:
            with trace.within(one.traceparent):
                log.error("a record is not an event of ours", extra=_where(one))
            self._bury(connection, one, "its envelope can't be read")
            return
        at = state.positions.get(one.stream, 0)
        while (one.stream, at + 1) in state.discarded:  # somebody has decided to go on without it
            at += 1
            state.positions[one.stream] = at
            state.changed.add(one.stream)
        if one.position <= at:
            return
        if one.stream in state.parked:
            self._bury(connection, one, "its stream is parked")
        elif one.position > at + 1:
            self._wait_for_gap(connection, state, one, one.stream, at)
        else:
            try:
                event = one.decode() if one.type_name in self._types else None
            except Undecodable as error:
                self._park(connection, state, one, str(error))
                return
            state.next_ones.append((one, event))
            state.positions[one.stream] = one.position
            state.changed.add(one.stream)

    def _wait_for_gap(
        self, connection: Db, state: _Batch, one: Delivery, stream: UUID, at: int
    ) -> None:
        since = self._held_since.setdefault(stream, self._clock())
        waited = self._clock() - since
        if waited < self._gap_seconds_max and len(state.held) < HELD_EVENTS_MAX:
            state.held.append(one)
        else:
            problem = f"position {at + 1} did not come within {self._gap_seconds_max:g} s"
            self._park(connection, state, one, problem)

    def _apply_rows(self, connection: Db, state: _Batch) -> int:
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

    def _apply_one_by_one(self, connection: Db, state: _Batch) -> int:
        applied = 0
        failed: set[UUID | None] = set()
        for one, event in state.next_ones:
            if one.stream in failed:
                self._bury(connection, one, "its stream is parked")
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
                self._park(connection, state, one, f"it can't be applied: {reason_of(error)}")
                state.positions[event.stream] = event.position - 1
        return applied

    def _park(self, connection: Db, state: _Batch, one: Delivery, problem: str) -> None:
        problem = problem.replace("\0", "")
        with trace.within(one.traceparent):
            log.error("a stream is parked", extra={**_where(one), "problem": problem})
        if one.stream is not None:
            state.parked.add(one.stream)
            connection.execute(self._tables.compose(sqls.PARK), (one.stream, problem))
        self._bury(connection, one, problem)

    def _bury(self, connection: Db, one: Delivery, problem: str) -> None:
        connection.execute(
            self._tables.compose(sqls.BURY),
            (
                one.topic,
                one.partition,
                one.offset,
                one.stream,
                one.position,
                problem,
                pack_headers(one.headers),
                one.value,
            ),
        )

    def _save_positions(self, connection: Db, state: _Batch) -> None:
        if state.changed:
            streams = list(state.changed)
            connection.execute(
                self._tables.compose(sqls.SAVE_POSITIONS),
                (streams, [state.positions[stream] for stream in streams]),
            )

    def _save_offsets(
        self, connection: Db, state: _Batch, following: dict[tuple[str, int], int]
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


def is_outage(error: Exception) -> bool:
    """Whether an error speaks of the database and not of an event: the batch is tried again."""
    if isinstance(error, psycopg.OperationalError):
        return not (error.sqlstate or "").startswith(BOUNDS_OF_POSTGRES)
    return isinstance(error, (psycopg.InterfaceError, MemoryError))


def _where(one: Delivery) -> dict[str, object]:
    return {
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "stream": str(one.stream),
        "position": one.position,
        "type": one.type_name,
    }
