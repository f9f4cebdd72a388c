"""What the store on Postgres does when connections, or Postgres, go away."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic

import psycopg
import pytest

from commands.errors import StoreSaturated, StoreUnavailable
from commands.store import Append, PositionTaken, Receipt
from infra.event_store import ConversationStore, open_conversation_store
from infra.event_store.store import LOAD_SECONDS_MAX
from infra.event_store.writer import STORE_SECONDS_MAX
from infra.servers.postgres import PostgresServer
from tests.contracts.event_store.appends import append, message
from tests.contracts.event_store.proxy import Cut, Proxy, proxy_before
from tests.fixtures.servers import DatabaseUrl

pytestmark = pytest.mark.slow
SECONDS_MAX = 60.0
SLACK_SECONDS = 20.0  # for a machine under load: what is not bounded takes for ever
TERMINATE_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
)


@pytest.fixture
async def proxied(database_url: DatabaseUrl) -> AsyncIterator[tuple[ConversationStore, Proxy]]:
    """A store that reaches Postgres through the proxy."""
    async with proxy_before(database_url("conversations")) as proxy:
        store = await open_conversation_store(proxy.url)
        yield store, proxy
        await store.close()


async def send_until_accepted(store: ConversationStore, given: Append) -> Receipt:
    """What a client does: the same command again, until there is a receipt."""
    for _ in range(50):
        try:
            return await store.append(given)
        except StoreUnavailable:
            continue
    raise AssertionError("never accepted")


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
async def test_a_commit_whose_answer_is_lost_is_answered_rightly(
    proxied: tuple[ConversationStore, Proxy], cut: Cut
) -> None:
    store, proxy = proxied
    for round_number in range(20):
        proxy.next_cut = cut
        given = append()
        receipt = await store.append(given)
        assert proxy.cuts == round_number + 1
        assert (receipt.position, receipt.repeated) == (1, False)
        assert list(await store.load(given.stream)) == list(given.events)
        assert (await store.append(given)).repeated


async def test_a_conflict_is_still_a_conflict_when_the_connection_is_lost(
    proxied: tuple[ConversationStore, Proxy],
) -> None:
    store, proxy = proxied
    first = append()
    await store.append(first)
    for _ in range(10):
        proxy.next_cut = Cut.AFTER  # of the refused transaction, or of the next good one
        with pytest.raises(PositionTaken):
            await store.append(append(stream=first.stream))
        await store.append(append())


async def test_connections_lost_at_random_lose_and_double_nothing(
    proxied: tuple[ConversationStore, Proxy],
) -> None:
    store, proxy = proxied
    chance = random.Random(7)

    async def disturb() -> None:
        if chance.random() < 0.3:
            proxy.cut_all()
        else:
            proxy.next_cut = chance.choice([Cut.BEFORE, Cut.AFTER])

    await append_while(store, disturb)
    assert proxy.cuts > 5


async def test_terminated_backends_lose_and_double_nothing(database_url: DatabaseUrl) -> None:
    url = database_url("conversations")
    store = await open_conversation_store(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def disturb() -> None:
            await connection.execute(TERMINATE_OTHERS)

        await append_while(store, disturb)
    await store.close()


async def append_while(store: ConversationStore, disturb: Callable[[], Awaitable[None]]) -> None:
    """Appends many, disturbed again and again; each must be stored once, whatever was said."""
    given = [append() for _ in range(400)]
    waiting = iter(given)
    accepted = 0

    async def submit() -> None:
        nonlocal accepted
        for one in waiting:
            receipt = await send_until_accepted(store, one)
            assert (receipt.stream, receipt.position) == (one.stream, 1)
            accepted += 1
            if accepted % 20 == 10:
                await disturb()

    await asyncio.gather(*(submit() for _ in range(8)))
    for one in given:
        assert list(await store.load(one.stream)) == list(one.events)


async def test_postgres_may_crash_and_come_back_under_load(
    conversations: ConversationStore, postgres_server: PostgresServer
) -> None:
    store = conversations
    given: list[Append] = []
    accepted, is_back = 0, asyncio.Event()

    async def submit() -> None:
        nonlocal accepted
        while not is_back.is_set():
            given.append(one := append())
            receipt = await send_until_accepted(store, one)
            assert (receipt.stream, receipt.position) == (one.stream, 1)
            accepted += 1

    async def accept_more() -> None:
        before = accepted
        async with asyncio.timeout(SECONDS_MAX):
            while accepted < before + 50:
                await asyncio.wait([submitting], timeout=0.005)

    submitting = asyncio.gather(*(submit() for _ in range(8)))
    await accept_more()
    await asyncio.to_thread(postgres_server.kill)
    assert not submitting.done()
    await asyncio.to_thread(postgres_server.start)
    await accept_more()
    is_back.set()
    await submitting
    for one in given:
        assert list(await store.load(one.stream)) == list(one.events)


async def test_without_postgres_every_call_ends_in_time_and_later_works_again(
    conversations: ConversationStore, postgres_server: PostgresServer
) -> None:
    store = conversations
    kept = append()
    await store.append(kept)
    await asyncio.to_thread(postgres_server.stop)
    began = monotonic()
    with pytest.raises(StoreUnavailable):
        await store.append(append())
    assert monotonic() - began < STORE_SECONDS_MAX + SLACK_SECONDS
    began = monotonic()
    with pytest.raises(StoreUnavailable):
        await store.load(kept.stream)
    with pytest.raises(StoreUnavailable):
        await store.ping()
    assert monotonic() - began < 2 * (LOAD_SECONDS_MAX + SLACK_SECONDS)
    with pytest.raises(StoreUnavailable):
        await open_conversation_store(postgres_server.url("conversations"))
    await asyncio.to_thread(postgres_server.start)
    await store.append(append(message(kept.stream), stream=kept.stream, after=1))
    assert len(await store.load(kept.stream)) == 2
    await store.ping()


async def test_a_full_queue_refuses_at_once_and_keeps_what_it_took(
    database_url: DatabaseUrl,
) -> None:
    store = await open_conversation_store(database_url("conversations"), commands_queued_max=5)
    given = [append() for _ in range(50)]
    results = await asyncio.gather(*(store.append(one) for one in given), return_exceptions=True)
    refused = [one for one in results if isinstance(one, StoreSaturated)]
    assert refused
    assert len(refused) + sum(isinstance(one, Receipt) for one in results) == 50
    for one, result in zip(given, results, strict=True):
        stored = list(await store.load(one.stream))
        assert stored == (list(one.events) if isinstance(result, Receipt) else [])
    await store.close()


async def test_closing_stores_what_was_taken_and_takes_no_more(
    database_url: DatabaseUrl,
) -> None:
    url = database_url("conversations")
    store = await open_conversation_store(url)
    appending = [asyncio.create_task(store.append(append())) for _ in range(100)]
    await asyncio.sleep(0)
    await store.close()
    assert len(await asyncio.gather(*appending)) == 100
    with pytest.raises(StoreUnavailable):
        await store.append(append())


async def test_many_processes_may_make_the_schema_at_once(database_url: DatabaseUrl) -> None:
    url = database_url("conversations")
    stores = await asyncio.gather(*(open_conversation_store(url) for _ in range(8)))
    receipts = await asyncio.gather(*(store.append(append()) for store in stores))
    assert len(receipts) == 8
    for store in stores:
        await store.close()


async def test_an_append_that_can_not_be_stored_fails_alone(
    conversations: ConversationStore,
) -> None:
    bad = append(command="key:\x00")  # Postgres has no NUL in text
    given = [append() for _ in range(5)]
    results = await asyncio.gather(
        *(conversations.append(one) for one in [*given[:2], bad, *given[2:]]),
        return_exceptions=True,
    )
    assert [isinstance(one, Receipt) for one in results] == [True, True, False, True, True, True]
