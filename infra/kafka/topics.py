"""Makes the topics, and refuses to start on ones that would break a promise.

The number of partitions is for life: a conversation's key leads to one partition number on every
topic. Domain topics are kept for ever; tokens by time alone, long enough for every reader's start.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
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
CHECK_SECONDS_MAX = 5.0  # a role that starts while Kafka is away does not wait for it
POLL_SECONDS = 0.05
WORK_RETENTION_SECONDS_MIN = 7 * 86_400.0  # workers may be away for a week before requests are lost
TOKENS_SEGMENT_SECONDS = (
    3_600.0  # whole segments are removed: so much later than the retention says
)
DECISIONS_SECONDS = 7 * 86_400.0  # whoever asks why, asks within days
WORKERS_SECONDS = 3_600.0  # all read it from its end; the rest is for people
MESSAGE_OVERHEAD_BYTES_MAX = 48_576  # headers, key and batch around the largest event
REPLICAS = 3
IN_SYNC_REPLICAS_MIN = 2
FOR_EVER = "-1"
SINGLE_MACHINE = "THALWEG_SINGLE_MACHINE=true"


class TopicSettings(Protocol):
    """What of the settings concerns topics."""

    @property
    def partitions(self) -> int: ...
    @property
    def single_machine(self) -> bool | None: ...
    @property
    def session_timeout_seconds(self) -> float: ...
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


class TooFewReplicas(Exception):
    """A topic exists with fewer copies than can be lost without losing what was shown."""

    def __init__(self, topic: str, found: int) -> None:
        super().__init__(
            f"the topic {topic} has {found} replicas and needs {REPLICAS}; add them with "
            f"kafka-reassign-partitions.sh, or set {SINGLE_MACHINE} if a single machine is meant"
        )


class SessionTimeoutRefused(Exception):
    """The brokers would not let a worker into its group."""

    def __init__(self, seconds: float, option: str, milliseconds: int) -> None:
        super().__init__(
            f"Kafka's brokers have {option}={milliseconds} and the settings say a session timeout "
            f"of {seconds:g} s; set THALWEG_SESSION_TIMEOUT_SECONDS to {milliseconds / 1_000:g} "
            f"(and THALWEG_CLAIM_AGAIN_SECONDS to more than that), or change {option} on every "
            "broker: with a shorter one a dead worker is replaced sooner"
        )


class TopicsNotMade(Exception):
    """Kafka did not make the topics."""


class TopicsMissing(Exception):
    """Nobody has made the topics yet."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(f"Kafka has no {', '.join(missing)}; make them with `thalweg prepare`")


class KafkaSilent(TopicsNotMade):
    """Kafka does not answer."""

    def __init__(self, bootstrap: str, error: KafkaException) -> None:
        super().__init__(
            f"Kafka at {bootstrap} does not answer: {error.args[0].str()}; check THALWEG_KAFKA"
        )


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
    tokens["segment.ms"] = _milliseconds(TOKENS_SEGMENT_SECONDS)
    workers = {**shared, "retention.ms": _milliseconds(WORKERS_SECONDS)}
    workers["segment.ms"] = _milliseconds(WORKERS_SECONDS)
    decisions = {**shared, **arrival, "retention.ms": _milliseconds(DECISIONS_SECONDS)}
    made |= {topics.tokens: tokens, topics.workers: workers, topics.decisions: decisions}
    return made


async def make_topics(bootstrap: str, topics: Topics, settings: TopicSettings) -> list[str]:
    """Makes the topics that are missing, checks the others, and returns the names of those made.

    Raises WrongPartitions, TooFewReplicas and UnsafeTopic for a topic that must not be used as it
    is, SessionTimeoutRefused if the brokers would not take a worker, TopicsNotMade if a topic can't
    be made, KafkaSilent if Kafka does not answer.
    """
    wanted = topic_configurations(topics, settings)
    return await asyncio.to_thread(_make, bootstrap, wanted, settings)


async def check_topics(bootstrap: str, topics: Topics, settings: TopicSettings) -> None:
    """What `make_topics` checks, without making any. Raises TopicsMissing too."""
    wanted = topic_configurations(topics, settings)
    await asyncio.to_thread(_check, bootstrap, wanted, settings)


