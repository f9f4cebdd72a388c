"""The tables of every projection beside its own: how far it is, what it could not apply."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import LiteralString

from psycopg import Connection, sql
from psycopg.rows import TupleRow

Db = Connection[TupleRow]


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a build of `name@version`, all named `<name>_v<version>...`."""

    name: str
    version: int
    parts: tuple[str, ...] = ()
    """Further tables of its own; `{main_<part>}` in its statements."""
    build: int = 1
    """Which of the builds of this version; see `versions`."""

    @property
    def label(self) -> str:
        """As people name it: histories@1, and histories@1.2 for its second build."""
        again = f".{self.build}" if self.build > 1 else ""
        return f"{self.name}@{self.version}{again}"

    def table(self, suffix: str = "") -> sql.Identifier:
        main = f"{self.name}_v{self.version}"
        if self.build > 1:
            main = f"{main}_b{self.build}"
        return sql.Identifier(f"{main}_{suffix}" if suffix else main)

    def compose(self, statement: LiteralString, **identifiers: sql.Composable) -> sql.Composed:
        """A statement of ours (never of a caller's) with {main} and the common tables filled in."""
        return sql.SQL(statement).format(
            main=self.table(),
            positions=self.table("positions"),
            offsets=self.table("offsets"),
            parked=self.table("parked"),
            dead_letters=self.table("dead_letters"),
            dead_letters_by_stream=self.table("dead_letters_by_stream"),
            **{f"main_{part}": self.table(part) for part in self.parts},
            **identifiers,
        )


# Two processes that start at once would both find no table and both create it.
LOCK_SCHEMA = "SELECT pg_advisory_xact_lock(hashtextextended('thalweg projections', 0))"

# Only processes that start with the same build wait for each other's indexes: millions of rows take
# minutes, and a new build has nobody who waits for it.
LOCK_INDEXES = "SELECT pg_advisory_xact_lock(hashtextextended('thalweg indexes of ' || %s, 0))"

# Of all projections: which builds there are, and what people have decided about dead letters.
COMMON = """
CREATE TABLE IF NOT EXISTS projection_builds (
    name text NOT NULL, version int NOT NULL, build int NOT NULL,
    state text NOT NULL CHECK (state IN ('building', 'live', 'old')),
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version, build));
CREATE UNIQUE INDEX IF NOT EXISTS projection_builds_live
    ON projection_builds (name) WHERE state = 'live';
CREATE TABLE IF NOT EXISTS projection_decisions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL, version int NOT NULL, build int NOT NULL,
    decision text NOT NULL CHECK (decision IN ('retried', 'discarded')),
    decided_by text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    stream uuid, position bigint NOT NULL,
    problem text NOT NULL,
    topic text, partition int, record_offset bigint, headers bytea, value bytea);
CREATE INDEX IF NOT EXISTS projection_decisions_discarded
    ON projection_decisions (name, version, stream) WHERE decision = 'discarded';
"""

CREATE = """
CREATE TABLE IF NOT EXISTS {positions} (stream uuid PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE IF NOT EXISTS {offsets} (
    topic text NOT NULL, partition int NOT NULL, next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS {parked} (
    stream uuid PRIMARY KEY, problem text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE IF NOT EXISTS {dead_letters} (
    topic text NOT NULL, partition int NOT NULL, record_offset bigint NOT NULL,
    stream uuid, position bigint NOT NULL, problem text NOT NULL,
    headers bytea NOT NULL, value bytea,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, record_offset));
CREATE INDEX IF NOT EXISTS {dead_letters_by_stream} ON {dead_letters} (stream, position);
"""

FORGET = """
DELETE FROM projection_builds
WHERE name = %s AND version = %s AND build = %s AND state <> 'live' RETURNING state
"""
DROP = "DROP TABLE IF EXISTS {table}"

