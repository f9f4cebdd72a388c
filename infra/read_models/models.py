"""A gateway's connections to the read models' database, and how a read finds the live tables."""

import asyncio
from dataclasses import replace
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed
from psycopg_pool import PoolTimeout

from commands.errors import StoreUnavailable
from gateway.read_ports import Seen
from infra.event_store.unreachable import unreachable
from infra.read_pool import ReadPool, Values
from projections.tables import POSITIONS, Tables
from projections.versions import READABLE

STATEMENT_SECONDS_MAX = 5
"""A read takes some milliseconds; a search of a word that is everywhere, more."""
ATTEMPTS_MAX = 3
"""A connection of the pool may have died with the server that it belonged to."""
APPLIED_POLL_SECONDS = 0.01
"""Between looks whether a projection has applied a command: it takes 5 to 20 ms."""

OFFSETS = "SELECT partition, next_offset FROM {offsets}"


class ProjectionMissing(StoreUnavailable):
    """The tables are not there: no process of the role `projections` has run yet."""


class ReadModels:
    """The connections of one process to the database of the projections."""

    def __init__(self, database_url: str, *, connections_max: int = 4) -> None:
        self._pool = ReadPool(
            database_url,
            application_name="thalweg read models",
            # Compiling a statement would take longer than any of ours.
            options=f"-c statement_timeout={STATEMENT_SECONDS_MAX}s -c jit=off",
            connections_min=1,
            connections_max=connections_max,
        )

    async def open(self) -> None:
        """Never waits for the database."""
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def fetch(self, query: Composed, values: Values) -> list[TupleRow]:
        """The rows of a query. Raises StoreUnavailable."""
        problem: Exception = StoreUnavailable("no connection")
        for _ in range(ATTEMPTS_MAX):
            try:
                return await self._pool.fetch(query, values)
            except psycopg.errors.UndefinedTable:
                raise ProjectionMissing("the projections have not run yet") from None
            except (PoolTimeout, psycopg.errors.QueryCanceled) as error:
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
