"""Whoever reads may be cancelled at any moment, more than once: no connection is lost by it."""

import asyncio
import random

import pytest
from psycopg.sql import SQL

from commands.errors import StoreUnavailable
from infra.read_models import ReadModels
from infra.read_models import models as module

pytestmark = pytest.mark.slow
READERS = 400
TURNS_MAX = 60  # of the loop, before a reader is cancelled
CANCELS = 4  # of each: a cancel scope of anyio repeats itself at every wait
CONNECTIONS = 2  # of the fixture
READS_OF_ALL = 2
ASLEEP = SQL("SELECT pg_sleep(0.2)").format()


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


async def test_a_pool_that_gives_nothing_is_replaced(
    models: ReadModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that has lost count of its connections: here nobody gives them back."""
    monkeypatch.setattr(module, "SILENT_SECONDS_MAX", 0.5)
    lost = [await models._pool.getconn() for _ in range(CONNECTIONS)]
    with pytest.raises(StoreUnavailable):
        await read(models)
    await read(models)
    for connection in lost:
        await connection.close()


async def test_readers_that_are_cancelled_give_their_connections_back(models: ReadModels) -> None:
    chance = random.Random(5)
    await asyncio.gather(
        *(cancelled_at_some_turn(models, chance.randrange(TURNS_MAX)) for _ in range(READERS))
    )
    for _ in range(READS_OF_ALL):
        await asyncio.gather(*(models.fetch(ASLEEP, ()) for _ in range(CONNECTIONS)))
    stats = models._pool.get_stats()
    assert stats["pool_size"] == stats["pool_available"], stats
