"""What Kafka reports as undelivered is told as that, and the next message leaves no gap."""

import asyncio

import pytest

from infra.kafka.producer import Delivered, NotDelivered, Producer

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
        # In the turn of the loop in which that is told, all else fails with it. Where librdkafka
        # itself told of it first, a fresh client has taken over by now.
        behind = producer.send(TOPIC, key=b"k", value=b"behind", partition=0)
        told = await asyncio.gather(behind, return_exceptions=True)
        told.append(await producer.send(TOPIC, key=b"k", value=b"next", partition=0))
    assert producer.resets == 1
    landed = [each for each in told if not isinstance(each, NotDelivered)]
    assert landed == [Delivered(0, offset) for offset in range(len(landed))]
    await producer.close()


async def test_messages_with_headers_and_without_keep_their_order(stand_in_kafka: str) -> None:
    producer = Producer(stand_in_kafka)
    async with asyncio.timeout(SECONDS_MAX):
        sent = [
            producer.send(
                TOPIC,
                key=b"k",
                value=b"v",
                headers=[("n", b"1")] if number % 3 == 0 else None,
                partition=0,
            )
            for number in range(20)
        ]
        offsets = [(await one).offset for one in sent]
    assert offsets == list(range(20))
    await producer.close()


async def test_a_row_of_messages_of_which_one_is_not_taken_fails_whole(
    stand_in_kafka: str,
) -> None:
    producer = Producer(stand_in_kafka)
    async with asyncio.timeout(SECONDS_MAX):
        # From here on the client knows the partitions, so that `send` itself meets the failure.
        await producer.send(TOPIC, key=b"k", value=b"first", partition=0)
        row = [
            producer.send(TOPIC, key=b"k", value=b"v", partition=partition)
            for partition in (0, NO_SUCH_PARTITION, 0)
        ]
        results = await asyncio.gather(*row, return_exceptions=True)
        landed = await producer.send(TOPIC, key=b"k", value=b"next", partition=0)
    assert all(isinstance(one, NotDelivered) for one in results[1:])
    assert landed.offset <= 2  # behind the first and the row's first: its last was not sent at all
    assert producer.resets == 1
    await producer.close()
