"""A reader that tails the log by notification id skips nothing.

A notification id is taken at the insert and seen at the commit. Without the table lock an event
with a lower id may be committed after one with a higher id, and such a reader never sees it.
"""

import asyncio
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, LiteralString, cast

import psycopg
import pytest
from psycopg.sql import SQL, Composed

from commands.store import Append
from infra.event_store.mapper import EventMapper
from infra.event_store.recorder import EventRecorder, Group
from infra.event_store.store import open_recorder
from tests.contracts.event_store.appends import append
from tests.fixtures.processes import wait_for
from tests.fixtures.servers import DatabaseUrl

pytestmark = pytest.mark.slow
PROCESSES = 4
APPENDS_EACH = 500
SECONDS_MAX = 30.0


class WithoutLock(EventRecorder):
    """What POSTGRES_ENABLE_DB_FUNCTIONS would give: appends that hold no table lock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        create = self._appending.create
        text = create.as_string()
        without = re.sub(r"LOCK TABLE [^;]+;", "", text)
        assert without != text
        at = self.sql_create_statements.index(create)
        self.sql_create_statements[at] = Composed([SQL(cast(LiteralString, without))])


class Tail:
    """Reads on from the last notification id it saw, as the relay does."""

    def __init__(self, recorder: EventRecorder) -> None:
        self.recorder = recorder
        self.seen: list[int] = []

    def read(self) -> None:
        start = self.seen[-1] if self.seen else 0
        found = self.recorder.select_notifications(start, 500, inclusive_of_start=False)
        self.seen += [one.id for one in found]


def all_ids(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT notification_id FROM conversations.stored_events ORDER BY 1"
        )
        return [row[0] for row in rows]


def waits_for_a_lock(url: str) -> bool:
    """Whether somebody does, in this database."""
    with psycopg.connect(url) as connection:
        waiting = connection.execute(
            "SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE NOT granted AND datname = current_database()"
        )
        return waiting.fetchone() is not None


@contextmanager
def opened(make: type[EventRecorder], url: str) -> Iterator[EventRecorder]:
    recorder = open_recorder(make, "conversations", url, connections_max=4)
    yield recorder
    recorder.datastore.close()


def store(recorder: EventRecorder, given: Append) -> None:
    recorder.store([given], [EventMapper().encode(one) for one in given.events])


def skipped_around_a_slow_commit(make: type[EventRecorder], url: str) -> bool:
    """Whether the tail misses an append that took its id first and commits last."""
    with opened(make, url) as recorder, ThreadPoolExecutor(1) as other:
        tail = Tail(recorder)
        store(recorder, append())
        tail.read()
        with recorder.datastore.transaction(commit=True) as slow:
            given = append()
            rows = [EventMapper().encode(one) for one in given.events]
            recorder.append_in(slow, rows, Group([given]))
            quick = other.submit(store, recorder, append())
            wait_for(lambda: quick.done() or waits_for_a_lock(url), "it", seconds_max=SECONDS_MAX)
            tail.read()
        quick.result()
        tail.read()
        return tail.seen != all_ids(url)


def test_an_append_waits_for_one_that_has_its_id_already(database_url: DatabaseUrl) -> None:
    assert not skipped_around_a_slow_commit(EventRecorder, database_url("conversations"))


def test_without_the_lock_a_reader_skips_and_this_test_would_notice(
    database_url: DatabaseUrl,
) -> None:
    assert skipped_around_a_slow_commit(WithoutLock, database_url("conversations"))


async def test_nothing_is_skipped_while_several_processes_write(database_url: DatabaseUrl) -> None:
    url = database_url("conversations")
    with opened(EventRecorder, url) as recorder:
        tail = Tail(recorder)
        writers = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.contracts.event_store.writing_process",
                url,
                str(APPENDS_EACH),
            )
            for _ in range(PROCESSES)
        ]
        writing = asyncio.gather(*(writer.wait() for writer in writers))
        while not writing.done():
            await asyncio.to_thread(tail.read)
        assert await writing == [0] * PROCESSES
        tail.read()
        while len(tail.seen) < 3 * PROCESSES * APPENDS_EACH:
            before = len(tail.seen)
            tail.read()
            assert len(tail.seen) > before, "events were skipped"
    assert tail.seen == all_ids(url)
