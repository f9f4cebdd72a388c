"""An answer whose work record is lost has an end all the same, with what its user had seen.

Its workers are stopped in the middle of it, somebody with the wrong tool acknowledges all that was
asked for, and the workers are killed. Whoever takes it later never saw its request.
"""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from events.topics import Topics
from tests.faults.read_side import settings_of
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

TOPICS = Topics()
SECONDS_MAX = 120
ANSWER_SECONDS_MAX = 10
"""Its first chunks are to be there, and its workers to stand still, before its time is over."""
SEEN_CHUNKS = 3
MESSAGE = "tokens=1000 delay_ms=50"
"""Longer than an answer may take: only its deadline can end it."""


@pytest.fixture
def impatient(tmp_path: Path, engine: NumberedEngine) -> Iterator[RunningThalweg]:
    """It waits for nothing long, and its workers read no token from before their start."""
    with RunningThalweg(
        tmp_path,
        engines=f"tgi+http://{engine.address}",
        THALWEG_ANSWER_SECONDS_MAX=str(ANSWER_SECONDS_MAX),
        THALWEG_ASK_AGAIN_GRACE_SECONDS="1",
        THALWEG_ASK_AGAIN_SECONDS="5",
        THALWEG_TOKEN_MARGIN_SECONDS="0",
    ) as running:
        yield running


def test_an_answer_whose_request_was_lost_is_asked_for_again_and_ends(
    impatient: RunningThalweg, engine: NumberedEngine
) -> None:
    with client(impatient) as http:
        conversation = http.post("/api/conversations", json={}).json()["conversation"]
        address = f"/api/conversations/{conversation}/messages"
        answer = http.post(address, json={"content": MESSAGE, "parent": None}).json()["answer"]
        seen = _first_chunks(http, answer)
        calls = engine.calls()["generations"]
        _lose_the_request(impatient)

        def ended() -> dict[str, Any] | None:
            (found,) = [one for one in http.get(address).json()["data"] if one["node"] == answer]
            return dict(found) if found["status"] != "open" else None

        end = wait_for(ended, "the end", seconds_max=SECONDS_MAX)
    assert (end["status"], end["reason"]) == ("fail", "deadline")
    assert end["text"].startswith(seen)
    assert engine.calls()["generations"] == calls
    assert "an answer that was open past its deadline is asked for again" in _log(impatient)
    assert "they are read from before it" in _log(impatient)
    assert "no saga has given anything up" in impatient.cli("doctor").stdout


def _first_chunks(http: httpx2.Client, answer: str) -> str:
    """What its user has seen before anything goes wrong."""
    texts: list[str] = []
    with http.stream("GET", f"/api/answers/{answer}/stream") as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                texts.append(json.loads(line.removeprefix("data:"))["text"])
            if len(texts) == SEEN_CHUNKS:
                break
    return "".join(texts)


def _lose_the_request(thalweg: RunningThalweg) -> None:
    workers = thalweg.pids("answers")
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    _acknowledge_all_work(thalweg)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)


def _acknowledge_all_work(thalweg: RunningThalweg) -> None:
    settings = settings_of(thalweg)
    admin = AdminClient({"bootstrap.servers": settings.kafka_servers})
    places = [TopicPartition(t, p) for t in TOPICS.all_work for p in range(settings.partitions)]
    ends = admin.list_offsets({place: OffsetSpec.latest() for place in places})
    offsets = [TopicPartition(p.topic, p.partition, ends[p].result().offset) for p in places]

    def committed() -> bool:
        wanted = ConsumerGroupTopicPartitions(TOPICS.answers_group, offsets)
        try:
            (done,) = admin.alter_consumer_group_offsets([wanted]).values()
            changed = done.result().topic_partitions
        except KafkaException:
            return False
        return all(place.error is None for place in changed)  # else it has its members still

    wait_for(committed, "the group to be empty", seconds_max=SECONDS_MAX)


def _log(thalweg: RunningThalweg) -> str:
    return "".join(path.read_text() for path in (thalweg.home / "logs").iterdir())
