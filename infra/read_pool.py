"""Connections for reads whose readers may leave at any moment: none is lost by that.

psycopg's pool (3.3.3) counts a connection from the attempt to open it until it is given up. A task
that gives one back waits for the pool's lock if another is about to hand one to a waiter that has
just timed out or left. If it is cancelled in that turn of the loop, the connection is closed and
stays counted. When that has happened to as many as there may be, the pool gives nothing for ever
and asks for nothing. Hundreds of look-ups that reach their bound at once are such a moment.

So no cancellation enters the pool: a read is a task of its own. It goes on when its reader has
left, within the bounds of the database; whoever waits for its turn leaves before that.
"""

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import Composed
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from infra.event_store.datastore import CONNECT_SECONDS_MAX, RECONNECT_SECONDS_MAX, VANISHING

CONNECTION_SECONDS_MAX = 2.0
"""To get a connection; then the database counts as away."""
IDLE_SECONDS_MAX = 300.0
"""After which a connection that was not needed is closed."""
LAST_READS_SECONDS_MAX = 1.0
"""For reads under way when everything closes: nobody wants them any more."""

Values = Sequence[object] | Mapping[str, Any]


class ReadPool:
    """The connections of one process for one kind of reads. `open` it first."""

    def __init__(
        self,
        database_url: str,
        *,
        application_name: str,
        options: str,
        connections_min: int,
        connections_max: int,
        binary: bool = False,
    ) -> None:
        """`options` are of libpq; `binary`: the form in which rows come."""
        self._binary = binary
        self._pool: AsyncConnectionPool[AsyncConnection[TupleRow]] = AsyncConnectionPool(
            database_url,
            min_size=connections_min,
            max_size=connections_max,
            max_idle=IDLE_SECONDS_MAX,
            reconnect_timeout=RECONNECT_SECONDS_MAX,
            kwargs={
                "autocommit": True,
                "application_name": application_name,
                "connect_timeout": CONNECT_SECONDS_MAX,
                "options": options,
                **VANISHING,
            },
            open=False,
        )
        self._turns = asyncio.Semaphore(connections_max)
        self._reads: set[asyncio.Task[list[TupleRow]]] = set()

    async def open(self) -> None:
        """Never waits for the database."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        if self._reads:
            await asyncio.wait(self._reads, timeout=LAST_READS_SECONDS_MAX)
        await self._pool.close()

    async def fetch(self, query: Composed, values: Values = ()) -> list[TupleRow]:
        """The rows of a query. Raises PoolTimeout, and psycopg's errors."""
        until = monotonic() + CONNECTION_SECONDS_MAX
        await self._take_turn()
        read = asyncio.create_task(self._fetch(query, values, until))
        self._reads.add(read)
        read.add_done_callback(self._ended)
        return await asyncio.shield(read)

    async def _take_turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()  # at once
            return
        try:
            async with asyncio.timeout(CONNECTION_SECONDS_MAX):
                await self._turns.acquire()
        except TimeoutError:
            raise PoolTimeout("all connections are in use") from None

    async def _fetch(self, query: Composed, values: Values, until: float) -> list[TupleRow]:
        async with self._pool.connection(until - monotonic()) as connection:
            cursor = await connection.execute(query, values, binary=self._binary)
            return await cursor.fetchall()

    def _ended(self, read: asyncio.Task[list[TupleRow]]) -> None:
        self._reads.discard(read)
        self._turns.release()
        if not read.cancelled():
            read.exception()  # its reader may have left; then nobody else asks for it
