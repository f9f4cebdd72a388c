"""What every event store of ours promises (commands.store.EventStore)."""

import asyncio
from collections import Counter

import pytest

from commands.errors import CommandReused
from commands.store import PositionTaken, Receipt
from events.ids import AnswerId, fresh_id
from tests.contracts.event_store.appends import TENANT, append, asked, ended, message
from tests.contracts.event_store.conftest import Store


async def test_what_was_appended_is_loaded_as_it_was(store: Store) -> None:
    stream = fresh_id()
    first = append(message(stream), message(stream, "\x00 ☃ 𝄞 \u202e"), stream=stream)
    second = append(message(stream), stream=stream, after=2)
    await store.append(first)
    await store.append(second)
    assert list(await store.load(stream)) == [*first.events, *second.events]


async def test_a_stream_that_does_not_exist_is_empty(store: Store) -> None:
    assert list(await store.load(fresh_id())) == []


async def test_the_receipt_names_the_last_event(store: Store) -> None:
    stream = fresh_id()
    receipt = await store.append(append(message(stream), message(stream), stream=stream))
    assert (receipt.stream, receipt.position, receipt.repeated) == (stream, 2, False)


async def test_an_append_without_events_is_refused(store: Store) -> None:
    empty = append()
    with pytest.raises(ValueError, match="at least one"):
        await store.append(type(empty)(TENANT, "call:1", b"", fresh_id(), []))


async def test_a_taken_position_is_refused_and_nothing_of_it_is_stored(store: Store) -> None:
    first = append()
    await store.append(first)
    late = append(message(first.stream), message(first.stream), stream=first.stream)
    with pytest.raises(PositionTaken):
        await store.append(late)
    assert list(await store.load(first.stream)) == list(first.events)
    assert await store.receipt(late.tenant, late.command, late.fingerprint) is None


async def test_the_same_command_again_gets_the_same_receipt(store: Store) -> None:
    given = append(command="key:once")
    first = await store.append(given)
    await store.append(append(message(given.stream), stream=given.stream, after=1))
    again = await store.append(given)
    assert again == Receipt(first.stream, first.position, first.stored_at, repeated=True)
    assert await store.receipt(TENANT, "key:once", given.fingerprint) == again
    assert len(await store.load(given.stream)) == 2


async def test_the_same_command_for_another_stream_gets_the_first_receipt(store: Store) -> None:
    first = await store.append(append(command="key:two"))
    other = append(command="key:two")
    assert (await store.append(other)).stream == first.stream
    assert list(await store.load(other.stream)) == []


async def test_the_same_command_with_another_body_is_refused(store: Store) -> None:
    await store.append(append(command="key:body", fingerprint=b"one"))
    with pytest.raises(CommandReused):
        await store.append(append(command="key:body", fingerprint=b"two"))
    with pytest.raises(CommandReused):
        await store.receipt(TENANT, "key:body", b"two")


async def test_tenants_have_command_ids_of_their_own(store: Store) -> None:
    first = await store.append(append(command="key:mine"))
    second = await store.append(append(command="key:mine", tenant=fresh_id()))
    assert first.stream != second.stream
    assert not second.repeated


async def test_a_command_that_changed_nothing_is_kept_without_an_event(store: Store) -> None:
    given = append()
    await store.append(given)
    logged = store.recorder.max_notification_id()
    kept = await store.keep_command(TENANT, "key:nothing", b"asked", given.stream, 1)
    assert (kept.stream, kept.position, kept.repeated) == (given.stream, 1, True)
    assert store.recorder.max_notification_id() == logged
    assert list(await store.load(given.stream)) == list(given.events)
    assert await store.receipt(TENANT, "key:nothing", b"asked") == kept
    assert await store.keep_command(TENANT, "key:nothing", b"asked", given.stream, 7) == kept
    late = append(message(given.stream), stream=given.stream, after=1, command="key:nothing")
    assert await store.append(late) == kept
    assert list(await store.load(given.stream)) == list(given.events)
    with pytest.raises(CommandReused):
        await store.keep_command(TENANT, "key:nothing", b"else", given.stream, 1)


async def test_what_was_stored_with_events_is_not_kept_anew(store: Store) -> None:
    given = append(command="key:stored")
    receipt = await store.append(given)
    kept = await store.keep_command(TENANT, "key:stored", b"asked", given.stream, 0)
    assert kept == Receipt(receipt.stream, 1, receipt.stored_at, repeated=True)


async def test_of_an_append_and_a_keeping_of_one_command_at_once_one_is_stored(
    store: Store,
) -> None:
    for number in range(20):
        given = append(command=f"key:both:{number}")
        first, second = await asyncio.gather(
            store.append(given),
            store.keep_command(TENANT, given.command, b"asked", given.stream, 0),
        )
        assert (first.position, first.stored_at) == (second.position, second.stored_at)
        assert len(await store.load(given.stream)) == first.position


