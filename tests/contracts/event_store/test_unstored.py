"""Conversations that are not stored: sealed where they are kept, open until their key expires."""

import asyncio
from time import monotonic
from uuid import UUID

import pytest

from commands.conversations import (
    CONVERSATIONS,
    NewMessage,
    PostMessage,
    StartConversation,
    post_message,
    start_conversation,
)
from commands.errors import ContentExpired
from commands.store import PositionTaken
from commands.submit import Commands
from events.conversations import MessagePosted, Role
from events.ids import AnswerId, ConversationId, MessageId, fresh_id
from tests.commands.examples import ask
from tests.contracts.event_store.appends import ended, message
from tests.contracts.event_store.conftest import UNENDED_TIMES, Living, Store
from tests.contracts.event_store.unstored import (
    ANSWERS,
    WORDS,
    complete,
    destroyed,
    end,
    following,
    meta,
    started,
)

LIFETIMES = (0.2, 0.8, 3.2, 12.8)
"""Seconds that a key lives: the next where the machine stood still for too long for this one."""
STOOD_STILL = "at each try the machine stood still for too long"


async def test_an_unstored_conversation_is_loaded_as_it_was_said(store: Store) -> None:
    stream = fresh_id()
    first = started(stream, message(stream, WORDS))
    await store.append(first)
    second = await following(store, stream, message(stream, "\x00 ☃ 𝄞"))
    await store.append(second)
    assert list(await store.load(stream)) == [*first.events, *second.events]


async def test_others_can_read_what_one_has_sealed(store: Store) -> None:
    """A stream that starts twice at once: one of the keys is kept, and it is the winner's."""
    stream = fresh_id()
    both = [started(stream, message(stream, WORDS)) for _ in range(2)]
    results = await asyncio.gather(*map(store.append, both), return_exceptions=True)
    assert sum(isinstance(one, PositionTaken) for one in results) == 1
    won = both[1 if isinstance(results[0], PositionTaken) else 0]
    assert list(await store.load(stream)) == list(won.events)


async def test_the_first_command_again_changes_nothing(store: Store) -> None:
    stream = fresh_id()
    first, again = (started(stream, command="key:unstored") for _ in range(2))
    await store.append(first)
    assert (await store.append(again)).repeated
    assert list(await store.load(stream)) == list(first.events)


async def test_a_key_past_its_time_is_destroyed_and_the_words_are_gone(brief: Store) -> None:
    stream, answer = fresh_id(), AnswerId(fresh_id())
    await brief.append(started(stream, message(stream, WORDS)))
    assert await destroyed(brief) == 1
    found = await brief.load(stream)
    assert [one.sealed is not None for one in found] == [True, True]
    assert isinstance(found[1].event, MessagePosted)
    assert found[1].event.content == ""
    assert await brief.destroy_keys() == 0, "a second sweep finds nothing"
    assert await brief.find_answer(answer) is None


async def test_an_answer_of_an_expired_conversation_says_so(brief: Store) -> None:
    commands = Commands(brief, CONVERSATIONS, event_bytes_max=100_000)
    stream = await complete(commands, stored=False)
    answer = ANSWERS[stream]
    await end(commands, stream)
    row = await brief.find_answer(answer)
    assert row is not None
    assert not row.expired
    await destroyed(brief)
    row = await brief.find_answer(answer)
    assert row is not None
    assert row.expired


async def test_a_stored_conversation_never_expires(brief: Store) -> None:
    commands = Commands(brief, CONVERSATIONS, event_bytes_max=100_000)
    kept, gone = await complete(commands, stored=True), await complete(commands, stored=False)
    for stream in (kept, gone):
        await end(commands, stream)
    assert await destroyed(brief) == 1
    row = await brief.find_answer(ANSWERS[kept])
    assert row is not None
    assert not row.expired
    assert all(one.sealed is None for one in await brief.load(kept))


async def test_a_key_stays_under_an_answer_that_is_being_given(living: Living) -> None:
    """Where the machine stood still for too long, it was gone rightly."""
    for soon in LIFETIMES:
        store = await living(soon)
        commands = Commands(store, CONVERSATIONS, event_bytes_max=100_000)
        begun = monotonic()
        stream = await complete(commands, stored=False)
        await asyncio.sleep(1.5 * soon)
        before = await store.destroy_keys()
        if monotonic() > begun + UNENDED_TIMES * soon:
            continue
        assert before == 0
        ending = monotonic()
        await end(commands, stream)
        last = (await store.load(stream))[-1]
        after = await store.destroy_keys()
        if monotonic() > ending + soon:
            continue
        assert last.event == ended(stream, ANSWERS[stream])
        assert after == 0, "its time counts from the end"
        assert await destroyed(store) == 1
        return
    pytest.fail(STOOD_STILL)


async def test_an_answer_that_nobody_ends_keeps_a_key_for_a_bounded_time(brief: Store) -> None:
    commands = Commands(brief, CONVERSATIONS, event_bytes_max=100_000)
    stream = await complete(commands, stored=False)
    assert await destroyed(brief) == 1
    await end(commands, stream)
    last = (await brief.load(stream))[-1]
    assert last.sealed is not None, "recorded all the same, and nobody can read it"
    row = await brief.find_answer(ANSWERS[stream])
    assert row is not None
    assert (row.ended, row.expired) == (True, True)


async def test_every_append_counts_the_time_anew(living: Living) -> None:
    """Where the machine stood still for too long between two appends, a key ran out rightly."""
    for soon in LIFETIMES:
        store, stream = await living(soon), fresh_id()
        begun = last = monotonic()
        await store.append(started(stream))
        longest = 0.0
        while monotonic() < begun + 2 * soon and not await has_expired(store, stream):
            await store.append(await following(store, stream, message(stream)))
            await store.destroy_keys()
            now = monotonic()
            longest, last = max(longest, now - last), now
        if longest < soon / 2:
            assert not await has_expired(store, stream)
            return
    pytest.fail(STOOD_STILL)


async def has_expired(store: Store, stream: UUID) -> bool:
    return any(one.sealed is not None for one in await store.load(stream))


async def test_nothing_goes_on_an_expired_conversation(brief: Store) -> None:
    commands = Commands(brief, CONVERSATIONS, event_bytes_max=100_000)
    stream = ConversationId(fresh_id())
    start = StartConversation(stream, stored=False)
    await commands.submit(
        stream, lambda state: start_conversation(state, start), meta(), b"", new_stream=True
    )
    await destroyed(brief)
    post = PostMessage(stream, None, NewMessage(MessageId(fresh_id()), Role.USER, WORDS), ask())
    with pytest.raises(ContentExpired):
        await commands.submit(stream, lambda state: post_message(state, post), meta(), b"")
    assert len(await brief.load(stream)) == 1
