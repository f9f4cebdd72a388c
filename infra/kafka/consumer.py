"""Readers of Kafka: one that is told where to read, and one in a consumer group.

Each has a thread of its own that works only when it is asked (`read`), so the hand-over is bounded
by what was asked for. Offsets are looked up through a client apart: on the reader's own connection
they would wait behind its long poll.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import methodcaller
from typing import TypeVar, cast

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from infra.kafka.left_off import NotKnown, left_off
from infra.kafka.offsets import QUERY_SECONDS_MAX, OffsetQueries, QueryFailed

log = logging.getLogger("thalweg.kafka")

Partition = tuple[str, int]
Offsets = Mapping[Partition, int]
OnAssign = Callable[[list[Partition]], Awaitable[Offsets | None]]
OnRevoke = Callable[[list[Partition]], Awaitable[None]]
T = TypeVar("T")

SLICE_SECONDS = 0.02  # a blocking poll cannot be woken: other calls wait for at most this long
CLOSE_SECONDS_MAX = 5.0  # leaving a group is one request
REBALANCE_CALLBACK_SECONDS_MAX = 20.0  # a callback that hangs must not hold the thread for ever

GATHERED_BYTES = 1_048_576
"""So much is handed out at once by a broker that gathers, as a backlog is: then nothing waits."""

_LATENCY: dict[str, str | int | float | bool] = {
    "log_level": 3,
    "fetch.min.bytes": 1,
    # A partition that is added waits for the fetch under way, so a long poll is kept short; each
    # costs an idle broker and its reader half a millisecond.
    "fetch.wait.max.ms": 200,
    "fetch.error.backoff.ms": 20,
    "fetch.queue.backoff.ms": 20,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 500,
    "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 200,
    "topic.metadata.refresh.fast.interval.ms": 50,
    "socket.nagle.disable": True,
    # A request that is never answered: by default nothing would be read for a minute.
    "socket.timeout.ms": 10_000,
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 16_384,  # 16 MiB read ahead at most
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": False,
    "auto.offset.reset": "earliest",  # what retention took away is passed over, never the rest
    "allow.auto.create.topics": False,
}


_HOPELESS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,
    }
)


# For a name that is not UTF-8 the client returns a list with a hole in it, and an error besides. A
# plain call, once it is hot, is one of those that CPython does not check for that: the hole would
# kill the process. Through a `methodcaller` it is checked, always.
_CHECKED_HEADERS = methodcaller("headers")


@dataclass(frozen=True, slots=True)
class Record:
    """One message of a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class ReadFailed(Exception):
    """Kafka does not serve this reader: another one may have more luck. The message says why."""


class CommitFailed(Exception):
    """The offsets were not stored: the partitions went elsewhere, or Kafka is away."""


