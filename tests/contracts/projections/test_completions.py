"""What every list of stored completions says (gateway.openai.ports.CompletionList)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

import pytest

from commands.store import Append
from events import conversations as said
from events.conversations import EndKind, Kind
from events.ids import AnswerId, fresh_id
from gateway.openai.ports import CompletionList, CompletionsWanted
from gateway.openai.ports import Place as ListPlace
from infra.event_store.memory import MemoryStore
from infra.projections import connect
from infra.read_models import ReadModels
from infra.read_models.completions import (
    FIND_NEWEST_FIRST,
    FIND_OLDEST_FIRST,
    CompletionsReadModel,
)
from projections.conversations import Histories
from projections.runner import Runner
from tests.contracts.projections.deliver import Partition
from tests.fixtures.servers import DatabaseUrl
from tests.gateway.fake_completions import MemoryCompletions
from tests.projections.histories_events import NOON, OTHER_TENANT, TENANT, Told

Tell = Callable[..., Awaitable[None]]
Place = tuple[CompletionList, Tell]


@pytest.fixture
def memory() -> Place:
    store = MemoryStore()

    async def tell(*given: Told) -> None:
        for told in given:
            after = len(await store.load(told.id))
            new = told.recorded[after:]
            command = f"call:{fresh_id()}"
            await store.append(Append(told.tenant, command, b"", told.id, new))

    return MemoryCompletions(store), tell


@pytest.fixture
async def postgres(database_url: DatabaseUrl) -> AsyncIterator[Place]:
    url = database_url("projections")
    models = ReadModels(url, connections_max=2)
    await models.open()
    log = Partition()
    told_before: dict[UUID, int] = {}
    with connect(url) as db:
        runner = Runner(Histories(), gap_seconds_max=5)
        runner.create(db)

        async def tell(*given: Told) -> None:
            for told in given:
                after = told_before.get(told.id, 0)
                runner.apply(db, log.send(told.recorded[after:]))
                told_before[told.id] = len(told.recorded)
            assert db.execute("SELECT problem FROM histories_v1_parked").fetchall() == []

        yield CompletionsReadModel(models), tell
    await models.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def completion(minute: int = 0, *, model: str = "m", ends: bool = True, **start: Any) -> Told:
    told = Told(
        kind=Kind.COMPLETION,
        begins=NOON + timedelta(minutes=minute),
        **start,
    )
    told.post("?")
    answer = told.ask(model=model)
    if ends:
        told.end(answer)
    return told


async def ids(listing: CompletionList, limit: int = 100, **wanted: Any) -> list[UUID]:
    tenant = wanted.pop("tenant", TENANT)
    found = await listing.find(CompletionsWanted(tenant, limit, **wanted))
    return [one.place.conversation for one in found]


def at(told: Told) -> ListPlace:
    return ListPlace(told.recorded[0].meta.time, told.id)


async def test_they_are_listed_in_the_order_of_their_beginning(place: Place) -> None:
    listing, tell = place
    given = [completion(minute) for minute in (3, 1, 2)]
    await tell(*given)
    by_time = [given[1].id, given[2].id, given[0].id]
    assert await ids(listing) == by_time
    assert await ids(listing, newest_first=True) == by_time[::-1]
    assert await ids(listing, 2) == by_time[:2]
    assert await ids(listing, 1, after=at(given[1])) == by_time[1:2]
    assert await ids(listing, newest_first=True, after=at(given[2])) == by_time[:1]
    assert await ids(listing, after=at(given[0])) == []


async def test_the_answer_is_named_with_its_place(place: Place) -> None:
    listing, tell = place
    told = completion()
    await tell(told)
    (found,) = await listing.find(CompletionsWanted(TENANT, 10))
    assert (found.place, found.answer) == (at(told), told.head)


async def test_those_of_one_moment_are_all_found_page_by_page(place: Place) -> None:
    listing, tell = place
    given = [completion() for _ in range(5)]
    await tell(*given)
    for newest_first in (False, True):
        wanted = CompletionsWanted(TENANT, 2, newest_first=newest_first)
        seen: list[ListPlace] = []
        while page := await listing.find(wanted):
            seen += [one.place for one in page]
            wanted = replace(wanted, after=seen[-1])
        assert len(seen) == 5
        assert set(seen) == {at(one) for one in given}


async def test_what_is_no_stored_completion_is_left_out(place: Place) -> None:
    listing, tell = place
    talk = Told()
    talk.turn("?")
    failed = completion(ends=False)
    failed.end(AnswerId(UUID(str(failed.head))), kind=EndKind.FAIL, reason="engine")
    deleted = completion()
    deleted.about(said.ConversationDeleted)
    theirs = completion(tenant=OTHER_TENANT)
    await tell(talk, failed, deleted, theirs, completion(ends=False))
    assert await ids(listing) == []
    assert await ids(listing, tenant=OTHER_TENANT) == [theirs.id]


async def test_an_answer_that_was_stopped_is_there(place: Place) -> None:
    listing, tell = place
    told = completion(ends=False)
    told.end(AnswerId(UUID(str(told.head))), kind=EndKind.CANCELLED, reason="cancelled")
    await tell(told)
    assert await ids(listing) == [told.id]


async def test_they_are_found_by_model_and_by_metadata(place: Place) -> None:
    listing, tell = place
    plain = completion(0)
    marked = completion(1, metadata={"a": "1", "b": "2"})
    other = completion(2, model="n", metadata={"a": "2", "\0": "\0"})
    await tell(plain, marked, other)
    assert await ids(listing, model="n") == [other.id]
    assert await ids(listing, model="N") == []
    assert await ids(listing, metadata={"a": "1"}) == [marked.id]
    assert await ids(listing, metadata={"a": "1", "b": "2"}) == [marked.id]
    assert await ids(listing, metadata={"a": "1", "b": "3"}) == []
    assert await ids(listing, metadata={"\0": "\0"}) == [other.id]
    assert await ids(listing, model="m", metadata={"a": "2"}) == []


async def test_metadata_is_what_it_was_changed_to(place: Place) -> None:
    listing, tell = place
    told = completion(metadata={"a": "1"})
    await tell(told)
    told.about(said.MetadataReplaced, metadata={"b": "2"})
    await tell(told)
    assert await ids(listing, metadata={"a": "1"}) == []
    assert await ids(listing, metadata={"b": "2"}) == [told.id]


async def test_a_page_goes_on_after_one_that_was_deleted_since_or_is_not_known_yet(
    place: Place,
) -> None:
    listing, tell = place
    given = [completion(minute) for minute in range(3)]
    await tell(*given)
    given[1].about(said.ConversationDeleted)
    await tell(given[1])
    assert await ids(listing, after=at(given[1])) == [given[2].id]
    unknown = completion(1)
    assert await ids(listing, after=at(unknown)) == [given[2].id]
    assert await ids(listing, after=at(unknown), newest_first=True) == [given[0].id]


ROWS = """
INSERT INTO histories_v1 (conversation, tenant, subject, kind, created_at, last_activity, metadata,
    archived, deleted, head, messages, answers, read_position, unread, answering, position)
