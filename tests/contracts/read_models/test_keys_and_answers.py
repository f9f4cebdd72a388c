"""What the gateway reads of the projections' tables."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from commands.errors import StoreUnavailable
from commands.store import Append
from events.answers import entries_of_ended
from events.conversations import AnswerEnded, ConversationStarted
from events.ids import AnswerId, ConversationId, fresh_id
from events.sealing import fresh_key
from gateway.answer_streams import AnswerRef, SourceUnavailable
from gateway.errors import AnswerExpired
from infra.event_store import MemoryStore
from infra.projections import connect
from infra.read_models import AnswersReadModel, KeysReadModel, ReadModels, StoredEnds
from projections.answers import FIND, Answers
from projections.keys import Keys
from projections.runner import Runner
from tests.contracts.event_store.appends import asked
from tests.contracts.projections.deliver import (
    TENANT,
    Partition,
    a_conversation,
    an_account,
    ended,
    recorded_stream,
)


@pytest.fixture
async def models(url: str) -> AsyncIterator[ReadModels]:
    made = ReadModels(url, connections_max=2)
    await made.open()
    yield made
    await made.close()


async def test_a_recorded_end_is_the_stream_of_its_answer(url: str, models: ReadModels) -> None:
    recorded = a_conversation()
    with connect(url) as db:
        runner = Runner(Answers(), gap_seconds_max=1)
        runner.create(db)
        runner.apply(db, Partition().send(recorded))
    event = recorded[-1].event
    assert isinstance(event, AnswerEnded)
    answers = AnswersReadModel(models, StoredEnds(MemoryStore()))
    ref = AnswerRef(event.answer, event.conversation, TENANT)
    assert await answers.entries(ref) == entries_of_ended(event)
    assert await answers.entries(AnswerRef(event.answer, event.conversation, fresh_id())) is None
    assert await answers.wait_applied(event.conversation, 3, seconds_max=0)
    assert not await answers.wait_applied(event.conversation, 4, seconds_max=0.05)


async def test_the_words_of_an_unstored_answer_are_only_where_its_key_is(
    url: str, models: ReadModels
) -> None:
    store = MemoryStore(unstored_seconds_max=0, unended_seconds_max=0)
    conversation, answer = ConversationId(fresh_id()), AnswerId(fresh_id())
    key = fresh_key(conversation)
    said = [
        ConversationStarted(conversation=conversation, stored=False),
        asked(conversation, answer),
        ended(conversation, answer, "so kept between us"),
    ]
    recorded = [replace(one, key=key) for one in recorded_stream(conversation, said)]
    await store.append(Append(TENANT, "c", b"", conversation, recorded))
    with connect(url) as db:
        runner = Runner(Answers(), gap_seconds_max=1)
        runner.create(db)
        runner.apply(db, Partition().send(recorded))
        (row,) = db.execute(Answers.tables.compose(FIND), (TENANT, answer)).fetchall()
    assert b"between us" not in row[0]
    answers = AnswersReadModel(models, StoredEnds(store))
    ref = AnswerRef(answer, conversation, TENANT)
    assert await answers.entries(ref) == entries_of_ended(said[-1])
    await store.destroy_keys()
    for source in (answers, StoredEnds(store)):
        with pytest.raises(AnswerExpired):
            await source.entries(ref)


async def test_keys_are_found_by_their_hash(url: str, models: ReadModels) -> None:
    with connect(url) as db:
        runner = Runner(Keys(), gap_seconds_max=1)
        runner.create(db)
        runner.apply(db, Partition().send(an_account()))
    keys = KeysReadModel(models)
    found = await keys.find("b" * 64)
    assert found is not None
    assert (found.tenant, found.owner) == (TENANT, "o")
    assert await keys.find("a" * 64) is None, "it was revoked"
    assert await keys.find("c" * 64) is None


async def test_before_projections_ran_nothing_is_found_and_it_is_said(models: ReadModels) -> None:
    with pytest.raises(StoreUnavailable):
        await KeysReadModel(models).find("a" * 64)
    ref = AnswerRef(AnswerId(fresh_id()), ConversationId(fresh_id()), TENANT)
    with pytest.raises(SourceUnavailable):
        await AnswersReadModel(models, StoredEnds(MemoryStore())).entries(ref)
    assert not await KeysReadModel(models).wait_applied(TENANT, 1, seconds_max=0)
