"""Whoever reads may be cancelled at any moment, more than once: no connection is lost by it."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from psycopg.sql import SQL

from commands.errors import StoreUnavailable
from infra.read_models import ReadModels

pytestmark = pytest.mark.slow
READERS = 400
TURNS_MAX = 60  # of the loop, before a reader is cancelled
CANCELS = 4  # of each: a cancel scope of anyio repeats itself at every wait
CONNECTIONS = 2  # of the fixture
READS_OF_ALL = 2
ASLEEP = SQL("SELECT pg_backend_pid() FROM pg_sleep(0.2)").format()
SHORT = SQL("SELECT pg_sleep(0.001)").format()
LOOKERS_UP = 1_000  # readers of streams that say nothing, at one gateway
LOOKUPS_EACH = 8
LOOKUP_SECONDS, LOOKUP_SECONDS_MAX = 0.1, 0.1  # between them, and of one
TURN_SECONDS = 0.02
UNTIL_SECONDS_MAX = 20


async def read(models: ReadModels) -> None:
    await models.fetch(SQL("SELECT 1").format(), ())


async def cancelled_at_some_turn(models: ReadModels, turns: int) -> None:
    reading = asyncio.create_task(read(models))
    for _ in range(turns):
        await asyncio.sleep(0)
    for _ in range(CANCELS):
        reading.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(reading, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(UNTIL_SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)


async def all_connections_serve(models: ReadModels) -> bool:
    """Whether as many backends as there may be answer at the same time. A slow machine may need
    several tries; a connection that was lost stays lost."""
    until = time.monotonic() + UNTIL_SECONDS_MAX
    while time.monotonic() < until:
        if await serve_at_once(models):
            return True
    return False


async def serve_at_once(models: ReadModels) -> bool:
    """Twice in a row."""
    for _ in range(READS_OF_ALL):
        reads = (models.fetch(ASLEEP, ()) for _ in range(CONNECTIONS))
        rows = await asyncio.gather(*reads, return_exceptions=True)
        backends = {each[0][0] for each in rows if not isinstance(each, BaseException)}
        if len(backends) != CONNECTIONS:
            return False
    return True


async def busy() -> None:
    """What else a gateway's loop has to do: many bounds are reached in one turn of it."""
    while True:
        until = time.monotonic() + TURN_SECONDS
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0.001)


async def look_up(models: ReadModels, begins_after: float) -> None:
    await asyncio.sleep(begins_after)
    for _ in range(LOOKUPS_EACH):
        with suppress(TimeoutError, StoreUnavailable):
            async with asyncio.timeout(LOOKUP_SECONDS_MAX):
                await models.fetch(SHORT, ())
        await asyncio.sleep(LOOKUP_SECONDS)


async def test_look_ups_that_reach_their_bound_by_the_hundred_lose_no_connection(
    models: ReadModels,
) -> None:
    """psycopg's own pool ends up with none and asks for none: see infra.read_pool."""
    chance = random.Random(7)
    others = asyncio.create_task(busy())
    await asyncio.gather(
        *(look_up(models, chance.uniform(0, LOOKUP_SECONDS)) for _ in range(LOOKERS_UP))
    )
    others.cancel()
    assert await all_connections_serve(models)


async def test_a_reader_that_leaves_while_its_connection_goes_back_loses_none(
    models: ReadModels,
) -> None:
    """In psycopg's pool it waits for a lock there; we hold it meanwhile."""
    assert await all_connections_serve(models)
    lock, available = models._pool._pool._lock, models._pool._pool._pool
    reading = asyncio.create_task(models.fetch(ASLEEP, ()))
    await until(lambda: len(available) < CONNECTIONS)
    async with lock:
        await until(lambda: bool(lock._waiters))  # type: ignore[attr-defined]
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert await all_connections_serve(models)


async def test_readers_that_are_cancelled_give_their_connections_back(models: ReadModels) -> None:
    chance = random.Random(5)
    await asyncio.gather(
        *(cancelled_at_some_turn(models, chance.randrange(TURNS_MAX)) for _ in range(READERS))
    )
    assert await all_connections_serve(models)
