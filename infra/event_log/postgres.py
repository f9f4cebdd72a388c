"""The log of one context on Postgres: the event store's own table, in commit order.

The recorder's table lock makes notification ids one order with commits: whoever has seen an id has
seen every lower one that there will ever be. So a reader goes on by id alone and skips nothing.

Readers have connections of their own, so that an auditor takes none from commands. The table has
no column for a tenant or a time. A tenant's mark stands at the begin of each state, where Postgres
finds it without unpacking the rest; what is found is decoded and checked again. Times rise with
places as far as clocks agree, so a time is found by halving.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier
from psycopg_pool import PoolTimeout

from commands.errors import StoreUnavailable
from events.codec import TENANT_WITHIN_BYTES, Undecodable, decode_stored, tenant_mark
from events.envelope import Recorded
from gateway.log.ports import CLOCKS_APART_MAX, Logged, Step, Unreadable, Wanted
from infra.event_store.recorder import EVENTS_TABLE
from infra.event_store.unreachable import WITHDRAWN, unreachable
from infra.read_pool import ReadPool

CONNECTIONS_MAX = 2
"""Of one process to one context's log: auditors wait for each other, not commands for them."""
STATEMENT_SECONDS_MAX = 10
"""A step takes milliseconds; a database that takes this long is not well."""
SCANNED_MAX = 5_000
"""Events that one step looks at: some ten milliseconds of Postgres' time, and a reader that finds
little can be interrupted in between."""
READ_BYTES_MAX = 4_194_304
"""Of stored events in one step: what a reader holds in memory."""
DAMAGED_MAX = 20
"""So many damaged events in a row are passed in search of a time; behind them, it is not known."""
ATTEMPTS_MAX = 2
"""A connection of the pool may have died with the server that it belonged to."""

END = SQL("SELECT coalesce(max(notification_id), 0) FROM {schema}.{table}")
SCAN = SQL(
    "SELECT coalesce(max(notification_id), %(after)s), count(*) FROM ("
    " SELECT notification_id FROM {schema}.{table} WHERE notification_id > %(after)s"
    " ORDER BY notification_id LIMIT %(scanned)s) AS looked_at"
)
COLUMNS = SQL("notification_id, originator_id, originator_version, topic, state")
BOUNDED = SQL(  # no more bytes than wanted, but one event at least
    "SELECT {columns}, found FROM ("
    " SELECT *, count(*) OVER () AS found, octet_length(state) AS bytes,"
    " sum(octet_length(state)) OVER (ORDER BY notification_id) AS total FROM ({rows}) AS next_ones"
    ") AS summed WHERE total - bytes < %(bytes)s ORDER BY notification_id"
)
ROWS = SQL(
    "SELECT {columns} FROM {schema}.{table}"
    " WHERE notification_id > %(after)s AND notification_id <= %(place)s"
    " AND (%(types)s::text[] IS NULL OR topic = ANY(%(types)s))"
    " AND (%(tenant)s::bytea IS NULL"
    "  OR position(%(tenant)s::bytea IN substring(state FOR %(tenant_within)s)) > 0)"
    " ORDER BY notification_id LIMIT %(events)s"
)
ROWS_OF_STREAM = SQL(
    "SELECT {columns} FROM {schema}.{table}"
    " WHERE originator_id = %(stream)s AND originator_version >= %(position)s"
    " AND notification_id > %(after)s AND notification_id <= %(place)s"
    " AND (%(types)s::text[] IS NULL OR topic = ANY(%(types)s))"
    " ORDER BY originator_version LIMIT %(events)s"
)
FIRST_AFTER = SQL(
    "SELECT {columns} FROM {schema}.{table} WHERE notification_id > %s"
    " ORDER BY notification_id LIMIT 1"
)
FIRST_OF_STREAM = SQL(
    "SELECT {columns} FROM {schema}.{table} WHERE originator_id = %s"
    " ORDER BY originator_version LIMIT 1"
)


