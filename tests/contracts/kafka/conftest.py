"""A topic of four partitions, and clients that are closed at the end."""

from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.kafka.consumer import LogReader
from infra.kafka.producer import Producer

PARTITIONS = 4
TOPIC_SECONDS_MAX = 90.0
"""To make one: also by a broker that was just paused, on a machine under load."""
MakeTopic = Callable[..., str]


@pytest.fixture
def make_topic(kafka: str, topic_prefix: str) -> MakeTopic:
    """Makes a topic; keyword arguments are its options, with underscores for dots."""

    def make(partitions: int = PARTITIONS, **options: str) -> str:
        name = f"{topic_prefix}{uuid4().hex[:8]}"
        config = {option.replace("_", "."): value for option, value in options.items()}
        admin = AdminClient({"bootstrap.servers": kafka})
        made = admin.create_topics(
            [NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)]
        )
        made[name].result(TOPIC_SECONDS_MAX)
        return name

    return make


@pytest.fixture
def topic(make_topic: MakeTopic) -> str:
    return make_topic(message_timestamp_type="LogAppendTime")


@pytest.fixture
async def producer(kafka: str) -> AsyncIterator[Producer]:
    producer = Producer(kafka)
    yield producer
    await producer.close()


@pytest.fixture
async def reader(kafka: str) -> AsyncIterator[LogReader]:
    reader = LogReader(kafka)
    yield reader
    await reader.close()
