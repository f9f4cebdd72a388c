"""Topics are made once, checked at every start, and refused when they would break a promise."""

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from events.topics import Topics
from infra.kafka.consumer import LogReader
from infra.kafka.topics import (
    SessionTimeoutRefused,
    TooFewReplicas,
    TopicsMissing,
    TopicsNotMade,
    UnsafeTopic,
    WrongPartitions,
    check_topics,
    make_topics,
    topic_configurations,
)
from infra.settings import Settings
from tests.contracts.kafka.conftest import TOPIC_SECONDS_MAX

SETTINGS = Settings(partitions=4)


@pytest.fixture
def topics(topic_prefix: str) -> Topics:
    return Topics(topic_prefix.rstrip("."))


async def test_all_topics_have_the_same_number_of_partitions(
    kafka: str, topics: Topics, reader: LogReader
) -> None:
    await make_topics(kafka, topics, SETTINGS)
    for name in (topics.domain("accounts"), topics.domain("conversations"), *topics.all_work):
        assert await reader.end_offsets(name, range(4)) == dict.fromkeys(range(4), 0)
    assert await reader.end_offsets(topics.tokens, range(4)) == dict.fromkeys(range(4), 0)


async def test_making_them_again_changes_nothing(kafka: str, topics: Topics) -> None:
    await make_topics(kafka, topics, SETTINGS)
    await make_topics(kafka, topics, SETTINGS)


async def test_another_number_of_partitions_is_refused(kafka: str, topics: Topics) -> None:
    await make_topics(kafka, topics, SETTINGS)
    with pytest.raises(WrongPartitions, match=r"has 4 partitions and the settings say 8"):
        await make_topics(kafka, topics, Settings(partitions=8))


async def test_too_short_a_retention_of_tokens_is_refused(kafka: str, topics: Topics) -> None:
    await make_topics(kafka, topics, SETTINGS)
    with pytest.raises(UnsafeTopic, match=r"tokens has retention\.ms=9600000"):
        await make_topics(kafka, topics, Settings(partitions=4, answer_seconds_max=6_000))


@pytest.mark.parametrize(
    ("option", "value"),
    [("retention.bytes", "1000000"), ("cleanup.policy", "compact"), ("retention.ms", "3600000")],
)
async def test_a_domain_topic_that_forgets_is_refused(
    kafka: str, topics: Topics, option: str, value: str
) -> None:
    name = topics.domain("conversations")
    topic = NewTopic(name, num_partitions=4, replication_factor=1, config={option: value})
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([topic])[name].result(TOPIC_SECONDS_MAX)
    with pytest.raises(UnsafeTopic, match=option):
        await make_topics(kafka, topics, SETTINGS)


CLUSTER = Settings(partitions=4, single_machine=False)


async def test_topics_without_copies_are_refused_unless_one_machine_is_meant(
    kafka: str, topics: Topics
) -> None:
    await make_topics(kafka, topics, SETTINGS)
    await check_topics(kafka, topics, SETTINGS)
    for start in (make_topics, check_topics):
        with pytest.raises(TooFewReplicas, match=r"has 1 replicas and needs 3.*SINGLE_MACHINE"):
            await start(kafka, topics, CLUSTER)


async def test_one_broker_can_not_make_topics_with_copies(kafka: str, topics: Topics) -> None:
    with pytest.raises(TopicsNotMade, match=r"run 3 brokers, or set THALWEG_SINGLE_MACHINE=true"):
        await make_topics(kafka, topics, CLUSTER)


@pytest.mark.parametrize(
    ("option", "value"),
    [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")],
)
async def test_topics_that_may_lose_what_was_shown_are_refused(
    kafka: str, topics: Topics, monkeypatch: pytest.MonkeyPatch, option: str, value: str
) -> None:
    monkeypatch.setattr("infra.kafka.topics.REPLICAS", 1)  # one broker stands for three
    safe = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
    wanted = topic_configurations(topics, CLUSTER)
    admin = AdminClient({"bootstrap.servers": kafka})
    made = admin.create_topics(
        [
            NewTopic(
                name,
                num_partitions=4,
                replication_factor=1,
                config={**configuration, **safe, option: value},
            )
            for name, configuration in wanted.items()
        ]
    )
    for done in made.values():
        done.result(TOPIC_SECONDS_MAX)
    with pytest.raises(UnsafeTopic, match=rf"{option}={value}.*--add-config"):
        await make_topics(kafka, topics, CLUSTER)


async def test_topics_that_nobody_made_are_named_with_what_to_do(
    kafka: str, topics: Topics
) -> None:
    with pytest.raises(TopicsMissing, match=r"thalweg prepare"):
        await check_topics(kafka, topics, SETTINGS)


async def test_a_kafka_that_is_not_there_is_named(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.kafka.topics.KAFKA_SECONDS_MAX", 0.5)
    with pytest.raises(TopicsNotMade, match=r"127\.0\.0\.1:9 does not answer"):
        await make_topics("127.0.0.1:9", topics, SETTINGS)


@pytest.mark.parametrize(
    ("seconds", "option"),
    [(0.3, "group.min.session.timeout.ms"), (3_600, "group.max.session.timeout.ms")],
)
async def test_a_session_timeout_that_the_brokers_refuse_is_refused_at_the_start(
    kafka: str, topics: Topics, seconds: float, option: str
) -> None:
    settings = SETTINGS.model_copy(update={"session_timeout_seconds": seconds})
    with pytest.raises(SessionTimeoutRefused, match=f"have {option}=.*SESSION_TIMEOUT_SECONDS"):
        await make_topics(kafka, topics, settings)
