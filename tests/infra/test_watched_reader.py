"""A reader that takes over goes on where the one before it stood: nothing twice, nothing left out.

On a log in memory; tests/contracts/kafka/test_watched_reader.py has it on Kafka.
"""

import asyncio
from collections.abc import Sequence

import pytest

from infra.kafka.consumer import LogReader, Offsets, Record
from infra.kafka.watched_reader import WatchedReader

TOPIC = "tokens"
PARTITIONS = (1, 2)
FIRST = 10
RECORDS = 5
READ_BACK_SECONDS = 0.01
SECONDS_MAX = 10.0


def at(partition: int, offset: int) -> Record:
    return Record(TOPIC, partition, offset, 0, None, f"{partition}/{offset}".encode(), [])


LOG = [at(each, offset) for offset in range(FIRST, FIRST + RECORDS) for each in PARTITIONS]


class StandsStill(LogReader):
    """Brings some records of the log, and then nothing more, without an error."""

    def __init__(self, log: Sequence[Record], brings: int) -> None:
        self._log = log
        self._left = brings
        self._next: dict[tuple[str, int], int] = {}

    async def add(self, offsets: Offsets) -> None:
        self._next.update(offsets)

    async def assign(self, offsets: Offsets) -> None:
        self._next = dict(offsets)

    async def read(self, records_max: int = 500, seconds_max: float = 0.5) -> list[Record]:
        await asyncio.sleep(0)
        found = [one for one in self._log if one.offset >= self._next[one.topic, one.partition]]
        found = found[: min(records_max, self._left)]
        self._left -= len(found)
        self._next.update({(one.topic, one.partition): one.offset + 1 for one in found})
        return found

    async def close(self) -> None:
        """It has no thread."""


@pytest.mark.parametrize("brings", [0, 1, 3, 4])
async def test_what_takes_over_goes_on_where_the_one_before_stood(brings: int) -> None:
    made: list[LogReader] = []

    def new_reader() -> LogReader:
        made.append(StandsStill(LOG, brings=len(LOG) if len(made) == 2 else brings))
        return made[-1]

    watched = WatchedReader(TOPIC, new_reader, read_back_seconds_max=READ_BACK_SECONDS)
    await watched.add(dict.fromkeys(PARTITIONS, FIRST))
    records: list[Record] = []
    async with asyncio.timeout(SECONDS_MAX):
        while len(records) < len(LOG):
            for each in PARTITIONS:
                watched.landed(each, FIRST + RECORDS - 1)
            records += await watched.read(500, 0.0)
    await watched.close()
    assert len(made) == 3
    for each in PARTITIONS:
        found = [one.offset for one in records if one.partition == each]
        assert found == list(range(FIRST, FIRST + RECORDS))
