"""Kafka: it answers, and keeps what it acknowledged when a broker is lost.

A shown token is as safe as the cluster. What is said of the topics is what a start says of them; a
start names the first problem, this names all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from infra.checks.findings import ASK_SECONDS_MAX, Finding
from infra.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

REPLICAS_MIN = 3  # one may be away and another be lost: DESIGN.md
IN_SYNC_REPLICAS_MIN = 2
SINGLE = "or say THALWEG_SINGLE_MACHINE=true if this is meant."


class Cluster(Protocol):
    """What is asked of a cluster. Implementations: AskedCluster, and a fake in the tests."""

    def brokers(self) -> Sequence[int]: ...

    def options(self, broker: int) -> Mapping[str, str | None]:
        """A broker's configuration. Raises PermissionError if it does not tell."""


def kafka(settings: Settings) -> Iterator[Finding]:
    """The cluster, and its topics."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    address = settings.kafka_servers
    cluster = AskedCluster(AdminClient({"bootstrap.servers": address, "log_level": 0}))
    try:
        yield Finding(f"Kafka at {address} has {len(cluster.brokers())} broker(s)")
        if not settings.single_machine:
            yield from durability(cluster)
        yield from topics(settings)
    except KafkaException as problem:
        todo = "Start it, or correct THALWEG_KAFKA."
        yield Finding(f"Kafka at {address}: {problem.args[0].str()}", todo)


def topics(settings: Settings) -> Iterator[Finding]:
    """All that a start would refuse in the topics."""
    from infra.kafka.topics import TopicsMissing, find_problems
    from infra.wiring import TOPICS

    problems = find_problems(settings.kafka_servers, TOPICS, settings)
    for problem in problems:
        what, _, todo = str(problem).partition("; ")
        if isinstance(problem, TopicsMissing):
            todo = "Make them with `thalweg prepare`, or start with `thalweg up`, which does."
        yield Finding(what, f"{todo[:1].upper()}{todo[1:].rstrip('.')}." if todo else what)
    if not problems:
        yield Finding("the topics are as they should be")


def durability(cluster: Cluster) -> Iterator[Finding]:
    """Three copies, two of them at every write, and none of them empty; on every broker."""
    brokers = list(cluster.brokers())
    few = f"Run at least {REPLICAS_MIN} brokers, {SINGLE}" if len(brokers) < REPLICAS_MIN else ""
    yield Finding(f"Kafka can keep {min(len(brokers), REPLICAS_MIN)} copies", few)
    try:
        options = {broker: cluster.options(broker) for broker in brokers}
    except PermissionError:
        # A managed cluster may keep them to itself; the topics tell what matters most.
        yield Finding("the brokers do not tell their configuration; ask who runs them")
        return
    for option, least in (
        ("default.replication.factor", REPLICAS_MIN),
        ("offsets.topic.replication.factor", REPLICAS_MIN),
        ("min.insync.replicas", IN_SYNC_REPLICAS_MIN),
    ):
        found = {broker: int(each.get(option) or 1) for broker, each in options.items()}
        low = [broker for broker, number in found.items() if number < least]
        todo = f"Set it to {least} on every broker, {SINGLE}" if low else ""
        yield Finding(_said(option, found), todo)
    option = "unclean.leader.election.enable"
    unclean = {broker: each.get(option) or "false" for broker, each in options.items()}
    todo = "Set it to false on every broker: an empty one could become the leader."
    yield Finding(_said(option, unclean), todo if "true" in unclean.values() else "")


def _said(option: str, found: Mapping[int, object]) -> str:
    values = set(found.values())
    if len(values) == 1:
        return f"{option} is {values.pop()}"
    return f"{option} is " + ", ".join(f"{value} on broker {at}" for at, value in found.items())


class AskedCluster:
    """A cluster that is asked over the network."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client

    def brokers(self) -> Sequence[int]:
        return sorted(self._client.list_topics(timeout=ASK_SECONDS_MAX).brokers)

    def options(self, broker: int) -> Mapping[str, str | None]:
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin._config import ConfigResource
        from confluent_kafka.admin._resource import ResourceType

        resource = ConfigResource(ResourceType.BROKER, str(broker))
        try:
            found = self._client.describe_configs([resource])[resource].result(ASK_SECONDS_MAX)
        except KafkaException as refused:
            if refused.args[0].code() == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
                raise PermissionError(str(refused)) from refused
            raise
        return {name: entry.value for name, entry in found.items()}
