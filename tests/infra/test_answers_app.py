"""The thin Faust app of the answering workers, on a stream that a test makes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from events.codec import to_cloudevent
from events.conversations import AnswerCancelRequested, AnswerRequested, Band, Sampling
from events.envelope import Meta, Recorded
from events.ids import AnswerId, ConversationId, TenantId, fresh_id
from events.topics import Topics
from infra.answers_worker.app import AnswersApp
from infra.answers_worker.watermarks import Watermarks
from infra.engine_addresses import ModelAlias
from infra.settings import Settings
from processors.answers.ports import Request

PARTITION = 3


@dataclass
class Message:
    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes]]
    value: bytes
    timestamp: float | None = None


@dataclass
class Event:
    message: Message


class Stream:
    """As much of Faust's as the app needs."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def noack(self) -> "Stream":
        return self

    async def events(self) -> AsyncIterator[Event]:
        for message in self._messages:
            yield Event(message)


class BrokenOnce:
    """A worker with a bug that strikes at its first cancel."""

    def __init__(self) -> None:
        self.cancels = 0

    def cancel(self, answer: AnswerId) -> None:
        self.cancels += 1
        if self.cancels == 1:
            raise LookupError("a bug")


def meta_now() -> Meta:
    return Meta(
        tenant=TenantId(fresh_id()),
        command="call:1",
        actor="test",
        subject="test",
        time=datetime.now(UTC),
        correlation=fresh_id(),
    )


def cancel(topic: str, offset: int) -> Message:
    conversation = ConversationId(fresh_id())
    meta = meta_now()
    event = AnswerCancelRequested(conversation=conversation, answer=AnswerId(fresh_id()))
    _, headers, value = to_cloudevent(Recorded(fresh_id(), conversation, 1, meta, event))
    return Message(topic, PARTITION, offset, headers, value)


async def test_what_a_bug_has_kept_from_being_handled_is_not_acknowledged_and_others_go_on() -> (
    None
):
    topics, watermarks, worker = Topics(), Watermarks(), BrokenOnce()
    app = AnswersApp(
        Settings(kafka="127.0.0.1:9"),
        topics,
        worker,  # type: ignore[arg-type]  # it takes no requests here
        watermarks,
        loop=asyncio.get_running_loop(),
    )
    topic = topics.all_work[0]
    await app._consume(Stream([cancel(topic, 7), cancel(topic, 8)]))
    assert worker.cancels == 2
    assert watermarks.watermark((topic, PARTITION)) == 7


class Taking:
    """A worker that takes requests."""

    def __init__(self) -> None:
        self.models: list[str] = []

    def take(self, request: Request) -> None:
        self.models.append(request.model)


def asked_for(topic: str, offset: int, model: str) -> Message:
    conversation = ConversationId(fresh_id())
    meta = meta_now()
    event = AnswerRequested(
        conversation=conversation,
        answer=AnswerId(fresh_id()),
        parent=fresh_id(),
        model=model,
        band=Band.DEFAULT,
        sampling=Sampling(max_tokens=1),
        deadline_seconds=60,
    )
    _, headers, value = to_cloudevent(Recorded(fresh_id(), conversation, 1, meta, event))
    return Message(topic, PARTITION, offset, headers, value)


async def test_an_alias_is_the_engines_name_for_a_model_from_here_on() -> None:
    topics, worker = Topics(), Taking()
    app = AnswersApp(
        Settings(kafka="127.0.0.1:9", model_aliases=(ModelAlias(name="said", model="served"),)),
        topics,
        worker,  # type: ignore[arg-type]  # nothing else is asked of it here
        Watermarks(),
        loop=asyncio.get_running_loop(),
    )
    topic = topics.all_work[0]
    await app._consume(Stream([asked_for(topic, 7, "said"), asked_for(topic, 8, "other")]))
    assert worker.models == ["served", "other"]
