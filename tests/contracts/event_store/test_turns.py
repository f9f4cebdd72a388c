"""Declared repeats: which turn a send without a key joins, and that no turn is joined twice."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from commands.store import Append, Attempt, PositionTaken
from events.ids import AnswerId, fresh_id
from infra.event_store import ConversationStore
from tests.contracts.event_store.appends import append, asked
from tests.contracts.event_store.conftest import Store

KEY = UUID(int=77)


def send(number: int = 0, *, asked: bytes = b"asked", key: UUID = KEY, **more: Any) -> Append:
    return append(attempt=Attempt(key, asked, number), **more)


async def test_a_repeat_gets_the_turn_that_it_repeats(store: Store) -> None:
    first = send()
    receipt = await store.append(first)
    again = send(1)
    joined = await store.append(again)
    assert joined.joined == first.command
    assert joined.repeated
    assert (joined.stream, joined.position, joined.stored_at) == (
        receipt.stream, receipt.position, receipt.stored_at
    )  # fmt: skip
    assert list(await store.load(again.stream)) == []
    assert await store.receipt(again.tenant, again.command, again.fingerprint) is None


async def test_first_sends_never_join(store: Store) -> None:
    given = [send() for _ in range(32)]
    receipts = await asyncio.gather(*(store.append(one) for one in given))
    assert {one.stream for one in receipts} == {one.stream for one in given}
    assert not any(one.joined for one in receipts)


async def test_a_repeat_of_nothing_begins_a_turn_that_the_next_one_joins(store: Store) -> None:
    first = send(1)
    assert (await store.append(first)).joined is None
    assert (await store.append(send(1))).joined is None  # its number was used by the first
    third = await store.append(send(2))
    assert third.joined is not None


@pytest.mark.parametrize("other", [{"asked": b"else"}, {"key": UUID(int=78)}])
async def test_another_body_or_key_is_another_turn(store: Store, other: Any) -> None:
    await store.append(send())
    assert (await store.append(send(1, **other))).joined is None


async def test_the_newest_turn_is_joined_first(store: Store) -> None:
    given = [send() for _ in range(3)]
    for one in given:
        await store.append(one)
    joined = [(await store.append(send(1))).joined for _ in range(4)]
    assert joined == [*(one.command for one in reversed(given)), None]


async def test_a_turn_is_joined_once_by_each_number(store: Store) -> None:
    first = send()
    await store.append(first)
    assert (await store.append(send(1))).joined == first.command
    assert (await store.append(send(3))).joined == first.command
    assert (await store.append(send(2))).joined is None  # the turn has had its third repeat


@pytest.mark.parametrize("turns", [1, 20])
async def test_of_many_repeats_at_once_exactly_one_joins_each_turn(
    store: Store, turns: int
) -> None:
    given = [send() for _ in range(turns)]
    for one in given:
        await store.append(one)
    receipts = await asyncio.gather(*(store.append(send(1)) for _ in range(50)))
    joined = [one.joined for one in receipts if one.joined is not None]
    assert sorted(joined) == sorted(one.command for one in given)
    fresh = {one.stream for one in receipts if one.joined is None}
    assert len(fresh) == 50 - turns


async def test_a_settled_turn_is_not_joined(store: Store) -> None:
    first = send()
    await store.append(first)
    await store.settle([(first.tenant, first.command), (first.tenant, "call:unknown")])
    assert (await store.append(send(1))).joined is None


async def test_a_repeat_can_join_without_beginning_a_turn(store: Store) -> None:
    again = send(1)
    assert again.attempt is not None
    assert await store.join(again.command, again.attempt) is None
    first = send()
    receipt = await store.append(first)
    joined = await store.join(again.command, again.attempt)
    assert joined is not None
    assert (joined.joined, joined.stream) == (first.command, receipt.stream)
    # Asked again by the same command, whose answer may have been lost: the same turn.
    assert await store.join(again.command, again.attempt) == joined
    assert await store.append(again) == joined
    assert (await store.append(send(1))).joined is None


async def test_a_refused_send_leaves_nothing_to_join(store: Store) -> None:
    taken = append()
    await store.append(taken)
    with pytest.raises(PositionTaken):
        await store.append(send(stream=taken.stream))
    assert (await store.append(send(1))).joined is None


async def test_a_turn_that_began_long_ago_is_not_joined_and_swept(forgetful: Store) -> None:
    first = send()
    await forgetful.append(first)
    assert (await forgetful.append(send(1))).joined is None
    assert await forgetful.sweep_turns() == 2
    assert await forgetful.sweep_turns() == 0


async def test_a_sweep_leaves_what_can_be_joined(store: Store) -> None:
    first = send()
    await store.append(first)
    assert await store.sweep_turns() == 0
    assert (await store.append(send(1))).joined == first.command


async def test_a_group_may_hold_repeats_and_others(store: Store) -> None:
    first = send()
    await store.append(first)
    stream, answer = fresh_id(), AnswerId(fresh_id())
    again = send(1)
    others = [
        append(asked(stream, answer), stream=stream),
        again,
        send(asked=b"else"),
        append(command="key:one"),
    ]
    receipts = await asyncio.gather(*(store.append(one) for one in others))
    assert [one.joined for one in receipts] == [None, first.command, None, None]
    assert await store.find_answer(answer) is not None
    assert list(await store.load(again.stream)) == []
    for one in (others[0], *others[2:]):
        assert list(await store.load(one.stream)) == list(one.events)


@pytest.mark.slow
async def test_two_stores_agree_on_who_joins(
    conversations: ConversationStore, other_conversations: ConversationStore
) -> None:
    given = [send() for _ in range(10)]
    for one in given:
        await conversations.append(one)
    stores: list[ConversationStore] = [conversations, other_conversations] * 20
    receipts = await asyncio.gather(*(store.append(send(1)) for store in stores))
    joined = [one.joined for one in receipts if one.joined is not None]
    assert sorted(joined) == sorted(one.command for one in given)
