"""Turns on Postgres: what holds up whom, what a rolled back attempt leaves, and what joins cost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from commands.store import Append, Attempt
from infra.event_store import ConversationStore
from infra.event_store.answers import ConversationRecorder
from infra.event_store.mapper import EventMapper
from infra.event_store.store import open_recorder
from infra.event_store.turns import REPEAT_SECONDS_MAX
from tests.contracts.event_store.appends import TENANT, append

pytestmark = pytest.mark.slow
KEY = UUID(int=77)
SECONDS_MAX = 20.0
"""Somebody else's lock is held for longer."""
EQUAL_TURNS = 50_000

EXPLAIN = b"EXPLAIN (ANALYZE, FORMAT JSON) "
LOCK = "LOCK TABLE conversations.stored_events IN EXCLUSIVE MODE"
AGED = "UPDATE conversations.turns SET began_at = clock_timestamp() - make_interval(secs => %s)"
FEW = 10
"""Rows that a step of a plan may touch: versions of one that was changed count each."""
MANY_TURNS = (
    "INSERT INTO conversations.turns (tenant, command, key, asked, attempt, began_at)"
    " SELECT %s, 'call:' || n, %s, 'asked', 0, clock_timestamp() - make_interval(secs => n / 1e3)"
    f" FROM generate_series(1, {EQUAL_TURNS}) AS n"
)


def attempt(number: int) -> Attempt:
    return Attempt(KEY, b"asked", number)


def send(number: int) -> Append:
    return append(attempt=attempt(number))


@pytest.fixture
async def someone(conversations_url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A transaction of somebody else."""
    async with await psycopg.AsyncConnection.connect(conversations_url) as connection:
        yield connection
        await connection.rollback()


async def test_a_repeat_with_nothing_to_join_waits_for_no_lock(
    conversations: ConversationStore, someone: psycopg.AsyncConnection[Any]
) -> None:
    await conversations.append(send(0))
    await conversations.append(send(1))
    await someone.execute(LOCK)
    async with asyncio.timeout(SECONDS_MAX):
        assert await conversations.join("call:used", attempt(1)) is None
        assert await conversations.join("call:else", Attempt(KEY, b"else", 1)) is None
    joining = asyncio.create_task(conversations.join("call:joins", attempt(2)))
    done, _ = await asyncio.wait([joining], timeout=0.2)
    assert not done  # what it has seen may be joined by others meanwhile
    await someone.rollback()
    assert (await joining) is not None


async def test_a_send_and_its_repeat_that_come_together_are_one_turn(
    conversations: ConversationStore, someone: psycopg.AsyncConnection[Any]
) -> None:
    await someone.execute(LOCK)
    first = send(0)
    given = [append(), first, send(1), send(2)]
    sending = [asyncio.create_task(conversations.append(one)) for one in given]
    await asyncio.wait(sending, timeout=0.2)
    await someone.rollback()
    receipts = await asyncio.gather(*sending)
    assert [one.joined for one in receipts] == [None, None, first.command, first.command]


@pytest.mark.parametrize(("age_seconds", "is_joined"), [(-60, True), (60, False)])
async def test_a_turn_is_joined_as_long_as_an_official_client_repeats_itself(
    conversations: ConversationStore,
    someone: psycopg.AsyncConnection[Any],
    age_seconds: int,
    is_joined: bool,
) -> None:
    """A minute before the bound and a minute after it: by a first repeat, and by the same again."""
    first, again = send(0), send(1)
    await conversations.append(first)
    await someone.execute(AGED, (REPEAT_SECONDS_MAX + age_seconds,))
    await someone.commit()
    receipts = [await conversations.append(again), await conversations.append(again)]
    expected = first.command if is_joined else None
    assert [one.joined for one in receipts] == [expected, expected]


def rows(given: Append) -> list[StoredEvent]:
    return [EventMapper().encode(recorded) for recorded in given.events]


@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_join_reads_few_of_many_equal_turns(
    conversations: ConversationStore,
    someone: psycopg.AsyncConnection[Any],
    analyzed: bool,
) -> None:
    await someone.execute(MANY_TURNS, (TENANT, KEY))
    if analyzed:
        await someone.execute("ANALYZE conversations.turns")
    turns = conversations.recorder.turns
    for command, number in (("call:new", 1), ("call:new", 2), ("call:joined", 1)):
        values = turns.values(command, attempt(number))
        for statement in (turns.find_one, turns.join_one):
            cursor = await someone.execute(EXPLAIN + statement, values)
            row = await cursor.fetchone()
            assert row is not None
            assert max(rows_read(row[0][0]["Plan"])) <= FEW, row
        await someone.execute(
            "UPDATE conversations.turns SET joined_by = 'call:joined',"
            " attempt = 1 WHERE command = 'call:1'"
        )


def test_no_plan_of_a_join_is_kept_for_when_there_are_many_turns(conversations_url: str) -> None:
    recorder = open_recorder(
        ConversationRecorder, "conversations", conversations_url, connections_max=1
    )
    for given in (send(0), send(1)):
        recorder.store([given], rows(given))
    assert recorder.turns.join("call:1", attempt(2)) is not None
    with recorder.datastore.get_connection() as connection:
        prepared = connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
    recorder.datastore.close()
    assert prepared
    assert not [row for row in prepared if "joined_by" in row["statement"]]


def rows_read(plan: dict[str, Any]) -> Iterator[float]:
    """By each step of a plan: those that it passed on, and those that it left out."""
    yield plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    for step in plan.get("Plans", ()):
        yield from rows_read(step)
