"""Which builds of each projection there are, and which of them its readers follow.

A read model is built, never migrated. `histories@1` is a version: what the program makes of the
events. Its tables may exist more than once: a second build of the same version is `histories@1.2`.
One build of a projection is live. What was live before a switch is old, and is fed on until it is
dropped, so that going back works. All of this is decided in one table, in one transaction.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from psycopg.rows import TupleRow

from projections.tables import COMMON, LOCK_SCHEMA, Db, Tables

CHANNEL = "thalweg_builds"
"""Notified, without a word, when builds come, go or change places."""

FIND = """
SELECT name, version, build, state, since FROM projection_builds
ORDER BY name, version, build
"""
STATE = "SELECT state FROM projection_builds WHERE name = %s AND version = %s AND build = %s"
ADOPT = """
INSERT INTO projection_builds (name, version, build, state)
SELECT name, %s, %s, 'live' FROM (VALUES (%s)) AS wanted (name)
WHERE NOT EXISTS (
    SELECT FROM projection_builds AS known WHERE known.name = wanted.name AND state = 'live')
ON CONFLICT DO NOTHING
"""
READABLE = """
SELECT build FROM projection_builds
WHERE name = %s AND version = %s AND state IN ('live', 'old')
ORDER BY state = 'live' DESC, build DESC LIMIT 1
"""
"""A reader knows one version: its live build, or while another version is live the newest old one.
It is asked for at every read. Remembered, it could send a session back over a switch."""


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


def state_of(connection: Db, tables: Tables) -> State | None:
    """None: it was dropped, or never registered."""
    row = connection.execute(STATE, (tables.name, tables.version, tables.build)).fetchone()
    return None if row is None else State(row[0])
