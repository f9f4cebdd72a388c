"""A request that waits and hears nothing sets off the alarm, unless it waits for an engine."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import pytest

from events.conversations import Band
from events.ids import ConversationId
from processors.answers import standstill as standstill_module
from processors.answers.ports import Place, Request
from processors.answers.protocol_words import Held, LoadFailed, Said
from processors.answers.standstill import Standstill
from tests.processors.answers.given_worker import (
    ANSWER,
    Worker,
    a_claimant,
    a_speaker,
    a_worker,
)
from tests.processors.answers.test_worker import House, running

REQUEST = Request(
    ANSWER, ConversationId(UUID(int=2)), UUID(int=1), "m", Place(Band.DEFAULT, 3, 0), None
)


@dataclass
class Holding:
    worker: Worker
    request: Request = REQUEST

    @property
    def state(self) -> Held:
        return self.worker.state


@pytest.mark.parametrize("waiting", [a_worker, a_claimant])
def test_who_waits_for_the_store_or_the_log_and_hears_nothing_stands_still(
    waiting: Callable[[], Worker],
) -> None:
    holding = Holding(waiting())
    standstill = Standstill({ANSWER: holding})
    assert standstill.look() == []
    assert standstill.look() == [holding]
    assert standstill.look() == [holding]


def test_who_hears_something_between_two_looks_does_not_stand_still() -> None:
    holding = Holding(a_claimant())
    standstill = Standstill({ANSWER: holding})
    standstill.look()
    holding.worker.reads_own()
    assert standstill.look() == []


def test_who_waits_for_an_engine_does_not_stand_still() -> None:
    standstill = Standstill({ANSWER: Holding(a_speaker())})
    standstill.look()
    assert standstill.look() == []


def test_a_chunk_that_is_not_read_back_is_a_standstill() -> None:
    holding = Holding(a_speaker())
    holding.worker.put(Said(holding.state.call, "a", 1))
    standstill = Standstill({ANSWER: holding})
    standstill.look()
    assert standstill.look() == [holding]


def test_who_is_taken_up_anew_starts_anew() -> None:
    held = {ANSWER: Holding(a_worker())}
    standstill = Standstill(held)
    standstill.look()
    held[ANSWER] = Holding(a_worker())
    assert standstill.look() == []
    held[ANSWER].worker.put(LoadFailed())
    del held[ANSWER]
    assert standstill.look() == []


async def test_a_worker_whose_log_swallows_its_claim_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(standstill_module, "LOOK_SECONDS", 0.001)
    house = House()
    house.log.manual = True  # nothing lands
    asked = house.ask()
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: "requests stand still" in caplog.messages, "the alarm")
    told = next(each for each in caplog.records if each.message == "requests stand still")
    assert told.__dict__["answers"] == [str(asked.answer)]
    assert told.__dict__["partitions"] == [0]
