"""How far a build is, what it has parked, and what people have decided: read and written by all
who apply events to it, inside their transactions.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from events import trace
from events.envelope import Recorded
from projections import tables as sqls
from projections import versions
from projections.deliveries import Delivery, pack_headers
from projections.reasons import problem_text
from projections.tables import Db, Tables

log = logging.getLogger("thalweg.projections")

Partition = tuple[str, int]

BOUNDS_OF_POSTGRES = "54"
"""The class of SQLSTATE for rows and statements that are beyond its limits: never an outage."""


class BuildDropped(Exception):
    """The build is not in the registry, or no longer: nobody feeds it."""


@dataclass
class Batch:
    """What one transaction has found and decided."""

    positions: dict[UUID, int]
    live: bool = False
    parked: set[UUID] = field(default_factory=set)
    discarded: set[tuple[UUID, int]] = field(default_factory=set)
    changed: set[UUID] = field(default_factory=set)
    next_ones: list[tuple[Delivery, Recorded | None]] = field(default_factory=list)
    """What follows in its stream, in order; None: of a type that changes no rows."""
    returned: set[UUID] = field(default_factory=set)
    """Parked streams for which the position has come that they wait for."""
    returning: set[UUID] = field(default_factory=set)
    """Those of them that are not through all their dead letters yet."""
    held: list[Delivery] = field(default_factory=list)
    held_bytes: int = 0

    def at(self, stream: UUID) -> int:
        """The last position that was applied, or that somebody has decided to go on without."""
        at = self.positions.get(stream, 0)
        while (stream, at + 1) in self.discarded:
            at += 1
            self.move(stream, at)
        return at

    def move(self, stream: UUID, position: int) -> None:
        self.positions[stream] = position
        self.changed.add(stream)


def lock_offsets(
    connection: Db, tables: Tables, partitions: Collection[Partition]
) -> dict[Partition, int]:
    """How far the partitions are, locked: all others who apply events to this build wait here."""
    topics, numbers = [key[0] for key in partitions], [key[1] for key in partitions]
    statement = tables.compose(sqls.LOCK_OFFSETS)
    rows = connection.execute(statement, (topics, numbers)).fetchall()
    if len(rows) < len(partitions):
        connection.execute(tables.compose(sqls.ENSURE_OFFSETS), (topics, numbers))
        rows = connection.execute(statement, (topics, numbers)).fetchall()
    return {(topic, partition): at for topic, partition, at in rows}


def batch_of(connection: Db, tables: Tables, streams: list[UUID]) -> Batch:
    """Where these streams are now. Raises BuildDropped."""
    positions = connection.execute(tables.compose(sqls.POSITIONS), (streams,))
    state = Batch(dict(positions.fetchall()))
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


def save_positions(connection: Db, tables: Tables, state: Batch) -> None:
    if state.changed:
        streams = list(state.changed)
        connection.execute(
            tables.compose(sqls.SAVE_POSITIONS),
            (streams, [state.positions[stream] for stream in streams]),
        )


def park(connection: Db, tables: Tables, state: Batch, one: Delivery, problem: str) -> None:
    """From here on the events of its stream go to the dead letters."""
    problem = problem_text(problem)
    with trace.within(one.traceparent):
        log.error("a stream is parked", extra={**where(one), "problem": problem})
    if one.stream is not None:
        state.parked.add(one.stream)
        connection.execute(tables.compose(sqls.PARK), (one.stream, problem))
    bury(connection, tables, one, problem)


def bury(connection: Db, tables: Tables, one: Delivery, problem: str) -> None:
    """Keeps what Kafka delivered, byte for byte."""
    place = one.topic, one.partition, one.offset
    headers = pack_headers(one.headers)
    connection.execute(
        tables.compose(sqls.BURY), (*place, one.stream, one.position, problem, headers, one.value)
    )


def where(one: Delivery) -> dict[str, object]:
    """For logs."""
    return {
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "stream": str(one.stream),
        "position": one.position,
        "type": one.type_name,
    }


def is_outage(error: Exception) -> bool:
    """Whether an error speaks of the database and not of an event: the batch is tried again."""
    if isinstance(error, psycopg.OperationalError):
        return not (error.sqlstate or "").startswith(BOUNDS_OF_POSTGRES)
    return isinstance(error, (psycopg.InterfaceError, MemoryError))