class PostgresLog:
    """See gateway.log.ports.EventLog. `open` it first, `close` it in the end."""

    def __init__(self, context: str, database_url: str, *, scanned_max: int = SCANNED_MAX) -> None:
        self._scanned_max = scanned_max
        self._pool = ReadPool(
            database_url,
            application_name=f"thalweg log of {context}",
            options="-c default_transaction_read_only=on"
            f" -c statement_timeout={STATEMENT_SECONDS_MAX}s",
            connections_min=0,
            connections_max=CONNECTIONS_MAX,
            binary=True,
        )
        names = {"schema": Identifier(context), "table": Identifier(EVENTS_TABLE)}

        def query(statement: SQL) -> Composed:
            return statement.format(columns=COLUMNS, **names)

        self._end, self._scan = END.format(**names), SCAN.format(**names)
        self._rows = BOUNDED.format(columns=COLUMNS, rows=query(ROWS))
        self._rows_of_stream = BOUNDED.format(columns=COLUMNS, rows=query(ROWS_OF_STREAM))
        self._first_after, self._first_of_stream = query(FIRST_AFTER), query(FIRST_OF_STREAM)

    async def open(self) -> None:
        """Never waits for the database."""
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def end(self) -> int:
        rows = await self._fetch(self._end)
        return int(rows[0][0])

    async def before(self, time: datetime) -> int:
        """By halving: up to `low` all is older, after `high` comes what is not."""
        oldest = time - CLOCKS_APART_MAX
        low, high = 0, await self.end()
        while low < high:
            middle = (low + high) // 2
            place, at = await self._next_time(middle, high)
            if at is not None and at < oldest:
                low = place
            else:
                high = middle
        return low

    async def _next_time(self, place: int, last: int) -> tuple[int, datetime | None]:
        """Of the next event up to `last` whose time can be read; None: it is not known."""
        for _ in range(DAMAGED_MAX):
            rows = await self._fetch(self._first_after, (place,))
            if not rows or rows[0][0] > last:  # only places that nothing has taken
                break
            place = rows[0][0]
            with suppress(Unreadable):
                return place, _time_of(rows[0])
        return place, None

    async def tenant_of(self, stream: UUID) -> UUID | None:
        rows = await self._fetch(self._first_of_stream, (stream,))
        return _decode(rows[0]).meta.tenant if rows else None

    async def read(self, wanted: Wanted, after: int, *, events_max: int) -> Step:
        if wanted.stream is None:
            scanned = {"after": after, "scanned": self._scanned_max}
            ((place, count),) = await self._fetch(self._scan, scanned)
            at_end = count < self._scanned_max
        else:
            place, at_end = max(after, await self.end()), True
        # Everything up to `place` is committed by now, and nothing will be committed there later.
        rows = (
            []
            if place == after
            else await self._fetch(
                self._rows if wanted.stream is None else self._rows_of_stream,
                {
                    "after": after,
                    "place": place,
                    "types": list(wanted.types) or None,
                    "tenant": tenant_mark(wanted.tenant) if wanted.tenant is not None else None,
                    "tenant_within": TENANT_WITHIN_BYTES,
                    "stream": wanted.stream,
                    "position": wanted.from_position,
                    "events": events_max,
                    "bytes": READ_BYTES_MAX,
                },
            )
        )
        if rows and (len(rows) < rows[0][-1] or len(rows) == events_max):
            place, at_end = rows[-1][0], False  # there may be more than this step takes
        found: list[Logged] = []
        for at, row in enumerate(rows):
            try:
                recorded = _decode(row)
            except Unreadable:
                if at == 0:
                    raise
                return Step(found, rows[at - 1][0], False)
            if wanted.takes(recorded):
                found.append(Logged(row[0], recorded))
        past = wanted.until is not None and await self._is_past(wanted.until, place, at_end)
        return Step(found, place, at_end, past)

    async def _is_past(self, until: datetime, place: int, at_end: bool) -> bool:
        """Whether everything after `place` is newer."""
        newest = until + CLOCKS_APART_MAX
        if at_end:
            return datetime.now(UTC) >= newest
        rows = await self._fetch(self._first_after, (place,))
        with suppress(Unreadable):  # whoever reads on will meet it
            return bool(rows) and _time_of(rows[0]) >= newest
        return False

    async def _fetch(self, query: Composed, values: Any = ()) -> Sequence[TupleRow]:
        """The rows of a query. Raises StoreUnavailable."""
        problem: Exception = StoreUnavailable("no connection")
        for _ in range(ATTEMPTS_MAX):
            try:
                return await self._pool.fetch(query, values)
            except PoolTimeout as error:
                raise unreachable(error) from error
            except (psycopg.OperationalError, psycopg.InterfaceError, *WITHDRAWN) as error:
                problem = error
        raise unreachable(problem) from problem


def _decode(row: TupleRow) -> Recorded:
    place, stream, position, type_name, state = row[:5]
    try:
        return decode_stored(stream, position, type_name, state)
    except Undecodable as error:
        raise Unreadable(place) from error


def _time_of(row: TupleRow) -> datetime:
    """Of the envelope alone: what the event says need not be readable."""
    try:
        time = datetime.fromisoformat(orjson.loads(row[4])["time"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(row[0]) from error
    if time.tzinfo is None:
        raise Unreadable(row[0])
    return time
