"""Looks up where partitions begin and end, through restarts of their leaders."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

log = logging.getLogger("thalweg.kafka")

QUERY_SECONDS_MAX = 10.0  # a broker that restarts needs a few seconds
ATTEMPT_SECONDS_MAX = 2.0  # of one try: librdkafka repeats a question that is stale until then
AGAIN_SECONDS = 0.1  # between two tries, each with a connection of its own
METADATA_SECONDS_MAX = 1  # how long a leader's epoch is taken for the current one

_LATEST: OffsetSpec = cast(Any, OffsetSpec).latest()
_EARLIEST: OffsetSpec = cast(Any, OffsetSpec).earliest()

_PASSING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._WAIT_CACHE,
        KafkaError._NOENT,  # no leader was found: the broker is about to be there
    }
)


class QueryFailed(Exception):
    """Kafka did not answer a question about offsets in time. Ask again."""


class OffsetQueries:
    """Looks up offsets, on a connection apart. Raises QueryFailed."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin: AdminClient | None = self._connect()

    def _connect(self) -> AdminClient:
        # After a leader's restart librdkafka would ask with the epoch that it has cached, and be
        # refused, until the cache is old: a quarter of an hour by default.
        return AdminClient(
            {
                "bootstrap.servers": self._bootstrap,
                "socket.nagle.disable": True,
                "metadata.max.age.ms": METADATA_SECONDS_MAX * 1_000,
            },
            logger=log,
        )

    async def end_offsets(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The offset that the next message of each partition will get."""
        asked = [(TopicPartition(topic, number), _LATEST) for number in partitions]
        return await self._list(asked)

    async def begin_offsets(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The oldest offset that each partition still has."""
        asked = [(TopicPartition(topic, number), _EARLIEST) for number in partitions]
        return await self._list(asked)

    async def offsets_for_time(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
        """For each partition the first offset with that time or a later one; else its end."""
        # The ends come first: a message that lands between the two questions is not passed over.
        ends = await self.end_offsets(topic, times_ms)
        found = await self._list(
            [
                (TopicPartition(topic, number), OffsetSpec.for_timestamp(time_ms))
                for number, time_ms in times_ms.items()
            ]
        )
        return {number: ends[number] if at < 0 else at for number, at in found.items()}

    async def _list(self, asked: list[tuple[TopicPartition, OffsetSpec]]) -> dict[int, int]:
        if not asked:
            return {}
        until = time.monotonic() + QUERY_SECONDS_MAX
        while True:
            admin = self._admin  # held while it is asked: its end would leave us waiting
            if admin is None:
                raise QueryFailed("this reader is closed")
            try:
                answers = admin.list_offsets(dict(asked), request_timeout=ATTEMPT_SECONDS_MAX)
                results = await asyncio.gather(*map(asyncio.wrap_future, answers.values()))
                break
            except KafkaException as error:
                # A topic that is new, or a leader that has just moved: known a moment later.
                if time.monotonic() > until or error.args[0].code() not in _PASSING:
                    topic = asked[0][0].topic
                    raise QueryFailed(f"offsets of {topic} are not known: {error}") from error
                if self._admin is admin:
                    self._admin = self._connect()  # one that knows nothing of former leaders
            await asyncio.sleep(AGAIN_SECONDS)
        return {
            partition.partition: result.offset
            for partition, result in zip(answers, results, strict=True)
        }

    async def close(self) -> None:
        self._admin = None
