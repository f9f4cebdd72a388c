"""The way in: load, decide, append; once for each command id, for ever."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import pytest

from commands.conversations import (
    CONVERSATIONS,
    CancelAnswer,
    CompleteOnce,
    Conversation,
    PostMessage,
    RecordAnswer,
    RenameConversation,
    StartConversation,
    cancel_answer,
    complete_once,
    post_message,
    record_answer,
    rename_conversation,
    start_conversation,
)
from commands.errors import (
    AnswerInProgress,
    CommandReused,
    ConversationExists,
    EventTooLarge,
    StalePosition,
)
from commands.store import Receipt
from commands.submit import Commands, fingerprint
from events.envelope import Event, Meta
from infra.event_store import MemoryStore
from tests.commands.examples import A2, M2, A, C, T, ask, ended, new_message

ASKED = fingerprint("POST /messages", b"{}")
BYTES_MAX = 10_000
Asked = TypeVar("Asked")
Decide = Callable[[Conversation], list[Event]]


class Sender:
    """Submits to one conversation in a store of its own."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.commands = Commands(self.store, CONVERSATIONS, event_bytes_max=BYTES_MAX)

    async def submit(
        self,
        decide: Decide,
        command: str,
        asked: bytes = ASKED,
        *,
        expected_position: int | None = None,
        new_stream: bool = False,
        keyed: bool = False,
    ) -> Receipt:
        meta = Meta(T, command, "key", "ada", datetime.now(UTC), UUID(int=7))
        return await self.commands.submit(
            C,
            decide,
            meta,
            asked,
            expected_position=expected_position,
            new_stream=new_stream,
            keyed=keyed,
        )


def decision(decide: Callable[[Conversation, Asked], list[Event]], command: Asked) -> Decide:
    return lambda state: decide(state, command)


START = decision(start_conversation, StartConversation(C))
POST = decision(post_message, PostMessage(C, None, new_message(), ask()))
CANCEL = decision(cancel_answer, CancelAnswer(C, A))
RECORD = decision(record_answer, RecordAnswer(ended()))
ONCE = decision(complete_once, CompleteOnce(C, (new_message(),), ask()))


def named(title: str) -> Decide:
    return decision(rename_conversation, RenameConversation(C, title))


async def test_a_repeated_command_gets_the_same_receipt_however_the_stream_went_on() -> None:
    sender = Sender()
    await sender.submit(START, "key:start")
    first = await sender.submit(POST, "key:post")
    again = await sender.submit(POST, "key:post")  # by now its own answer is in its way
    assert (again.stream, again.position, again.repeated) == (C, first.position, True)
    await sender.submit(RECORD, f"answer-end:{A}")
    assert await sender.submit(POST, "key:post") == again


async def test_another_command_is_refused_where_the_repeat_is_not() -> None:
    sender = Sender()
    await sender.submit(START, "key:start")
    await sender.submit(POST, "key:post")
    with pytest.raises(AnswerInProgress):
        await sender.submit(
            decision(post_message, PostMessage(C, A, new_message(M2), ask(A2))), "key:other"
        )


async def test_a_command_id_with_another_body_is_refused() -> None:
    sender = Sender()
    await sender.submit(START, "key:start")
    with pytest.raises(CommandReused):
        await sender.submit(START, "key:start", fingerprint("another"))


async def test_a_new_stream_that_exists_is_decided_anew() -> None:
    sender = Sender()
    await sender.submit(ONCE, "key:once", new_stream=True)
    assert (await sender.submit(ONCE, "key:once", new_stream=True)).repeated
    with pytest.raises(ConversationExists):
        await sender.submit(ONCE, "key:twice", new_stream=True)


async def test_a_stale_position_is_refused_and_names_both() -> None:
    sender = Sender()
    await sender.submit(START, "key:start")
    with pytest.raises(StalePosition) as refused:
        await sender.submit(POST, "key:post", expected_position=5)
    assert (refused.value.expected, refused.value.actual) == (5, 1)
    assert (await sender.submit(POST, "key:post", expected_position=1)).position == 3
    assert (await sender.submit(POST, "key:post", expected_position=1)).repeated


async def test_a_decision_of_nothing_stores_nothing_and_succeeds() -> None:
    sender = Sender()
    await sender.submit(START, "key:start")
    await sender.submit(POST, "key:post")
    await sender.submit(CANCEL, "key:cancel")
    assert (await sender.submit(CANCEL, "key:cancel-too")).position == 4
    assert (await sender.submit(CANCEL, "key:cancel")).repeated
    assert len(await sender.store.load(C)) == 4


async def test_a_keyed_command_that_had_nothing_to_do_does_nothing_later() -> None:
    sender = Sender()
    await sender.submit(START, "key:start")
    await sender.submit(named("A"), "key:a")
    first = await sender.submit(named("A"), "key:nothing", keyed=True)
    assert (first.position, first.repeated) == (2, True)
    await sender.submit(named("B"), "key:b")
    assert await sender.submit(named("A"), "key:nothing", keyed=True) == first
    with pytest.raises(CommandReused):
        await sender.submit(named("A"), "key:nothing", fingerprint("another"), keyed=True)
    assert (await sender.commands.load(C)).title == "B"


async def test_of_other_commands_that_had_nothing_to_do_nothing_is_kept() -> None:
    sender = Sender()
    await sender.submit(START, "key:start")
    await sender.submit(named("A"), "call:1")
    await sender.submit(named("A"), "call:2")
    assert await sender.store.receipt(T, "call:2", ASKED) is None


async def test_an_event_that_is_too_large_is_refused_before_it_is_stored() -> None:
    sender = Sender()
    large = new_message(content="x" * BYTES_MAX)
    with pytest.raises(EventTooLarge):
        await sender.submit(
            decision(complete_once, CompleteOnce(C, (large,), ask())), "key:1", new_stream=True
        )
    assert list(await sender.store.load(C)) == []


async def test_of_many_equal_commands_at_once_one_takes_effect() -> None:
    sender = Sender()
    await sender.submit(START, "key:start")
    receipts = await asyncio.gather(*(sender.submit(POST, "key:post") for _ in range(50)))
    assert {receipt.position for receipt in receipts} == {3}
    assert sum(not receipt.repeated for receipt in receipts) == 1
    assert [one.position for one in await sender.store.load(C)] == [1, 2, 3]


def test_fingerprints_tell_the_parts_apart() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("a", b"b") == fingerprint(b"a", "b")
