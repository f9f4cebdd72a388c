"""The turns that a repeat without a key may join: rows written with the events that began them.

A turn's row leaves when its response has been delivered, or when it is too old to be joined.
Writers hold the events' table lock, so that no two of them join the same turn; those who only take
rows out step over what a writer holds.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from eventsourcing.postgres import PostgresDatastore
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier

from commands.store import Append, Attempt, Receipt
from infra.event_store.appending import Part
from infra.event_store.recorder import CommandKey, Group

REPEAT_SECONDS_MAX = 720.0
"""Official clients wait 600 s for an answer, and at most 120 s before they repeat themselves."""
SWEPT_TURNS_MAX = 2_000
"""Rows that one sweep takes out: some ms. Sweeps outrun what one gateway can accept meanwhile."""

CREATE_TURNS = SQL(
    "CREATE TABLE IF NOT EXISTS {schema}.turns ("
    " tenant uuid NOT NULL,"
    " command text NOT NULL,"
    " key uuid NOT NULL,"
    " asked bytea NOT NULL,"
    " attempt integer NOT NULL,"
    " joined_by text,"  # the command of the last attempt: it may ask again what became of it
    " began_at timestamptz NOT NULL DEFAULT clock_timestamp(),"
    " PRIMARY KEY (tenant, command))"
)
CREATE_TURNS_ASKED = SQL(
    "CREATE INDEX IF NOT EXISTS turns_asked ON {schema}.turns (key, asked, began_at)"
)
CREATE_TURNS_JOINED = SQL(
    "CREATE INDEX IF NOT EXISTS turns_joined ON {schema}.turns (joined_by)"
    " WHERE joined_by IS NOT NULL"
)
CREATE_TURNS_BEGAN = SQL("CREATE INDEX IF NOT EXISTS turns_began ON {schema}.turns (began_at)")
INSERT_TURNS = SQL(
    "INSERT INTO {schema}.turns (tenant, command, key, asked, attempt) SELECT * FROM"
    " unnest(turn_tenants, turn_commands, turn_keys, turn_bodies, turn_attempts)"
)
TURN_COLUMNS = {
    "turn_tenants": "uuid",
    "turn_commands": "text",
    "turn_keys": "uuid",
    "turn_bodies": "bytea",
    "turn_attempts": "integer",
}
# Two looks, each by an index: an OR of them would read and sort every equal turn.
FIND_TURN = SQL(
    "SELECT tenant, command FROM ("
    "(SELECT tenant, command, 1 AS choice FROM {schema}.turns"
    " WHERE joined_by = %(command)s"  # a fresh id, of one call only
    " AND began_at > statement_timestamp() - make_interval(secs => %(seconds)s) LIMIT 1)"
    " UNION ALL "
    "(SELECT tenant, command, 2 AS choice FROM {schema}.turns"
    " WHERE key = %(key)s AND asked = %(asked)s AND attempt < %(number)s"
    " AND began_at > statement_timestamp() - make_interval(secs => %(seconds)s)"
    " ORDER BY began_at DESC LIMIT 1)"
    ") AS found ORDER BY choice LIMIT 1"
)
JOIN_TURN = SQL(
    "WITH joined AS ("
    " UPDATE {schema}.turns SET attempt = %(number)s, joined_by = %(command)s"
    " WHERE (tenant, command) = ({find})"
    " RETURNING tenant, command)"
    " SELECT command, stream, position, stored_at FROM joined"
    " JOIN {schema}.commands USING (tenant, command)"
)
SETTLE_TURNS = SQL(
    "DELETE FROM {schema}.turns WHERE (tenant, command) IN ("
    " SELECT tenant, command FROM {schema}.turns"
    " JOIN unnest(%s::uuid[], %s::text[]) AS settled (tenant, command) USING (tenant, command)"
    " FOR UPDATE OF turns SKIP LOCKED)"
)
SWEEP_TURNS = SQL(
    "DELETE FROM {schema}.turns WHERE (tenant, command) IN ("
    " SELECT tenant, command FROM {schema}.turns"
    " WHERE began_at < clock_timestamp() - make_interval(secs => %s)"
    " ORDER BY began_at LIMIT %s FOR UPDATE SKIP LOCKED)"
)
LOCK_EVENTS = SQL("LOCK TABLE {schema}.{table} IN EXCLUSIVE MODE")


class Turns:
    """The statements of one schema's table."""

    def __init__(
        self, datastore: PostgresDatastore, events_table: str, *, repeat_seconds_max: float
    ) -> None:
        self._datastore = datastore
        self._table = events_table
        self._seconds = repeat_seconds_max
        creating = (CREATE_TURNS, CREATE_TURNS_ASKED, CREATE_TURNS_JOINED, CREATE_TURNS_BEGAN)
        self.create = [self._sql(statement) for statement in creating]
        self._settle, self._sweep, self._lock = (
            self._sql(statement).as_bytes(None)
            for statement in (SETTLE_TURNS, SWEEP_TURNS, LOCK_EVENTS)
        )
        self.part = Part(TURN_COLUMNS, INSERT_TURNS, _begun)
        """Writes down the turns that commands begin."""
        self.find_one = self._sql(FIND_TURN).as_bytes(None)
        self.join_one = self._sql(JOIN_TURN, find=self._sql(FIND_TURN)).as_bytes(None)

    def _sql(self, statement: SQL, **parts: Composed) -> Composed:
        schema, table = Identifier(self._datastore.schema), Identifier(self._table)
        return statement.format(schema=schema, table=table, **parts)

    # In the transaction of an append, under the table lock ---------------------------------------

    def may_join(self, group: Group) -> bool:
        """Whether one of them may be a repeat."""
        return any(_repeats(group))

    def join_group(self, curs: Cursor[DictRow], group: Group) -> None:
        """Joins the repeats of a group to their turns."""
        for append, attempt in _repeats(group):
            receipt = _joined(self._ask(curs, self.join_one, append.command, attempt))
            if receipt is not None:
                group.joined[append.tenant, append.command] = receipt

    # On its own -----------------------------------------------------------------------------------

    def join(self, command: str, attempt: Attempt) -> Receipt | None:
        """Joins one repeat to its turn, if there is one, in a transaction of its own.

        The lock is taken only if one is seen: those who repeat a refused call hold up nobody.
        """
        with self._datastore.get_connection() as connection:
            if self._ask(connection.cursor(), self.find_one, command, attempt).fetchone() is None:
                return None
        with self._datastore.transaction(commit=True) as curs:
            curs.execute(self._lock)
            return _joined(self._ask(curs, self.join_one, command, attempt))

    def settle(self, turns: Sequence[CommandKey]) -> None:
        """Nobody joins these any more."""
        with self._datastore.get_connection() as connection:
            connection.execute(
                self._settle, ([tenant for tenant, _ in turns], [command for _, command in turns])
            )

    def sweep(self) -> int:
        """Takes out turns that are too old to be joined; says how many, SWEPT_TURNS_MAX at most."""
        with self._datastore.get_connection() as connection:
            return connection.execute(self._sweep, (self._seconds, SWEPT_TURNS_MAX)).rowcount

    def _ask(
        self, curs: Cursor[DictRow], statement: bytes, command: str, attempt: Attempt
    ) -> Cursor[DictRow]:
        """Planned each time, some 0.2 ms: a plan that was made and kept when the table was all but
        empty, which it mostly is, reads all of it for each join when it is large."""
        return curs.execute(statement, self.values(command, attempt), prepare=False)

    def values(self, command: str, attempt: Attempt) -> dict[str, Any]:
        """What `find_one` and `join_one` ask with."""
        return {
            "command": command,
            "key": attempt.key,
            "asked": attempt.asked,
            "number": attempt.number,
            "seconds": self._seconds,
        }


def _repeats(group: Group) -> Iterator[tuple[Append, Attempt]]:
    for append in group.appends:
        if append.attempt is not None and append.attempt.number > 0:
            yield append, append.attempt


def _begun(appends: Sequence[Append]) -> Sequence[Sequence[Any]]:
    begun = [(one, one.attempt) for one in appends if one.attempt is not None]
    return (
        [append.tenant for append, _ in begun],
        [append.command for append, _ in begun],
        [attempt.key for _, attempt in begun],
        [attempt.asked for _, attempt in begun],
        [attempt.number for _, attempt in begun],
    )


def _joined(curs: Cursor[DictRow]) -> Receipt | None:
    row = curs.fetchone()
    if row is None:
        return None
    stored_at: datetime = row["stored_at"]
    stream: UUID = row["stream"]
    return Receipt(stream, row["position"], stored_at, repeated=True, joined=row["command"])
