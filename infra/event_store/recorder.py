"""eventsourcing's recorder for Postgres, with our rows in the transaction of each append.

Order matters inside the transaction. The table lock comes first: a notification id is taken at the
insert and seen at the commit, so without the lock a reader that tails by notification id skips what
commits late. Under it no other append runs, so rows can be touched in any order without deadlock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from eventsourcing.persistence import IntegrityError, OperationalError, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg import Connection, Cursor
from psycopg.errors import PipelineAborted
from psycopg.rows import DictRow, tuple_row
from psycopg.sql import SQL, Composed, Identifier

from commands.store import Append, Receipt
from infra.event_store.datastore import UnsafeSetting, refuse_unsafe_settings
from infra.failpoints import hit

EVENTS_TABLE = "stored_events"
ABORTED_ATTEMPTS_MAX = 5
"""Once in 300 conflicts the reason was missing; on a quick machine it may be each time."""
CommandKey = tuple[UUID, str]
"""Tenant and command id."""


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A row of the commands table: what became of a command."""

    stream: UUID
    position: int
    fingerprint: bytes
    stored_at: datetime


class Unexplained(IntegrityError):
    """A statement was refused, so that nothing was stored; psycopg did not say for what reason."""


@dataclass(slots=True)
class Group:
    """The commands of one transaction, and what became of each."""

    appends: Sequence[Append]
    stored_at: dict[CommandKey, datetime] = field(default_factory=dict)
    joined: dict[CommandKey, Receipt] = field(default_factory=dict)
    """Repeats of what is stored already: nothing of them is stored."""
    cursor: Cursor[DictRow] | None = None

    @property
    def new(self) -> list[Append]:
        """Those that are stored."""
        return [one for one in self.appends if (one.tenant, one.command) not in self.joined]

    def receipts(self) -> dict[CommandKey, Receipt]:
        stored = {}
        for append in self.new:
            last, key = append.events[-1], (append.tenant, append.command)
            stored[key] = Receipt(last.stream, last.position, self.stored_at[key])
        return {**stored, **self.joined}


def channel_of(schema: str) -> str:
    """What commits NOTIFY and relays LISTEN to. Channels belong to the database, hence the name."""
    return f"{schema}_{EVENTS_TABLE}"


