"""Where a group has left off, asked again until it is known.

The client would ask by itself for what is assigned without an offset. But if its one request
meets a broker that does not coordinate the group (just then, say after the broker stood still for
some seconds), it never asks again: it stays a member, reads nothing, and tells nobody
(https://github.com/confluentinc/librdkafka/issues/5586).
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

log = logging.getLogger("thalweg.kafka")

ASK_SECONDS_MAX = 5.0
"""One question and its answer."""
KNOWN_SECONDS_MAX = 30.0
"""A broker has taken its groups over by then, or is away."""
RETRY_SECONDS = 0.2


class NotKnown(Exception):
    """Kafka does not tell where the group has left off. The message says why."""


class Group(Protocol):
    """A confluent_kafka.Consumer."""

    def committed(
        self, partitions: list[TopicPartition], timeout: float
    ) -> Sequence[TopicPartition]:
        """Raises KafkaException; a partition may have an error of its own."""


def left_off(
    group: Group,
    partitions: Sequence[TopicPartition],
    *,
    is_over: Callable[[], bool],
    seconds_max: float = KNOWN_SECONDS_MAX,
) -> list[TopicPartition]:
    """Each with the committed offset, else with the place of its oldest record.

    Blocks. Raises NotKnown, also when `is_over` says that nobody waits for it any more.
    """
    until = time.monotonic() + seconds_max
    while partitions:
        try:
            found = group.committed(list(partitions), ASK_SECONDS_MAX)
            problem = next((each.error for each in found if each.error is not None), None)
            if problem is None:
                return [
                    TopicPartition(
                        each.topic,
                        each.partition,
                        each.offset if each.offset >= 0 else OFFSET_BEGINNING,
                    )
                    for each in found
                ]
        except KafkaException as error:
            problem = error.args[0]
        log.warning("a group's offsets are asked for again", extra={"reason": str(problem)})
        if is_over() or time.monotonic() >= until:
            raise NotKnown(f"where the group has left off is not known: {problem}")
        time.sleep(RETRY_SECONDS)
    return []
