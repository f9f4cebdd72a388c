"""Where events are kept: eventsourcing's recorders on Postgres, and a store in memory for tests."""

from infra.event_store.answers import AnswerRow
from infra.event_store.memory import MemoryStore
from infra.event_store.store import (
    AccountStore,
    ConversationStore,
    open_account_store,
    open_conversation_store,
)

__all__ = [
    "AccountStore",
    "AnswerRow",
    "ConversationStore",
    "MemoryStore",
    "open_account_store",
    "open_conversation_store",
]
