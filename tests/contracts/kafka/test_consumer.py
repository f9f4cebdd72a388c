"""The readers against a real broker: positions, groups, commits, cancellation."""

import asyncio
import time
from collections.abc import Callable

import pytest

from infra.kafka.consumer import CommitFailed, GroupReader, LogReader, Offsets, Partition
from infra.kafka.producer import Producer
from tests.contracts.kafka.damaged import send_with_a_raw_name
from tests.contracts.kafka.reading import SECONDS_MAX, read

LONG_SECONDS = 30.0
SESSION_SECONDS = 30.0
"""Nobody dies here, and whoever leaves says so: a machine that stands still costs no membership."""


async def fill(producer: Producer, topic: str, each: int = 10) -> None:
    sent = [
        producer.send(topic, key=b"k", value=b"%d" % number, partition=partition)
        for partition in range(4)
        for number in range(each)
    ]
    await asyncio.gather(*sent)


async def test_ends_and_beginnings_are_found(
    topic: str, producer: Producer, reader: LogReader
) -> None:
    assert await reader.end_offsets(topic, [0, 1]) == {0: 0, 1: 0}
    await fill(producer, topic)
    assert await reader.end_offsets(topic, [0, 3]) == {0: 10, 3: 10}
    assert await reader.begin_offsets(topic, [0, 3]) == {0: 0, 3: 0}
    assert await reader.end_offsets(topic, []) == {}


async def test_reading_begins_where_it_is_told(
    topic: str, producer: Producer, reader: LogReader
) -> None:
    await fill(producer, topic)
    await reader.assign({(topic, 1): 7, (topic, 2): 9})
    records = await read(reader, 4)
    assert sorted((each.partition, each.offset) for each in records) == [
        (1, 7),
        (1, 8),
        (1, 9),
        (2, 9),
    ]


async def test_partitions_are_added_and_removed_while_others_go_on(
    topic: str, producer: Producer, reader: LogReader
) -> None:
    await fill(producer, topic)
    await reader.assign({(topic, 0): 8})
    assert len(await read(reader, 2)) == 2
    await reader.add({(topic, 1): 9})
    assert [each.partition for each in await read(reader, 1)] == [1]
    await reader.remove([(topic, 0)])
    await fill(producer, topic, 1)
    assert {each.partition for each in await read(reader, 1)} == {1}
    assert await reader.read(seconds_max=0.2) == []


async def test_a_record_with_a_header_name_that_is_no_text_comes_without_headers(
    kafka: str, topic: str, producer: Producer, reader: LogReader
) -> None:
    """After some others: calls that are hot go another way in CPython."""
    headers = [("a", b"b")]
    for number in range(2):
        for _ in range(100):
            await producer.send(topic, key=b"k", value=b"", headers=headers, partition=0)
        await send_with_a_raw_name(kafka, topic, 0)
        assert await reader.end_offsets(topic, [0]) == {0: 101 * (number + 1)}
    await reader.assign({(topic, 0): 0})
    records = await read(reader, 202)
    assert [each.offset for each in records if each.headers != headers] == [100, 201]
    assert records[100].headers == []
    assert (records[100].key, records[100].value) == (b"k", b"{}")


async def test_an_offset_is_found_by_time_and_a_time_to_come_is_the_end(
    topic: str, producer: Producer, reader: LogReader
) -> None:
    await fill(producer, topic, 1)
    await reader.assign({(topic, 0): 0})
    first = (await read(reader, 1))[0].timestamp_ms
    await until(lambda: time.time() * 1_000 > first + 1, "the clock ticks")
    await fill(producer, topic, 1)
    assert await reader.offsets_for_time(topic, {0: first, 1: 0}) == {0: 0, 1: 0}
    assert await reader.offsets_for_time(topic, {0: first + 1}) == {0: 1}
    assert await reader.offsets_for_time(topic, {0: first + 3_600_000}) == {0: 2}


