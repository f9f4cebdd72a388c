"""What Kafka reports as undelivered is told as that. On librdkafka's own stand-in for a broker."""

import asyncio
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer as Client

from infra.kafka.producer import NotDelivered, Producer

TOPIC = "tokens"
NO_SUCH_PARTITION = 99
SECONDS_MAX = 20.0


@pytest.fixture
def bootstrap() -> Iterator[str]:
    client = Client({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = client.list_topics(timeout=SECONDS_MAX).brokers.values()
    yield f"{broker.host}:{broker.port}"
    client.purge()  # the broker is a part of it


async def test_a_message_that_was_reported_undelivered_is_not_told_as_landed(
    bootstrap: str,
) -> None:
    producer = Producer(bootstrap)
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(NotDelivered, match="partition"):
            await producer.send(TOPIC, key=b"k", value=b"lost", partition=NO_SUCH_PARTITION)
        with pytest.raises(NotDelivered):  # in the same turn of the loop: it leaves no gap
            await producer.send(TOPIC, key=b"k", value=b"behind", partition=0)
        landed = await producer.send(TOPIC, key=b"k", value=b"next", partition=0)
    assert producer.resets == 1
    assert (landed.partition, landed.offset) == (0, 0)
    await producer.close()
