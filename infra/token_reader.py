"""The fold of `thalweg.tokens` itself, for gateways: when Redis does not serve.

One reader a partition, shared by all who follow an answer of it. It starts at the recorders'
committed offset, before the first record of every answer that is not recorded yet, and follows the
log while somebody listens. What is recorded is not here: whoever finds nothing asks for that too.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition

from events.answers import EMPTY, Entry, Fold, chunk_entries, end_entry, fold
from events.codec import Undecodable, decode_token_record
from events.ids import AnswerId
from events.topics import Topics
from gateway.answer_streams import AnswerRef, SourceUnavailable
from infra.kafka.consumer import LogReader, ReadFailed
from infra.partitions import partition_of

log = logging.getLogger("thalweg.gateway")

READERS_MAX = 64
"""Partitions that one gateway reads at once; each has a connection and some megabytes."""
LINGER_SECONDS = 5.0
"""A reader that nobody listens to stays this long: whoever lost Redis once may lose it again."""
FOLDS_BYTES_MAX = 64 * 1_048_576
"""Of text kept by one reader. With more, answers that nobody follows are dropped, oldest first."""
COMMITTED_SECONDS_MAX = 2.0
"""To learn where the recorders are; then Kafka counts as away."""
RECORDS_PER_READ_MAX = 500
READ_SECONDS_MAX = 0.5


@dataclass(eq=False)
class _Follower:
    """One reader of one answer."""

    reader: "_PartitionReader"
    answer: AnswerId
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def after(self, index: int, *, seconds_max: float) -> Sequence[Entry]:
        """See gateway.answer_streams.Source."""
        try:
            async with asyncio.timeout(seconds_max):
                while True:
                    self.news.clear()
                    if self.reader.failed is not None:
                        raise SourceUnavailable(self.reader.failed)
                    state = self.reader.folds.get(self.answer, EMPTY)
                    if state.next_index + (state.end is not None) > index + 1:
                        return _entries_from(state, index + 1)
                    await self.news.wait()
        except TimeoutError:
            return ()


def _entries_from(state: Fold, first: int) -> list[Entry]:
    found = chunk_entries(state, first, state.next_index)
    if state.end is not None:
        found.append(end_entry(state.end))
    return found


class KafkaTokenFolds:
    """See gateway.answer_streams.TokenFolds."""

    def __init__(self, bootstrap: str, topics: Topics, *, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._partitions = partitions
        self._readers: dict[int, _PartitionReader] = {}
        self._running: set[_PartitionReader] = set()

    @asynccontextmanager
    async def follow(self, ref: AnswerRef) -> AsyncIterator[_Follower]:
        """Raises SourceUnavailable if too many partitions are read already."""
        partition = partition_of(ref.conversation, self._partitions)
        reader = self._readers.get(partition)
        if reader is None or not reader.is_open_to_all:
            if len(self._running) >= READERS_MAX:
                raise SourceUnavailable(f"{READERS_MAX} partitions are being read already")
            reader = _PartitionReader(self._bootstrap, self._topics, partition, self._ended)
            self._readers[partition] = reader
            self._running.add(reader)
        follower = _Follower(reader, ref.answer)
        reader.join(follower)
        try:
            yield follower
        finally:
            reader.leave(follower)

    def _ended(self, reader: "_PartitionReader") -> None:
        self._running.discard(reader)
        if self._readers.get(reader.partition) is reader:
            del self._readers[reader.partition]

    async def close(self) -> None:
        await asyncio.gather(*(reader.close() for reader in list(self._running)))


class _PartitionReader:
    """Folds one partition from the recorders' committed offset on, while somebody listens."""

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        partition: int,
        ended: "Callable[[_PartitionReader], None]",
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._ended = ended
        self._followers: dict[AnswerId, set[_Follower]] = {}
        self._listened = asyncio.Event()
        self.partition = partition
        self.folds: OrderedDict[AnswerId, Fold] = OrderedDict()
        self.failed: str | None = None
        self._bytes = 0
        self._dropped = False
        self._task = asyncio.create_task(self._run(), name=f"tokens {partition}")

    @property
    def is_open_to_all(self) -> bool:
        """Whether any unrecorded answer of the partition can be followed here."""
        return self.failed is None and not self._dropped

    def join(self, follower: _Follower) -> None:
        self._followers.setdefault(follower.answer, set()).add(follower)
        self._listened.set()

    def leave(self, follower: _Follower) -> None:
        self._followers[follower.answer].discard(follower)
        if not self._followers[follower.answer]:
            del self._followers[follower.answer]
        if not self._followers:
            self._listened.clear()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        reader: LogReader | None = None
        try:
            start = await asyncio.to_thread(self._committed)
            reader = LogReader(self._bootstrap, client_id="gateway")
            await reader.assign({(self._topics.tokens, self.partition): start})
            while await self._has_listeners():
                for record in await reader.read(RECORDS_PER_READ_MAX, READ_SECONDS_MAX):
                    self._take(record.value)
                self._drop_some()
            self.failed = "nobody listened any more"
        except (KafkaException, ReadFailed) as error:
            self.failed = str(error)
        except Exception as error:  # who listens asks anew, and the log must know why
            self.failed = type(error).__name__
            log.exception("a reader of tokens failed", extra={"partition": self.partition})
        finally:
            self.failed = self.failed or "closed"
            self._ended(self)
            for followers in self._followers.values():
                for follower in followers:
                    follower.news.set()
            if reader is not None:
                await asyncio.shield(reader.close())

    async def _has_listeners(self) -> bool:
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                return await self._listened.wait()
        except TimeoutError:
            return False

    def _committed(self) -> int:
        """Where the recorders are; a client with their group's name only asks, and never joins."""
        client = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": self._topics.recorder_group,
                "enable.auto.commit": False,
            }
        )
        try:
            asked = [TopicPartition(self._topics.tokens, self.partition)]
            (found,) = client.committed(asked, timeout=COMMITTED_SECONDS_MAX)
            return max(found.offset, 0)
        finally:
            client.close()

    def _take(self, value: bytes | None) -> None:
        try:
            record = decode_token_record(value)
            before = self.folds.get(record.answer, EMPTY)
            state = fold(before, record)
        except (Undecodable, ValueError, TypeError, AttributeError):
            return  # the recorder counts and logs these
        if state is before:
            return
        self.folds[record.answer] = state
        self._bytes += state.text_bytes - before.text_bytes
        for follower in self._followers.get(record.answer, ()):
            follower.news.set()

    def _drop_some(self) -> None:
        if self._bytes <= FOLDS_BYTES_MAX:
            return
        for answer in [known for known in self.folds if known not in self._followers]:
            self._bytes -= self.folds.pop(answer).text_bytes
            self._dropped = True
            if self._bytes <= FOLDS_BYTES_MAX // 2:
                return
