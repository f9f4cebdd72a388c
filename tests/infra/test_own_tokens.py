"""What a worker has sent comes back to it, also through a reader that stands still meanwhile."""

import asyncio
from uuid import UUID

from events.answers import Claim, ClaimId
from events.ids import AnswerId, ConversationId, fresh_id
from infra.answers_worker.tokens import KafkaTokens
from infra.kafka.consumer import LogReader
from infra.kafka.watched_reader import WatchedReader

TOPIC = "tokens"
READ_BACK_SECONDS = 0.2
PRODUCE_SECONDS_MAX = 30.0
SECONDS_MAX = 60.0
PARTITION = 0


async def test_a_claim_is_read_back_although_the_reader_brings_nothing(
    stand_in_kafka: str,
) -> None:
    tokens = KafkaTokens(stand_in_kafka, TOPIC, produce_seconds_max=PRODUCE_SECONDS_MAX)
    await tokens._tail.close()
    tokens._tail = WatchedReader(
        TOPIC, lambda: LogReader(stand_in_kafka), read_back_seconds_max=READ_BACK_SECONDS
    )
    first = tokens._tail.reader
    claim = Claim(AnswerId(fresh_id()), ClaimId(1, UUID(int=1)), "worker", "model")
    async with asyncio.timeout(SECONDS_MAX):
        await tokens.begin({PARTITION: 0})
        await first.pause([(TOPIC, PARTITION)])
        await tokens.send(PARTITION, ConversationId(fresh_id()), claim)
        while not (found := await tokens.read()):
            continue
    assert [each.record for each in found] == [claim]
    assert tokens._tail.reader is not first
    await tokens.close()
