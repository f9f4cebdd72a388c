"""What the gateway reads of the projections' tables."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import LiteralString, Protocol
from uuid import UUID

import orjson
import psycopg
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from commands.errors import StoreUnavailable
from events.answers import Entry, entries_of_ended
from events.codec import Undecodable, decode_kept
from events.conversations import AnswerEnded
from events.envelope import Recorded
from gateway.answer_streams import AnswerRef, RecordedEnds, SourceUnavailable
from gateway.errors import AnswerExpired
from gateway.ports import Caller
from infra.event_store.datastore import VANISHING
from infra.event_store.unreachable import unreachable
from projections import answers, keys
from projections.tables import POSITIONS, Tables
from projections.versions import READABLE

CONNECTION_SECONDS_MAX = 2.0
"""To get a connection of the pool; then the database counts as away."""
ATTEMPTS_MAX = 3
"""A connection of the pool may have died with the server that it belonged to."""
APPLIED_POLL_SECONDS = 0.01
"""Between looks whether a projection has applied a command: it takes 5 to 20 ms."""


class ProjectionMissing(StoreUnavailable):
    """The tables are not there: no process of the role `projections` has run yet."""


class ReadModels:
    """The connections of one process to the database of the projections."""

    def __init__(self, database_url: str, *, connections_max: int = 4) -> None:
        self._pool = AsyncConnectionPool(
            database_url,
            min_size=1,
            max_size=connections_max,
            timeout=CONNECTION_SECONDS_MAX,
            max_idle=300,
            kwargs={"autocommit": True, "application_name": "thalweg read models", **VANISHING},
            open=False,
        )

    async def open(self) -> None:
        """Never waits for the database."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close()

    async def fetch(self, query: Composed, values: Sequence[object]) -> list[TupleRow]:
        """The rows of a query. Raises StoreUnavailable."""
        problem: Exception = StoreUnavailable("no connection")
        for _ in range(ATTEMPTS_MAX):
            try:
                async with self._pool.connection() as connection:
                    return await (await connection.execute(query, values)).fetchall()
            except psycopg.errors.UndefinedTable:
                raise ProjectionMissing("the projections have not run yet") from None
            except PoolTimeout as error:
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
        self, tables: Tables, statement: LiteralString, values: Sequence[object]
    ) -> list[TupleRow]:
        """The rows of a statement over the live build's tables. Raises StoreUnavailable."""
        try:
            return await self.fetch((await self.live(tables)).compose(statement), values)
        except ProjectionMissing:  # dropped between the two, perhaps
            return await self.fetch((await self.live(tables)).compose(statement), values)

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

        A parked stream never gets there. Raises StoreUnavailable.
        """
        until = asyncio.get_running_loop().time() + seconds_max
        while await self.position(tables, stream) < position:
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(APPLIED_POLL_SECONDS)
        return True


class KeysReadModel:
    """`keys@1`, as the gateway's port `Keys` wants it."""

    tables = keys.Keys.tables

    def __init__(self, models: ReadModels) -> None:
        self._models = models

    async def find(self, key_hash: str) -> Caller | None:
        """Whose key has this SHA-256; None if unknown or revoked. Raises StoreUnavailable."""
        rows = await self._models.read(self.tables, keys.FIND, (key_hash,))
        if not rows:
            return None
        tenant, key, _name, owner, revoked = rows[0]
        return None if revoked else Caller(tenant=tenant, key=key, owner=owner)

    async def wait_applied(self, stream: UUID, position: int, *, seconds_max: float) -> bool:
        """Whether a new key of this tenant works, or a revoked one no longer does."""
        return await self._models.wait_applied(
            self.tables, stream, position, seconds_max=seconds_max
        )


class AnswersReadModel:
    """`answers@1`: ends that are recorded, as a source of an answer's stream. May lag.

    Of answers that are not stored it has no words: those are asked for where the key is.
    """

    tables = answers.Answers.tables

    def __init__(self, models: ReadModels, unstored: RecordedEnds) -> None:
        self._models = models
        self._unstored = unstored

    async def entries(self, ref: AnswerRef) -> Sequence[Entry] | None:
        """See gateway.answer_streams.RecordedEnds."""
        try:
            rows = await self._models.read(self.tables, answers.FIND, (ref.tenant, ref.answer))
            if not rows:
                return None
            fields = orjson.loads(rows[0][0])
            event, sealed = decode_kept(AnswerEnded.TYPE, AnswerEnded.VERSION, fields)
        except (StoreUnavailable, Undecodable) as error:
            raise SourceUnavailable(str(error)) from error
        if sealed is not None:
            return await self._unstored.entries(ref)
        return entries_of_ended(event) if isinstance(event, AnswerEnded) else None

    async def wait_applied(self, stream: UUID, position: int, *, seconds_max: float) -> bool:
        """Whether this conversation's events up to `position` are to be seen here."""
        return await self._models.wait_applied(
            self.tables, stream, position, seconds_max=seconds_max
        )


class Answered(Protocol):
    @property
    def ended(self) -> bool: ...
    @property
    def tenant(self) -> UUID: ...


class AnswersStore(Protocol):
    """What `StoredEnds` needs of the conversations' event store."""

    async def find_answer(self, answer: UUID) -> Answered | None: ...

    async def load(self, stream: UUID) -> Sequence[Recorded]: ...


class StoredEnds:
    """Ends as the event store itself has them: for when the projection lags or is parked, and for
    those that are not stored elsewhere.
    """

    def __init__(self, store: AnswersStore) -> None:
        self._store = store

    async def entries(self, ref: AnswerRef) -> Sequence[Entry] | None:
        """See gateway.answer_streams.RecordedEnds."""
        try:
            row = await self._store.find_answer(ref.answer)
            if row is None or not row.ended or row.tenant != ref.tenant:
                return None
            for recorded in reversed(await self._store.load(ref.conversation)):
                event = recorded.event
                if isinstance(event, AnswerEnded) and event.answer == ref.answer:
                    if recorded.sealed is not None:
                        raise AnswerExpired(ref.answer)
                    return entries_of_ended(event)
        except StoreUnavailable as error:
            raise SourceUnavailable(str(error)) from error
        return None
