"""eventsourcing's recorder for Postgres, with our rows in the transaction of each append."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg import Connection, Cursor
from psycopg.rows import DictRow, TupleRow, tuple_row
from psycopg.sql import SQL, Composed, Identifier

from commands.store import Append, Receipt
from infra.event_store.appending import Appending, Part
from infra.event_store.datastore import UnsafeSetting, refuse_unsafe_settings
from infra.failpoints import hit

EVENTS_TABLE = "stored_events"
CommandKey = tuple[UUID, str]
"""Tenant and command id."""


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A row of the commands table: what became of a command."""

    stream: UUID
    position: int
    fingerprint: bytes
    stored_at: datetime


@dataclass(slots=True)
class Group:
    """The commands of one transaction, and what became of each."""

    appends: Sequence[Append]
    stored_at: datetime | None = None
    joined: dict[CommandKey, Receipt] = field(default_factory=dict)
    """Repeats of what is stored already: nothing of them is stored."""

    @property
    def new(self) -> list[Append]:
        """Those that are stored."""
        return [one for one in self.appends if (one.tenant, one.command) not in self.joined]

    def receipts(self) -> dict[CommandKey, Receipt]:
        """Raises LookupError before they are stored."""
        if self.stored_at is None:
            raise LookupError("nothing has been stored yet")
        stored = {}
        for append in self.new:
            last, key = append.events[-1], (append.tenant, append.command)
            stored[key] = Receipt(last.stream, last.position, self.stored_at)
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
    "INSERT INTO {schema}.commands (tenant, command, stream, position, fingerprint, stored_at)"
    " SELECT *, appended_at FROM unnest(command_tenants, command_names, command_streams,"
    " command_positions, command_fingerprints)"
)
COMMAND_COLUMNS = {
    "command_tenants": "uuid",
    "command_names": "text",
    "command_streams": "uuid",
    "command_positions": "bigint",
    "command_fingerprints": "bytea",
}
KEEP_COMMAND = SQL(
    "INSERT INTO {schema}.commands (tenant, command, stream, position, fingerprint)"
    " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
SELECT_COMMANDS = SQL(
    "SELECT tenant, command, stream, position, fingerprint, stored_at FROM {schema}.commands"
    " JOIN unnest(%s::uuid[], %s::text[]) AS wanted (tenant, command) USING (tenant, command)"
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
        self._appending = Appending(
            datastore.schema,
            events_table_name,
            self.channel_name,
            self._parts(),
            lock_seconds_max=datastore.lock_timeout,
        )
        self.sql_create_statements.append(self._appending.create)
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

        Raises IntegrityError if any position or command id is taken, OperationalError or
        InterfaceError if the connection was lost: then it is unknown whether it was committed.
        """
        group = Group(appends)
        self.insert_events(stored_events, group=group)
        return group.receipts()

    def insert_events(
        self, stored_events: Sequence[StoredEvent], *, group: Group | None = None, **kwargs: Any
    ) -> Sequence[int] | None:
        group = group or Group(())
        with self.datastore.get_connection() as connection:
            if not self._may_join(group):
                return self.append_in(connection.cursor(), stored_events, group)
            with connection.transaction():
                cursor = connection.cursor()
                self._lock_table(cursor)
                self._join(cursor, group)
                return self.append_in(cursor, stored_events, group)

    def append_in(
        self, cursor: Cursor[DictRow], stored_events: Sequence[StoredEvent], group: Group
    ) -> list[int]:
        """Stores what of the group was not joined, in the transaction of the cursor's connection
        if there is one; the notification ids."""
        if group.joined:
            streams = {append.stream for append in group.new}
            stored_events = [one for one in stored_events if one.originator_id in streams]
        group.stored_at, ids = self._appending.append(cursor, group.new, stored_events)
        return ids

    def _parts(self) -> list[Part]:
        """What is written beside the events."""
        return [Part(COMMAND_COLUMNS, INSERT_COMMANDS, _command_values)]

    def _may_join(self, group: Group) -> bool:
        """Whether one of the group may be a repeat of what is stored."""
        return False

    def _join(self, cursor: Cursor[DictRow], group: Group) -> None:
        """Fills in `group.joined`, under the table lock, before anything is stored."""

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
            return stored_by_stream(streams, self._ask_streams(connection, streams))

    def _ask_streams(
        self, connection: Connection[DictRow], streams: Sequence[UUID]
    ) -> Cursor[TupleRow]:
        cursor = connection.cursor(row_factory=tuple_row)
        return cursor.execute(self._select_streams, (list(streams),), binary=True)

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


def stored_by_stream(
    streams: Sequence[UUID], rows: Cursor[TupleRow]
) -> dict[UUID, list[StoredEvent]]:
    """The events of each stream, from rows in their order."""
    found: dict[UUID, list[StoredEvent]] = {stream: [] for stream in streams}
    for row in rows:
        found[row[0]].append(StoredEvent(*row))
    return found


def _command_values(appends: Sequence[Append]) -> Sequence[Sequence[Any]]:
    return (
        [append.tenant for append in appends],
        [append.command for append in appends],
        [append.stream for append in appends],
        [append.events[-1].position for append in appends],
        [append.fingerprint for append in appends],
    )
