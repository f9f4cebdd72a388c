"""`thalweg doctor` against real servers whose settings were changed under it."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
import redis as redis_client
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from psycopg.sql import SQL, Identifier

from events.topics import Topics
from infra.checks.databases import postgres
from infra.checks.kafka import kafka as kafka_check
from infra.checks.kafka import topics as topics_check
from infra.checks.redis import redis as redis_check
from infra.kafka.topics import make_topics, topic_configurations
from infra.settings import CONTEXTS, Settings
from tests.contracts.kafka.conftest import TOPIC_SECONDS_MAX
from tests.fixtures.processes import wait_for
from tests.fixtures.servers import DatabaseUrl
from tests.infra.test_checks import wrong

PARTITIONS = 4


@pytest.fixture
def topics(topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Topics:
    made = Topics(topic_prefix.rstrip("."))
    monkeypatch.setattr("infra.wiring.TOPICS", made)
    return made


def settings_of(kafka: str, **more: object) -> Settings:
    return Settings.model_validate(
        {"kafka": kafka, "partitions": PARTITIONS, "single_machine": True, **more}
    )


async def test_topics_as_prepare_makes_them_are_well(kafka: str, topics: Topics) -> None:
    settings = settings_of(kafka)
    await make_topics(kafka, topics, settings)
    assert wrong(kafka_check(settings)) == []


def test_all_that_is_wrong_with_the_topics_is_said_at_once(kafka: str, topics: Topics) -> None:
    settings = settings_of(kafka)
    changed = {
        topics.domain("conversations"): {"retention.ms": "3600000"},
        topics.tokens: {"retention.ms": "60000", "max.message.bytes": "900000"},
    }
    wanted = topic_configurations(topics, settings)
    missing = topics.domain("accounts")
    admin = AdminClient({"bootstrap.servers": kafka})  # while it is there, its futures are
    made = admin.create_topics(
        [
            NewTopic(
                name,
                num_partitions=PARTITIONS * (2 if name in topics.all_work else 1),
                replication_factor=1,
                config={**options, **changed.get(name, {})},
            )
            for name, options in wanted.items()
            if name != missing
        ]
    )
    for done in made.values():
        done.result(TOPIC_SECONDS_MAX)
    wait_for(  # a broker under load makes them known a moment after it has said that it made them
        lambda: set(made) <= set(admin.list_topics(timeout=TOPIC_SECONDS_MAX).topics),
        "the topics",
        seconds_max=TOPIC_SECONDS_MAX,
    )
    found = wrong(topics_check(settings))
    for part in (
        f"Kafka has no {missing}",
        f"{topics.domain('conversations')} has retention.ms=3600000 and needs -1",
        f"{topics.tokens} has retention.ms=60000 and needs",
        f"{topics.tokens} has max.message.bytes=900000 and needs",
        *(f"{name} has {2 * PARTITIONS} partitions" for name in topics.all_work),
    ):
        assert len([what for what in found if part in what]) == 1, (part, found)
    assert len(found) == 4 + len(topics.all_work)


async def test_one_broker_is_too_few_unless_one_machine_is_meant(
    kafka: str, topics: Topics
) -> None:
    await make_topics(kafka, topics, settings_of(kafka))
    found = wrong(kafka_check(settings_of(kafka, single_machine=False)))
    assert "Kafka can keep 1 copies" in found
    assert any("default.replication.factor is 1" in what for what in found)
    assert any(f"the topic {topics.tokens} has 1 replicas" in what for what in found)


def test_a_database_that_may_lose_a_commit_is_found(database_url: DatabaseUrl) -> None:
    urls = {context: database_url(context) for context in CONTEXTS}
    settings = Settings.model_validate(
        {f"{context}_database_url": url for context, url in urls.items()}
    )
    assert wrong(postgres(settings)) == []
    for url in urls.values():
        with psycopg.connect(url, autocommit=True) as connection:
            name = Identifier(connection.info.dbname)
            connection.execute(SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
    assert wrong(postgres(settings)) == [
        "the database of conversations has synchronous_commit=off",
        "the database of accounts has synchronous_commit=off",
    ]


@pytest.fixture
def change_redis(redis_url: str) -> Iterator[Callable[..., None]]:
    with redis_client.Redis.from_url(redis_url) as client:
        before = {name: client.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy")}
        yield lambda name, value: client.config_set(name, value)
        for name, value in before.items():
            client.config_set(name, value)


def test_a_redis_that_takes_away_what_is_read_is_found(
    redis_url: str, change_redis: Callable[..., None]
) -> None:
    settings = Settings(redis=redis_url)
    assert wrong(redis_check(settings)) == []
    change_redis("maxmemory-policy", "allkeys-random")
    change_redis("maxmemory", "0")
    assert wrong(redis_check(settings)) == [
        "maxmemory-policy is allkeys-random",
        "maxmemory is not set",
    ]
