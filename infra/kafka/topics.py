"""Makes the topics, and refuses to start on ones that would break a promise.

The number of partitions is for life: a conversation's key leads to one partition number on every
topic. Domain topics are kept for ever; tokens by time alone, long enough for every reader's start.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from events.catalog import CONTEXTS
from events.topics import Topics

log = logging.getLogger("thalweg.kafka")

KAFKA_SECONDS_MAX = 30.0  # a cluster that elects a controller needs some seconds
POLL_SECONDS = 0.05
WORK_RETENTION_SECONDS_MIN = 7 * 86_400.0  # workers may be away for a week before requests are lost
MESSAGE_OVERHEAD_BYTES_MAX = 48_576  # headers, key and batch around the largest event
REPLICAS = 3
IN_SYNC_REPLICAS_MIN = 2
FOR_EVER = "-1"


class TopicSettings(Protocol):
    """What of the settings concerns topics."""

    @property
    def partitions(self) -> int: ...
    @property
    def single_machine(self) -> bool | None: ...
    @property
    def event_bytes_max(self) -> int: ...
    @property
    def tokens_retention(self) -> float: ...
    @property
    def tokens_retention_seconds_min(self) -> float: ...


class WrongPartitions(Exception):
    """A topic exists with another number of partitions."""

    def __init__(self, topic: str, found: int, expected: int) -> None:
        super().__init__(
            f"the topic {topic} has {found} partitions and the settings say {expected}; the number "
            f"is for life, so set THALWEG_PARTITIONS to {found}, or use another Kafka"
        )


class UnsafeTopic(Exception):
    """A topic exists with a configuration under which something could be lost."""

    def __init__(self, topic: str, option: str, found: str, expected: str) -> None:
        super().__init__(
            f"the topic {topic} has {option}={found} and needs {expected}; change it with "
            f"kafka-configs.sh --alter --topic {topic} --add-config {option}={expected}"
        )


class TopicsNotMade(Exception):
    """Kafka did not make the topics."""


def topic_configurations(topics: Topics, settings: TopicSettings) -> dict[str, dict[str, str]]:
    """Every topic there is, with the options in which it differs from Kafka's defaults."""
    shared = {
        "cleanup.policy": "delete",
        "retention.bytes": FOR_EVER,
        "max.message.bytes": str(settings.event_bytes_max + MESSAGE_OVERHEAD_BYTES_MAX),
        "min.insync.replicas": "1" if settings.single_machine else str(IN_SYNC_REPLICAS_MIN),
        "unclean.leader.election.enable": "false",
    }
    arrival = {"message.timestamp.type": "LogAppendTime"}  # readers start by time: one clock
    work_seconds = max(WORK_RETENTION_SECONDS_MIN, settings.tokens_retention)
    made = {topics.domain(context): {**shared, "retention.ms": FOR_EVER} for context in CONTEXTS}
    for name in topics.all_work:
        made[name] = {**shared, **arrival, "retention.ms": _milliseconds(work_seconds)}
    tokens = {**shared, **arrival, "retention.ms": _milliseconds(settings.tokens_retention)}
    return {**made, topics.tokens: tokens}


async def make_topics(bootstrap: str, topics: Topics, settings: TopicSettings) -> None:
    """Makes the topics that are missing and checks the others.

    Raises WrongPartitions and UnsafeTopic for a topic that must not be used as it is, TopicsNotMade
    if Kafka does not answer.
    """
    await asyncio.to_thread(_make, bootstrap, topic_configurations(topics, settings), settings)


def _make(bootstrap: str, wanted: Mapping[str, dict[str, str]], settings: TopicSettings) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3}, logger=log)
    try:
        existing = admin.list_topics(timeout=KAFKA_SECONDS_MAX).topics
        missing = [
            NewTopic(
                name,
                num_partitions=settings.partitions,
                replication_factor=1 if settings.single_machine else REPLICAS,
                config=configuration,
            )
            for name, configuration in wanted.items()
            if name not in existing
        ]
        made = admin.create_topics(missing, request_timeout=KAFKA_SECONDS_MAX) if missing else {}
        for name, done in made.items():
            try:
                done.result(KAFKA_SECONDS_MAX)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise TopicsNotMade(
                        f"{name} could not be made: {error.args[0].str()}"
                    ) from error
        for name in wanted:
            _check_partitions(admin, name, settings.partitions)
        _check_configurations(admin, wanted, settings)
    except KafkaException as error:
        raise TopicsNotMade(
            f"Kafka at {bootstrap} does not answer: {error.args[0].str()}; check THALWEG_KAFKA"
        ) from error


def _check_partitions(admin: AdminClient, name: str, expected: int) -> None:
    until = time.monotonic() + KAFKA_SECONDS_MAX
    while True:  # brokers hear of a new topic a little later than the controller makes it
        found = admin.list_topics(name, timeout=KAFKA_SECONDS_MAX).topics[name]
        if found.error is None:
            break
        if time.monotonic() > until:
            raise TopicsNotMade(f"{name} is not there yet: {found.error.str()}; start again")
        time.sleep(POLL_SECONDS)
    if len(found.partitions) != expected:
        raise WrongPartitions(name, len(found.partitions), expected)


def _check_configurations(
    admin: AdminClient, wanted: Mapping[str, dict[str, str]], settings: TopicSettings
) -> None:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
    answers = admin.describe_configs(resources, request_timeout=KAFKA_SECONDS_MAX)
    for resource, done in answers.items():
        name = resource.name
        found = {option: entry.value for option, entry in done.result(KAFKA_SECONDS_MAX).items()}
        for option in ("cleanup.policy", "retention.bytes", "message.timestamp.type"):
            expected = wanted[name].get(option)
            if expected is not None and found[option] != expected:
                raise UnsafeTopic(name, option, found[option], expected)
        least = wanted[name]["retention.ms"]
        if "message.timestamp.type" in wanted[name]:
            least = _milliseconds(settings.tokens_retention_seconds_min)
        if int(found["retention.ms"]) >= 0 and (
            least == FOR_EVER or int(found["retention.ms"]) < int(least)
        ):
            raise UnsafeTopic(name, "retention.ms", found["retention.ms"], least)
        if int(found["max.message.bytes"]) < settings.event_bytes_max:
            option, size = "max.message.bytes", wanted[name]["max.message.bytes"]
            raise UnsafeTopic(name, option, found[option], size)


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1_000))
