"""Only an answer that the store itself takes for open and late is asked for again."""

import pytest

from events.conversations import AnswerAskedAgain, ConversationStarted
from events.ids import AnswerId, ConversationId, fresh_id
from infra.event_store import MemoryStore
from infra.sagas.answers import AskingAgain
from sagas.answers import Again
from sagas.saga import Answer
from tests.contracts.event_store.appends import TENANT, append, asked, ended

EVENT_BYTES_MAX = 100_000
EARLY, LATE = 600.0, -1.0
STREAM = ConversationId(fresh_id())
ANSWER = AnswerId(fresh_id())
AGAIN = Again(
    id="again:1",
    tenant=TENANT,
    conversation=STREAM,
    answer=ANSWER,
    times=1,
    correlation=fresh_id(),
    causation=fresh_id(),
)


async def store_with(*, deadline_seconds: float, is_ended: bool = False) -> MemoryStore:
    store = MemoryStore()
    events = [ConversationStarted(conversation=STREAM), asked(STREAM, ANSWER, deadline_seconds)]
    await store.append(append(*events, *[ended(STREAM, ANSWER)] * is_ended, stream=STREAM))
    return store


async def times_asked_again(store: MemoryStore) -> int:
    return sum(isinstance(one.event, AnswerAskedAgain) for one in await store.load(STREAM))


async def test_one_that_is_open_and_late_is_asked_for_once_however_often_it_is_sent() -> None:
    store = await store_with(deadline_seconds=LATE)
    asking = AskingAgain(store, event_bytes_max=EVENT_BYTES_MAX)
    assert [(await asking.send(AGAIN)).answer for _ in range(2)] == [Answer.DONE] * 2
    assert await times_asked_again(store) == 1


@pytest.mark.parametrize(
    ("deadline_seconds", "is_ended", "answer"),
    [(EARLY, False, Answer.TOO_EARLY), (LATE, True, Answer.POINTLESS)],
)
async def test_one_that_has_time_left_or_has_ended_is_not_asked_for(
    deadline_seconds: float, is_ended: bool, answer: Answer
) -> None:
    store = await store_with(deadline_seconds=deadline_seconds, is_ended=is_ended)
    answered = await AskingAgain(store, event_bytes_max=EVENT_BYTES_MAX).send(AGAIN)
    assert answered.answer is answer
    assert 0 <= answered.seconds <= EARLY
    assert await times_asked_again(store) == 0
