"""What the worker is told of the work topics, on a real broker."""

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from events.conversations import Band
from infra.answers_worker.watermarks import Watermarks
from infra.answers_worker.work import KafkaWork
from tests.contracts.worker.asking import Installation


async def test_the_oldest_message_is_found_where_retention_took_the_first_ones(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, recorded = await installation.ask("a")
    partition = await installation.relay(recorded, Band.DEFAULT)
    topic = installation.topics.work(Band.DEFAULT)
    work = KafkaWork(installation.settings.kafka_servers, installation.topics, Watermarks())
    try:
        behind = await work._behind([partition])
        assert behind == {(topic, partition): 0}
        before = await work.oldest([partition])
        admin = AdminClient({"bootstrap.servers": installation.settings.kafka_servers})
        for done in admin.delete_records([TopicPartition(topic, partition, 1)]).values():
            done.result(30)

        async def as_asked_just_before(_: object) -> dict[tuple[str, int], int]:
            return dict(behind)

        monkeypatch.setattr(work, "_behind", as_asked_just_before)
        after = await work.oldest([partition])
        assert before[partition] <= after[partition]
    finally:
        await work.close()
