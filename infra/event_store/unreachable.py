"""A database that can't be reached: clients are told so, and the log is told the rest."""

import logging
import time

from psycopg.errors import (
    IdleInTransactionSessionTimeout,
    ReadOnlySqlTransaction,
    TransactionTimeout,
)

from commands.errors import StoreUnavailable

log = logging.getLogger("thalweg.event_store")

WARNING_SECONDS = 5.0
"""Between lines of the log: while Postgres is away every command fails alike."""

WITHDRAWN = (IdleInTransactionSessionTimeout, TransactionTimeout, ReadOnlySqlTransaction)
"""We were paused in a transaction for too long, or this server does not lead any more after a
failover. To psycopg these are no OperationalErrors; to us the connection is lost all the same."""

_warned_at = float("-inf")


def unreachable(error: Exception) -> StoreUnavailable:
    """What to raise for a driver's error, whose words name hosts, users and databases."""
    global _warned_at
    now = time.monotonic()
    if now - _warned_at >= WARNING_SECONDS:
        _warned_at = now
        log.warning("a database can't be reached", extra={"reason": str(error)})
    return StoreUnavailable("Postgres can't be reached")
