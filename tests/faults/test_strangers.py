"""Records of strangers on every topic of ours: no role ends, no answer waits, nothing is shown of
them, and those that read models can't apply are in the dead letters."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.conversations import Band
from events.ids import fresh_id
from events.topics import Topics
from infra.event_store import open_conversation_store
from infra.partitions import partition_of
from tests.faults.apparatus.strangers import STRANGERS, let_in
from tests.faults.clients import Client
from tests.faults.engines import TGI, Engines
from tests.faults.judge import judge
from tests.faults.read_side import settings_of
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg

CLIENTS = 4
PARTITIONS = 16
ROLES = ("gateway", "relay", "answers", "recorder", "projections")
TOPICS = Topics()
WHERE = (
    TOPICS.domain("conversations"),
    TOPICS.work(Band.DEFAULT),
    TOPICS.work(Band.PRIORITY),
    TOPICS.tokens,
)


@pytest.fixture
def thalweg(tmp_path: Path, engines: Engines) -> Iterator[RunningThalweg]:
    with RunningThalweg(tmp_path / "home", engines=engines.setting) as running:
        yield running


async def test_strangers_on_every_topic_hold_nobody_up(thalweg: RunningThalweg) -> None:
    settings = settings_of(thalweg)
    roles = {role: thalweg.pids(role) for role in ROLES}
    clients = [Client(thalweg.url, thalweg.api_key, TGI) for _ in range(CLIENTS)]
    messages = ["tokens=40 delay_ms=20", "tokens=20"]
    talking = [asyncio.create_task(client.converse(messages)) for client in clients]
    await asyncio.gather(*(client.begun.wait() for client in clients))
    # In the way of each client's own partition, and of one that nobody talks in.
    theirs = {partition_of(client.turns[0].conversation, PARTITIONS) for client in clients}
    for partition in (*theirs, partition_of(fresh_id(), PARTITIONS)):
        for topic in WHERE:
            await let_in(settings.kafka_servers, topic, partition, list(STRANGERS))
    await asyncio.gather(*talking)
    later = [Client(thalweg.url, thalweg.api_key, TGI) for _ in range(CLIENTS)]
    await asyncio.gather(*(client.converse(messages) for client in later))
    turns = [turn for client in (*clients, *later) for turn in client.turns]
    store = await open_conversation_store(settings.database_url("conversations"))
    try:
        assert await judge(store, turns) == []
    finally:
        await store.close()
    kinds = len(STRANGERS) + 1  # the raw header's name too
    partitions = len(theirs) + 1
    await asyncio.to_thread(wait_for, lambda: strays(thalweg) >= kinds * partitions, "the strays")
    assert {role: thalweg.pids(role) for role in ROLES} == roles


def strays(thalweg: RunningThalweg) -> int:
    """Dead letters of the read model of histories."""
    done = thalweg.cli("dead-letters", "list", "histories", "--json")
    assert done.returncode == 0, done.stderr
    return len(json.loads(done.stdout))
