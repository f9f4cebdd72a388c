"""Conversations that are not stored, to give to an event store."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from uuid import UUID

from commands.conversations import (
    CompleteOnce,
    Conversation,
    NewMessage,
    RecordAnswer,
    complete_once,
    record_answer,
)
from commands.store import Append
from commands.submit import Commands
from events.conversations import ConversationStarted, Role
from events.envelope import Event, Meta
from events.ids import AnswerId, ConversationId, MessageId, fresh_id
from events.sealing import fresh_key
from tests.commands.examples import ask
from tests.contracts.event_store.appends import TENANT, append, ended
from tests.contracts.event_store.conftest import Store

WORDS = "nobody should find this"
SECONDS_MAX = 30


def started(stream: UUID, *more: Event, command: str | None = None) -> Append:
    """The first append of a conversation that is not stored, as `submit` makes it."""
    first = ConversationStarted(conversation=ConversationId(stream), stored=False, title=WORDS)
    return sealed_by(stream, append(first, *more, stream=stream, command=command))


def sealed_by(stream: UUID, given: Append) -> Append:
    key = fresh_key(stream)
    return replace(given, events=[replace(one, key=key) for one in given.events])


async def following(store: Store, stream: UUID, *events: Event) -> Append:
    """The next append, sealed as the stream is."""
    known = await store.load(stream)
    given = append(*events, stream=stream, after=len(known))
    return replace(given, events=[replace(one, key=known[0].key) for one in given.events])


async def destroyed(store: Store) -> int:
    """Waits until a key is past its time and destroyed; how many were."""
    until = monotonic() + SECONDS_MAX
    while not (number := await store.destroy_keys()):
        assert monotonic() < until, "no key was destroyed"
        await asyncio.sleep(0.01)
    return number


ANSWERS: dict[UUID, AnswerId] = {}


def meta() -> Meta:
    return Meta(TENANT, f"call:{fresh_id()}", "tester", "ada", datetime.now(UTC), fresh_id())


async def complete(commands: Commands[Conversation], *, stored: bool) -> ConversationId:
    """A stateless call; its answer is open."""
    stream, answer = ConversationId(fresh_id()), AnswerId(fresh_id())
    ANSWERS[stream] = answer
    said = (NewMessage(MessageId(fresh_id()), Role.USER, WORDS),)
    asked = CompleteOnce(stream, said, ask(answer), {"about": WORDS}, stored)
    await commands.submit(
        stream, lambda state: complete_once(state, asked), meta(), b"", new_stream=True
    )
    return stream


async def end(commands: Commands[Conversation], stream: UUID, *, text: str | None = None) -> None:
    event = ended(stream, ANSWERS[stream])
    if text is not None:
        event = event.model_copy(update={"text": text, "chunk_lengths": (len(text),)})
    record = RecordAnswer(event)
    await commands.submit(stream, lambda state: record_answer(state, record), meta(), b"")
