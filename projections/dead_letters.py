"""Dead letters: what a build could not apply, and what people decide about it.

A stream is parked at the event that failed; later events of it follow into the dead letters, in
order. A retry applies them in that order, each exactly once. A discard goes on without one
position, for good: every other build of the same version leaves it out too. Who decided what, and
when, is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from psycopg.rows import TupleRow

from events.codec import Undecodable
from projections import tables as sqls
from projections.deliveries import Delivery, delivery, pack_headers, unpack_headers
from projections.progress import Batch, batch_of, is_outage, lock_offsets, save_positions
from projections.projection import Projection
from projections.reasons import problem_text, reason_of
from projections.tables import Db, Tables

LETTERS_AT_ONCE = 10
LETTERS_PER_TRANSACTION = 500
"""While they are applied, all that feeds the build waits: some hundred milliseconds."""

PARKED_STREAMS = """
SELECT p.stream, coalesce(k.position, 0), p.problem, p.parked_at, count(d.position)
FROM {parked} AS p LEFT JOIN {positions} AS k USING (stream)
LEFT JOIN {dead_letters} AS d USING (stream)
GROUP BY p.stream, k.position, p.problem, p.parked_at ORDER BY p.parked_at, p.stream LIMIT %s
"""
STRAYS = """
SELECT topic, partition, record_offset, problem, at FROM {dead_letters}
WHERE stream IS NULL ORDER BY at, topic, partition, record_offset LIMIT %s
"""
COUNT = """
SELECT (SELECT count(*) FROM {parked}), (SELECT count(*) FROM {dead_letters}),
       (SELECT min(at) FROM {dead_letters})
"""
LETTERS = """
SELECT topic, partition, record_offset, headers, value, problem, at FROM {dead_letters}
WHERE stream = %s ORDER BY position, record_offset LIMIT %s
"""
PLACED = """
SELECT topic, partition, record_offset, headers, value, problem, at FROM {dead_letters}
WHERE topic = %s AND partition = %s AND record_offset = %s FOR UPDATE
"""
LEFT = "SELECT count(*) FROM {dead_letters} WHERE stream = %s"
PLACES = "SELECT DISTINCT topic, partition FROM {dead_letters} WHERE stream = %s"
PROBLEM = "SELECT problem FROM {parked} WHERE stream = %s"
STILL = "UPDATE {parked} SET problem = %s WHERE stream = %s"
DECIDE = """
INSERT INTO projection_decisions
    (name, version, build, decision, decided_by, stream, position, problem,
     topic, partition, record_offset, headers, value)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
DECISIONS = """
SELECT decision, position, decided_by, decided_at, problem FROM projection_decisions
WHERE name = %s AND version = %s AND stream = %s ORDER BY id DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class ParkedStream:
    stream: UUID
    position: int
    """The last one that was applied."""
    problem: str
    parked_at: datetime
    letters: int


@dataclass(frozen=True, slots=True)
class Stray:
    """A record that is no event of any stream: its envelope can't be read."""

    topic: str
    partition: int
    offset: int
    problem: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Letter:
    delivery: Delivery
    problem: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    decision: str
    position: int
    by: str
    at: datetime
    problem: str


@dataclass(frozen=True, slots=True)
class Counts:
    streams: int
    letters: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a retry or a discard came to."""

    applied: int
    left: int
    """Letters of the stream that stay; with 0 it is free."""
    position: int
    problem: str | None
    """Why the next one can't be applied."""


class NotParked(LookupError):
    """The stream has no dead letters in this build."""


class NotNext(LookupError):
    """Only the position that a stream waits for can be discarded."""


def counts(connection: Db, tables: Tables) -> Counts:
    row = connection.execute(tables.compose(COUNT)).fetchone()
    assert row is not None  # noqa: S101  an aggregate has one row
    return Counts(*row)


def parked_streams(connection: Db, tables: Tables, *, limit: int) -> list[ParkedStream]:
    """Those that wait longest first."""
    rows = connection.execute(tables.compose(PARKED_STREAMS), (limit,)).fetchall()
    return [ParkedStream(*row) for row in rows]


def strays(connection: Db, tables: Tables, *, limit: int) -> list[Stray]:
    rows = connection.execute(tables.compose(STRAYS), (limit,)).fetchall()
    return [Stray(*row) for row in rows]


def letters(connection: Db, tables: Tables, stream: UUID, *, limit: int) -> list[Letter]:
    """In the order of their positions."""
    rows = connection.execute(tables.compose(LETTERS), (stream, limit)).fetchall()
    return [_letter(row) for row in rows]


def decisions(connection: Db, tables: Tables, stream: UUID, *, limit: int) -> list[Decision]:
    """The newest first."""
    values = (tables.name, tables.version, stream, limit)
    return [Decision(*row) for row in connection.execute(DECISIONS, values).fetchall()]


def retry(connection: Db, projection: Projection, stream: UUID, *, by: str) -> Outcome:
    """Applies the dead letters of a parked stream as far as they can be. Raises NotParked."""
    tables = projection.tables
    with _decided(connection):
        state, problem = _locked(connection, tables, stream)
        outcome = apply_letters(connection, projection, state, stream)
        _decide(connection, tables, "retried", by, stream, outcome.position, problem)
        save_positions(connection, tables, state)
    return _the_rest(connection, projection, stream, outcome)