CREATE_COMMANDS = SQL(
    "CREATE TABLE IF NOT EXISTS {schema}.commands ("
    " tenant uuid NOT NULL,"
    " command text NOT NULL,"
    " stream uuid NOT NULL,"
    " position bigint NOT NULL,"
    " fingerprint bytea NOT NULL,"
    " stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),"
    " PRIMARY KEY (tenant, command))"
)
INSERT_COMMANDS = SQL(
    "INSERT INTO {schema}.commands (tenant, command, stream, position, fingerprint)"
    " SELECT * FROM unnest("
    "%s::uuid[], %s::text[], %s::uuid[], %s::bigint[], %s::bytea[])"
    " RETURNING tenant, command, stored_at"
)
KEEP_COMMAND = SQL(
    "INSERT INTO {schema}.commands (tenant, command, stream, position, fingerprint)"
    " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
SELECT_COMMANDS = SQL(
    "SELECT tenant, command, stream, position, fingerprint, stored_at FROM {schema}.commands"
    " JOIN unnest(%s::uuid[], %s::text[]) AS wanted (tenant, command) USING (tenant, command)"
)
INSERT_EVENTS = SQL(
    "INSERT INTO {schema}.{table} (originator_id, originator_version, topic, state)"
    " SELECT * FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::bytea[])"
    " RETURNING notification_id"
)
SELECT_STREAMS = SQL(
    "SELECT originator_id, originator_version, topic, state FROM {schema}.{table}"
    " WHERE originator_id = ANY(%s::uuid[]) ORDER BY originator_id, originator_version"
)
SELECT_HEADS = SQL(
    "SELECT stream, (SELECT max(originator_version) FROM {schema}.{table}"
    " WHERE originator_id = stream) AS head FROM unnest(%s::uuid[]) AS stream"
)


class EventRecorder(PostgresApplicationRecorder):
    """Stores events, and with `store` the idempotency rows of their commands, in one transaction.

    Unlike the library's, nothing is retried here: whoever calls knows its deadline, and what to ask
    the store after a commit whose outcome is unknown.
    """

    def __init__(
        self, datastore: PostgresDatastore, *, events_table_name: str = EVENTS_TABLE
    ) -> None:
        refuse_unsafe_settings()
        if datastore.enable_db_functions:
            raise UnsafeSetting
        super().__init__(datastore, events_table_name=events_table_name)
        # The function would insert without the lock: it is not even created.
        self.sql_create_statements.remove(self.sql_create_pg_function_insert_events)
        self.sql_create_statements.append(self._sql(CREATE_COMMANDS))
        self.channel_name = f"{datastore.schema}_{events_table_name}"
        self._insert_rows = self._query(INSERT_EVENTS)
        self.lock_table_statements = [
            statement.as_bytes(None) if isinstance(statement, Composed) else statement
            for statement in self.lock_table_statements
        ]
        self._notify = SQL("NOTIFY {}").format(Identifier(self.channel_name)).as_bytes(None)
        self._insert_commands = self._query(INSERT_COMMANDS)
        self._keep_command = self._query(KEEP_COMMAND)
        self._select_commands = self._query(SELECT_COMMANDS)
        self._select_heads = self._query(SELECT_HEADS)
        self._select_streams = self._query(SELECT_STREAMS)

    def _query(self, statement: SQL) -> bytes:
        """Put together once: psycopg would do it again for each execution, some 30 us each."""
        return self._sql(statement).as_bytes(None)

    def _sql(self, statement: SQL) -> Composed:
        return statement.format(
            schema=Identifier(self.datastore.schema), table=Identifier(self.events_table_name)
        )

    # Writing ----------------------------------------------------------------------------------

    def store(
        self, appends: Sequence[Append], stored_events: Sequence[StoredEvent]
    ) -> dict[CommandKey, Receipt]:
        """Stores the commands with their events, all or none; gives the receipt of each.

        Raises IntegrityError if any position or command id is taken (Unexplained, if that is likely
        and no more is known), OperationalError or
        InterfaceError if the connection was lost: then it is unknown whether it was committed.
        """
        group = Group(appends)
        self.insert_events(stored_events, group=group)
        return group.receipts()

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        once = PostgresApplicationRecorder.insert_events.__wrapped__
        for attempt in range(ABORTED_ATTEMPTS_MAX):
            try:
                result: Sequence[int] | None = once(self, stored_events, **kwargs)
                return result
            except OperationalError as error:
                # Now and then psycopg reports a refused statement by the one behind it, as a
                # pipeline that was aborted. Nothing was stored: the next try tells the reason.
                if not isinstance(error.__cause__, PipelineAborted):
                    raise
                if attempt + 1 == ABORTED_ATTEMPTS_MAX:
                    raise Unexplained(str(error)) from error
        raise AssertionError("the last attempt returns or raises")

    def _insert_events(
        self, curs: Cursor[DictRow], stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> None:
        super()._lock_table(curs)
        group: Group | None = kwargs.get("group")
        if group is None:
            return
        group.joined.clear()  # what an attempt joined that was rolled back is not joined
        self._join(curs, group)
        appends = group.new
        if not appends:
            return
        # A cursor of its own: in a pipeline its rows arrive after the library has closed `curs`.
        group.cursor = curs.connection.cursor()
        group.cursor.execute(
            self._insert_commands,
            (
                [append.tenant for append in appends],
                [append.command for append in appends],
                [append.stream for append in appends],
                [append.events[-1].position for append in appends],
                [append.fingerprint for append in appends],
            ),
        )

    def _join(self, curs: Cursor[DictRow], group: Group) -> None:
        """Fills in `group.joined`, before anything is stored."""

    def _lock_table(self, curs: Cursor[DictRow]) -> None:
        """Held already: `_insert_events` comes first in the library's transaction."""

    def _notify_channel(self, curs: Cursor[DictRow]) -> None:
        curs.execute(self._notify)

    def _insert_stored_events(
        self, curs: Cursor[DictRow], stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> None:
        group: Group | None = kwargs.get("group")
        if group is not None and group.joined:
            streams = {append.stream for append in group.new}
            stored_events = [one for one in stored_events if one.originator_id in streams]
            if not stored_events:
                return
        self._notify_channel(curs)
        # Arrays of columns are sent in binary; the library's array of rows as text, escaped twice.
        curs.execute(
            self._insert_rows,
            (
                [event.originator_id for event in stored_events],
                [event.originator_version for event in stored_events],
                [event.topic for event in stored_events],
                [event.state for event in stored_events],
            ),
            binary=True,
        )

    def _fetch_ids_after_insert_events(
        self, curs: Cursor[DictRow], stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        group: Group | None = kwargs.get("group")
        if group is not None and not group.new:
            return []
        if group is not None and group.cursor is not None:
            group.stored_at = {
                (row["tenant"], row["command"]): row["stored_at"] for row in group.cursor.fetchall()
            }
            group.cursor.close()
        ids = super()._fetch_ids_after_insert_events(curs, stored_events, **kwargs)
        hit("store.before_commit")
        return ids

    def keep_command(
        self, key: CommandKey, fingerprint: bytes, stream: UUID, position: int
    ) -> StoredCommand:
        """Stores the row of a command without events, if there is none yet; returns what there is.

        Without the lock of appends: it is one row, and of two with one id the other finds it.
        """
        hit("store.before_keep")
        with self.datastore.get_connection() as connection:
            connection.execute(self._keep_command, (*key, stream, position, fingerprint))
        hit("store.after_keep")
        return self.stored_commands([key])[key]

    # Reading ----------------------------------------------------------------------------------

    def select_events(self, *args: Any, **kwargs: Any) -> Sequence[StoredEvent]:
        once = PostgresApplicationRecorder.select_events.__wrapped__
        result: Sequence[StoredEvent] = once(self, *args, **kwargs)
        return result

    def select_streams(self, streams: Sequence[UUID]) -> dict[UUID, list[StoredEvent]]:
        """All events of each of these streams, in order; one query for all."""
        with self.datastore.get_connection() as connection:
            return self._streams_of(connection, streams)

    def _streams_of(
        self, connection: Connection[DictRow], streams: Sequence[UUID]
    ) -> dict[UUID, list[StoredEvent]]:
        found: dict[UUID, list[StoredEvent]] = {stream: [] for stream in streams}
        cursor = connection.cursor(row_factory=tuple_row)
        for row in cursor.execute(self._select_streams, (list(streams),), binary=True):
            found[row[0]].append(StoredEvent(*row))
        return found

    def stored_commands(self, keys: Sequence[CommandKey]) -> dict[CommandKey, StoredCommand]:
        """Those of the commands that were stored."""
        tenants, commands = [key[0] for key in keys], [key[1] for key in keys]
        with self.datastore.get_connection() as connection:
            rows = connection.execute(self._select_commands, (tenants, commands)).fetchall()
        return {
            (row["tenant"], row["command"]): StoredCommand(
                row["stream"], row["position"], bytes(row["fingerprint"]), row["stored_at"]
            )
            for row in rows
        }

    def heads(self, streams: Sequence[UUID]) -> dict[UUID, int]:
        """The last position of each stream; 0 of one that does not exist."""
        with self.datastore.get_connection() as connection:
            rows = connection.execute(self._select_heads, (list(streams),)).fetchall()
        return {row["stream"]: row["head"] or 0 for row in rows}
