"""Conversations that are not stored: sealed where they are kept, open until their key expires."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from uuid import UUID

import psycopg
import pytest

from commands.conversations import (
    CONVERSATIONS,
    CompleteOnce,
    Conversation,
    NewMessage,
    PostMessage,
    RecordAnswer,
    StartConversation,
    complete_once,
    post_message,
    record_answer,
    start_conversation,
)
from commands.errors import ContentExpired
from commands.store import Append, PositionTaken
from commands.submit import Commands
from events.codec import Undecodable
from events.conversations import ConversationStarted, MessagePosted, Role
from events.envelope import Event, Meta
from events.ids import AnswerId, ConversationId, MessageId, fresh_id
from events.sealing import fresh_key
from infra.event_store import ConversationStore, MemoryStore, open_conversation_store
from tests.commands.examples import ask
from tests.contracts.event_store.appends import TENANT, append, ended, message
from tests.contracts.event_store.conftest import Store
from tests.fixtures.servers import DatabaseUrl

WORDS = "nobody should find this"
SOON = 0.2
"""Seconds that a key lives in these tests."""
SECONDS_MAX = 10


@pytest.fixture
async def short_lived(database_url: DatabaseUrl) -> AsyncIterator[ConversationStore]:
    store = await open_conversation_store(
        database_url("conversations"), unstored_seconds_max=SOON, unended_seconds_max=3 * SOON
    )
    yield store
    await store.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def brief(request: pytest.FixtureRequest) -> Store:
    """Each store in turn; keys live for SOON in it."""
    if request.param == "memory":
        return MemoryStore(unstored_seconds_max=SOON, unended_seconds_max=3 * SOON)
    found: ConversationStore = request.getfixturevalue("short_lived")
    return found


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


async def test_a_key_stays_under_an_answer_that_is_being_given(brief: Store) -> None:
    commands = Commands(brief, CONVERSATIONS, event_bytes_max=100_000)
    stream = await complete(commands, stored=False)
    await asyncio.sleep(1.5 * SOON)
    assert await brief.destroy_keys() == 0
    await end(commands, stream)
    assert (await brief.load(stream))[-1].event == ended(stream, ANSWERS[stream])
    assert await brief.destroy_keys() == 0, "its time counts from the end"
    assert await destroyed(brief) == 1


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


async def test_every_append_counts_the_time_anew(brief: Store) -> None:
    stream = fresh_id()
    begun = monotonic()
    await brief.append(started(stream))
    while monotonic() < begun + 2 * SOON:
        await brief.append(await following(brief, stream, message(stream)))
        assert await brief.destroy_keys() == 0
    assert all(one.sealed is None for one in await brief.load(stream))


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


# On Postgres alone -------------------------------------------------------------------------------


@pytest.mark.slow
async def test_no_row_of_any_table_has_the_words(conversations: ConversationStore) -> None:
    commands = Commands(conversations, CONVERSATIONS, event_bytes_max=100_000)
    stream = await complete(commands, stored=False)
    await end(commands, stream, text=WORDS)
    kept = await complete(commands, stored=True)
    await end(commands, kept, text=WORDS)
    rows = await asyncio.to_thread(all_rows, conversations)
    assert any(str(stream) in row for row in rows)
    said = [row for row in rows if WORDS in row or WORDS.encode().hex() in row]
    assert said, "the other one's words are found, so the search works"
    assert all(str(kept) in row for row in said)


@pytest.mark.slow
async def test_a_stored_conversation_has_no_key(conversations: ConversationStore) -> None:
    await conversations.append(append())
    assert await asyncio.to_thread(count_keys, conversations) == 0
    await conversations.append(started(fresh_id()))
    assert await asyncio.to_thread(count_keys, conversations) == 1


@pytest.mark.slow
async def test_a_refused_start_leaves_no_key(conversations: ConversationStore) -> None:
    stream = fresh_id()
    await conversations.append(append(stream=stream))
    with pytest.raises(PositionTaken):
        await conversations.append(started(stream))
    assert await asyncio.to_thread(count_keys, conversations) == 0


@pytest.mark.slow
async def test_a_crash_before_the_commit_leaves_neither_events_nor_key(
    conversations: ConversationStore,
) -> None:
    """The connection is cut when all was written and nothing committed."""
    stream = fresh_id()
    recorder = conversations.recorder
    go_on: Callable[..., object] = recorder._fetch_ids_after_insert_events
    cut: list[bool] = []

    def cut_once(curs: psycopg.Cursor[object], *rest: object, **more: object) -> object:
        done = go_on(curs, *rest, **more)
        if not cut:
            cut.append(True)
            assert count_keys(conversations) == 0, "not committed yet"
            curs.connection.close()
        return done

    recorder._fetch_ids_after_insert_events = cut_once  # type: ignore[method-assign,assignment]
    first = started(stream, message(stream, WORDS))
    assert not (await conversations.append(first)).repeated
    assert cut
    assert await asyncio.to_thread(count_keys, conversations) == 1
    assert list(await conversations.load(stream)) == list(first.events)


@pytest.mark.slow
async def test_a_key_that_an_append_has_locked_is_not_destroyed(
    short_lived: ConversationStore,
) -> None:
    stream = fresh_id()
    await short_lived.append(started(stream))
    await asyncio.sleep(1.5 * SOON)
    with short_lived.recorder.datastore.transaction(commit=True) as cursor:
        cursor.execute(short_lived.recorder._extend_keys, (60.0, [stream]))
        assert await short_lived.destroy_keys() == 0
    assert await short_lived.destroy_keys() == 0
    assert (await short_lived.load(stream))[0].sealed is None


@pytest.mark.slow
async def test_sweepers_at_once_destroy_each_key_once(short_lived: ConversationStore) -> None:
    for _ in range(20):
        await short_lived.append(started(fresh_id()))
    await asyncio.sleep(1.5 * SOON)
    found = await asyncio.gather(*(short_lived.destroy_keys() for _ in range(3)))
    assert sum(found) == 20


@pytest.mark.slow
async def test_a_row_in_anothers_place_is_refused(conversations: ConversationStore) -> None:
    stream = fresh_id()
    await conversations.append(started(stream, message(stream, "one"), message(stream, "two")))
    swap = (
        "UPDATE conversations.stored_events AS one SET state = other.state"
        " FROM conversations.stored_events AS other WHERE one.originator_id = %s"
        " AND other.originator_id = one.originator_id"
        " AND one.originator_version = 5 - other.originator_version"
        " AND one.originator_version IN (2, 3)"
    )
    with conversations.recorder.datastore.transaction(commit=True) as cursor:
        cursor.execute(swap, (stream,))
        assert cursor.rowcount == 2
    with pytest.raises(Undecodable):
        await conversations.load(stream)


# Given ------------------------------------------------------------------------------------------

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


def all_rows(store: ConversationStore) -> list[str]:
    """Every row of every table of the schema, keys left out, as text."""
    with store.recorder.datastore.get_connection() as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace"
            " WHERE nspname = 'conversations' AND relkind = 'r'"
        ).fetchall()
        names = [row["relname"] for row in tables]
        assert {"stored_events", "commands", "answers", "content_keys"} <= set(names)
        found: list[str] = []
        for name in names:
            query = f"SELECT t::text AS row FROM conversations.{name} AS t"
            rows = connection.execute(query.encode()).fetchall()
            found += [row["row"] for row in rows]
    return found


def count_keys(store: ConversationStore) -> int:
    with store.recorder.datastore.get_connection() as connection:
        row = connection.execute("SELECT count(*) AS n FROM conversations.content_keys").fetchone()
    assert row is not None
    return int(row["n"])
