"""One new build of a read model, filled from the log as fast as it goes.

Its secondary indexes are made when the rows are there. While one batch is written, the next one is
read and decoded. A long log is filled in by several processes, each with partitions of its own:
all events of a stream are in one partition, so no two of them write the same rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.synchronize import Event
from typing import TypeVar

from infra.kafka.consumer import LogReader, Partition, Record
from infra.projections import connect
from infra.settings import Settings
from projections import tables as sqls
from projections.deliveries import Delivery, delivery
from projections.digests import Digest, digest
from projections.projection import Projection
from projections.runner import Runner
from projections.tables import Db, Tables

EVENTS_PER_BATCH = 5_000
"""More than of a live build: nobody waits for its rows, and fewer of them are written twice."""
READ_SECONDS_MAX = 0.2
AGAIN_SECONDS = 0.1
"""Between looks whether a gap is closed, or a live build has come further."""
INDEX_MEMORY = "128MB"
OBJECTS_BETWEEN_COLLECTIONS = 500_000
"""Some batches: what a circle should hold after all stays bounded."""
FILLERS_MAX = 4
"""Processes that fill one build: more would only take turns in Postgres."""
EVENTS_PER_FILLER_MIN = 50_000
"""A process takes a second to start; so many events take some."""
PROGRESS_SECONDS = 0.5
"""Between looks at how far the fillers are."""

T = TypeVar("T")


class RebuildRefused(LookupError):
    """Says why nothing was built."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Told while events are applied."""

    label: str
    done: int
    of: int


