"""What a worker's meter is told is what happened."""

from collections.abc import Sequence

import pytest

from events.answers import Chunk, Claim, ClaimId
from events.conversations import Sampling
from events.ids import fresh_id
from processors.answers.engine import CannotContinue, EngineRefused, Overloaded
from processors.answers.meter import (
    NOTHING,
    Heard,
    LeftWithout,
    Spoken,
    Unmeasured,
    left_without,
)
from processors.answers.scheduling.scheduler import Dispatch, Outcome
from processors.answers.scheduling.work import Why
from tests.processors.answers.fakes import MODEL, FakeEngine, numbers, task
from tests.processors.answers.test_worker import (
    House,
    running,
    two_of_which_the_first_asked_breaks_after,
)


class Told(Unmeasured):
    def __init__(self) -> None:
        self.calls: list[tuple[Outcome, Spoken]] = []
        self.tokens_wasted = 0

    def ended(self, dispatch: Dispatch, outcome: Outcome, spoken: Spoken, error: str) -> None:
        if spoken is not NOTHING:  # else a place was given back without a call
            self.calls.append((outcome, spoken))

    def wasted(self, tokens: int) -> None:
        self.tokens_wasted += tokens


async def answered(
    *, engines: Sequence[FakeEngine] = (), stop: tuple[str, ...] = (), said: int = 0
) -> Told:
    """After an answer of 8 tokens of which `said` stood in the log before."""
    told = Told()
    house = House(engines=list(engines), meter=told)
    asked = house.ask(8)
    house.requests.tasks[asked.answer] = task(8, sampling=Sampling(max_tokens=100, stop=stop))
    if said:
        claim = ClaimId(0, fresh_id())
        house.log.write(0, Claim(asked.answer, claim, "w0", MODEL))
        house.log.write(0, Chunk(asked.answer, claim, 0, numbers(said), said))
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    assert house.log.of(asked.answer).text == numbers(8)
    return told


async def test_an_answer_that_went_well_wastes_nothing() -> None:
    told = await answered()
    ((outcome, spoken),) = told.calls
    assert (outcome, spoken.tokens, spoken.prompt_tokens) == (Outcome.FINISHED, 8, 5)
    assert spoken.first_seconds is not None
    assert told.tokens_wasted == 0


async def test_what_was_shown_before_an_engine_broke_is_not_wasted() -> None:
    told = await answered(engines=two_of_which_the_first_asked_breaks_after(3))
    assert [spoken.tokens for _, spoken in told.calls] == [3, 5]
    assert told.tokens_wasted == 0


HELD_BACK = (" 0 STOP", " 3 STOP")
"""What may be the beginning of a stop sequence waits, and is lost with its call."""


async def test_what_was_said_and_could_not_be_shown_is_wasted() -> None:
    engines = two_of_which_the_first_asked_breaks_after(1)
    told = await answered(engines=engines, stop=HELD_BACK)
    assert [spoken.tokens for _, spoken in told.calls] == [1, 8]
    assert told.tokens_wasted == 1


async def test_what_others_had_shown_before_makes_up_for_no_waste() -> None:
    engines = two_of_which_the_first_asked_breaks_after(1)
    told = await answered(engines=engines, stop=HELD_BACK, said=3)
    assert [spoken.tokens for _, spoken in told.calls] == [1, 5]
    assert told.tokens_wasted == 1


def test_tokens_of_others_are_nobodys_waste() -> None:
    heard = Heard()
    heard.tokens = 2
    assert heard.wasted(shown=8) == 0, "another worker said the rest"
    assert heard.wasted(shown=0) == 2


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        *((why, LeftWithout(why.value)) for why in Why),
        (Overloaded(""), LeftWithout.QUEUE_FULL),
        (EngineRefused(""), LeftWithout.NO_MODEL),
        (CannotContinue(""), LeftWithout.CANNOT_CONTINUE),
    ],
)
def test_each_reason_has_its_word(reason: Why | Exception, word: LeftWithout) -> None:
    assert left_without(reason) is word
