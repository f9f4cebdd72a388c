"""Decisions reach their topic on a real broker, gathered; what is too much is lost and counted."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

import pytest

from events.decisions import BreakerChanged, Decided, WasGivenUp, decode_decided
from infra.answers_worker import decisions_log
from infra.answers_worker.decisions_log import DecisionsLog
from infra.kafka.consumer import LogReader, Record
from infra.partitions import partition_of
from infra.servers.kafka import KafkaServer
from tests.contracts.worker.asking import Installation

RECORDS = 500
SECONDS = 0.5
SECONDS_MAX = 30.0
AWAY_SECONDS_MAX = 6.0
"""Kafka is away for longer. While it is well no machine is so slow with a record."""
OUTSTANDING, SAID = 50, 80


@asynccontextmanager
async def reading(installation: Installation) -> AsyncIterator[AsyncIterator[Record]]:
    """All records of the topic, from its beginning."""
    reader, topic = LogReader(installation.settings.kafka_servers), installation.topics.decisions
    await reader.assign({(topic, each): 0 for each in range(installation.settings.partitions)})

    async def records() -> AsyncIterator[Record]:
        while True:
            for record in await reader.read(RECORDS, SECONDS):
                yield record

    try:
        async with aclosing(records()) as all_records:
            yield all_records
    finally:
        await reader.close()


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
    found = {}
    async with reading(installation) as records:
        while len(found) < 3:
            record = await anext(records)
            found[record.key] = record.partition, decode_decided(record.value)
    await log.close()
    assert log.lost == 0
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


async def test_while_kafka_is_away_nothing_waits_what_is_lost_is_counted_and_then_it_goes_on(
    installation: Installation, kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions_log, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(decisions_log, "DELIVERY_SECONDS_MAX", AWAY_SECONDS_MAX)
    monkeypatch.setattr(decisions_log, "OUTSTANDING_MAX", OUTSTANDING)
    log = DecisionsLog(installation.settings.kafka_servers, installation.topics.decisions, "w")
    await log.start()
    before, after = (WasGivenUp(0, uuid4(), "a") for _ in range(2))
    log.say(before)
    async with reading(installation) as records:
        assert decode_decided((await anext(records)).value).decisions == (before,)
        assert kafka_server.pid is not None
        os.kill(kafka_server.pid, signal.SIGSTOP)
        try:
            said = [WasGivenUp(number, uuid4(), "b") for number in range(SAID)]
            for one in said:
                log.say(one)
            await installation.until(
                lambda: log.lost > 0, "what is too much", seconds_max=SECONDS_MAX
            )
            assert log.lost == SAID - OUTSTANDING, "as many as may be are on their way"
            await installation.until(
                lambda: log.lost == SAID, "all is lost by now", seconds_max=SECONDS_MAX
            )
        finally:
            os.kill(kafka_server.pid, signal.SIGCONT)
        log.say(after)
        while decode_decided((record := await anext(records)).value).decisions != (after,):
            assert record.key in {str(one.answer).encode() for one in said}, "it may land late"
    assert log.lost == SAID
    await log.close()
