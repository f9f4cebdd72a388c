"""Reads what workers decided about one answer or one engine from its partition of their topic."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from events.codec import Undecodable
from events.decisions import Decided, decode_decided
from events.topics import Topics
from infra.kafka.consumer import LogReader, ReadFailed
from infra.kafka.offsets import QueryFailed
from infra.partitions import partition_of
from infra.settings import Settings

RECORDS_PER_READ_MAX = 500
READ_SECONDS_MAX = 2.0
SILENT_SECONDS_MAX = 15.0
"""Without a record before the end that Kafka has named: it is away."""
RECORDS_MAX = 2_000_000
"""That are looked through: of a day, at 350 answers a second in 16 partitions."""


class Unread(Exception):
    """Not all of it was read; what is missing may have been decided too. The message says why."""


async def decided_about(settings: Settings, key: str, since_ms: int) -> AsyncIterator[Decided]:
    """Since a time, up to the end as it is now, in their order. Raises Unread."""
    reader = LogReader(settings.kafka_servers, client_id="thalweg-explain")
    try:
        async for one in _read(reader, key, partition_of(key, settings.partitions), since_ms):
            yield one
    except (QueryFailed, ReadFailed) as error:
        raise Unread(str(error)) from error
    finally:
        await reader.close()


async def _read(
    reader: LogReader, key: str, partition: int, since_ms: int
) -> AsyncIterator[Decided]:
    topic = Topics().decisions
    following = (await reader.offsets_for_time(topic, {partition: max(0, since_ms)}))[partition]
    end = (await reader.end_offsets(topic, [partition]))[partition]
    await reader.assign({(topic, partition): following})
    looked_through, heard_at = 0, time.monotonic()
    while following < end:
        for record in await reader.read(RECORDS_PER_READ_MAX, READ_SECONDS_MAX):
            following, heard_at = record.offset + 1, time.monotonic()
            looked_through += 1
            if record.key == key.encode():
                try:
                    yield decode_decided(record.value)
                except Undecodable:
                    continue
        if looked_through >= RECORDS_MAX:
            raise Unread(f"it was looked for among {looked_through:,} records, and there are more")
        if time.monotonic() - heard_at > SILENT_SECONDS_MAX:
            raise Unread(f"Kafka has said nothing for {SILENT_SECONDS_MAX:g} s")