async def test_two_hundred_equal_commands_at_once_are_one_append(store: Store) -> None:
    given = append(command="key:storm")
    receipts = await asyncio.gather(*(store.append(given) for _ in range(200)))
    assert Counter(receipt.repeated for receipt in receipts) == {False: 1, True: 199}
    assert len({(one.stream, one.position, one.stored_at) for one in receipts}) == 1
    assert len(await store.load(given.stream)) == 1


async def test_a_hundred_writers_on_one_stream_leave_dense_positions(store: Store) -> None:
    stream = fresh_id()

    async def write() -> int:
        command = f"call:{fresh_id()}"
        for attempt in range(200):
            after = len(await store.load(stream))
            given = append(message(stream), stream=stream, after=after, command=command)
            try:
                return (await store.append(given)).position
            except PositionTaken:
                assert attempt < 199
        raise AssertionError("never got a position")

    positions = await asyncio.gather(*(write() for _ in range(100)))
    assert sorted(positions) == list(range(1, 101))
    assert [one.position for one in await store.load(stream)] == list(range(1, 101))


async def test_one_conflict_in_a_group_fails_nobody_else(store: Store) -> None:
    taken = append()
    await store.append(taken)
    repeated = append(command="key:group")
    await store.append(repeated)
    good = [append() for _ in range(50)]
    late = append(stream=taken.stream)
    reused = append(command="key:group", fingerprint=b"another")
    given = [*good[:25], late, repeated, reused, *good[25:]]
    results = await asyncio.gather(*(store.append(one) for one in given), return_exceptions=True)
    outcomes = dict(zip((id(one) for one in given), results, strict=True))
    assert isinstance(outcomes[id(late)], PositionTaken)
    assert isinstance(outcomes[id(reused)], CommandReused)
    kept = outcomes[id(repeated)]
    assert isinstance(kept, Receipt)
    assert kept.repeated
    for one in good:
        receipt = outcomes[id(one)]
        assert isinstance(receipt, Receipt)
        assert not receipt.repeated
        assert list(await store.load(one.stream)) == list(one.events)


async def test_the_index_knows_an_answer_as_soon_as_it_is_asked_for(store: Store) -> None:
    stream, answer = fresh_id(), AnswerId(fresh_id())
    assert await store.find_answer(answer) is None
    await store.append(append(asked(stream, answer, seconds=60), stream=stream))
    row = await store.find_answer(answer)
    assert row is not None
    assert (row.answer, row.tenant, row.conversation, row.ended) == (answer, TENANT, stream, False)
    assert 0 <= row.age_seconds < 30
    assert row.seconds_left == pytest.approx(60 - row.age_seconds)


async def test_open_answers_are_counted_by_tenant_until_they_end(store: Store) -> None:
    tenants = [fresh_id(), fresh_id()]
    streams = [fresh_id() for _ in range(3)]
    answers = [AnswerId(fresh_id()) for _ in range(3)]
    for stream, answer, tenant in zip(streams, answers, [*tenants, tenants[0]], strict=True):
        await store.append(append(asked(stream, answer), stream=stream, tenant=tenant))
    assert await store.unanswered() == {tenants[0]: 2, tenants[1]: 1}
    for place in (0, 1):
        end = ended(streams[place], answers[place])
        await store.append(append(end, stream=streams[place], after=1, tenant=tenants[place]))
    assert await store.unanswered() == {tenants[0]: 1}
    row = await store.find_answer(answers[0])
    assert row is not None
    assert row.ended


async def test_those_who_ask_together_each_get_their_own(store: Store) -> None:
    """In whatever order the rows come back, and also beside one that nobody knows."""
    given = [(AnswerId(fresh_id()), fresh_id()) for _ in range(20)]
    for answer, stream in reversed(given[1:]):
        await store.append(append(asked(stream, answer), stream=stream))
    rows = await asyncio.gather(*(store.find_answer(answer) for answer, _ in given))
    streams = await asyncio.gather(*(store.load(stream) for _, stream in given))
    both = await asyncio.gather(*(store.find_asked(*one) for one in given))
    assert rows[0] is None
    assert list(streams[0]) == []
    for (answer, stream), row, events in zip(given[1:], rows[1:], streams[1:], strict=True):
        assert row is not None
        assert (row.answer, row.conversation) == (answer, stream)
        assert [one.stream for one in events] == [stream]
    for (_, stream), (row, loaded) in zip(given, both, strict=True):
        assert not isinstance(loaded, Exception)
        assert [one.stream for one in loaded] == ([] if row is None else [row.conversation])
        assert row is None or row.conversation == stream


async def test_a_refused_append_leaves_no_trace_in_the_index(store: Store) -> None:
    stream, answer = fresh_id(), AnswerId(fresh_id())
    await store.append(append(stream=stream))
    with pytest.raises(PositionTaken):
        await store.append(append(asked(stream, answer), stream=stream))
    assert await store.find_answer(answer) is None
    assert await store.unanswered() == {}
