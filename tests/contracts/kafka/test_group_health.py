"""What a gateway asks Kafka about its groups, while brokers come and go."""

import asyncio
from contextlib import suppress
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from confluent_kafka.admin import AdminClient, NewTopic

from infra.health import READY, Check, GroupHealth
from infra.servers.kafka import KafkaServer
from tests.fixtures.processes import Process, wait_for

RESTARTS = 3
ANSWER_SECONDS_MAX = 60


async def test_a_group_is_ready_while_it_has_members(kafka: str, topic_prefix: str) -> None:
    group = f"{topic_prefix}group"
    topic = f"{topic_prefix}topic"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(ANSWER_SECONDS_MAX)
    health = GroupHealth(kafka)
    check = health.check(group)
    try:
        await until(check, "the group is dead")
        async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, group_id=group) as consumer:
            await consumer.getmany(timeout_ms=100)
            await until(check, READY)
        await until(check, "the group is empty")
    finally:
        await health.close()


async def until(check: Check, wanted: str) -> None:
    """Of a new Kafka nobody coordinates groups yet."""
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        said = ""
        while said != wanted:
            with suppress(KafkaError):
                said = await check()
            await asyncio.sleep(0.05)


def test_who_asks_about_a_group_outlives_the_broker(
    kafka_server: KafkaServer, topic_prefix: str, tmp_path: Path
) -> None:
    """librdkafka ends the whole process for one of its questions (its issue 4605)."""
    asking = Process(
        tmp_path / "asking.log",
        "-m",
        "tests.contracts.kafka.asks_about_a_group",
        kafka_server.bootstrap,
        f"{topic_prefix}group",
    )
    try:
        for number in range(1, RESTARTS + 2):
            answers(asking, number)
            if number <= RESTARTS:
                kafka_server.kill()
                kafka_server.start()
        assert asking.returncode is None, asking.tail()
    finally:
        asking.stop()


def answers(asking: Process, number: int) -> None:
    """Waits until Kafka has told so often what the group is."""

    def told() -> bool:
        assert asking.returncode is None, asking.tail()
        return asking.log.read_text().count("group") >= number

    wait_for(told, f"answer {number}", seconds_max=ANSWER_SECONDS_MAX)
