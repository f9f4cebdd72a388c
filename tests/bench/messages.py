"""A made-up past for the read side: conversations of one owner, as CloudEvents on the topic."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from confluent_kafka import Producer

from events.codec import to_cloudevent
from events.conversations import (
    AnswerEnded,
    AnswerRequested,
    Band,
    ConversationStarted,
    EndKind,
    MessagePosted,
    Role,
    Sampling,
    Usage,
)
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, ConversationId, MessageId, fresh_id

WORDS = 20_000
"""Of the made-up vocabulary: the n-th is said with a frequency of 1/n, as in real texts."""
WORDS_PER_TEXT = 40
TURNS = 10
"""Of each conversation: a message and its answer each."""
SEED = 1
QUEUE_FULL_SECONDS = 0.05


def vocabulary() -> list[str]:
    made = random.Random(SEED)  # the same past in every run
    syllables = ["ka", "lo", "mi", "ru", "te", "va", "zo", "shi", "pen", "dor", "gal", "ne"]
    words: dict[str, None] = {}
    while len(words) < WORDS:
        words["".join(made.choices(syllables, k=made.randint(2, 5)))] = None
    return list(words)


def conversation(
    number: int, tenant: UUID, owner: str, words: list[str], weights: list[float]
) -> Iterator[Recorded]:
    """One conversation's stream: a start, then `TURNS` messages with their answers."""
    made = random.Random(SEED + number)
    stream = ConversationId(fresh_id())
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    events: list[Event] = [ConversationStarted(conversation=stream)]
    parent: UUID | None = None
    for _ in range(TURNS):
        asked, said = (
            " ".join(made.choices(words, cum_weights=weights, k=WORDS_PER_TEXT)) for _ in range(2)
        )
        message, answer = MessageId(fresh_id()), AnswerId(fresh_id())
        events += [
            MessagePosted(
                conversation=stream, message=message, role=Role.USER, content=asked, parent=parent
            ),
            AnswerRequested(
                conversation=stream,
                answer=answer,
                parent=message,
                model="numbered",
                band=Band.DEFAULT,
                deadline_seconds=600,
                sampling=Sampling(max_tokens=100),
            ),
            AnswerEnded(
                conversation=stream,
                answer=answer,
                kind=EndKind.FINISH,
                reason="stop",
                text=said,
                chunk_lengths=(len(said),),
                usage=Usage(prompt_tokens=50, completion_tokens=50),
            ),
        ]
        parent = answer
    for position, event in enumerate(events, start=1):
        at += timedelta(milliseconds=200)
        meta = Meta(tenant, f"bench:{number}:{position}", "bench", owner, at, fresh_id())
        yield Recorded(fresh_id(), stream, position, meta, event)


def produce(bootstrap: str, topic: str, tenant: UUID, owner: str, *, messages: int) -> int:
    """Writes conversations with so many messages and answers in all; returns how many events."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "enable.idempotence": True,
            "queue.buffering.max.messages": 50_000,
        }
    )
    words = vocabulary()
    weights: list[float] = []
    for rank in range(1, WORDS + 1):
        weights.append((weights[-1] if weights else 0.0) + 1 / rank)
    sent = 0
    for number in range(messages // (2 * TURNS)):
        for recorded in conversation(number, tenant, owner, words, weights):
            key, headers, value = to_cloudevent(recorded)
            while True:
                try:
                    producer.produce(topic, key=key, value=value, headers=headers)
                    break
                except BufferError:
                    producer.poll(QUEUE_FULL_SECONDS)
            sent += 1
        producer.poll(0)
    producer.flush()
    return sent
