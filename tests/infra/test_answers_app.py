"""The thin Faust app of the answering workers, on a stream that a test makes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from events.codec import to_cloudevent
from events.conversations import AnswerCancelRequested
from events.envelope import Meta, Recorded
from events.ids import AnswerId, ConversationId, TenantId, fresh_id
from events.topics import Topics
from infra.answers_worker.app import AnswersApp
from infra.answers_worker.watermarks import Watermarks
from infra.settings import Settings

PARTITION = 3


@dataclass
class Message:
    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes]]
    value: bytes


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


def cancel(topic: str, offset: int) -> Message:
    conversation = ConversationId(fresh_id())
    meta = Meta(
        tenant=TenantId(fresh_id()),
        command="call:1",
        actor="test",
        subject="test",
        time=datetime.now(UTC),
        correlation=fresh_id(),
    )
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
