"""The logs that the contract is held against."""

from collections.abc import AsyncIterator

import pytest

from infra.event_log import MemoryLog, PostgresLog
from infra.event_store import MemoryStore, open_conversation_store
from tests.contracts.event_log.logs import Bench
from tests.fixtures.servers import DatabaseUrl

SCANNED_MAX = 10
"""Small, so that a reading takes several steps."""


@pytest.fixture
async def postgres(database_url: DatabaseUrl) -> AsyncIterator[Bench]:
    url = database_url("conversations")
    store = await open_conversation_store(url)
    log = PostgresLog("conversations", url, scanned_max=SCANNED_MAX)
    await log.open()
    yield Bench(store, log, url)
    await log.close()
    await store.close()


@pytest.fixture
def memory() -> Bench:
    store = MemoryStore()
    return Bench(store, MemoryLog(store, scanned_max=SCANNED_MAX))


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Each of our logs in turn."""
    found: Bench = request.getfixturevalue(request.param)
    return found
