"""Keys of conversations that are not stored, in Postgres: with their events, and gone in time."""

import asyncio
from collections.abc import Sequence

import pytest
from eventsourcing.persistence import ProgrammingError, StoredEvent
from psycopg import Cursor
from psycopg.rows import DictRow

from commands.conversations import (
    CONVERSATIONS,
)
from commands.store import PositionTaken
from commands.submit import Commands
from events.codec import Undecodable
from events.ids import fresh_id
from infra.event_store import ConversationStore
from infra.event_store.recorder import Group
from tests.contracts.event_store.appends import append, message
from tests.contracts.event_store.conftest import SOON
from tests.contracts.event_store.unstored import WORDS, complete, end, started

pytestmark = pytest.mark.slow
EXTEND = (
    "UPDATE conversations.content_keys SET expires_at = expires_at + interval '1 minute'"
    " WHERE stream = %s"
)


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


async def test_a_stored_conversation_has_no_key(conversations: ConversationStore) -> None:
    await conversations.append(append())
    assert await asyncio.to_thread(count_keys, conversations) == 0
    await conversations.append(started(fresh_id()))
    assert await asyncio.to_thread(count_keys, conversations) == 1


async def test_stored_conversations_do_not_even_need_the_table_of_keys(
    conversations: ConversationStore,
) -> None:
    """What is stored pays nothing for what is not: no statement of its appends and loads asks."""
    with conversations.recorder.datastore.transaction(commit=True) as cursor:
        cursor.execute("DROP TABLE conversations.content_keys")
    commands = Commands(conversations, CONVERSATIONS, event_bytes_max=100_000)
    stream = await complete(commands, stored=True)
    await end(commands, stream)
    assert len(await conversations.load(stream)) == 4
    with pytest.raises(ProgrammingError):
        await conversations.append(started(fresh_id()))


async def test_a_refused_start_leaves_no_key(conversations: ConversationStore) -> None:
    stream = fresh_id()
    await conversations.append(append(stream=stream))
    with pytest.raises(PositionTaken):
        await conversations.append(started(stream))
    assert await asyncio.to_thread(count_keys, conversations) == 0


async def test_a_crash_before_the_commit_leaves_neither_events_nor_key(
    conversations: ConversationStore,
) -> None:
    """The connection is cut when all was written and nothing committed."""
    stream = fresh_id()
    recorder = conversations.recorder
    go_on = recorder.append_in
    cut: list[bool] = []

    def cut_once(
        cursor: Cursor[DictRow], stored_events: Sequence[StoredEvent], group: Group
    ) -> list[int]:
        if cut:
            return go_on(cursor, stored_events, group)
        cut.append(True)
        with cursor.connection.transaction():
            ids = go_on(cursor, stored_events, group)
            assert count_keys(conversations) == 0, "not committed yet"
            cursor.connection.close()
            cursor.execute("SELECT 1")
        return ids

    recorder.append_in = cut_once  # type: ignore[method-assign]
    first = started(stream, message(stream, WORDS))
    assert not (await conversations.append(first)).repeated
    assert cut
    assert await asyncio.to_thread(count_keys, conversations) == 1
    assert list(await conversations.load(stream)) == list(first.events)


async def test_a_key_that_an_append_has_locked_is_not_destroyed(
    short_lived: ConversationStore,
) -> None:
    stream = fresh_id()
    await short_lived.append(started(stream))
    await asyncio.sleep(1.5 * SOON)
    with short_lived.recorder.datastore.transaction(commit=True) as cursor:
        cursor.execute(EXTEND, (stream,))
        assert await short_lived.destroy_keys() == 0
    assert await short_lived.destroy_keys() == 0
    assert (await short_lived.load(stream))[0].sealed is None


async def test_sweepers_at_once_destroy_each_key_once(short_lived: ConversationStore) -> None:
    for _ in range(20):
        await short_lived.append(started(fresh_id()))
    await asyncio.sleep(1.5 * SOON)
    found = await asyncio.gather(*(short_lived.destroy_keys() for _ in range(3)))
    assert sum(found) == 20


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