def find_problems(bootstrap: str, topics: Topics, settings: TopicSettings) -> list[Exception]:
    """All that `check_topics` would raise, one after the other. Raises KafkaSilent."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3}, logger=log)
    wanted = topic_configurations(topics, settings)
    try:
        existing = admin.list_topics(timeout=CHECK_SECONDS_MAX).topics
        missing = [name for name in wanted if name not in existing]
        there = {name: options for name, options in wanted.items() if name in existing}
        absent = [TopicsMissing(missing)] if missing else []
        return [*absent, *_problems(admin, there, settings)]
    except KafkaException as error:
        raise KafkaSilent(bootstrap, error) from error


def _check(bootstrap: str, wanted: Mapping[str, dict[str, str]], settings: TopicSettings) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3}, logger=log)
    try:
        existing = admin.list_topics(timeout=CHECK_SECONDS_MAX).topics
        missing = [name for name in wanted if name not in existing]
        if missing:
            raise TopicsMissing(missing)
        _check_all(admin, wanted, settings)
    except KafkaException as error:
        raise KafkaSilent(bootstrap, error) from error


def _make(
    bootstrap: str, wanted: Mapping[str, dict[str, str]], settings: TopicSettings
) -> list[str]:
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
                    raise _not_made(name, error) from error
        _check_all(admin, wanted, settings)
        return list(made)
    except KafkaException as error:
        raise KafkaSilent(bootstrap, error) from error


def _not_made(name: str, error: KafkaException) -> TopicsNotMade:
    todo = ""
    if error.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR:
        todo = f"; run {REPLICAS} brokers, or set {SINGLE_MACHINE} if a single machine is meant"
    return TopicsNotMade(f"{name} could not be made: {error.args[0].str()}{todo}")


def _check_all(
    admin: AdminClient, wanted: Mapping[str, dict[str, str]], settings: TopicSettings
) -> None:
    for problem in _problems(admin, wanted, settings):
        raise problem


def _problems(
    admin: AdminClient, wanted: Mapping[str, dict[str, str]], settings: TopicSettings
) -> Iterator[Exception]:
    """What must not be, in the order in which it is told. Raises TopicsNotMade."""
    yield from _in_session_timeout(admin, settings)
    for name in wanted:
        yield from _in_partitions(admin, name, settings)
    yield from _in_configurations(admin, wanted, settings)


def _in_session_timeout(admin: AdminClient, settings: TopicSettings) -> Iterator[Exception]:
    """One broker is asked: they are to be alike. A cluster that does not tell is let be."""
    broker = next(iter(admin.list_topics(timeout=KAFKA_SECONDS_MAX).brokers), None)
    resource = ConfigResource(ResourceType.BROKER, str(broker))
    try:
        answer = admin.describe_configs([resource], request_timeout=CHECK_SECONDS_MAX)[resource]
        found = answer.result(CHECK_SECONDS_MAX)
    except KafkaException as error:
        log.warning("the brokers' options are not known", extra={"error": str(error)})
        return
    wanted = int(settings.session_timeout_seconds * 1_000)
    for option, is_allowed in (
        ("group.min.session.timeout.ms", int.__ge__),
        ("group.max.session.timeout.ms", int.__le__),
    ):
        limit = found[option].value if option in found else None
        if limit is not None and not is_allowed(wanted, int(limit)):
            yield SessionTimeoutRefused(settings.session_timeout_seconds, option, int(limit))


def _in_partitions(admin: AdminClient, name: str, settings: TopicSettings) -> Iterator[Exception]:
    until = time.monotonic() + KAFKA_SECONDS_MAX
    while True:  # brokers hear of a new topic a little later than the controller makes it
        found = admin.list_topics(name, timeout=KAFKA_SECONDS_MAX).topics[name]
        if found.error is None:
            break
        if time.monotonic() > until:
            raise TopicsNotMade(f"{name} is not there yet: {found.error.str()}; start again")
        time.sleep(POLL_SECONDS)
    if len(found.partitions) != settings.partitions:
        yield WrongPartitions(name, len(found.partitions), settings.partitions)
    replicas = min(len(partition.replicas) for partition in found.partitions.values())
    if not settings.single_machine and replicas < REPLICAS:
        yield TooFewReplicas(name, replicas)


def _in_configurations(
    admin: AdminClient, wanted: Mapping[str, dict[str, str]], settings: TopicSettings
) -> Iterator[Exception]:
    if not wanted:
        return
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
    answers = admin.describe_configs(resources, request_timeout=KAFKA_SECONDS_MAX)
    for resource, done in answers.items():
        name = resource.name
        found = {option: entry.value for option, entry in done.result(KAFKA_SECONDS_MAX).items()}
        for option in ("cleanup.policy", "retention.bytes", "message.timestamp.type"):
            expected = wanted[name].get(option)
            if expected is not None and found[option] != expected:
                yield UnsafeTopic(name, option, found[option], expected)
        if not settings.single_machine:
            yield from _in_durability(name, found)
        least = wanted[name]["retention.ms"]
        if "message.timestamp.type" in wanted[name]:
            least = _milliseconds(settings.tokens_retention_seconds_min)
        if int(found["retention.ms"]) >= 0 and (
            least == FOR_EVER or int(found["retention.ms"]) < int(least)
        ):
            yield UnsafeTopic(name, "retention.ms", found["retention.ms"], least)
        option, size = "max.message.bytes", wanted[name]["max.message.bytes"]
        if int(found[option]) < int(size):  # the largest event, with its headers and key
            yield UnsafeTopic(name, option, found[option], size)


def _in_durability(name: str, found: Mapping[str, str | None]) -> Iterator[Exception]:
    in_sync = found["min.insync.replicas"] or "1"
    if int(in_sync) < IN_SYNC_REPLICAS_MIN:
        yield UnsafeTopic(name, "min.insync.replicas", in_sync, str(IN_SYNC_REPLICAS_MIN))
    if found["unclean.leader.election.enable"] != "false":
        yield UnsafeTopic(name, "unclean.leader.election.enable", "true", "false")


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1_000))
