"""An answer whose work record is lost has an end all the same, with what its user had seen."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from events.topics import Topics
from tests.faults.read_side import settings_of
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import NumberedEngine, client

TOPICS = Topics()
SECONDS_MAX = 60
ANSWER_SECONDS_MAX = 4


@pytest.fixture
def impatient(tmp_path: Path, engine: NumberedEngine) -> Iterator[RunningThalweg]:
    """It waits for nothing long, and its workers read no token from before their start."""
    with RunningThalweg(
        tmp_path,
        engines=f"tgi+http://{engine.address}",
        answer_seconds_max=str(ANSWER_SECONDS_MAX),
        ask_again_grace_seconds="1",
        ask_again_seconds="5",
        token_margin_seconds="0",
    ) as running:
        yield running


def lose_all_work(kafka: str, partitions: int) -> None:
    """Acknowledges whatever was asked for, as somebody with the wrong tool would."""
    admin = AdminClient({"bootstrap.servers": kafka})
    places = [TopicPartition(t, p) for t in TOPICS.all_work for p in range(partitions)]
    ends = admin.list_offsets({place: OffsetSpec.latest() for place in places})
    offsets = [TopicPartition(p.topic, p.partition, ends[p].result().offset) for p in places]

    def committed() -> bool:
        wanted = ConsumerGroupTopicPartitions(TOPICS.answers_group, offsets)
        try:
            (done,) = admin.alter_consumer_group_offsets([wanted]).values()
            done.result()
        except KafkaException:
            return False  # the group has its members still
        return True

    wait_for(committed, "the group to be empty", seconds_max=SECONDS_MAX)


def test_an_answer_whose_request_was_lost_is_asked_for_again_and_ends(
    impatient: RunningThalweg, engine: NumberedEngine
) -> None:
    settings = settings_of(impatient)
    with client(impatient) as http:
        conversation = http.post("/api/conversations", json={}).json()["conversation"]
        address = f"/api/conversations/{conversation}/messages"
        posted = http.post(address, json={"content": "tokens=1000 delay_ms=50", "parent": None})
        answer, seen = posted.json()["answer"], ""
        with http.stream("GET", f"/api/answers/{answer}/stream") as stream:
            for line in stream.iter_lines():
                seen += line
                if seen.count("data:") > 3:
                    break
        workers = impatient.pids("answers")
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        lose_all_work(settings.kafka_servers, settings.partitions)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)

        def node() -> dict[str, Any]:
            (found,) = [one for one in http.get(address).json()["data"] if one["node"] == answer]
            return dict(found)

        wait_for(lambda: node()["status"] != "open", "the end", seconds_max=SECONDS_MAX)
        ended = node()
    assert (ended["status"], ended["reason"]) == ("fail", "deadline")
    said = ended["text"]
    assert said.startswith(" 0 1 2")
    log = impatient.logs()
    assert "an answer that was open past its deadline is asked for again" in log
    assert "they are read from before it" in log
    doctor = impatient.cli("doctor")
    assert "no saga has given anything up" in doctor.stdout