class Builder:
    """One new build: its connection, its reader, and how far it is."""

    def __init__(
        self,
        projection: Projection,
        settings: Settings,
        topic: str,
        progress: Callable[[Progress], None],
    ) -> None:
        self.projection = projection
        self.events = 0
        self._settings = settings
        self._topic = topic
        self._progress = progress
        self._runner = Runner(projection, gap_seconds_max=settings.gap_seconds_max)
        self._types = frozenset(cls.TYPE for cls in projection.types)
        self._reader = LogReader(
            settings.kafka_servers, client_id=f"rebuild-{projection.tables.name}"
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="build")
        self._connection: Db | None = None
        self._next: dict[int, int] = {}
        self._over: list[Record] = []
        """Read already, but beyond where it was to be fed to."""
        self._paused: set[Partition] = set()
        """Those it has such records of: more of them would only fill the memory."""
        self._of = 0

    async def open(self) -> None:
        """Makes the tables, without indexes, and goes to the log's beginning."""
        await self._connect()
        await self._run(sqls.create, self.projection.tables, self.projection.own_tables)
        partitions = range(self._settings.partitions)
        begins = await self._reader.begin_offsets(self._topic, partitions)
        if any(begins.values()):
            raise RebuildRefused(f"{self._topic} does not begin with its first event any more")
        await self._go_on_from(dict.fromkeys(partitions, 0))

    async def _connect(self) -> None:
        url = self._settings.database_url("projections")
        self._connection = await in_thread(self._thread, connect, url)
        await self._run(_unbounded)

    async def aclose(self) -> None:
        await self._reader.close()
        if self._connection is not None:
            await in_thread(self._thread, self._connection.close)
        self._thread.shutdown()

    async def fill(self) -> float:
        """Applies the log as it is now, and makes the indexes; returns the seconds."""
        began = time.monotonic()
        ends = await self._reader.end_offsets(self._topic, self._next)
        self._of = sum(ends.values())
        fillers = min(FILLERS_MAX, os.cpu_count() or 1, self._of // EVENTS_PER_FILLER_MIN)
        if fillers > 1:
            await self._fill_side_by_side(shares(ends, fillers))
            await self._go_on_from(ends)
        with _collecting_seldom():
            await self.feed_to(ends)
        tables, indexes = self.projection.tables, self.projection.own_indexes
        await self._run(sqls.create_indexes, tables, indexes)
        seconds = time.monotonic() - began
        await self._run(_analyze, self.projection)
        return seconds

    async def _go_on_from(self, offsets: Mapping[int, int]) -> None:
        self._next = dict(offsets)
        await self._reader.assign({(self._topic, each): at for each, at in offsets.items()})

    async def _fill_side_by_side(self, parts: list[dict[int, int]]) -> None:
        """Returns when all of them are through; with the first that fails all of them end."""
        context = multiprocessing.get_context("spawn")
        unwanted = context.Event()
        about = self.projection, self._settings, self._topic
        with ProcessPoolExecutor(len(parts), context, _begin_filler, (unwanted,)) as pool:
            loop = asyncio.get_running_loop()
            filling = [loop.run_in_executor(pool, fill_part, *about, part) for part in parts]
            try:
                while True:
                    _, left = await asyncio.wait(
                        filling, timeout=PROGRESS_SECONDS, return_when=asyncio.FIRST_EXCEPTION
                    )
                    at = await self._run(self._runner.offsets, self._topic)
                    self._progress(
                        Progress(self.projection.tables.label, sum(at.values()), self._of)
                    )
                    if not left or any(one.done() and one.exception() for one in filling):
                        break
            finally:
                unwanted.set()
                await asyncio.wait(filling)
        self.events += sum(one.result() for one in filling)

    async def fill_part(self, ends: Mapping[int, int]) -> int:
        """Applies these partitions alone, up to their ends; returns the number of events."""
        await self._connect()
        await self._go_on_from(dict.fromkeys(ends, 0))
        with _collecting_seldom():
            await self.feed_to(ends)
        return self.events

    def is_past(self, at: Mapping[int, int]) -> bool:
        """Whether more is applied here than up to those offsets."""
        return any(offset > at.get(partition, 0) for partition, offset in self._next.items())

    async def feed_to(self, at: Mapping[int, int]) -> None:
        """Applies exactly what stands before those offsets, and lets what waits for a gap wait."""
        applying: asyncio.Future[int] | None = None
        await self._reader.resume(self._paused)
        self._paused.clear()
        try:
            while any(self._next.get(partition, 0) < offset for partition, offset in at.items()):
                batch = await self._read(at)
                if not batch:
                    continue
                if applying is not None:  # the next batch was read while this one was written
                    await applying
                    applying = None
                applying = asyncio.ensure_future(self._run(self._runner.apply, batch))
                self.events += len(batch)
                self._progress(Progress(self.projection.tables.label, self.events, self._of))
        finally:
            if applying is not None:
                await applying
        while self._runner.waits:
            await asyncio.sleep(AGAIN_SECONDS)
            await self._run(self._runner.apply, [])

    async def digest(self) -> Digest:
        tables, suffixes = self.projection.tables, self.projection.digested_suffixes
        return await self._run(digest, tables, suffixes)

    async def parked(self) -> int:
        return await self._run(_parked, self.projection.tables)

    async def _read(self, at: Mapping[int, int]) -> list[Delivery]:
        known, self._over = self._over, []
        batch: list[Delivery] = []
        self._take(known, at, batch)
        if not batch:
            records = await self._reader.read(EVENTS_PER_BATCH, READ_SECONDS_MAX)
            self._take(records, at, batch)
            beyond = {(each.topic, each.partition) for each in self._over} - self._paused
            if beyond:
                await self._reader.pause(beyond)
                self._paused |= beyond
        return batch

    def _take(self, records: list[Record], at: Mapping[int, int], batch: list[Delivery]) -> None:
        for each in records:
            if each.offset >= at.get(each.partition, 0):
                self._over.append(each)
                continue
            self._next[each.partition] = each.offset + 1
            one = delivery(each.topic, each.partition, each.offset, each.headers, each.value)
            one.read_ahead(self._types)
            batch.append(one)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await in_thread(self._thread, work, self._connection, *arguments)


def shares(ends: Mapping[int, int], number: int) -> list[dict[int, int]]:
    """The partitions, dealt out so that each share has about as many events; none is empty."""
    parts: list[dict[int, int]] = [{} for _ in range(number)]
    for partition, end in sorted(ends.items(), key=lambda each: -each[1]):
        min(parts, key=lambda part: sum(part.values()))[partition] = end
    return [part for part in parts if part]


_unwanted: Event | None = None
"""Of a process that fills in a part, and of no other."""


def _begin_filler(unwanted: Event) -> None:
    global _unwanted
    _unwanted = unwanted
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which tells us
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A pool's processes outlive a parent that is killed: they wait for more work, for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)


def fill_part(
    projection: Projection, settings: Settings, topic: str, ends: Mapping[int, int]
) -> int:
    """In a process of its own: fills in these partitions up to their ends."""
    return asyncio.run(_fill_part(projection, settings, topic, ends))


async def _fill_part(
    projection: Projection, settings: Settings, topic: str, ends: Mapping[int, int]
) -> int:
    def progress(_: Progress) -> None:
        if _unwanted is None or _unwanted.is_set():
            raise RebuildRefused("the rebuild that this was a part of has ended")

    async with contextlib.aclosing(Builder(projection, settings, topic, progress)) as builder:
        return await builder.fill_part(ends)


@contextlib.contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Python's collector walks the decoded batches every few hundred objects, and finds nothing:
    they hang together in no circle. It took more time than the decoding."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def in_thread(thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
    """Calls in that thread, and waits for its end even if cancelled: it holds a connection."""
    call = asyncio.get_running_loop().run_in_executor(thread, partial(work, *arguments))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


def _parked(connection: Db, tables: Tables) -> int:
    row = connection.execute(tables.compose("SELECT count(*) FROM {parked}")).fetchone()
    return 0 if row is None else int(row[0])


def _unbounded(connection: Db) -> None:
    """An index over millions of rows takes its time, and nobody waits for these tables."""
    connection.execute("SET statement_timeout = 0")
    connection.execute("SELECT set_config('maintenance_work_mem', %s, false)", (INDEX_MEMORY,))


def _analyze(connection: Db, projection: Projection) -> None:
    """So that the first readers after a switch have plans that fit."""
    for suffix in projection.own_suffixes:
        table = projection.tables.table(suffix)
        connection.execute(projection.tables.compose("ANALYZE {table}", table=table))