SELECT gen_random_uuid(), %s, 'ann', 'completion', now(), now(), jsonb_build_object('n', n::text),
    false, false, gen_random_uuid(), 1, 1, 0, '[]', '[]', 3 FROM generate_series(1, 20000) AS n
"""
NODES = """
INSERT INTO histories_v1_nodes (conversation, position, node, role, created_at, status)
SELECT conversation, 3, head, 'assistant', now(), 'finish' FROM histories_v1
"""


@pytest.mark.slow
@pytest.mark.parametrize("statement", [FIND_OLDEST_FIRST, FIND_NEWEST_FIRST])
def test_a_filter_by_metadata_does_not_read_all_of_a_tenant(
    database_url: DatabaseUrl, statement: LiteralString
) -> None:
    wanted = {"tenant": TENANT, "model": None, "after": None, "after_time": None, "limit": 21}
    with connect(database_url("projections")) as db:
        Runner(Histories(), gap_seconds_max=5).create(db)
        db.execute(ROWS, (TENANT,))
        db.execute(NODES)
        db.execute("ANALYZE histories_v1, histories_v1_nodes")

        def plan(metadata: str) -> str:
            query = Histories.tables.compose("EXPLAIN " + statement)
            rows = db.execute(query, {**wanted, "metadata": metadata}).fetchall()
            return "\n".join(row[0] for row in rows)

        filtered, unfiltered = plan('{"n": "17"}'), plan("{}")
        assert "histories_v1_metadata" in filtered, filtered
        assert "histories_v1_completions" in unfiltered, unfiltered
