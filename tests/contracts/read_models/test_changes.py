"""What wakes feeds: one connection that listens, and what it does when it was lost."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from events import conversations as said
from infra.read_models import HistoriesChanges
from tests.contracts.read_models.sides import PostgresSide
from tests.projections.histories_events import OTHER_TENANT, SUBJECT, TENANT, Told

SECONDS_MAX = 30
BACKENDS = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE application_name = 'thalweg feeds' AND datname = current_database()"
)


class Woken:
    def __init__(self) -> None:
        self.times = 0
        self._news = asyncio.Event()

    def __call__(self) -> None:
        self.times += 1
        self._news.set()

    async def again(self) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await self._news.wait()
        self._news.clear()


@pytest.fixture
async def changes(url: str, postgres: PostgresSide) -> AsyncIterator[HistoriesChanges]:
    made = HistoriesChanges(url)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_change_wakes_those_whom_it_concerns(
    changes: HistoriesChanges, postgres: PostgresSide
) -> None:
    mine, bobs, theirs = Woken(), Woken(), Woken()
    with (
        changes.joined(TENANT, SUBJECT, mine),
        changes.joined(TENANT, "bob", bobs),
        changes.joined(OTHER_TENANT, SUBJECT, theirs),
    ):
        await mine.again()  # it listens now, and something may have been missed before
        before = bobs.times, theirs.times
        told = Told()
        await asyncio.to_thread(postgres.tell, told)
        await mine.again()
        assert await postgres.histories.last_number(TENANT, SUBJECT) > 0
        told.about(said.ConversationArchived)
        await asyncio.to_thread(postgres.tell, told)
        await mine.again()
        assert (bobs.times, theirs.times) == before
    woken = mine.times
    with changes.joined(TENANT, "bob", bobs):
        await asyncio.to_thread(postgres.tell, Told(), Told(subject="bob"))
        await bobs.again()
    assert mine.times == woken, "it has left"


async def test_after_a_lost_connection_everybody_looks(
    changes: HistoriesChanges, postgres: PostgresSide, url: str
) -> None:
    mine = Woken()
    with changes.joined(TENANT, SUBJECT, mine):
        await mine.again()
        with psycopg.connect(url, autocommit=True) as connection:
            [(pid,)] = connection.execute(BACKENDS).fetchall()
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
        await mine.again()
        await asyncio.to_thread(postgres.tell, Told())
        await mine.again()
