"""The work topics as the worker sees them: what is unacknowledged, and what should wait."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Protocol

from events.conversations import Band
from events.topics import Topics
from infra.answers_worker.watermarks import Watermarks
from infra.failpoints import hit
from infra.kafka.consumer import LogReader, Partition
from infra.kafka.offsets import QueryFailed
from processors.answers.ports import LogUnavailable, Place

log = logging.getLogger("thalweg.answers")

START_SECONDS_MAX = 5.0  # with Kafka away the role begins all the same
FIRST_READ_SECONDS = 0.2  # a client's first fetch takes up to a second, a later one milliseconds
PEEK_SECONDS_MAX = 10.0  # to read one message of each partition that has unacknowledged ones


class Pressure(Protocol):
    """The consumer of the app that runs now."""

    @property
    def is_member(self) -> bool: ...

    def hold_back(self, topics: Collection[str]) -> None: ...


class KafkaWork:
    """Implements processors.answers.ports.Work."""

    def __init__(self, bootstrap: str, topics: Topics, watermarks: Watermarks) -> None:
        self._reader = LogReader(bootstrap, group=topics.answers_group)
        self._topics = topics
        self._watermarks = watermarks
        self.pressure: Pressure | None = None

    async def start(self) -> None:
        """Connects, so that the first assignment does not wait for it. Never fails."""
        topic = self._topics.all_work[0]
        with suppress(QueryFailed, LogUnavailable, TimeoutError):
            async with asyncio.timeout(START_SECONDS_MAX):
                await self.oldest([0])
                ends = await self._reader.end_offsets(topic, [0])
                await self._reader.assign({(topic, 0): ends[0]})
                await self._reader.read(seconds_max=FIRST_READ_SECONDS)
                await self._reader.assign({})

    async def oldest(self, partitions: Collection[int]) -> Mapping[int, int]:
        now = int(time.time() * 1_000)
        found = dict.fromkeys(partitions, now)
        try:
            behind = await self._behind(partitions)
            await self._reader.assign(behind)
            until = time.monotonic() + PEEK_SECONDS_MAX
            while behind:
                for record in await self._reader.read():
                    place = (record.topic, record.partition)
                    start = behind.get(place)
                    if start is not None and record.offset >= start:  # retention: maybe later
                        del behind[place]
                        await self._reader.remove([place])
                        oldest = min(found[record.partition], record.timestamp_ms)
                        found[record.partition] = oldest
                if behind and time.monotonic() > until:
                    raise LogUnavailable(f"{len(behind)} work partitions could not be read")
        except QueryFailed as error:
            raise LogUnavailable(str(error)) from error
        return found

    async def _behind(self, partitions: Collection[int]) -> dict[Partition, int]:
        """Where the unacknowledged messages begin, of each partition that has any."""
        topics, reader = self._topics.all_work, self._reader
        committed, ends, begins = await asyncio.gather(
            reader.committed((topic, each) for topic in topics for each in partitions),
            asyncio.gather(*(reader.end_offsets(topic, partitions) for topic in topics)),
            asyncio.gather(*(reader.begin_offsets(topic, partitions) for topic in topics)),
        )
        behind: dict[Partition, int] = {}
        for topic, end, begin in zip(topics, ends, begins, strict=True):
            for each in partitions:
                start = max(committed.get((topic, each), 0), begin[each])
                if start < end[each]:
                    behind[topic, each] = start
        return behind

    async def close(self) -> None:
        await self._reader.close()

    def is_member(self) -> bool:
        return self.pressure is not None and self.pressure.is_member

    def acknowledge(self, place: Place) -> None:
        hit("answers.before_acknowledge")
        self._watermarks.finish((self._topics.work(place.band), place.partition), place.offset)

    def hold_back(self, bands: Collection[Band]) -> None:
        if self.pressure is not None:
            self.pressure.hold_back([self._topics.work(band) for band in bands])
