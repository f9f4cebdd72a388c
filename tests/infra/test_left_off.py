"""Where a group has left off is asked for until the coordinator of that moment tells it."""

from collections.abc import Sequence

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_INVALID, KafkaException, TopicPartition
from confluent_kafka.error import KafkaError

from infra.kafka.left_off import NotKnown, left_off

ASKED = [TopicPartition("tokens", 0), TopicPartition("tokens", 1)]
NOT_COORDINATOR = KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))


class Broker:
    """Answers each question with the next of these, at last always with the last one."""

    def __init__(self, *answers: Sequence[int] | KafkaException) -> None:
        self._answers = list(answers)
        self.questions = 0

    def committed(
        self, partitions: list[TopicPartition], timeout: float
    ) -> Sequence[TopicPartition]:
        self.questions += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, KafkaException):
            raise answer
        return [
            TopicPartition(each.topic, each.partition, at)
            for each, at in zip(partitions, answer, strict=True)
        ]


def test_a_broker_that_does_not_coordinate_the_group_is_asked_again() -> None:
    broker = Broker(NOT_COORDINATOR, NOT_COORDINATOR, [7, 0])
    found = left_off(broker, ASKED, is_over=lambda: False)
    assert [(each.topic, each.partition, each.offset) for each in found] == [
        ("tokens", 0, 7),
        ("tokens", 1, 0),
    ]
    assert broker.questions == 3


def test_where_nothing_was_committed_the_oldest_record_is_next() -> None:
    found = left_off(Broker([7, OFFSET_INVALID]), ASKED, is_over=lambda: False)
    assert [each.offset for each in found] == [7, OFFSET_BEGINNING]


def test_nothing_is_asked_about_nothing() -> None:
    broker = Broker(NOT_COORDINATOR)
    assert left_off(broker, [], is_over=lambda: False) == []
    assert broker.questions == 0


def test_who_is_closed_meanwhile_does_not_wait_on() -> None:
    broker = Broker(NOT_COORDINATOR)
    with pytest.raises(NotKnown, match="coordinator"):
        left_off(broker, ASKED, is_over=lambda: broker.questions == 2)


def test_a_broker_that_never_tells_is_not_asked_for_ever() -> None:
    with pytest.raises(NotKnown):
        left_off(Broker(NOT_COORDINATOR), ASKED, is_over=lambda: False, seconds_max=0.2)
