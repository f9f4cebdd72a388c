"""What needs a Kafka, and none that lasts."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer as Client

STAND_IN_SECONDS_MAX = 20.0


@pytest.fixture
def stand_in_kafka() -> Iterator[str]:
    """librdkafka's own, in this process: it makes topics when they are asked for."""
    client = Client({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = client.list_topics(timeout=STAND_IN_SECONDS_MAX).brokers.values()
    yield f"{broker.host}:{broker.port}"
    client.purge()  # the broker is a part of it
