"""A reader of the log that is replaced when it stands still.

A worker speaks only once it has read back its own claim, so a reader that stops without an error
would silence all its answers, and nobody else would take them: the group still counts the worker
in. What the producer was told has landed must come by; what does not is read by a fresh reader,
from where the old one stood. A broker that stands still for longer, between a record's
acknowledgement and its way to us, looks the same: that costs a reader, and nothing else.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from infra.kafka.consumer import LogReader, Record

log = logging.getLogger("thalweg.kafka")

READ_BACK_SECONDS_MAX = 5.0
"""What has landed is read within milliseconds; a broker that restarts takes seconds."""
PATIENCE_SECONDS_MAX = 60.0
"""A broker that is slower than that serves nobody."""
RETIRE_SECONDS = 10.0
"""A replaced reader is closed so much later: somebody may still wait for its answer."""


@dataclass(slots=True)
class _Landed:
    """What is known to be in the log of a partition, and was not read yet."""

    offset: int
    since: float
    """When it landed, or when the partition's last record came: time.monotonic()."""


class WatchedReader:
    """Reads partitions of one topic from where it is told. Use it on one event loop."""

    def __init__(
        self,
        topic: str,
        new_reader: Callable[[], LogReader],
        *,
        read_back_seconds_max: float = READ_BACK_SECONDS_MAX,
    ) -> None:
        self._topic = topic
        self._new_reader = new_reader
        self._read_back_seconds_max = read_back_seconds_max
        self._patience_seconds = read_back_seconds_max
        """Longer after each replacement that has not brought anything yet."""
        self.reader = new_reader()
        """The one that reads now; for what it can tell of offsets."""
        self._next: dict[int, int] = {}
        self._landed: dict[int, _Landed] = {}
        self._changing = asyncio.Lock()
        self._retiring: dict[asyncio.Task[None], LogReader] = {}

    async def add(self, offsets: Mapping[int, int]) -> None:
        """Reads these partitions too, each from its offset."""
        async with self._changing:
            self._next.update(offsets)
            await self._told(
                self.reader.add({(self._topic, each): at for each, at in offsets.items()})
            )

    async def remove(self, partitions: Collection[int]) -> None:
        async with self._changing:
            for each in partitions:
                self._next.pop(each, None)
                self._landed.pop(each, None)
            await self._told(self.reader.remove((self._topic, each) for each in partitions))

    def landed(self, partition: int, offset: int) -> None:
        """A record is in the log there: it has to come by."""
        following = self._next.get(partition)
        if following is None or offset < following:
            return
        known = self._landed.get(partition)
        if known is None:
            self._landed[partition] = _Landed(offset, time.monotonic())
        else:
            known.offset = max(known.offset, offset)

    async def read(self, records_max: int, seconds_max: float) -> list[Record]:
        """See LogReader.read. Raises ReadFailed."""
        records: list[Record] = []
        try:
            async with asyncio.timeout(seconds_max + self._patience_seconds):
                records = await self.reader.read(records_max, seconds_max)
        except TimeoutError:
            await self._start_over(self._next, "its thread stands still")
        self._note(records)
        if self._landed:
            oldest = time.monotonic() - self._patience_seconds
            stuck = [each for each, landed in self._landed.items() if landed.since < oldest]
            if stuck:
                await self._start_over(stuck, "it brings nothing")
        return [each for each in records if each.partition in self._next]

    async def close(self) -> None:
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for reader in (*self._retiring.values(), self.reader):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._read_back_seconds_max):
                    await reader.close()

    async def _told(self, call: Awaitable[None]) -> None:
        """Waits until the reader has done it, but not for one whose thread stands still: whoever
        replaces that reader waits for us. Its successor knows of all that is in `_next`.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._read_back_seconds_max):
                await call

    def _note(self, records: Collection[Record]) -> None:
        if records:
            self._patience_seconds = self._read_back_seconds_max
        now = time.monotonic() if self._landed else 0.0
        for each in records:
            if each.partition not in self._next:
                continue
            self._next[each.partition] = each.offset + 1
            landed = self._landed.get(each.partition)
            if landed is None:
                continue
            if each.offset >= landed.offset:
                del self._landed[each.partition]
            else:
                landed.since = now

    async def _start_over(self, stuck: Collection[int], why: str) -> None:
        log.error(
            "tokens that have landed are not read: the reader is replaced",
            extra={"partitions": sorted(stuck), "why": why},
        )
        self._patience_seconds = min(2 * self._patience_seconds, PATIENCE_SECONDS_MAX)
        async with self._changing:
            old, self.reader = self.reader, self._new_reader()
            self._landed.clear()
            task = asyncio.create_task(_retire(old))
            self._retiring[task] = old
            task.add_done_callback(lambda done: self._retiring.pop(done, None))
            await self.reader.assign({(self._topic, each): at for each, at in self._next.items()})


async def _retire(reader: LogReader) -> None:
    await asyncio.sleep(RETIRE_SECONDS)
    await reader.close()