class _Reader:
    """What both share: a thread, reads that survive cancellation, and calls between polls."""

    def __init__(self, bootstrap: str, configuration: dict[str, str | int | float | bool]) -> None:
        self._client = Client(
            {"bootstrap.servers": bootstrap, **_LATENCY, **configuration}, logger=log
        )
        self._queries = OffsetQueries(bootstrap)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-reader")
        self._waiting_calls = 0
        self._read_under_way: asyncio.Future[list[Record]] | None = None
        self._closed = False
        self._batch: list[Record] = []  # of the thread: what the read under way has so far

    async def read(self, records_max: int = 500, seconds_max: float = 0.5) -> list[Record]:
        """Waits for a record, then takes what is there without waiting; may be empty, early too.

        If the caller is cancelled, the records wait for the next read. One read at a time. Raises
        ReadFailed.
        """
        if self._read_under_way is None:
            self._read_under_way = asyncio.get_running_loop().run_in_executor(
                self._thread, self._read, records_max, seconds_max
            )
        records = await asyncio.shield(self._read_under_way)
        self._read_under_way = None
        return records

    async def end_offsets(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The offset that the next message of each partition will get. Raises QueryFailed."""
        return await self._queries.end_offsets(topic, partitions)

    async def begin_offsets(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The oldest offset that each partition still has. Raises QueryFailed."""
        return await self._queries.begin_offsets(topic, partitions)

    async def offsets_for_time(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
        """The first offset of that time or later, else the end. Raises QueryFailed."""
        return await self._queries.offsets_for_time(topic, times_ms)

    async def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The group's stored offsets, without partitions that have none. Raises QueryFailed."""
        asked = [TopicPartition(*each) for each in partitions]
        try:
            answers = await self._call(self._client.committed, asked, QUERY_SECONDS_MAX)
        except KafkaException as error:
            raise QueryFailed(f"committed offsets are not known: {error}") from error
        return {(each.topic, each.partition): each.offset for each in answers if each.offset >= 0}

    async def pause(self, partitions: Iterable[Partition]) -> None:
        """Reads nothing from these until `resume`; a read under way may still bring some."""
        await self._call(self._client.pause, [TopicPartition(*each) for each in partitions])

    async def resume(self, partitions: Iterable[Partition]) -> None:
        await self._call(self._client.resume, [TopicPartition(*each) for each in partitions])

    async def close(self) -> None:
        """Leaves the group, if any, and ends the thread."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._call(self._client.close)
        finally:
            under_way, self._read_under_way = self._read_under_way, None
            if under_way is not None and under_way.done() and not under_way.cancelled():
                under_way.exception()  # nobody will ask for it
            self._thread.shutdown(wait=False)
            await self._queries.close()

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        """Runs on the reader's thread, soon: a read under way ends early for it."""
        self._waiting_calls += 1
        try:
            call = asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
            return await asyncio.shield(call)
        finally:
            self._waiting_calls -= 1

    def _read(self, records_max: int, seconds_max: float) -> list[Record]:
        self._batch = []
        until = time.monotonic() + seconds_max
        while True:
            left = until - time.monotonic()
            wait = 0.0 if self._batch or self._waiting_calls else max(0.0, min(SLICE_SECONDS, left))
            message = self._client.poll(wait)
            if message is not None:
                self._take(message)
                self._take_more(records_max - len(self._batch))
                if len(self._batch) >= records_max:
                    break
            elif self._batch or self._waiting_calls or left <= 0:
                break
        batch, self._batch = self._batch, []
        return batch

    def _take_more(self, records_max: int) -> None:
        """What is there without waiting may be taken at once."""

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal() or error.code() in _HOPELESS:
                raise ReadFailed(f"Kafka refuses the reader of {message.topic()}: {error.str()}")
            log.warning("Kafka reports an error to a reader", extra={"error": error.str()})
            return
        self._batch.append(
            Record(
                message.topic() or "",
                message.partition() or 0,
                message.offset() or 0,
                message.timestamp()[1],
                message.key(),
                message.value(),
                _headers(message),
            )
        )


class LogReader(_Reader):
    """Reads where it is told, without joining a group; commits nothing.

    `group` only says whose offsets `committed` tells. With `gather_seconds` the broker keeps
    records back for up to that long, to hand out more at once: for readers on whom nobody waits.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "thalweg",
        group: str = "thalweg-nobody",
        gather_seconds: float = 0.0,
    ) -> None:
        super().__init__(
            bootstrap,
            {"client.id": client_id, "group.id": group, **_gathering(gather_seconds)},
        )

    async def assign(self, offsets: Offsets) -> None:
        """From now on reads exactly these partitions, each from its offset.

        Like `remove`, it does not take back what a read under way has already fetched.
        """
        await self._call(self._client.assign, _positions(offsets))

    async def add(self, offsets: Offsets) -> None:
        """Reads these partitions too, and goes on with the others where they are."""
        await self._call(self._client.incremental_assign, _positions(offsets))

    async def remove(self, partitions: Iterable[Partition]) -> None:
        """Stops reading these."""
        gone = [TopicPartition(*each) for each in partitions]
        await self._call(self._client.incremental_unassign, gone)

    def _take_more(self, records_max: int) -> None:
        """All in one call. (In a group a record may be of a partition that goes in that call.)"""
        if records_max > 0:
            for message in self._client.consume(records_max, 0):
                self._take(message)


class GroupReader(_Reader):
    """A member of a consumer group. Only partitions that really go elsewhere are revoked.

    `on_assign` and `on_revoke` run on the event loop, inside a `read`, which waits for them. What
    `on_assign` returns says where to start (a partition that it does not name: at the committed
    offset). After `on_revoke` no record of that partition is handed out. Commits are explicit. For
    `gather_seconds` see LogReader.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Iterable[str],
        on_assign: OnAssign | None = None,
        on_revoke: OnRevoke | None = None,
        *,
        client_id: str = "thalweg",
        session_timeout_seconds: float = 6.0,
        heartbeat_seconds: float = 1.0,
        poll_interval_seconds_max: float = 300.0,
        gather_seconds: float = 0.0,
    ) -> None:
        super().__init__(
            bootstrap,
            {
                "client.id": client_id,
                "group.id": group,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(session_timeout_seconds * 1_000),
                "heartbeat.interval.ms": int(heartbeat_seconds * 1_000),
                "max.poll.interval.ms": int(poll_interval_seconds_max * 1_000),
                **_gathering(gather_seconds),
            },
        )
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._loop = asyncio.get_running_loop()
        self._client.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    async def commit(self, offsets: Offsets) -> None:
        """Stores for each partition the offset of the next record to read. Raises CommitFailed."""
        if offsets:
            await self._call(self._commit, _positions(offsets))

    # on the reader's thread ---------------------------------------------------------------

    def _commit(self, offsets: list[TopicPartition]) -> None:
        try:
            results = self._client.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise CommitFailed(str(error)) from error
        for result in results or ():
            if result.error is not None:
                raise CommitFailed(str(result.error))

    def _assigned(self, client: Client, partitions: list[TopicPartition]) -> None:
        starts: Offsets | None = None
        if self._on_assign is not None and partitions:
            starts = self._on_loop(self._on_assign(_names(partitions)))
        named = {each: at for each, at in (starts or {}).items() if each in _names(partitions)}
        unnamed = [each for each in partitions if (each.topic, each.partition) not in named]
        try:
            known = left_off(client, unnamed, is_over=lambda: self._closed)
        except NotKnown as error:
            raise ReadFailed(str(error)) from error
        client.incremental_assign([*_positions(named), *known])

    def _revoked(self, client: Client, partitions: list[TopicPartition]) -> None:
        gone = set(_names(partitions))
        self._batch = [each for each in self._batch if (each.topic, each.partition) not in gone]
        if self._on_revoke is not None and gone:
            self._on_loop(self._on_revoke(sorted(gone)))

    def _on_loop(self, callback: Awaitable[T]) -> T:
        async def run() -> T:
            return await callback

        done = asyncio.run_coroutine_threadsafe(run(), self._loop)
        return done.result(REBALANCE_CALLBACK_SECONDS_MAX)


def _gathering(seconds: float) -> dict[str, str | int | float | bool]:
    """Of a client to whom the broker is to hand out what has come only so often; 0: at once."""
    if not seconds:
        return {}
    return {"fetch.min.bytes": GATHERED_BYTES, "fetch.wait.max.ms": round(seconds * 1_000)}


def _headers(message: Message) -> list[tuple[str, bytes]]:
    """None of them if a name is not UTF-8: whoever gets such a record takes it for no event."""
    try:
        found = cast(list[tuple[str, bytes | None]], _CHECKED_HEADERS(message) or [])
    except (SystemError, UnicodeDecodeError):
        return []
    return [(name, value or b"") for name, value in found]


def _positions(offsets: Offsets) -> list[TopicPartition]:
    return [TopicPartition(topic, number, at) for (topic, number), at in offsets.items()]


def _names(partitions: Iterable[TopicPartition]) -> list[Partition]:
    return [(each.topic, each.partition) for each in partitions]
