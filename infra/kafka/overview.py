"""What an operator wants to know of the topics, and of the groups that read them."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError as AIOKafkaError
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from infra.kafka.log_dirs import topic_bytes
from infra.kafka.offsets import OffsetQueries
from infra.kafka.topics import KafkaSilent, TopicsMissing

log = logging.getLogger("thalweg.kafka")

ADMIN_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it is now."""

    topic: str
    partitions: int
    replicas: int
    """Of the partition that has the fewest."""
    in_sync: int
    retention_seconds: float | None
    """None: for ever."""
    records: int
    """Between the oldest offset and the end."""
    bytes: int | None
    """Of all replicas on the brokers' disks; None: they did not tell."""
    lags: Mapping[str, int] = field(default_factory=dict)
    """Records that a group (or a read model) has not dealt with yet."""


Ends = Mapping[str, Mapping[int, int]]
"""By topic and partition."""


async def overview(
    bootstrap: str, names: Collection[str], groups: Mapping[str, Collection[str]]
) -> tuple[list[Topic], Ends]:
    """The topics, with the lags of `groups` (each with its topics), and the ends of all partitions.

    Raises KafkaSilent, TopicsMissing and QueryFailed.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3}, logger=log)
    try:
        described, retention = await asyncio.to_thread(_describe, admin, names)
    except KafkaException as error:
        raise KafkaSilent(bootstrap, error) from error
    queries = OffsetQueries(bootstrap)
    try:
        begins = {
            name: await queries.begin_offsets(name, range(described[name][0])) for name in names
        }
        ends = {name: await queries.end_offsets(name, range(described[name][0])) for name in names}
    finally:
        await queries.close()
    lags: dict[str, dict[str, int]] = {name: {} for name in names}
    for group, topics in groups.items():
        committed = await asyncio.to_thread(_committed, admin, group)
        for name in topics:
            lags[name][group] = lag_of(committed.get(name, {}), begins[name], ends[name])
    sizes = await _sizes(bootstrap, names)
    found = [
        Topic(
            name,
            *described[name],
            retention[name],
            sum(ends[name].values()) - sum(begins[name].values()),
            sizes.get(name),
            lags[name],
        )
        for name in names
    ]
    return found, ends


def lag_of(at: Mapping[int, int], begins: Mapping[int, int], ends: Mapping[int, int]) -> int:
    """What lies between where a reader is and the end. Without a place it begins at the oldest."""
    return sum(
        max(0, end - max(at.get(partition, 0), begins.get(partition, 0)))
        for partition, end in ends.items()
    )


def _describe(
    admin: AdminClient, names: Collection[str]
) -> tuple[dict[str, tuple[int, int, int]], dict[str, float | None]]:
    listed = admin.list_topics(timeout=ADMIN_SECONDS_MAX).topics
    missing = [name for name in names if name not in listed]
    if missing:
        raise TopicsMissing(missing)
    described = {}
    for name in names:
        partitions = listed[name].partitions.values()
        replicas = min(len(one.replicas) for one in partitions)
        described[name] = (len(partitions), replicas, min(len(one.isrs) for one in partitions))
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = admin.describe_configs(resources, request_timeout=ADMIN_SECONDS_MAX)
    retention: dict[str, float | None] = {}
    for resource, answer in answers.items():
        milliseconds = int(answer.result(ADMIN_SECONDS_MAX)["retention.ms"].value or -1)
        retention[resource.name] = milliseconds / 1_000 if milliseconds >= 0 else None
    return described, retention


def _committed(admin: AdminClient, group: str) -> dict[str, dict[int, int]]:
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    found: dict[str, dict[int, int]] = {}
    partitions: list[TopicPartition] = asked[group].result(ADMIN_SECONDS_MAX).topic_partitions or []
    for one in partitions:
        if one.offset >= 0:
            found.setdefault(one.topic, {})[one.partition] = one.offset
    return found


async def _sizes(bootstrap: str, names: Collection[str]) -> dict[str, int]:
    """Nothing if the brokers don't tell: a user may not be allowed to ask them."""
    try:
        return await topic_bytes(bootstrap, names)
    except (AIOKafkaError, NotImplementedError) as error:
        log.info("the brokers did not tell the topics' sizes", extra={"reason": repr(error)})
        return {}