def discard(
    connection: Db, projection: Projection, stream: UUID, position: int, *, by: str
) -> Outcome:
    """Goes on without the event at `position`, and applies what follows it, as far as it can be.

    The position may be one that never came, or one that was discarded in another build of this
    version. Raises NotParked, and NotNext for any other than the one that the stream waits for.
    """
    tables = projection.tables
    with _decided(connection):
        state, problem = _locked(connection, tables, stream)
        if (stream, position) not in state.discarded:
            if position != state.at(stream) + 1:
                raise NotNext(f"{stream} waits for position {state.at(stream) + 1}")
            first = next(iter(letters(connection, tables, stream, limit=1)), None)
            found = first.delivery if first and first.delivery.position == position else None
            _decide(connection, tables, "discarded", by, stream, position, problem, found)
            state.discarded.add((stream, position))
        outcome = apply_letters(connection, projection, state, stream)
        save_positions(connection, tables, state)
    return _the_rest(connection, projection, stream, outcome)


def discard_letter(
    connection: Db, projection: Projection, topic: str, partition: int, offset: int, *, by: str
) -> Outcome | None:
    """Takes one record out of the dead letters, whatever it says of itself; it is kept with the
    decision. If it claimed to be of a stream, no position is given up, and what is left of the
    stream's letters is applied as far as it can be. Raises NotParked.
    """
    tables = projection.tables
    with _decided(connection):
        place = topic, partition, offset
        lock_offsets(connection, tables, [(topic, partition)])
        row = connection.execute(tables.compose(PLACED), place).fetchone()
        if row is None:
            raise NotParked(f"no such record: {topic}:{partition}:{offset}")
        letter = _letter(row)
        stream = letter.delivery.stream
        _decide(connection, tables, "discarded", by, None, 0, letter.problem, letter.delivery)
        connection.execute(tables.compose(sqls.UNBURY), place)
        if stream is None:
            return None
        state, _ = _locked(connection, tables, stream)
        outcome = apply_letters(connection, projection, state, stream)
        save_positions(connection, tables, state)
    return _the_rest(connection, projection, stream, outcome)


@contextmanager
def _decided(connection: Db) -> Iterator[None]:
    """A transaction that a crash of Postgres does not take back: nobody would decide it again."""
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        yield


def _the_rest(connection: Db, projection: Projection, stream: UUID, outcome: Outcome) -> Outcome:
    """Goes on in further transactions while that leads anywhere."""
    while outcome.left and outcome.problem is None:
        with connection.transaction():
            try:
                state, _ = _locked(connection, projection.tables, stream)
            except NotParked:  # somebody else was quicker
                return replace(outcome, left=0)
            more = apply_letters(connection, projection, state, stream)
            save_positions(connection, projection.tables, state)
        outcome = replace(more, applied=outcome.applied + more.applied)
    return outcome


def _locked(connection: Db, tables: Tables, stream: UUID) -> tuple[Batch, str]:
    """The stream's state and problem, while no runner of this build can add a letter to it."""
    places = connection.execute(tables.compose(PLACES), (stream,)).fetchall()
    lock_offsets(connection, tables, [(topic, partition) for topic, partition in places])
    row = connection.execute(tables.compose(PROBLEM), (stream,)).fetchone()
    if row is None:
        raise NotParked(f"{stream} is not parked in {tables.label}")
    return batch_of(connection, tables, [stream]), row[0]


def apply_letters(connection: Db, projection: Projection, state: Batch, stream: UUID) -> Outcome:
    """One letter after the other, each on its own: up to the first position that none of its
    records can fill, or LETTERS_PER_TRANSACTION. Left ones without a problem are for the next call.
    """
    tables = projection.tables
    types = {cls.TYPE for cls in projection.types}
    applied = 0
    problem = None
    for topic, partition, offset, headers, value in _buried(connection, tables, stream):
        one = delivery(topic, partition, offset, unpack_headers(headers), value)
        at = state.at(stream)
        if one.position > at + 1:
            problem = problem or f"position {at + 1} is missing"
            break
        if one.position == at + 1:
            problem = _try(connection, projection, one, types, live=state.live)
            if problem is None:
                state.move(stream, one.position)
                applied += 1
    connection.execute(tables.compose(sqls.UNBURY_UP_TO), (stream, state.at(stream)))
    row = connection.execute(tables.compose(LEFT), (stream,)).fetchone()
    left = row[0] if row else 0
    if problem is not None:
        connection.execute(tables.compose(STILL), (problem, stream))
    elif not left:
        connection.execute(tables.compose(sqls.UNPARK), (stream,))
    return Outcome(applied, left, state.at(stream), problem)


def _buried(connection: Db, tables: Tables, stream: UUID) -> Iterator[TupleRow]:
    """A few at a time: a letter may have megabytes."""
    with connection.cursor("letters") as cursor:
        cursor.itersize = LETTERS_AT_ONCE
        yield from cursor.execute(tables.compose(sqls.BURIED), (stream, LETTERS_PER_TRANSACTION))


def _try(
    connection: Db, projection: Projection, one: Delivery, types: set[str], *, live: bool
) -> str | None:
    try:
        with connection.transaction():
            event = one.event_of(types)
            if event is not None:
                projection.apply(connection, [event], live=live)
    except Undecodable as error:
        return problem_text(str(error))
    except Exception as error:
        if is_outage(error):
            raise
        return problem_text(f"it can't be applied: {reason_of(error)}")
    return None


def _decide(
    connection: Db,
    tables: Tables,
    decision: str,
    by: str,
    stream: UUID | None,
    position: int,
    problem: str,
    kept: Delivery | None = None,
) -> None:
    what: tuple[object, ...] = (None,) * 5
    if kept is not None:
        headers = pack_headers(kept.headers)
        what = kept.topic, kept.partition, kept.offset, headers, kept.value
    build = tables.name, tables.version, tables.build
    connection.execute(DECIDE, (*build, decision, by, stream, position, problem, *what))


def _letter(row: TupleRow) -> Letter:
    topic, partition, offset, headers, value, problem, at = row
    return Letter(delivery(topic, partition, offset, unpack_headers(headers), value), problem, at)
