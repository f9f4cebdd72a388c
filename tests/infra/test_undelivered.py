"""What Kafka reports as undelivered is told as that, and the next message leaves no gap."""

import asyncio

import pytest

from infra.kafka.producer import NotDelivered, Producer

TOPIC = "tokens"
NO_SUCH_PARTITION = 99
SECONDS_MAX = 20.0


async def test_a_message_that_was_reported_undelivered_is_not_told_as_landed(
    stand_in_kafka: str,
) -> None:
    producer = Producer(stand_in_kafka)
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(NotDelivered, match="partition"):
            await producer.send(TOPIC, key=b"k", value=b"lost", partition=NO_SUCH_PARTITION)
        with pytest.raises(NotDelivered):  # in the same turn of the loop
            await producer.send(TOPIC, key=b"k", value=b"behind", partition=0)
        landed = await producer.send(TOPIC, key=b"k", value=b"next", partition=0)
    assert producer.resets == 1
    assert (landed.partition, landed.offset) == (0, 0)
    await producer.close()
