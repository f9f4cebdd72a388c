"""One context's connection pool: eventsourcing's datastore, opened by a URL and bounded."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from eventsourcing.persistence import InternalError, OperationalError
from eventsourcing.postgres import BasePostgresFactory, PostgresDatastore
from eventsourcing.utils import strtobool
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import DictRow, dict_row

from infra.event_store.unreachable import WITHDRAWN

POOL_WAIT_SECONDS_MAX = 1.0
"""For a connection; then the caller tries again or gives up, by its own deadline."""
CONNECT_SECONDS_MAX = 2
"""To open one connection: libpq counts whole seconds and takes less than 2 for 2."""
RECONNECT_SECONDS_MAX = 1.5
"""The pool's attempts back off up to minutes if let: a short bound means that, once Postgres is
back, the next request opens a connection at once instead of waiting for a backed-off attempt."""
IDLE_IN_TRANSACTION_SECONDS_MAX = 2.0
"""A writer that is paused in its transaction holds the table lock; Postgres ends it after this
long, so that the others' appends still succeed within their own bound."""
LOCK_SECONDS_MAX = 4
"""For the table lock: less than a command waits in all."""
TCP_USER_TIMEOUT_MILLISECONDS = 5_000
"""Sent and unacknowledged for so long: the network is gone, the connection counts as lost."""
KEEPALIVES_IDLE_SECONDS = 5
KEEPALIVES_INTERVAL_SECONDS = 2
KEEPALIVES_COUNT = 3
"""Who waits for an answer sends nothing: only keepalives tell that the other host has vanished,
after some 11 s. The system's own bound is two hours."""

VANISHING: dict[str, Any] = {
    "tcp_user_timeout": TCP_USER_TIMEOUT_MILLISECONDS,
    "keepalives_idle": KEEPALIVES_IDLE_SECONDS,
    "keepalives_interval": KEEPALIVES_INTERVAL_SECONDS,
    "keepalives_count": KEEPALIVES_COUNT,
}
"""For libpq: how a connection finds out that the other host is gone."""


class UnsafeSetting(Exception):
    """POSTGRES_ENABLE_DB_FUNCTIONS is set."""

    def __init__(self) -> None:
        super().__init__(
            "POSTGRES_ENABLE_DB_FUNCTIONS is set: eventsourcing would append without the table "
            "lock and readers of the log would skip events; remove it from the environment"
        )


def refuse_unsafe_settings(environment: dict[str, str] | None = None) -> None:
    """Raises UnsafeSetting if appends would not hold the table lock."""
    given = dict(os.environ if environment is None else environment)
    try:
        on = strtobool(given.get(BasePostgresFactory.POSTGRES_ENABLE_DB_FUNCTIONS) or "no")
    except ValueError:
        on = True
    if on:
        raise UnsafeSetting


class Datastore(PostgresDatastore):
    """A pool for one schema; its bounds are ours, all else is the URL's."""

    def __init__(
        self, database_url: str, *, schema: str, connections_max: int, application_name: str
    ) -> None:
        refuse_unsafe_settings()
        parameters: dict[str, Any] = {
            **VANISHING,
            "connect_timeout": CONNECT_SECONDS_MAX,
            "application_name": application_name,
            **conninfo_to_dict(database_url),
        }
        super().__init__(
            dbname=parameters.get("dbname", ""),
            host=parameters.get("host", ""),
            port=parameters.get("port", ""),
            user=parameters.get("user", ""),
            password=parameters.get("password", ""),
            connect_timeout=POOL_WAIT_SECONDS_MAX,
            idle_in_transaction_session_timeout=IDLE_IN_TRANSACTION_SECONDS_MAX,
            pool_size=connections_max,
            lock_timeout=LOCK_SECONDS_MAX,
            schema=schema,
        )
        # The constructor takes five parameters; a URL may have more (sslmode, options, ...).
        self.pool.kwargs = {**parameters, "row_factory": dict_row}
        self.pool.reconnect_timeout = RECONNECT_SECONDS_MAX

    @contextmanager
    def get_connection(self) -> Iterator[Connection[DictRow]]:
        """As the library's. A connection that Postgres has withdrawn is not used again, and counts
        as lost (OperationalError): psycopg sees a bug of ours in it (InternalError).
        """
        try:
            with super().get_connection() as connection:
                try:
                    yield connection
                except WITHDRAWN as error:
                    connection.close()  # the pool replaces it
                    if isinstance(error, ReadOnlySqlTransaction):
                        self.pool.drain()  # the others lead to the same server
                    raise
        except InternalError as error:
            if isinstance(error.__cause__, WITHDRAWN):
                raise OperationalError(str(error)) from error.__cause__
            raise

    def after_connect_func(self) -> Callable[[Connection[Any]], None]:
        configure = super().after_connect_func()

        def after_connect(connection: Connection[Any]) -> None:
            configure(connection)
            connection.prepare_threshold = 0  # every statement is one of a few; none is made up

        return after_connect
