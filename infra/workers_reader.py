"""Reads what workers say of themselves, on one partition, from its end."""

import asyncio
import logging
from collections.abc import Callable

from infra.kafka.consumer import LogReader, ReadFailed, Record
from infra.kafka.offsets import QueryFailed
from infra.kafka.watched_reader import WatchedReader

log = logging.getLogger("thalweg.kafka")

PARTITION = 0
"""All of them are in one order."""
KIND = "kind"
STATEMENT = b"statement"
REPORT = b"report"
RECORDS_PER_READ_MAX = 500
READ_SECONDS_MAX = 0.5
AGAIN_SECONDS = 1.0
"""Before Kafka is asked again that did not answer."""


class WorkersReader:
    """Use it on one event loop."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._tail = WatchedReader(topic, lambda: LogReader(bootstrap, client_id="thalweg-workers"))

    async def run(self, kind: bytes, heard: Callable[[Record], None]) -> None:
        """Tells of every record of this kind, until it is cancelled."""
        await self._begin()
        while True:
            try:
                records = await self._tail.read(RECORDS_PER_READ_MAX, READ_SECONDS_MAX)
            except ReadFailed as error:
                log.error("what workers say is not read", extra={"error": str(error)})
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            for record in records:
                if dict(record.headers).get(KIND) == kind:
                    heard(record)

    def landed(self, offset: int) -> None:
        """A record is in the log there: it has to come by."""
        self._tail.landed(PARTITION, offset)

    async def close(self) -> None:
        await self._tail.close()

    async def _begin(self) -> None:
        while True:
            try:
                ends = await self._tail.reader.end_offsets(self._topic, [PARTITION])
            except QueryFailed as error:
                log.warning("what workers say is not read yet", extra={"error": str(error)})
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                await self._tail.add(ends)
                return
