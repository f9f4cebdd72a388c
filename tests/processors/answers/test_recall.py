"""A request that is older than the tokens that were read: they are read from before it."""

import asyncio
from dataclasses import replace

import pytest

from events.answers import Chunk, Claim, ClaimId, End
from events.conversations import EndKind, Usage
from events.ids import AnswerId, fresh_id
from processors.answers import worker as worker_module
from processors.answers.ports import Request
from tests.processors.answers.fakes import request, task
from tests.processors.answers.test_worker import House, running

NOW_MS = 2_000_000  # of the work record; the fakes' tails begin at 1,000,000
OLD, YOUNG = 1_500.0, 0.5  # seconds, by the event store
FIRST = ClaimId(1, fresh_id())


def asked_again(answer: AnswerId | None = None, offset: int = 0, at_ms: int = NOW_MS) -> Request:
    made = request(0, offset, answer=answer)
    return replace(made, appended_ms=at_ms)


def begun(house: House, answer: AnswerId, *texts: str) -> None:
    """Another worker has begun an answer, before the tail begins."""
    house.log.write(0, Claim(answer, FIRST, "other", "m"))
    for index, text in enumerate(texts):
        house.log.write(0, Chunk(answer, FIRST, index, text, 1))
    house.log.begins[0] = len(house.log.records[0])


def end(answer: AnswerId, index: int) -> End:
    return End(answer, FIRST, index, EndKind.FINISH, "stop", None, ".", 1, Usage())


def late(house: House, answer: AnswerId, age_seconds: float = OLD) -> None:
    house.requests.tasks[answer] = task(3, seconds_left=-1.0, age_seconds=age_seconds)


async def test_a_begun_answer_is_ended_after_what_was_said() -> None:
    house, asked = House(), asked_again()
    begun(house, asked.answer, "Once ", "upon")
    late(house, asked.answer)
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    said = house.log.of(asked.answer)
    assert said.end is not None
    assert (said.end.kind, said.end.reason, said.text) == (EndKind.FAIL, "deadline", "Once upon")
    assert house.engine.calls == []
    assert house.log.recalls == [(0, NOW_MS - 1_500_000 - 30_000)]


async def test_an_answer_that_ended_before_the_tail_is_acknowledged_without_a_word() -> None:
    house, asked = House(), asked_again()
    begun(house, asked.answer, "Once")
    house.log.write(0, end(asked.answer, 1))
    house.log.begins[0] = len(house.log.records[0])
    before = list(house.log.records[0])
    late(house, asked.answer)
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    assert house.log.records[0] == before


async def test_an_open_answer_that_a_relay_repeats_late_goes_on_where_it_was() -> None:
    house, asked = House(), asked_again()
    begun(house, asked.answer, " 0", " 1")
    house.requests.tasks[asked.answer] = task(4, age_seconds=OLD)
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    assert house.log.of(asked.answer).text == " 0 1 2 3"


async def test_a_request_that_is_younger_than_its_tail_is_not_read_again() -> None:
    house, asked = House(), asked_again()
    house.requests.tasks[asked.answer] = task(2, age_seconds=YOUNG)
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    assert house.log.recalls == []


async def test_a_worker_whose_clock_is_ahead_reads_no_fresh_request_again() -> None:
    """Its tail seems to begin at 1,000,000; Kafka's clock says that it is 500,000 by then."""
    house, asked = House(), asked_again(at_ms=500_000)
    house.requests.tasks[asked.answer] = task(2, age_seconds=YOUNG)
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    assert house.log.recalls == []


async def test_what_comes_while_earlier_tokens_are_read_counts_once() -> None:
    house, asked = House(), asked_again()
    begun(house, asked.answer, "Once ")
    late(house, asked.answer)
    house.log.recalling.clear()
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.log.recalls != [], "the outcome")
        second = ClaimId(2, fresh_id())
        house.log.write(0, Claim(asked.answer, second, "third", "m"))
        house.log.write(0, Chunk(asked.answer, second, 1, "more", 1))
        await house.until(lambda: worker._tails[0].next == len(house.log.records[0]), "the outcome")
        assert house.work.acknowledged == []
        house.log.recalling.set()
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    said = house.log.of(asked.answer)
    assert said.end is not None
    assert (said.text, said.end.index) == ("Once more", 2)


async def test_earlier_tokens_that_are_ahead_of_the_tail_wait_for_it() -> None:
    """A record that did not count in its place would count if it were read once more."""
    house, asked, other = House(), asked_again(), AnswerId(fresh_id())
    begun(house, asked.answer, "Once ")
    late(house, asked.answer)
    async with running(house) as worker:
        await house.until(lambda: worker.ready, "the tail to be there")
        house.log.recalled_at_once = 100
        house.log.flowing.clear()
        house.log.write(0, Claim(other, FIRST, "other", "m"))
        await asyncio.sleep(0)
        house.log.write(0, Chunk(asked.answer, FIRST, 2, "out of turn", 1))
        house.log.write(0, Chunk(asked.answer, FIRST, 1, "more", 1))
        worker.take(asked)
        await house.until(lambda: house.log.recalls != [], "the outcome")
        house.log.flowing.set()
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    said = house.log.of(asked.answer)
    assert said.end is not None
    assert said.text == "Once more"


async def test_a_log_that_is_away_is_read_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "AGAIN_SECONDS", 0.01)
    house, asked = House(), asked_again()
    begun(house, asked.answer, "Once")
    late(house, asked.answer)
    async with running(house) as worker:
        await house.until(lambda: worker.ready, "the tail to be there")
        house.log.unavailable = 2
        worker.take(asked)
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    assert len(house.log.recalls) == 3
    assert house.log.of(asked.answer).text == "Once"


async def test_a_partition_that_goes_takes_its_missed_requests_with_it() -> None:
    house, asked = House(), asked_again()
    begun(house, asked.answer, "Once")
    late(house, asked.answer)
    house.log.recalling.clear()
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.log.recalls != [], "the outcome")
        assert worker.waiting == 1
        worker.assigned(6, set())
        assert worker.waiting == 0
        house.log.recalling.set()
        worker.assigned(7, {0})
        worker.take(asked)
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    assert house.log.of(asked.answer).text == "Once"


async def test_all_that_a_partition_has_missed_is_read_together() -> None:
    house = House()
    many = [asked_again(offset=offset) for offset in range(3)]
    for asked in many:
        begun(house, asked.answer, "Once")
        late(house, asked.answer)
    async with running(house) as worker:
        for asked in many:
            worker.take(asked)
        worker.take(asked_again(many[0].answer, offset=9))
        await house.until(lambda: len(house.work.acknowledged) == 4, "the outcome")
    assert {place.offset for place in house.work.acknowledged} == {0, 1, 2, 9}
    assert len(house.log.recalls) <= 2
    assert all(house.log.of(asked.answer).text == "Once" for asked in many)


async def test_past_the_retention_of_tokens_an_answer_ends_with_what_is_left() -> None:
    """Its first claim is gone from the log: no chunk that is still there counts for anybody who
    begins now, and an end at index 0 does."""
    house, asked = House(), asked_again()
    house.log.write(0, Chunk(asked.answer, FIRST, 7, "late", 1))
    house.log.begins[0] = 1
    late(house, asked.answer)
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.work.acknowledged == [asked.place], "the outcome")
    said = house.log.of(asked.answer)
    assert said.end is not None
    assert (said.end.kind, said.end.index, said.text) == (EndKind.FAIL, 0, "")
