"""The log on Postgres: commits that come late, events that can't be read, servers that go away."""

import asyncio
import sys
from contextlib import suppress

import psycopg
import pytest

from commands.errors import StoreUnavailable
from gateway.log.ports import EventLog, Logged, Step, Unreadable, Wanted
from infra.event_log import PostgresLog
from infra.event_log import postgres as postgres_log
from infra.event_store.mapper import EventMapper
from infra.event_store.recorder import EventRecorder, Group
from infra.event_store.store import open_recorder
from infra.servers.postgres import PostgresServer
from tests.contracts.event_log.logs import MINE, NOON, THEIRS, Bench, all_of, minutes
from tests.contracts.event_store.appends import append
from tests.contracts.event_store.test_log_order import (
    WithoutLock,
    all_ids,
    store,
    waits_for_a_lock,
)
from tests.fixtures.servers import DatabaseUrl

pytestmark = pytest.mark.slow
SECONDS_MAX = 30.0
PROCESSES, APPENDS_EACH = 2, 300


class Tail:
    """Reads on from the last place, as a follower does."""

    def __init__(self, log: EventLog, wanted: Wanted | None = None) -> None:
        self.log, self.wanted = log, wanted or Wanted()
        self.place = 0
        self.seen: list[Logged] = []

    async def read(self) -> Step:
        step = await self.log.read(self.wanted, self.place, events_max=500)
        self.seen += step.found
        self.place = step.place
        return step

    @property
    def places(self) -> list[int]:
        return [one.place for one in self.seen]


async def sees_a_late_commit(make: type[EventRecorder], url: str) -> bool:
    """Whether a tail sees an append that took its id first and commits last."""
    recorder = await asyncio.to_thread(open_recorder, make, "conversations", url, 4)
    log = PostgresLog("conversations", url)
    await log.open()
    tail = Tail(log)
    given = append()
    rows = [EventMapper().encode(one) for one in given.events]
    with recorder.datastore.transaction(commit=True) as slow:
        recorder.append_in(slow, rows, Group([given]))
        quick = asyncio.create_task(asyncio.to_thread(store, recorder, append()))
        async with asyncio.timeout(SECONDS_MAX):
            while not (quick.done() or await asyncio.to_thread(waits_for_a_lock, url)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await tail.read()
    await quick
    await tail.read()
    await log.close()
    recorder.datastore.close()
    return tail.places == all_ids(url)


async def test_a_commit_that_comes_late_is_not_skipped(database_url: DatabaseUrl) -> None:
    assert await sees_a_late_commit(EventRecorder, database_url("conversations"))


async def test_without_the_lock_it_would_be_and_this_test_would_notice(
    database_url: DatabaseUrl,
) -> None:
    assert not await sees_a_late_commit(WithoutLock, database_url("conversations"))


async def test_a_follower_sees_each_event_once_while_processes_write(
    database_url: DatabaseUrl,
) -> None:
    url = database_url("conversations")
    recorder = await asyncio.to_thread(open_recorder, EventRecorder, "conversations", url, 1)
    recorder.datastore.close()
    log = PostgresLog("conversations", url, scanned_max=50)
    await log.open()
    tail = Tail(log)
    module = "tests.contracts.event_store.writing_process"
    command = (sys.executable, "-m", module, url, str(APPENDS_EACH))
    writers = [await asyncio.create_subprocess_exec(*command) for _ in range(PROCESSES)]
    writing = asyncio.gather(*(writer.wait() for writer in writers))
    while not writing.done():
        await tail.read()
    assert await writing == [0] * PROCESSES
    while not (await tail.read()).at_end:
        pass
    await log.close()
    assert tail.places == all_ids(url)
    assert len(tail.places) == 3 * PROCESSES * APPENDS_EACH


async def test_a_step_holds_a_bounded_number_of_bytes(
    postgres: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a smaller bound: the real one takes seconds to fill on a busy machine."""
    monkeypatch.setattr(postgres_log, "READ_BYTES_MAX", 65_536)
    size = 65_536 // 4
    await postgres.happened(titles=6, size=size)
    step = await postgres.log.read(Wanted(), 0, events_max=10)
    assert 4 <= len(step.found) <= 5
    assert not step.at_end
    assert len(await all_of(postgres.log, Wanted(tenant=MINE))) == 7


async def test_an_event_that_cannot_be_read_is_named_and_can_be_passed(postgres: Bench) -> None:
    stream = await postgres.happened(titles=3)
    other = await postgres.happened(tenant=THEIRS)
    with psycopg.connect(postgres.url) as connection:
        connection.execute(
            "UPDATE conversations.stored_events SET state = 'damaged'"
            " WHERE originator_id = %s AND originator_version = 3",
            (stream,),
        )
    step = await postgres.log.read(Wanted(), 0, events_max=10)
    assert [one.place for one in step.found] == [1, 2]
    assert step.place == 2
    with pytest.raises(Unreadable) as refused:
        await postgres.log.read(Wanted(), 2, events_max=10)
    assert refused.value.place == 3
    rest = await postgres.log.read(Wanted(), 3, events_max=10)
    assert [one.place for one in rest.found] == [4, 5, 6]
    assert await postgres.log.tenant_of(other) == THEIRS


async def damage(postgres: Bench, first: int, last: int) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute(
            "UPDATE conversations.stored_events SET state = 'damaged'"
            " WHERE notification_id BETWEEN %s AND %s",
            (first, last),
        )


@pytest.mark.parametrize("damaged", [(1, 1), (20, 20), (15, 22), (39, 40), (31, 31), (1, 40)])
async def test_a_time_is_found_beside_events_that_cannot_be_read(
    postgres: Bench, damaged: tuple[int, int]
) -> None:
    for n in range(40):
        await postgres.happened(at=NOON + minutes(n), titles=0)
    await damage(postgres, *damaged)
    place = await postgres.log.before(NOON + minutes(35))
    if damaged == (1, 40):
        assert place == 0
    else:
        assert 28 <= place <= 30, "five minutes before the 36th"


async def test_a_damaged_event_behind_a_time_that_is_over_takes_nothing_from_the_step(
    postgres: Bench,
) -> None:
    for n in range(3):
        await postgres.happened(at=NOON + minutes(n), titles=0)
    await damage(postgres, 3, 3)
    step = await postgres.log.read(Wanted(until=NOON + minutes(2)), 0, events_max=2)
    assert ([one.place for one in step.found], step.past) == ([1, 2], False)


async def test_postgres_is_killed_in_the_middle_and_comes_back(
    postgres_server: PostgresServer, postgres: Bench
) -> None:
    for _ in range(20):
        await postgres.happened(at=NOON)
    tail = Tail(postgres.log)
    await tail.read()
    await asyncio.to_thread(postgres_server.kill)
    try:
        with pytest.raises(StoreUnavailable):
            await tail.read()
    finally:
        await asyncio.to_thread(postgres_server.start)
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            with suppress(StoreUnavailable):
                if (await tail.read()).at_end:
                    break
    assert tail.places == sorted(set(tail.places))
    assert len(tail.places) == 40
