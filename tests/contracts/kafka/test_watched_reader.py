"""A reader that stands still without an error is replaced, and nothing is lost or read twice."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator

import pytest

from infra.kafka.consumer import LogReader, Record
from infra.kafka.producer import Producer
from infra.kafka.watched_reader import WatchedReader

READ_BACK_SECONDS = 1.0
PATIENT_SECONDS = 5.0
"""For where no reader is to be replaced: also a slow machine reads what has landed within it."""
SECONDS_MAX = 60.0


@pytest.fixture
async def watched(kafka: str, topic: str) -> AsyncIterator[WatchedReader]:
    reader = WatchedReader(topic, lambda: LogReader(kafka), read_back_seconds_max=READ_BACK_SECONDS)
    yield reader
    await reader.close()


@pytest.fixture
async def patient(kafka: str, topic: str) -> AsyncIterator[WatchedReader]:
    reader = WatchedReader(topic, lambda: LogReader(kafka), read_back_seconds_max=PATIENT_SECONDS)
    yield reader
    await reader.close()


async def say(producer: Producer, watched: WatchedReader, topic: str, *values: bytes) -> None:
    """To partition 1; the reader is told where each has landed, as the worker does it."""
    for value in values:
        at = await producer.send(topic, key=b"k", value=value, partition=1)
        watched.landed(at.partition, at.offset)


async def read(watched: WatchedReader, count: int) -> list[Record]:
    until = time.monotonic() + SECONDS_MAX
    records: list[Record] = []
    while len(records) < count:
        assert time.monotonic() < until, f"only {len(records)} of {count} records came"
        records += await watched.read(500, 0.1)
    return records


def replaced(caplog: pytest.LogCaptureFixture) -> int:
    return sum("the reader is replaced" in one.message for one in caplog.records)


async def test_what_has_landed_is_read_by_another_reader_if_this_one_stands_still(
    topic: str, producer: Producer, watched: WatchedReader, caplog: pytest.LogCaptureFixture
) -> None:
    await watched.add({0: 0, 1: 0})
    await say(producer, watched, topic, b"0", b"1")
    first = await read(watched, 2)
    with caplog.at_level(logging.ERROR, "thalweg.kafka"):
        await watched.reader.pause([(topic, 1)])  # as if it had forgotten to fetch
        await say(producer, watched, topic, b"2", b"3")
        rest = await read(watched, 2)
        assert replaced(caplog) >= 1
        await say(producer, watched, topic, b"4")
        rest += await read(watched, 1)
    values = [each.value for each in first + rest]
    assert values == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_reader_whose_thread_stands_still_is_replaced(
    topic: str, producer: Producer, watched: WatchedReader, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    await watched.add({1: 0})
    stands = asyncio.get_running_loop().run_in_executor(watched.reader._thread, go_on.wait)
    try:
        await say(producer, watched, topic, b"0")
        assert [each.value for each in await read(watched, 1)] == [b"0"]
        assert replaced(caplog) >= 1
    finally:
        go_on.set()
        await stands


async def test_what_others_have_said_or_nobody_reads_replaces_no_reader(
    topic: str, producer: Producer, patient: WatchedReader, caplog: pytest.LogCaptureFixture
) -> None:
    await patient.add({1: 0, 2: 0})
    await say(producer, patient, topic, b"0", b"1")
    await read(patient, 2)
    patient.landed(1, 1)  # told late
    patient.landed(3, 7)  # of a partition that is not read
    await say(producer, patient, topic, b"2")
    await patient.remove([1])
    until = time.monotonic() + 1.2 * PATIENT_SECONDS
    while time.monotonic() < until:
        assert await patient.read(500, 0.1) == []
    assert replaced(caplog) == 0
