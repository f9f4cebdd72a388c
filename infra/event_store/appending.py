"""The one statement that stores a group of commands: a function in the schema of its context.

One call is one transaction and one round trip. A caller that is killed or paused around it holds no
lock. Order matters inside. The table lock comes first: a notification id is taken at the insert and
seen at the commit, so without the lock a reader that tails by notification id skips what commits
late. Under it no other append runs, so rows can be touched in any order without deadlock.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventsourcing.persistence import StoredEvent
from psycopg import Cursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composed, Identifier

from commands.store import Append

FUNCTION = "append_1"
"""Its number goes up with each change of what it does: programs of two versions run side by side
while roles are replaced, and each calls its own."""

CREATE = SQL(
    "CREATE OR REPLACE FUNCTION {schema}.{function} ({parameters})"
    " RETURNS TABLE (appended_at timestamptz, ids bigint[])"
    " LANGUAGE plpgsql SET lock_timeout = {lock_timeout} AS $append$ BEGIN"
    " LOCK TABLE {schema}.{table} IN EXCLUSIVE MODE;"
    " appended_at := clock_timestamp();"
    " {parts}"
    " IF cardinality(streams) > 0 THEN"
    " NOTIFY {channel};"
    " WITH inserted AS ("
    "INSERT INTO {schema}.{table} (originator_id, originator_version, topic, state)"
    " SELECT * FROM unnest(streams, positions, types, states) RETURNING notification_id)"
    " SELECT array_agg(notification_id ORDER BY notification_id) INTO ids FROM inserted;"
    " END IF;"
    " RETURN NEXT;"
    " END $append$"
)
PART = SQL("IF cardinality({first}) > 0 THEN {statement}; END IF;")
CALL = SQL("SELECT appended_at, ids FROM {schema}.{function} ({arguments})")
EVENTS = {"streams": "uuid", "positions": "bigint", "types": "text", "states": "bytea"}


@dataclass(frozen=True)
class Part:
    """Rows that are written beside the events: `statement` runs if its first column has values.

    `columns` names the function's parameters, each an array, with the type of its elements; no
    column of a table may have that name. `appended_at` is the time of the append.
    """

    columns: Mapping[str, str]
    statement: SQL
    values: Callable[[Sequence[Append]], Sequence[Sequence[Any]]]
    """Of a group: one sequence for each of the columns."""


class Appending:
    """The function of one schema, and the call of it."""

    def __init__(
        self, schema: str, table: str, channel: str, parts: Sequence[Part], *, lock_seconds_max: int
    ) -> None:
        self._parts = parts
        names = {"schema": Identifier(schema), "table": Identifier(table)}
        function = Identifier(FUNCTION)
        columns = dict(EVENTS)
        for part in parts:
            columns.update(part.columns)
        self.create: Composed = CREATE.format(
            **names,
            function=function,
            parameters=_listed(f"{name} {kind}[]" for name, kind in columns.items()),
            lock_timeout=f"{lock_seconds_max}s",
            channel=Identifier(channel),
            parts=SQL(" ").join(
                PART.format(
                    first=Identifier(next(iter(part.columns))),
                    statement=part.statement.format(**names),
                )
                for part in parts
            ),
        )
        arguments = _listed(f"%s::{kind}[]" for kind in columns.values())
        call = CALL.format(schema=names["schema"], function=function, arguments=arguments)
        self._call = call.as_bytes(None)  # put together once, not at each execution

    def append(
        self,
        cursor: Cursor[Any],
        appends: Sequence[Append],
        stored_events: Sequence[StoredEvent],
    ) -> tuple[datetime, list[int]]:
        """Stores all or nothing; the time of it, and the notification ids of the events.

        In a transaction of its own unless the connection is in one.
        """
        values: list[Sequence[Any]] = [
            [event.originator_id for event in stored_events],
            [event.originator_version for event in stored_events],
            [event.topic for event in stored_events],
            [event.state for event in stored_events],
        ]
        for part in self._parts:
            values.extend(part.values(appends))
        with cursor.connection.cursor(row_factory=tuple_row) as own:
            row = own.execute(self._call, values, binary=True).fetchone()
        if row is None:
            raise LookupError("the function gives a row back")
        return row[0], row[1] or []


def _listed(words: Any) -> Composed:
    return SQL(", ").join(SQL(word) for word in words)