async def test_a_call_does_not_wait_for_a_long_read(topic: str, reader: LogReader) -> None:
    await reader.assign({(topic, 0): 0})
    reading = asyncio.create_task(reader.read(seconds_max=LONG_SECONDS))
    await asyncio.sleep(0)
    start = time.monotonic()
    await reader.pause([(topic, 0)])
    assert time.monotonic() - start < LONG_SECONDS / 2
    assert await reading == []


async def test_a_cancelled_read_loses_nothing(
    topic: str, producer: Producer, reader: LogReader
) -> None:
    await reader.assign({(topic, 0): 0})
    reading = asyncio.create_task(reader.read(seconds_max=5))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await fill(producer, topic)
    assert [each.offset for each in await read(reader, 10)] == list(range(10))


class Member:
    """A group reader that notes what it is given and reads until it is stopped."""

    def __init__(self, kafka: str, group: str, topic: str, starts: Offsets | None = None) -> None:
        self.owned: set[Partition] = set()
        self.starts = starts
        self.values: list[tuple[int, int]] = []
        self.after_revocation: list[tuple[int, int]] = []
        self.reader = GroupReader(
            kafka,
            group,
            [topic],
            self.assigned,
            self.revoked,
            session_timeout_seconds=SESSION_SECONDS,
            heartbeat_seconds=0.4,
        )
        self.task = asyncio.create_task(self.run())

    async def assigned(self, partitions: list[Partition]) -> Offsets | None:
        self.owned |= set(partitions)
        return self.starts

    async def revoked(self, partitions: list[Partition]) -> None:
        self.owned -= set(partitions)

    async def run(self) -> None:
        while True:
            for record in await self.reader.read(seconds_max=0.1):
                self.values.append((record.partition, record.offset))
                if (record.topic, record.partition) not in self.owned:
                    self.after_revocation.append((record.partition, record.offset))

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.reader.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


async def test_a_second_member_takes_its_share_and_gives_it_back(
    kafka: str, topic: str, producer: Producer
) -> None:
    await fill(producer, topic)
    first = Member(kafka, topic, topic)
    await until(lambda: len(first.values) == 40, "the first member reads everything")
    kept = set(first.owned)
    second = Member(kafka, topic, topic)
    await until(lambda: len(second.owned) == 2 and len(first.owned) == 2, "two each")
    assert first.owned < kept
    assert not first.owned & second.owned
    await second.stop()
    await until(lambda: len(first.owned) == 4, "it comes back")
    await fill(producer, topic, 1)
    await until(lambda: len(set(first.values)) == 44, "it reads on")
    assert first.after_revocation == []
    await first.stop()


async def test_the_next_member_begins_at_the_commit(
    kafka: str, topic: str, producer: Producer
) -> None:
    await fill(producer, topic)
    first = Member(kafka, topic, topic)
    await until(lambda: len(first.values) == 40, "the first member reads everything")
    await first.reader.commit({(topic, 0): 4, (topic, 1): 10})
    places = [(topic, number) for number in range(4)]
    assert await first.reader.committed(places) == {(topic, 0): 4, (topic, 1): 10}
    await first.stop()
    second = Member(kafka, topic, topic)
    await until(lambda: len(second.values) >= 26, "the second reads the rest")
    expected = {(0, n) for n in range(4, 10)} | {(p, n) for p in (2, 3) for n in range(10)}
    assert set(second.values) == expected
    await second.stop()


async def test_an_owner_of_positions_says_itself_where_to_start(
    kafka: str, topic: str, producer: Producer
) -> None:
    await fill(producer, topic)
    starts = {(topic, number): 9 for number in range(4)}
    member = Member(kafka, topic, topic, starts)
    await until(lambda: len(member.values) >= 4, "the last of each")
    assert sorted(member.values) == [(0, 9), (1, 9), (2, 9), (3, 9)]
    await member.stop()


async def test_a_commit_of_a_stranger_is_refused(
    kafka: str, topic: str, producer: Producer
) -> None:
    member = Member(kafka, topic, topic)
    await until(lambda: len(member.owned) == 4, "it owns everything")
    stranger = GroupReader(kafka, topic, [topic])
    with pytest.raises(CommitFailed):
        await stranger.commit({(topic, 0): 1})
    await stranger.close()
    await member.stop()