OFFSETS = "SELECT partition, next_offset FROM {offsets} WHERE topic = %s"
LOCK_OFFSETS = """
SELECT topic, partition, next_offset FROM {offsets}
WHERE (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::int[]))
ORDER BY topic, partition FOR UPDATE
"""
ENSURE_OFFSETS = """
INSERT INTO {offsets} SELECT *, 0 FROM unnest(%s::text[], %s::int[]) ON CONFLICT DO NOTHING
"""
SAVE_OFFSETS = """
UPDATE {offsets} AS known SET next_offset = new.next_offset
FROM unnest(%s::text[], %s::int[], %s::bigint[]) AS new (topic, partition, next_offset)
WHERE known.topic = new.topic AND known.partition = new.partition
  AND known.next_offset < new.next_offset
"""
POSITIONS = "SELECT stream, position FROM {positions} WHERE stream = ANY(%s)"
SAVE_POSITIONS = """
INSERT INTO {positions} SELECT * FROM unnest(%s::uuid[], %s::bigint[])
ON CONFLICT (stream) DO UPDATE SET position = excluded.position
"""
# All that a batch must know beside its positions, in one round trip.
MARKS = """
SELECT state, NULL::uuid, NULL::bigint FROM projection_builds
WHERE name = %(name)s AND version = %(version)s AND build = %(build)s
UNION ALL
SELECT 'parked', stream, NULL FROM {parked} WHERE stream = ANY(%(streams)s)
UNION ALL
SELECT 'discarded', stream, position FROM projection_decisions
WHERE name = %(name)s AND version = %(version)s AND stream = ANY(%(streams)s)
  AND decision = 'discarded'
"""
PARK = "INSERT INTO {parked} (stream, problem) VALUES (%s, %s) ON CONFLICT DO NOTHING"
UNPARK = "DELETE FROM {parked} WHERE stream = %s"
# A relay repeats itself, byte for byte. Another record of a position may be the true one.
BURY = """
INSERT INTO {dead_letters}
    (topic, partition, record_offset, stream, position, problem, headers, value)
SELECT new.* FROM (VALUES (%s, %s::int, %s::bigint, %s::uuid, %s::bigint, %s, %s::bytea, %s::bytea))
    AS new (topic, partition, record_offset, stream, position, problem, headers, value)
WHERE NOT EXISTS (
    SELECT FROM {dead_letters} AS known
    WHERE known.stream = new.stream AND known.position = new.position
      AND known.headers = new.headers AND known.value IS NOT DISTINCT FROM new.value)
ON CONFLICT DO NOTHING
"""
BURIED = """
SELECT topic, partition, record_offset, headers, value FROM {dead_letters}
WHERE stream = %s ORDER BY position, record_offset LIMIT %s FOR UPDATE
"""
UNBURY_UP_TO = "DELETE FROM {dead_letters} WHERE stream = %s AND position <= %s"
UNBURY = """
DELETE FROM {dead_letters} WHERE topic = %s AND partition = %s AND record_offset = %s
"""


def create(connection: Db, tables: Tables, own: LiteralString) -> None:
    """Makes the tables of a build, common and `own` ones, where they are missing."""
    with connection.transaction():
        connection.execute(LOCK_SCHEMA)
        connection.execute(tables.compose(CREATE))
        connection.execute(tables.compose(own))


def create_indexes(connection: Db, tables: Tables, own: LiteralString) -> None:
    """Makes the projection's `own` indexes, where they are missing."""
    if own:
        with connection.transaction():
            connection.execute(LOCK_INDEXES, (tables.label,))
            connection.execute(tables.compose(own))


def drop(connection: Db, tables: Tables, suffixes: Iterable[str]) -> bool:
    """Removes all of a build, and what the registry knows of it; False: it is live, or unknown."""
    common = ("positions", "offsets", "parked", "dead_letters")
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        connection.execute(LOCK_SCHEMA)
        build = tables.name, tables.version, tables.build
        if connection.execute(FORGET, build).fetchone() is None:
            return False
        for suffix in (*suffixes, *common):
            connection.execute(tables.compose(DROP, table=tables.table(suffix)))
    return True
