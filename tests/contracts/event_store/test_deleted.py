"""The index of answers says which were deleted: who has their ids is not to read them for ever."""

from events.conversations import ConversationDeleted
from events.envelope import Event
from events.ids import AnswerId, ConversationId, fresh_id
from infra.event_store import MemoryStore
from tests.contracts.event_store.appends import append, asked, ended
from tests.contracts.event_store.conftest import Store


class Talk:
    """A conversation with one answer, as a store is told of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.id, self.answer = ConversationId(fresh_id()), AnswerId(fresh_id())
        self.position = 0

    async def tell(self, event: Event) -> None:
        await self.store.append(append(event, stream=self.id, after=self.position))
        self.position += 1

    async def ask(self) -> None:
        await self.tell(asked(self.id, self.answer))

    async def end(self) -> None:
        await self.tell(ended(self.id, self.answer))

    async def delete(self) -> None:
        await self.tell(ConversationDeleted(conversation=self.id))

    async def is_gone(self) -> bool:
        row = await self.store.find_answer(self.answer)
        assert row is not None
        return row.gone


def let_no_time_pass(store: Store) -> None:
    """A stopped answer can be read no longer than until its end."""
    kept = store if isinstance(store, MemoryStore) else store.recorder
    kept.stopped_readable_seconds = 0


async def test_an_answer_is_gone_with_its_conversation(store: Store) -> None:
    talk, other = Talk(store), Talk(store)
    for one in (talk, other):
        await one.ask()
        await one.end()
    assert not await talk.is_gone()
    await talk.delete()
    assert await talk.is_gone()
    assert not await other.is_gone()


async def test_an_answer_that_a_deletion_stops_is_there_until_some_time_after_its_end(
    store: Store,
) -> None:
    talk = Talk(store)
    await talk.ask()
    await talk.delete()
    assert not await talk.is_gone()
    await talk.end()
    assert not await talk.is_gone()
    let_no_time_pass(store)
    assert await talk.is_gone()


async def test_without_a_deletion_nothing_is_gone(store: Store) -> None:
    let_no_time_pass(store)
    talk = Talk(store)
    await talk.ask()
    await talk.end()
    assert not await talk.is_gone()
