"""The row that says who leads: epochs rise, and only the last one's holder changes anything."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from time import monotonic

import psycopg
import pytest

from events.ids import fresh_id
from infra.event_store.store import prepare_schema
from infra.event_store.unreachable import WITHDRAWN
from infra.relay.lease import Held, Lease, StoreWasRestored
from tests.fixtures.servers import DatabaseUrl

pytestmark = pytest.mark.slow
LONG = 60.0
SHORT = 0.3
RENEWED = 2.0
"""No machine stands still for so long between two statements."""
SOON_SECONDS_MAX = 30.0
"""Half of a long lease, which would have to run out otherwise."""
Connect = Callable[[float], Awaitable[tuple[Lease, psycopg.AsyncConnection]]]


@pytest.fixture
async def connect(database_url: DatabaseUrl) -> AsyncIterator[Connect]:
    """Makes a relay's view of the lease, on a connection of its own."""
    url = database_url("accounts")
    prepare_schema("accounts", url)
    async with AsyncExitStack() as stack:

        async def connect(seconds: float) -> tuple[Lease, psycopg.AsyncConnection]:
            connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
            await stack.enter_async_context(connection)
            lease = Lease(connection, "accounts", "test", seconds)
            await lease.prepare()
            return lease, connection

        yield connect


async def take(lease: Lease) -> Held:
    """Tries until the lease can be taken."""
    until = monotonic() + SOON_SECONDS_MAX
    while (held := await lease.take()) is None:
        assert monotonic() < until
    return held


async def test_one_holds_it_and_the_others_wait(connect: Connect) -> None:
    first, _ = await connect(LONG)
    second, _ = await connect(LONG)
    held = await take(first)
    assert (held.epoch, held.position, held.last_event) == (1, 0, None)
    assert await second.take() is None
    assert await first.take() is None  # not even the holder takes it twice


async def test_a_lease_that_ran_out_goes_to_another_with_a_higher_epoch(connect: Connect) -> None:
    paused, _ = await connect(SHORT)
    successor, _ = await connect(LONG)
    old = await take(paused)
    new = await take(successor)
    assert new.epoch == old.epoch + 1
    assert not await paused.renew(old.epoch)
    assert not await paused.advance(old.epoch, 7, fresh_id())
    assert await paused.held(old.epoch) is None
    await paused.release(old.epoch)  # must not take the successor's away
    assert await successor.held(new.epoch) == new


async def test_renewing_keeps_it(connect: Connect) -> None:
    first, _ = await connect(RENEWED)
    second, _ = await connect(LONG)
    held = await take(first)
    until = monotonic() + 1.5 * RENEWED
    while monotonic() < until:
        assert await first.renew(held.epoch)
        assert await second.take() is None


async def test_a_holder_whose_session_is_gone_is_not_waited_for(connect: Connect) -> None:
    killed, connection = await connect(LONG)
    successor, _ = await connect(LONG)
    await take(killed)
    await connection.close()
    began = monotonic()
    assert (await take(successor)).epoch == 2
    assert monotonic() - began < SOON_SECONDS_MAX


async def test_a_relay_that_is_paused_while_it_takes_the_lease_holds_up_nobody(
    connect: Connect,
) -> None:
    _, paused = await connect(SHORT)
    successor, _ = await connect(SHORT)
    began = monotonic()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(paused.transaction())
        await paused.execute("UPDATE accounts.relay SET epoch = epoch + 1")
        # The row is locked now, and whoever locked it sends nothing more.
        async with asyncio.timeout(SOON_SECONDS_MAX):
            while True:
                try:
                    held = await take(successor)
                    break
                except psycopg.errors.LockNotAvailable:
                    continue
        stack.pop_all()
    assert monotonic() - began < SOON_SECONDS_MAX
    assert held.epoch == 1
    with pytest.raises((psycopg.OperationalError, *WITHDRAWN)):
        await paused.execute("COMMIT")


async def test_a_released_lease_is_free_at_once(connect: Connect) -> None:
    first, _ = await connect(LONG)
    second, _ = await connect(LONG)
    held = await take(first)
    await first.release(held.epoch)
    assert (await take(second)).epoch == 2


async def test_a_store_without_the_event_that_was_sent_last_is_not_led(connect: Connect) -> None:
    first, _ = await connect(LONG)
    second, _ = await connect(LONG)
    held, sent = await take(first), fresh_id()
    assert await first.advance(held.epoch, 7, sent)
    await first.release(held.epoch)
    with pytest.raises(StoreWasRestored) as refused:
        await second.take()
    assert (refused.value.position, refused.value.sent, refused.value.found) == (7, sent, None)
    assert await first.held(held.epoch) is not None  # nobody took it
