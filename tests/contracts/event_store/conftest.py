"""The stores that the contract is held against."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypedDict

import pytest

from infra.event_store import ConversationStore, MemoryStore, open_conversation_store
from tests.fixtures.servers import DatabaseUrl

Store = ConversationStore | MemoryStore
SOON = 0.2
"""Seconds that a key lives in the stores where it soon expires."""
UNENDED_TIMES = 3
"""So many times as long under an answer that nobody ends, on top."""
Living = Callable[[float], Awaitable[Store]]


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
    store = await open_conversation_store(database_url("conversations"), **lifetimes(SOON))
    yield store
    await store.close()


class Lifetimes(TypedDict):
    """Of keys, as a store is told."""

    unstored_seconds_max: float
    unended_seconds_max: float


def lifetimes(seconds: float) -> Lifetimes:
    return Lifetimes(unstored_seconds_max=seconds, unended_seconds_max=UNENDED_TIMES * seconds)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def brief(request: pytest.FixtureRequest) -> Store:
    """Each store in turn; keys live for SOON in it."""
    if request.param == "memory":
        return MemoryStore(**lifetimes(SOON))
    found: ConversationStore = request.getfixturevalue("short_lived")
    return found


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
async def living(request: pytest.FixtureRequest) -> AsyncIterator[Living]:
    """Makes a store in which keys live for so many seconds; each store in turn."""
    database_url: DatabaseUrl | None = None
    if request.param != "memory":
        database_url = request.getfixturevalue("database_url")
    async with AsyncExitStack() as stack:

        async def make(seconds: float) -> Store:
            if database_url is None:
                return MemoryStore(**lifetimes(seconds))
            url = database_url("conversations")
            store = await open_conversation_store(url, **lifetimes(seconds))
            stack.push_async_callback(store.close)
            return store

        yield make


@pytest.fixture(params=["memory", pytest.param("conversations", marks=pytest.mark.slow)])
def forgetful(request: pytest.FixtureRequest) -> Store:
    """The same, with a bound for repeats of no seconds."""
    found: Store = request.getfixturevalue(f"forgetful_{request.param}")
    return found
