"""A gateway's connections to the read models' database, and how a read finds the live tables."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from commands.errors import StoreUnavailable
from gateway.read_ports import Seen
from infra.event_store.datastore import CONNECT_SECONDS_MAX, RECONNECT_SECONDS_MAX, VANISHING
from infra.event_store.unreachable import unreachable
from projections.tables import POSITIONS, Tables
from projections.versions import READABLE

log = logging.getLogger("thalweg.read_models")

CONNECTION_SECONDS_MAX = 2.0
"""To get a connection of the pool; then the database counts as away."""
SILENT_SECONDS_MAX = 5.0
"""A pool that gives no connection for so long is replaced. With the database away that costs a pool
each time; but twice in `make bench` one gave none for minutes, and Postgres was well."""
STATEMENT_SECONDS_MAX = 5
"""A read takes some milliseconds; a search of a word that is everywhere, more."""
ATTEMPTS_MAX = 3
"""A connection of the pool may have died with the server that it belonged to."""
APPLIED_POLL_SECONDS = 0.01
"""Between looks whether a projection has applied a command: it takes 5 to 20 ms."""

OFFSETS = "SELECT partition, next_offset FROM {offsets}"

Values = Sequence[object] | Mapping[str, Any]


class ProjectionMissing(StoreUnavailable):
    """The tables are not there: no process of the role `projections` has run yet."""


class ReadModels:
    """The connections of one process to the database of the projections."""

    def __init__(self, database_url: str, *, connections_max: int = 4) -> None:
        self._database_url = database_url
        self._connections_max = connections_max
        self._pool = self._new_pool()
        self._given_at = monotonic()
        """When the pool last gave a connection, or was made."""
        self._closing: set[asyncio.Task[None]] = set()

    def _new_pool(self) -> AsyncConnectionPool[AsyncConnection[TupleRow]]:
        return AsyncConnectionPool(
            self._database_url,
            min_size=1,
            max_size=self._connections_max,
            timeout=CONNECTION_SECONDS_MAX,
            max_idle=300,
            reconnect_timeout=RECONNECT_SECONDS_MAX,
            kwargs={
                "autocommit": True,
                "connect_timeout": CONNECT_SECONDS_MAX,
                "application_name": "thalweg read models",
                # Compiling a statement would take longer than any of ours.
                "options": f"-c statement_timeout={STATEMENT_SECONDS_MAX}s -c jit=off",
                **VANISHING,
            },
            open=False,
        )

    async def open(self) -> None:
        """Never waits for the database."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _replace(self, silent: AsyncConnectionPool[AsyncConnection[TupleRow]]) -> None:
        """Takes a fresh pool for one that gives nothing: it may have lost count of its own."""
        if silent is not self._pool or monotonic() - self._given_at < SILENT_SECONDS_MAX:
            return
        log.warning("a pool gives no connection and is replaced", extra=silent.get_stats())
        self._pool, self._given_at = self._new_pool(), monotonic()
        await self._pool.open(wait=False)
        closing = asyncio.create_task(silent.close(CONNECTION_SECONDS_MAX))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def fetch(self, query: Composed, values: Values) -> list[TupleRow]:
        """The rows of a query. Raises StoreUnavailable."""
        problem: Exception = StoreUnavailable("no connection")
        for _ in range(ATTEMPTS_MAX):
            pool = self._pool
            try:
                async with pool.connection() as connection:
                    self._given_at = monotonic()
                    return await (await connection.execute(query, values)).fetchall()
            except psycopg.errors.UndefinedTable:
                raise ProjectionMissing("the projections have not run yet") from None
            except PoolTimeout as error:
                await self._replace(pool)
                raise unreachable(error) from error
            except psycopg.errors.QueryCanceled as error:
                raise unreachable(error) from error
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                problem = error
        raise unreachable(problem) from problem

    async def live(self, tables: Tables) -> Tables:
        """Those of the build that readers of this version follow now. Raises StoreUnavailable.

        Good for one read: a switch may come at any time, and what was live may be dropped.
        """
        query = SQL(READABLE).format()
        rows = await self.fetch(query, (tables.name, tables.version))
        if not rows:
            raise ProjectionMissing(f"{tables.name}@{tables.version} was not built yet")
        return replace(tables, build=rows[0][0])

    async def read(
        self, tables: Tables, statement: LiteralString, values: Values
    ) -> list[TupleRow]:
        """The rows of a statement over the live build's tables. Raises StoreUnavailable."""
        try:
            return await self.fetch((await self.live(tables)).compose(statement), values)
        except ProjectionMissing:  # dropped between the two, perhaps
            return await self.fetch((await self.live(tables)).compose(statement), values)

    async def read_seen(
        self, tables: Tables, context: str, statement: LiteralString, values: Values
    ) -> tuple[list[TupleRow], Seen]:
        """The rows, and how much of the log the same build had applied by then, or later."""
        try:
            return await self._read_seen(tables, context, statement, values)
        except ProjectionMissing:
            return await self._read_seen(tables, context, statement, values)

    async def _read_seen(
        self, tables: Tables, context: str, statement: LiteralString, values: Values
    ) -> tuple[list[TupleRow], Seen]:
        live = await self.live(tables)
        rows = await self.fetch(live.compose(statement), values)
        offsets = await self.fetch(live.compose(OFFSETS), ())
        return rows, Seen(context, dict(offsets))

    async def position(self, tables: Tables, stream: UUID) -> int:
        """How far a projection has applied a stream. Raises StoreUnavailable."""
        try:
            rows = await self.read(tables, POSITIONS, ([stream],))
        except ProjectionMissing:
            return 0
        return int(rows[0][1]) if rows else 0

    async def wait_applied(
        self, tables: Tables, stream: UUID, position: int, *, seconds_max: float
    ) -> bool:
        """Whether a projection has applied a stream up to `position`, after waiting for it.

        For tools that wait alone; a gateway's reads share `applied.AppliedPositions`. A parked
        stream never gets there. Raises StoreUnavailable.
        """
        until = asyncio.get_running_loop().time() + seconds_max
        while await self.position(tables, stream) < position:
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(APPLIED_POLL_SECONDS)
        return True
