"""What a worker reads again of a partition's tokens, from before the birth of a request: on a real
Kafka, what `tests/processors/answers/test_recall.py` takes for granted."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest
from confluent_kafka import Producer

from events.answers import Chunk, Claim, ClaimId
from events.codec import encode_token_record
from events.ids import AnswerId, ConversationId, fresh_id
from infra.answers_worker.tokens import RECORDS_PER_READ_MAX, KafkaTokens
from processors.answers.ports import TokenRead
from tests.contracts.kafka.conftest import MakeTopic

SECONDS_MAX = 60.0
PARTITION = 1
NOW_MS = int(time.time() * 1_000)
LONG_AGO_MS, BIRTH_MS = NOW_MS - 60_000, NOW_MS - 30_000
OURS, OTHERS = ConversationId(fresh_id()), ConversationId(fresh_id())
ANSWER = AnswerId(fresh_id())
CLAIM = ClaimId(1, fresh_id())


@pytest.fixture
def topic(make_topic: MakeTopic) -> str:
    """The test says when each record was said."""
    return make_topic(message_timestamp_type="CreateTime")


@pytest.fixture
async def tokens(kafka: str, topic: str) -> AsyncIterator[KafkaTokens]:
    tokens = KafkaTokens(kafka, topic, produce_seconds_max=SECONDS_MAX)
    yield tokens
    await tokens.close()


class Log:
    """Says what some worker has said."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._producer, self._topic = Producer({"bootstrap.servers": kafka}), topic

    def say(self, at_ms: int, *values: bytes, by: ConversationId = OURS) -> None:
        for value in values:
            self._producer.produce(
                self._topic, value, str(by).encode(), partition=PARTITION, timestamp=at_ms
            )
        assert self._producer.flush(SECONDS_MAX) == 0


@pytest.fixture
def log(kafka: str, topic: str) -> Log:
    return Log(kafka, topic)


def claim() -> bytes:
    return encode_token_record(Claim(ANSWER, CLAIM, "worker", "model"))


def chunk(index: int) -> bytes:
    return encode_token_record(Chunk(ANSWER, CLAIM, index, f" {index}", 1))


async def earlier(
    tokens: KafkaTokens, up_to: int, since_ms: int = BIRTH_MS
) -> tuple[int, list[TokenRead]]:
    """Where it has begun, and what it found until it was that far."""
    found: list[TokenRead] = []
    begun: int | None = None
    reading = tokens.earlier(PARTITION, since_ms, {OURS})
    async with asyncio.timeout(SECONDS_MAX), aclosing(reading):
        async for following, reads in reading:
            begun = following if begun is None else begun
            found += reads
            if following >= up_to:
                assert following == up_to
                break
    assert begun is not None
    return begun, found


def shown(reads: Sequence[TokenRead]) -> list[tuple[int, str]]:
    return [
        (read.offset, read.record.text if isinstance(read.record, Chunk) else "")
        for read in reads
        if read.partition == PARTITION
    ]


async def test_it_reads_from_a_time_on_what_some_conversations_have(
    tokens: KafkaTokens, log: Log
) -> None:
    log.say(LONG_AGO_MS, claim(), chunk(0))
    log.say(BIRTH_MS, claim(), by=OTHERS)
    log.say(BIRTH_MS, claim(), chunk(0))
    log.say(NOW_MS, chunk(0), by=OTHERS)
    log.say(NOW_MS, chunk(1))
    begun, found = await earlier(tokens, up_to=7)
    assert begun == 2
    assert shown(found) == [(3, ""), (4, " 0"), (6, " 1")]
    assert isinstance(found[0].record, Claim)


async def test_it_says_how_far_it_is_where_only_others_speak(tokens: KafkaTokens, log: Log) -> None:
    log.say(NOW_MS, *(chunk(index) for index in range(RECORDS_PER_READ_MAX + 1)), by=OTHERS)
    assert await earlier(tokens, up_to=RECORDS_PER_READ_MAX + 1) == (0, [])


async def test_it_goes_on_with_what_is_said_while_it_reads(tokens: KafkaTokens, log: Log) -> None:
    log.say(NOW_MS, claim())
    found: list[TokenRead] = []
    reading = tokens.earlier(PARTITION, BIRTH_MS, {OURS})
    async with asyncio.timeout(SECONDS_MAX), aclosing(reading):
        async for following, reads in reading:
            found += reads
            if following == 2:
                break
            if following == 1 and reads:
                log.say(NOW_MS, chunk(0))
    assert shown(found) == [(0, ""), (1, " 0")]


async def test_where_nothing_is_that_late_it_begins_at_the_end(
    tokens: KafkaTokens, log: Log
) -> None:
    log.say(LONG_AGO_MS, claim(), chunk(0))
    assert await earlier(tokens, up_to=2) == (2, [])


async def test_garbage_is_a_record_that_is_none(tokens: KafkaTokens, log: Log) -> None:
    log.say(NOW_MS, claim(), b"garbage", chunk(0))
    _, found = await earlier(tokens, up_to=3)
    assert [read.record is None for read in found] == [False, True, False]


async def test_the_tail_reads_on_beside_it(tokens: KafkaTokens, log: Log) -> None:
    log.say(BIRTH_MS, claim(), chunk(0))
    await tokens.begin({PARTITION: 1})
    assert shown((await earlier(tokens, up_to=2))[1]) == [(0, ""), (1, " 0")]
    log.say(NOW_MS, chunk(1))
    tail: list[TokenRead] = []
    async with asyncio.timeout(SECONDS_MAX):
        while len(tail) < 2:
            tail += await tokens.read()
    assert shown(tail) == [(1, " 0"), (2, " 1")]
