"""Decisions reach their topic on a real broker, gathered; what is too much is lost and counted."""

from uuid import uuid4

import pytest

from events.decisions import BreakerChanged, Decided, WasGivenUp, decode_decided
from infra.answers_worker import decisions_log
from infra.answers_worker.decisions_log import DecisionsLog
from infra.kafka.consumer import LogReader
from infra.partitions import partition_of
from tests.contracts.worker.asking import Installation

RECORDS = 500
SECONDS = 0.5


async def test_what_is_decided_of_one_answer_is_one_record_where_its_id_leads(
    installation: Installation,
) -> None:
    topic, kafka = installation.topics.decisions, installation.settings.kafka_servers
    answer, other = uuid4(), uuid4()
    log = DecisionsLog(kafka, topic, "w")
    await log.start()
    about = [WasGivenUp(1, answer, "a"), WasGivenUp(2, answer, "b")]
    opened = BreakerChanged(4, "engine", "closed", "open")
    for one in (about[0], WasGivenUp(3, other, "c"), about[1], opened):
        log.say(one)
    await log.close()
    assert log.lost == 0
    reader = LogReader(kafka)
    partitions = range(installation.settings.partitions)
    await reader.assign({(topic, each): 0 for each in partitions})
    found = {}

    async def all_are_read() -> bool:
        for record in await reader.read(RECORDS, SECONDS):
            found[record.key] = record.partition, decode_decided(record.value)
        return len(found) == 3

    while not await all_are_read():
        pass
    await reader.close()
    at = partition_of(answer, installation.settings.partitions)
    assert found[str(answer).encode()] == (at, Decided("w", tuple(about)))
    assert found[b"engine"][1] == Decided("w", (opened,))


async def test_what_comes_on_top_of_the_bound_is_lost_and_counted(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions_log, "DECISIONS_MAX", 2)
    log = DecisionsLog(installation.settings.kafka_servers, installation.topics.decisions, "w")
    for number in range(5):
        log.say(WasGivenUp(number, uuid4(), "a"))
    assert log.lost == 3
    await log.close()
