"""The token log on Kafka: an idempotent producer and a reader without a group."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import cast

from events.answers import Chunk, Claim, End, TokenRecord
from events.codec import Undecodable, decode_token_record, encode_token_record
from events.ids import ConversationId
from infra import failpoints
from infra.failpoints import hit
from infra.kafka.consumer import LogReader, ReadFailed
from infra.kafka.offsets import QueryFailed
from infra.kafka.producer import Delivered, Producer, ProducerFull
from infra.kafka.watched_reader import WatchedReader
from processors.answers.ports import LogUnavailable, NotSent, Span, TokenRead

log = logging.getLogger("thalweg.answers")

RECORDS_PER_READ_MAX = 500  # decoding more would hold the loop for milliseconds
START_SECONDS_MAX = 5.0  # with Kafka away the role begins all the same
FIRST_READ_SECONDS = 0.2  # a client's first fetch takes up to a second, a later one milliseconds
READ_SECONDS_MAX = 0.5  # a read without records only goes round


class KafkaTokens:
    """Implements processors.answers.ports.TokenLog."""

    def __init__(self, bootstrap: str, topic: str, *, produce_seconds_max: float) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._producer = Producer(
            bootstrap, client_id="thalweg-answers-tokens", delivery_seconds_max=produce_seconds_max
        )
        self._tail = WatchedReader(
            topic, lambda: LogReader(bootstrap, client_id="thalweg-answers-tokens")
        )

    async def start(self) -> None:
        """Connects, so that the first answer does not wait for it. Never fails."""
        await asyncio.gather(self._producer.start(), self._first_read())

    async def _first_read(self) -> None:
        with suppress(LogUnavailable, TimeoutError):
            async with asyncio.timeout(START_SECONDS_MAX):
                span = (await self.locate({0: int(time.time() * 1_000)}))[0]
                await self._tail.add({0: span.end})
                await self._tail.read(RECORDS_PER_READ_MAX, FIRST_READ_SECONDS)
                await self._tail.remove([0])

    def send(
        self, partition: int, conversation: ConversationId, record: TokenRecord
    ) -> "asyncio.Future[object]":
        try:
            sent = self._producer.send(
                self._topic,
                key=str(conversation).encode(),
                value=encode_token_record(record),
                partition=partition,
            )
        except ProducerFull as error:
            raise NotSent(str(error)) from error
        sent.add_done_callback(self._sent)
        if failpoints.are_on():
            _hit_sent(record)
        return cast("asyncio.Future[object]", sent)

    def _sent(self, sent: "asyncio.Future[Delivered]") -> None:
        if not sent.cancelled() and sent.exception() is None:
            at = sent.result()
            self._tail.landed(at.partition, at.offset)

    async def locate(self, since_ms: Mapping[int, int]) -> Mapping[int, Span]:
        try:
            first = await self._tail.reader.offsets_for_time(self._topic, since_ms)
            ends = await self._tail.reader.end_offsets(self._topic, since_ms)
        except QueryFailed as error:
            raise LogUnavailable(str(error)) from error
        return {partition: Span(first[partition], ends[partition]) for partition in since_ms}

    async def earlier(
        self, partition: int, since_ms: int, conversations: Collection[ConversationId]
    ) -> AsyncGenerator[tuple[int, Sequence[TokenRead]], None]:
        keys = {str(conversation).encode() for conversation in conversations}
        following = (await self.locate({partition: since_ms}))[partition].first
        yield following, ()
        reader = LogReader(self._bootstrap, client_id="thalweg-answers-earlier-tokens")
        try:
            await reader.assign({(self._topic, partition): following})
            while True:
                records = await reader.read(RECORDS_PER_READ_MAX, READ_SECONDS_MAX)
                if records:
                    following = records[-1].offset + 1
                yield (
                    following,
                    [
                        TokenRead(partition, each.offset, self._decode(partition, each.offset, v))
                        for each, v in ((each, each.value) for each in records)
                        if each.key in keys
                    ],
                )
        except ReadFailed as error:
            raise LogUnavailable(str(error)) from error
        finally:
            await asyncio.shield(reader.close())

    async def begin(self, offsets: Mapping[int, int]) -> None:
        if offsets:
            hit("answers.before_tail")
            await self._tail.add(offsets)

    async def stop(self, partitions: Collection[int]) -> None:
        await self._tail.remove(partitions)

    async def read(self) -> Sequence[TokenRead]:
        records = await self._tail.read(RECORDS_PER_READ_MAX, READ_SECONDS_MAX)
        read = [
            TokenRead(each.partition, each.offset, self._decode(each.partition, each.offset, value))
            for each, value in ((each, each.value) for each in records)
        ]
        if failpoints.are_on():
            _hit_read(read)
        return read

    def _decode(self, partition: int, offset: int, value: bytes | None) -> TokenRecord | None:
        try:
            return decode_token_record(value)
        except Undecodable as error:
            log.error(
                "a token record is passed over",
                extra={"partition": partition, "offset": offset, "error": str(error)},
            )
            return None

    async def close(self) -> None:
        """Does not wait long for what is outstanding: the next worker decides by the log."""
        await self._producer.close(seconds_max=1.0)
        await self._tail.close()


def _hit_sent(record: TokenRecord) -> None:
    match record:
        case Claim():
            hit("answers.after_claim_sent")
        case Chunk():
            hit("answers.after_chunk_sent")
        case End():
            hit("answers.after_end_sent")


def _hit_read(records: Sequence[TokenRead]) -> None:
    for each in records:
        match each.record:
            case Claim():
                hit("answers.after_claim_read")
            case Chunk():
                hit("answers.after_chunk_read")
            case End():
                hit("answers.after_end_read")
