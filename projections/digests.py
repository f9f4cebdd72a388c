"""Digests of a build's tables: equal if and only if they hold the same rows, in whatever order.

Of each table: how many rows, and two sums of 64-bit hashes of the rows (with other seeds). That is
proof against mistakes, not against somebody who forges rows. Generated columns follow from the
others and are left out. Postgres hashes values of the same type alike, within one version of it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from projections.tables import Db, Tables

COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attname COLLATE "C"
"""
DIGEST = """
SELECT count(*), coalesce(sum(hash_record_extended(ROW({columns}), 1)), 0),
       coalesce(sum(hash_record_extended(ROW({columns}), 2)), 0)
FROM {table}
"""
POSITIONS = "positions"
"""The suffix of the table that says how far each stream was applied: digested with the others."""


@dataclass(frozen=True, slots=True)
class TableDigest:
    rows: int
    sums: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Digest:
    """Of each digested table, by its suffix."""

    of: dict[str, TableDigest]

    @property
    def hex(self) -> str:
        """Short, to show to people."""
        said = "".join(f"{suffix}:{one.rows}:{one.sums};" for suffix, one in self.of.items())
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def differing(self, other: "Digest") -> list[str]:
        """The suffixes of tables that differ."""
        return [suffix for suffix in self.of if self.of[suffix] != other.of.get(suffix)]


def digest(connection: Db, tables: Tables, suffixes: Iterable[str]) -> Digest:
    """Of those tables and of the positions. Call it in one snapshot, or while nobody writes."""
    return Digest({suffix: _table(connection, tables, suffix) for suffix in (*suffixes, POSITIONS)})


def _table(connection: Db, tables: Tables, suffix: str) -> TableDigest:
    table = tables.table(suffix)
    names = connection.execute(COLUMNS, (table.as_string(connection),)).fetchall()
    columns = sql.SQL(", ").join(sql.Identifier(name) for (name,) in names)
    query = sql.SQL(DIGEST).format(columns=columns, table=table)
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101  an aggregate has one row
    return TableDigest(int(row[0]), (int(row[1]), int(row[2])))
