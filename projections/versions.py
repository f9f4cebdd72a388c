"""Which builds of each projection there are, and which of them its readers follow.

A read model is built, never migrated. `histories@1` is a version: what the program makes of the
events. Its tables may exist more than once: a second build of the same version is `histories@1.2`.
One build of a projection is live. What was live before a switch is old, and is fed on until it is
dropped, so that going back works. All of this is decided in one table, in one transaction.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from psycopg.rows import TupleRow

from projections.tables import COMMON, LOCK_SCHEMA, Db, Tables

CHANNEL = "thalweg_builds"
"""Notified, without a word, when builds come, go or change places."""

FIND = """
SELECT name, version, build, state, since FROM projection_builds
ORDER BY name, version, build
"""
NEXT = "SELECT coalesce(max(build), 0) + 1 FROM projection_builds WHERE name = %s AND version = %s"
LIVE_OF = "SELECT version, build FROM projection_builds WHERE name = %s AND state = 'live'"
ALL_OFFSETS = "SELECT topic, partition, next_offset FROM {offsets}"
LOCK_ALL_OFFSETS = """
SELECT topic, partition, next_offset FROM {offsets} ORDER BY topic, partition FOR UPDATE
"""
BEHIND = """
SELECT count(*) FROM {live_positions} AS live LEFT JOIN {positions} AS mine USING (stream)
WHERE coalesce(mine.position, 0) < live.position
"""
TURN = """
UPDATE projection_builds SET state = %s, since = clock_timestamp()
WHERE name = %s AND version = %s AND build = %s
"""
NOTIFY = "SELECT pg_notify(%s, '')"
LIVE = "SELECT name, version, build FROM projection_builds WHERE state = 'live'"
STATE = "SELECT state FROM projection_builds WHERE name = %s AND version = %s AND build = %s"
ADOPT = """
INSERT INTO projection_builds (name, version, build, state)
SELECT name, %s, %s, 'live' FROM (VALUES (%s)) AS wanted (name)
WHERE NOT EXISTS (
    SELECT FROM projection_builds AS known WHERE known.name = wanted.name AND state = 'live')
ON CONFLICT DO NOTHING
"""
BEGIN = (
    "INSERT INTO projection_builds (name, version, build, state) VALUES (%s, %s, %s, 'building')"
)
READABLE = """
SELECT build FROM projection_builds
WHERE name = %s AND version = %s AND state IN ('live', 'old')
ORDER BY state = 'live' DESC, since DESC LIMIT 1
"""
"""A reader knows one version: its live build, or while another version is live the one that was.
It is asked for at every read. Remembered, it could send a session back over a switch."""


Offsets = Mapping[tuple[str, int], int]
"""Of each topic and partition the next record to read."""
CatchUp = Callable[[Offsets], None]


class NotLive(LookupError):
    """A switch needs a build that is live, and another one to make live."""


class StillBehind(Exception):
    """Readers would go back: the build has not applied all that the live one has."""


class Successor(Protocol):
    """What a switch makes live: a projection, with the tables of the build."""

    tables: Tables

    def take_over(self, connection: Db, former: Tables) -> None:
        """Called in the switch, to carry over what does not follow from the events alone."""


class State(StrEnum):
    BUILDING = "building"
    """Fed by the program that builds it, and by nobody else."""
    LIVE = "live"
    OLD = "old"


@dataclass(frozen=True, slots=True)
class Build:
    """A row of the registry."""

    tables: Tables
    state: State
    since: datetime


def build(row: TupleRow) -> Build:
    """Of a row of FIND."""
    name, version, number, state, since = row
    return Build(Tables(name, version, build=number), State(state), since)


def builds(connection: Db) -> list[Build]:
    """All of them, by name, version and number."""
    return [build(row) for row in connection.execute(FIND).fetchall()]


def adopt(connection: Db, tables: Tables) -> bool:
    """Makes a build live where none of its projection is; whether it is registered now."""
    with connection.transaction():
        connection.execute(LOCK_SCHEMA)
        connection.execute(COMMON)
        connection.execute(ADOPT, (tables.version, tables.build, tables.name))
        return state_of(connection, tables) is not None


def begin(connection: Db, tables: Tables) -> None:
    """Registers a build that is to be built."""
    connection.execute(BEGIN, (tables.name, tables.version, tables.build))


def state_of(connection: Db, tables: Tables) -> State | None:
    """None: it was dropped, or never registered."""
    row = connection.execute(STATE, (tables.name, tables.version, tables.build)).fetchone()
    return None if row is None else State(row[0])


def next_build(connection: Db, tables: Tables) -> int:
    """The number of a further build of this version."""
    row = connection.execute(NEXT, (tables.name, tables.version)).fetchone()
    return 1 if row is None else int(row[0])


def live_of(connection: Db, name: str) -> Tables | None:
    """The build that readers of a projection follow."""
    row = connection.execute(LIVE_OF, (name,)).fetchone()
    return None if row is None else Tables(name, row[0], build=row[1])


def switch(connection: Db, target: Successor, catch_up: CatchUp) -> Tables:
    """Makes another build live, in one transaction; returns the one that was, and is old now.

    The live build stands still meanwhile: what feeds it waits. `catch_up` is called then, with its
    offsets, and returns when the target was fed up to them. So what a session has read before the
    switch is in what it reads after it. Raises NotLive and StillBehind, and changes nothing then.
    """
    tables = target.tables
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        connection.execute(LOCK_SCHEMA)
        live, state = live_of(connection, tables.name), state_of(connection, tables)
        if live is None or state in (None, State.LIVE):
            raise NotLive(f"{tables.label} is {'live already' if state else 'not built'}")
        live = replace(live, parts=tables.parts)
        rows = connection.execute(live.compose(LOCK_ALL_OFFSETS)).fetchall()
        catch_up({(topic, partition): at for topic, partition, at in rows})
        connection.execute(tables.compose(LOCK_ALL_OFFSETS))
        behind = connection.execute(
            tables.compose(BEHIND, live_positions=live.table("positions"))
        ).fetchone()
        if behind is not None and behind[0]:
            raise StillBehind(f"{tables.label} is behind {live.label} in {behind[0]} streams")
        target.take_over(connection, live)
        for one, now in ((live, State.OLD), (tables, State.LIVE)):
            connection.execute(TURN, (now, one.name, one.version, one.build))
        connection.execute(NOTIFY, (CHANNEL,))
    return live
