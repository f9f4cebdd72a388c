"""The stores that the contract is held against."""

from collections.abc import AsyncIterator

import pytest

from infra.event_store import ConversationStore, MemoryStore, open_conversation_store
from tests.fixtures.servers import DatabaseUrl

Store = ConversationStore | MemoryStore
SOON = 0.2
"""Seconds that a key lives in the stores where it soon expires."""


@pytest.fixture
def conversations_url(database_url: DatabaseUrl) -> str:
    """Of an empty database."""
    return database_url("conversations")


@pytest.fixture
async def conversations(conversations_url: str) -> AsyncIterator[ConversationStore]:
    """The store on Postgres, in an empty database."""
    store = await open_conversation_store(conversations_url)
    yield store
    await store.close()


@pytest.fixture
async def other_conversations(conversations_url: str) -> AsyncIterator[ConversationStore]:
    """Another process's store in the same database."""
    store = await open_conversation_store(conversations_url)
    yield store
    await store.close()


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def forgetful_conversations(database_url: DatabaseUrl) -> AsyncIterator[ConversationStore]:
    """Its turns can be joined for no time at all."""
    url = database_url("conversations")
    store = await open_conversation_store(url, repeat_seconds_max=0)
    yield store
    await store.close()


@pytest.fixture
def forgetful_memory() -> MemoryStore:
    return MemoryStore(repeat_seconds_max=0)


@pytest.fixture(params=["memory", pytest.param("conversations", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest) -> Store:
    """Each of our stores in turn."""
    found: Store = request.getfixturevalue(request.param)
    return found


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


@pytest.fixture(params=["memory", pytest.param("conversations", marks=pytest.mark.slow)])
def forgetful(request: pytest.FixtureRequest) -> Store:
    """The same, with a bound for repeats of no seconds."""
    found: Store = request.getfixturevalue(f"forgetful_{request.param}")
    return found
