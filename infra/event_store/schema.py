"""Makes a context's schema: safe to call at every start, by several processes at once."""

from psycopg import Connection, OperationalError
from psycopg.sql import SQL, Identifier

from infra.event_store.datastore import CONNECT_SECONDS_MAX, VANISHING
from infra.event_store.recorder import EventRecorder
from infra.event_store.unreachable import unreachable

SCHEMA_LOCK = 0x7468616C  # "thal": one number for all who make schemas in this database

TAKE_LOCK = SQL("SELECT pg_advisory_lock({})").format(SCHEMA_LOCK)
SCHEMA_EXISTS = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
CREATE_SCHEMA = SQL("CREATE SCHEMA IF NOT EXISTS {}")
CREATE_RELAY = SQL(
    "CREATE TABLE IF NOT EXISTS {schema}.relay ("
    " context text PRIMARY KEY,"
    " epoch bigint NOT NULL DEFAULT 0,"
    " holder text,"
    " session_pid integer,"
    " session_start timestamptz,"
    " leased_until timestamptz NOT NULL DEFAULT '-infinity',"
    " position bigint NOT NULL DEFAULT 0,"
    " last_event uuid)"
)
INSERT_RELAY = SQL("INSERT INTO {schema}.relay (context) VALUES (%s) ON CONFLICT DO NOTHING")


def create_schema(database_url: str, recorder: EventRecorder) -> None:
    """Creates what is missing of the recorder's schema. Raises StoreUnavailable."""
    schema = Identifier(recorder.datastore.schema)
    try:
        with Connection.connect(
            database_url, autocommit=True, connect_timeout=CONNECT_SECONDS_MAX, **VANISHING
        ) as connection:
            connection.execute(TAKE_LOCK)  # until the connection is closed
            context = recorder.datastore.schema
            if connection.execute(SCHEMA_EXISTS, (context,)).fetchone() is None:
                connection.execute(CREATE_SCHEMA.format(schema))
            recorder.create_table()
            connection.execute(CREATE_RELAY.format(schema=schema))
            connection.execute(INSERT_RELAY.format(schema=schema), (context,))
    except OperationalError as error:
        raise unreachable(error) from error
