"""Which engine speaks, and what happens when it cannot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from events.conversations import Role, Sampling
from events.ids import ConversationId, fresh_id
from processors.answers import calls, dispatch
from processors.answers.calls import Call, work_of
from processors.answers.dispatch import Dispatcher, DispatchLimits, GivenUp
from processors.answers.engine import (
    CannotContinue,
    EngineFailed,
    EngineRefused,
    Finished,
    Message,
    NoEngine,
    Overloaded,
    Prompt,
    Token,
)
from processors.answers.scheduling import queue
from processors.answers.scheduling.breaker import BreakerLimits
from processors.answers.scheduling.retries import RetryLimits
from processors.answers.scheduling.seats import SeatLimits
from processors.answers.scheduling.work import QueueLimits, Why
from tests.processors.answers.fakes import (
    MODEL,
    FakeEngine,
    Script,
    breaking_after,
    counting,
    numbers,
    request,
)

PROMPT = Prompt((Message(Role.USER, "5"),), "", Sampling(max_tokens=100), 100)


QUICK = BreakerLimits(
    pause_seconds=0.002,
    pause_seconds_max=0.008,
    slow_start_seconds=0.001,
    full_pause_seconds=0.001,
    full_pause_seconds_max=0.004,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TICK_SECONDS", 0.001)


def dispatcher_of(*engines: FakeEngine, away_seconds_max: float = 60, **limits: Any) -> Dispatcher:
    queue = QueueLimits(no_capacity_seconds_max=away_seconds_max)
    return Dispatcher(engines, DispatchLimits(**{"queue": queue, "breaker": QUICK, **limits}))


def asking(
    dispatcher: Dispatcher,
    model: str = MODEL,
    *,
    seconds_max: float = 10,
    begun: bool = False,
    avoid: str | None = None,
    conversation: ConversationId | None = None,
) -> Call:
    made = replace(request(), model=model)
    if conversation is not None:
        made = replace(made, conversation=conversation)
    prompt = replace(PROMPT, said=" 0" if begun else "")
    work = work_of(made, prompt, seconds_max, avoid=avoid)
    return Call(dispatcher, work, PROMPT)


async def say(dispatcher: Dispatcher, model: str = MODEL, **how: Any) -> str:
    async with aclosing(asking(dispatcher, model, **how).tokens()) as items:
        return "".join([item.text async for item in items if isinstance(item, Token)])


async def refusing(error: Exception) -> AsyncIterator[Token | Finished]:
    raise error
    yield Token("")


async def test_the_engine_with_the_least_in_flight_speaks() -> None:
    engines = [FakeEngine("a"), FakeEngine("b")]
    dispatcher = dispatcher_of(*engines)
    speaking = [asking(dispatcher).tokens() for _ in range(4)]
    for call in speaking:
        await anext(call)
    assert [engine.open for engine in engines] == [2, 2]
    for call in speaking:
        await call.aclose()
    assert [engine.open for engine in engines] == [0, 0]


async def test_only_an_engine_that_serves_the_model_speaks() -> None:
    engines = [FakeEngine("a", models=["other"]), FakeEngine("b")]
    dispatcher = dispatcher_of(*engines)
    for _ in range(3):
        assert await say(dispatcher) == numbers(5)
    assert (len(engines[0].calls), len(engines[1].calls)) == (0, 3)


async def test_an_engine_with_several_models_is_told_which_one_is_meant() -> None:
    engine = FakeEngine("a", models=["one", "two"])
    dispatcher = dispatcher_of(engine)
    for model in ("two", "one"):
        await say(dispatcher, model=model)
    assert [prompt.model for prompt in engine.calls] == ["two", "one"]


async def test_a_model_that_nobody_serves_is_refused() -> None:
    with pytest.raises(EngineRefused, match="No engine serves the model 'unheard-of'"):
        await say(dispatcher_of(FakeEngine("a")), model="unheard-of")


async def test_an_engine_that_fails_before_a_word_is_replaced_unnoticed() -> None:
    bad = FakeEngine("bad", lambda _: refusing(EngineFailed("broken")))
    good = FakeEngine("good")
    dispatcher = dispatcher_of(bad, good, breaker=BreakerLimits())
    for _ in range(5):
        assert await say(dispatcher) == numbers(5)
    assert len(bad.calls) < 5, "it is left alone for a while"


async def test_a_failure_in_the_middle_is_told() -> None:
    dispatcher = dispatcher_of(FakeEngine("a", breaking_after(3)))
    call = asking(dispatcher).tokens()
    assert [await anext(call) for _ in range(3)] == [Token(f" {n}", n) for n in range(3)]
    with pytest.raises(EngineFailed):
        await anext(call)


async def test_another_engine_is_preferred_after_a_failure() -> None:
    engines = [FakeEngine("a"), FakeEngine("b")]
    dispatcher = dispatcher_of(*engines)
    for _ in range(3):
        call = asking(dispatcher, avoid="a")
        async with aclosing(call.tokens()) as items:
            assert [item async for item in items]
        assert call.engine == "b"


async def test_the_engine_that_spoke_last_in_a_conversation_speaks_again() -> None:
    dispatcher = dispatcher_of(FakeEngine("a"), FakeEngine("b"), FakeEngine("c"))
    conversation = ConversationId(fresh_id())
    spoke = set()
    for _ in range(6):
        call = asking(dispatcher, conversation=conversation)
        async with aclosing(call.tokens()) as items:
            assert [item async for item in items]
        spoke.add(call.engine)
    assert len(spoke) == 1


def failing(times: int, error: Exception) -> Script:
    """Raises the error so many times, then says what it is asked."""
    left = times

    async def script(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        nonlocal left
        if left:
            left -= 1
            raise error
        async for item in counting(prompt):
            yield item

    return script


async def test_a_full_engine_is_asked_again_however_often() -> None:
    engine = FakeEngine("a", failing(4 * calls.BROKEN_CALLS_MAX, Overloaded()))
    assert await say(dispatcher_of(engine, away_seconds_max=0.05)) == numbers(5)


async def test_engines_that_stay_full_are_told_when_the_time_is_over() -> None:
    engine = FakeEngine("a", lambda _: refusing(Overloaded()))
    with pytest.raises(Overloaded):
        await asyncio.wait_for(say(dispatcher_of(engine), seconds_max=0.2), 20)


async def test_a_full_engine_is_asked_less_and_less_often() -> None:
    engine = FakeEngine("a", lambda _: refusing(Overloaded()))
    slower = replace(QUICK, full_pause_seconds_max=10)
    with pytest.raises(Overloaded):
        await asyncio.wait_for(say(dispatcher_of(engine, breaker=slower), seconds_max=1), 20)
    assert 3 <= len(engine.calls) <= 12, "the pauses double: 1, 2, 4, ... 512 ms at most"


async def test_a_connection_that_is_refused_is_not_an_attempt() -> None:
    away = EngineFailed("refused", reached=False)
    engine = FakeEngine("a", failing(2 * calls.BROKEN_CALLS_MAX, away))
    assert await say(dispatcher_of(engine)) == numbers(5)


async def test_for_an_answer_that_was_shown_engines_are_waited_for_until_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Less than a breaker's pause: where a call takes long, no look falls into one otherwise.
    monkeypatch.setattr(queue, "ASKED_AGAIN_SECONDS", 0.001)
    engine = FakeEngine("a", failing(10**9, EngineFailed("refused", reached=False)))
    dispatcher = dispatcher_of(engine, away_seconds_max=0.05)
    with pytest.raises(NoEngine):
        await say(dispatcher)
    saying = asyncio.create_task(say(dispatcher, begun=True))
    await asyncio.wait([saying], timeout=0.3)  # six times as long
    assert not saying.done()
    engine.script = counting
    assert await saying == numbers(5)
    engine.script = failing(10**9, EngineFailed("refused", reached=False))
    with pytest.raises((EngineFailed, NoEngine)):  # as its last call did, if one fell into it
        await say(dispatcher, begun=True, seconds_max=0.5)


async def test_what_was_given_up_before_a_part_of_it_was_shown_is_waited_for_after_all() -> None:
    """A worker that is about to lose the partition may show a first part while it waits here."""
    engine = FakeEngine("a")
    for why in (Why.CONTENDED, Why.NO_CAPACITY):
        work = work_of(request(), replace(PROMPT, said=" 0"), 10)
        call = Call(dispatcher_of(engine), work, PROMPT, GivenUp(why))
        async with aclosing(call.tokens()) as items:
            assert [item async for item in items]
    unshown = Call(dispatcher_of(engine), work_of(request(), PROMPT, 10), PROMPT, GivenUp(why))
    with pytest.raises(NoEngine):
        await anext(unshown.tokens())


async def test_a_request_that_kills_engines_is_tried_a_bounded_number_of_times() -> None:
    engines = [FakeEngine(name, lambda _: refusing(EngineFailed("dead"))) for name in "abc"]
    with pytest.raises(EngineFailed, match="dead"):
        await asyncio.wait_for(say(dispatcher_of(*engines)), 20)
    assert sum(len(engine.calls) for engine in engines) == calls.BROKEN_CALLS_MAX


async def test_without_a_budget_for_retries_only_what_was_shown_in_part_goes_on_elsewhere() -> None:
    spent = RetryLimits(share=0, per_second=0)
    engine = FakeEngine("a", failing(1, EngineFailed("broken")))
    with pytest.raises(EngineFailed, match="broken"):
        await say(dispatcher_of(engine, retries=spent))
    engine = FakeEngine("a", failing(3, EngineFailed("broken")))
    assert await say(dispatcher_of(engine, retries=spent), begun=True) == numbers(5)


async def test_only_first_calls_give_room_for_others_that_are_made_again() -> None:
    away, left = EngineFailed("refused", reached=False), 6

    async def script(_: Prompt) -> AsyncIterator[Token | Finished]:
        nonlocal left
        left -= 1
        raise away if left > 0 else EngineFailed("dead")
        yield Token("")

    engine = FakeEngine("a", script)
    budget = RetryLimits(share=1.0, per_second=0.0)
    with pytest.raises(EngineFailed, match="dead"):
        await asyncio.wait_for(say(dispatcher_of(engine, retries=budget)), 20)
    assert len(engine.calls) == 5 + 1 + 1


async def test_an_engine_that_comes_back_in_time_is_waited_for() -> None:
    engine = FakeEngine("a")
    engine.unreachable = True
    saying = asyncio.create_task(say(dispatcher_of(engine)))
    await asyncio.wait([saying], timeout=0.02)
    assert not saying.done()
    engine.unreachable = False
    assert await saying == numbers(5)


async def test_none_within_the_bound_is_a_failure() -> None:
    engine = FakeEngine("a")
    engine.unreachable = True
    with pytest.raises(NoEngine):
        await say(dispatcher_of(engine, away_seconds_max=0.05))


async def test_one_that_cannot_continue_leaves_it_to_the_others() -> None:
    engines = [FakeEngine("a", lambda _: refusing(CannotContinue())), FakeEngine("b")]
    assert await say(dispatcher_of(*engines)) == numbers(5)
    with pytest.raises(CannotContinue):
        await say(dispatcher_of(*engines[:1]))


async def test_one_that_can_continue_is_waited_for_if_it_is_away() -> None:
    back = FakeEngine("b", failing(1, EngineFailed("refused", reached=False)))
    engines = [FakeEngine("a", lambda _: refusing(CannotContinue())), back]
    assert await say(dispatcher_of(*engines), begun=True) == numbers(5)
    assert len(engines[0].calls) == 1


async def test_a_refusal_is_final() -> None:
    engines = [
        FakeEngine(name, lambda _: refusing(EngineRefused("too long"))) for name in ("a", "b")
    ]
    with pytest.raises(EngineRefused, match="too long"):
        await say(dispatcher_of(*engines))
    assert sum(len(engine.calls) for engine in engines) == 1


async def test_who_leaves_in_the_moment_in_which_its_turn_comes_keeps_no_place() -> None:
    dispatcher = dispatcher_of(
        FakeEngine("a"), seats=SeatLimits(batch_requests=1, ahead_requests=0)
    )
    for turns in range(6):  # of the loop, between the place that comes free and the leaving
        first = asking(dispatcher).tokens()
        await anext(first)
        second = asyncio.create_task(say(dispatcher))
        await asyncio.sleep(0.01)
        await first.aclose()
        for _ in range(turns):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        async with asyncio.timeout(30):
            assert await say(dispatcher) == numbers(5)


async def test_who_stops_waiting_is_not_served() -> None:
    engine = FakeEngine("a")
    dispatcher = dispatcher_of(engine, seats=SeatLimits(batch_requests=1, ahead_requests=0))
    first = asking(dispatcher).tokens()
    await anext(first)
    second = asyncio.create_task(say(dispatcher))
    await asyncio.wait([second], timeout=0.02)
    second.cancel()
    await asyncio.wait([second])
    await first.aclose()
    async with asyncio.timeout(30):
        assert await say(dispatcher) == numbers(5)
    assert len(engine.calls) == 2


async def test_wrong_requests_are_no_fault_of_their_engine() -> None:
    engine = FakeEngine("a", lambda _: refusing(EngineRefused("too long")))
    dispatcher = dispatcher_of(engine)
    for _ in range(2 * BreakerLimits().outcomes_kept):
        with pytest.raises(EngineRefused):
            await say(dispatcher)
    assert dispatcher.report(0).engines[0].breaker == "closed"


async def test_an_engine_is_given_no_more_than_its_places() -> None:
    engine = FakeEngine("a")
    dispatcher = dispatcher_of(engine, seats=SeatLimits(batch_requests=2, ahead_requests=1))
    said = await asyncio.gather(*(say(dispatcher) for _ in range(12)))
    assert said == [numbers(5)] * 12
    assert engine.open_max == 3
