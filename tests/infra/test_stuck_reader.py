"""A reader whose thread stands still holds up nobody: not its replacement, not who closes it.

No Kafka is needed: what counts is who waits for whom.
"""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from confluent_kafka import TopicPartition

from infra.kafka.consumer import LogReader
from infra.kafka.watched_reader import WatchedReader

NOBODY = "127.0.0.1:1"
TOPIC = "tokens"
READ_BACK_SECONDS = 0.2
SECONDS_MAX = 10.0


@pytest.fixture
async def stuck() -> AsyncIterator[WatchedReader]:
    """It reads partitions 1 and 2, and its thread waits for ever."""
    watched = WatchedReader(
        TOPIC, lambda: LogReader(NOBODY), read_back_seconds_max=READ_BACK_SECONDS
    )
    await watched.add({1: 10, 2: 20})
    go_on = threading.Event()
    old = watched.reader
    stands = asyncio.get_running_loop().run_in_executor(old._thread, go_on.wait)
    yield watched
    go_on.set()
    await stands
    await old.close()
    await watched.reader.close()


async def assigned(watched: WatchedReader) -> dict[int, int]:
    found: list[TopicPartition] = await watched.reader._call(watched.reader._client.assignment)
    return {each.partition: each.offset for each in found}


async def test_partitions_that_come_and_go_do_not_hold_up_the_replacement(
    stuck: WatchedReader,
) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        changes = asyncio.gather(stuck.remove([2]), stuck.add({3: 30}))
        await asyncio.sleep(0)  # they are told to the reader that stands still
        old = stuck.reader
        assert await stuck.read(500, 0.0) == []
        await changes
    assert stuck.reader is not old
    assert (await assigned(stuck)).keys() == {1, 3}


async def test_whoever_closes_it_does_not_wait_for_ever(stuck: WatchedReader) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        await stuck.close()
