"""Records that are none of ours on our topics: garbage, unknown types and versions, raw names of
headers, and ten megabytes."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from events.topics import Topics
from tests.contracts.kafka.damaged import send_with_a_raw_name
from tests.faults.world import World
from tests.fixtures.thalweg import RunningThalweg

KAFKA_SECONDS_MAX = 60
OPTION = "max.message.bytes"
HUGE_BYTES = 10_485_760
HUGE = "ten megabytes"
PARTITIONS = 16
ROLES = ("gateway", "relay", "answers", "recorder", "projections", "sagas")
LETTERS_SECONDS_MAX = 180
ROOM_BYTES = HUGE_BYTES + 1_048_576


@dataclass(frozen=True)
class Stranger:
    """One record, without its topic."""

    headers: dict[str, bytes]
    value: bytes
    key: bytes = b"nobody"


def cloud_event(**changed: bytes) -> dict[str, bytes]:
    """The headers of an event that might be ours."""
    return {
        "ce_specversion": b"1.0",
        "ce_id": b"0199aaaa-0000-7000-8000-000000000001",
        "ce_source": b"/thalweg/conversations",
        "ce_type": b"thalweg.conversations.answer_requested",
        "ce_subject": b"0199aaaa-0000-7000-8000-000000000002",
        "ce_time": b"2026-11-27T00:00:00Z",
        **changed,
    }


STRANGERS = {
    "garbage": Stranger({}, bytes(range(256))),
    "empty": Stranger({}, b""),
    "not JSON": Stranger(cloud_event(), b"{"),
    "an unknown type": Stranger(cloud_event(ce_type=b"thalweg.conversations.no_such_fact"), b"{}"),
    "an unknown version": Stranger(cloud_event(ce_schemaversion=b"999"), b"{}"),
    "a wrong stream": Stranger(cloud_event(ce_subject=b"\xff\xfe"), b"{}"),
    "JSON of another shape": Stranger(cloud_event(), json.dumps([1, 2, 3]).encode()),
    HUGE: Stranger({}, b"x" * HUGE_BYTES),
}


async def let_in(bootstrap: str, topic: str, kinds: Mapping[int, Sequence[str]]) -> int:
    """Appends one of each of these kinds to each partition, and a raw name; returns how many that
    were. The topic takes huge ones meanwhile."""
    before = await asyncio.to_thread(_allow, bootstrap, topic, str(ROOM_BYTES))
    try:
        await asyncio.to_thread(_send, bootstrap, topic, kinds)
        for partition in kinds:
            await send_with_a_raw_name(bootstrap, topic, partition)
    finally:
        await asyncio.to_thread(_allow, bootstrap, topic, before)
    return sum(len(of) + 1 for of in kinds.values())


def _allow(bootstrap: str, topic: str, bytes_max: str) -> str:
    """Returns what was allowed before."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    asked = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([asked])[asked].result(KAFKA_SECONDS_MAX)
    entry = ConfigEntry(OPTION, bytes_max, incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([changed]).values():
        done.result(KAFKA_SECONDS_MAX)
    return str(found[OPTION].value)


def _send(bootstrap: str, topic: str, kinds: Mapping[int, Sequence[str]]) -> None:
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": ROOM_BYTES})
    for partition, kind in [(at, kind) for at, of in kinds.items() for kind in of]:
        one = STRANGERS[kind]
        producer.produce(
            topic,
            key=one.key,
            value=one.value,
            headers=dict(one.headers),
            partition=partition,
            on_delivery=delivered,
        )
    assert producer.flush(KAFKA_SECONDS_MAX) == 0
    assert not failed, failed


async def among_strangers(world: World) -> None:
    """In every partition of every topic, huge ones in one; nobody ends, nobody waits."""
    topics = Topics()
    domain = topics.domain("conversations")
    roles = {role: world.thalweg.pids(role) for role in ROLES}
    bootstrap = world.settings.kafka_servers
    small = [each for each in STRANGERS if each != HUGE]
    with_huge = world.random.randrange(PARTITIONS)
    kinds = {at: list(STRANGERS) if at == with_huge else small for at in range(PARTITIONS)}
    for topic in (*topics.all_work, topics.tokens):
        await let_in(bootstrap, topic, kinds)
    world.garbage = await let_in(bootstrap, domain, kinds)
    await world.until(
        lambda: strays(world.thalweg) >= world.garbage, "all strays", LETTERS_SECONDS_MAX
    )
    assert {role: world.thalweg.pids(role) for role in ROLES} == roles


def strays(thalweg: RunningThalweg) -> int:
    """Dead letters of the read model of histories."""
    done = thalweg.cli("dead-letters", "list", "histories", "--json")
    assert done.returncode == 0, done.stderr
    return len(json.loads(done.stdout))
