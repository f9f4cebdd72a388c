"""What the dispatcher says of its decisions is what it did, and reads back as it was said."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.answers import Chunk, Claim, ClaimId
from events.codec import Undecodable
from events.conversations import Role
from events.decisions import (
    BreakerChanged,
    CallEnded,
    Candidate,
    Decided,
    Decision,
    EngineAppeared,
    EngineGone,
    WasDispatched,
    WasGivenUp,
    WasQueued,
    decode_decided,
    encode_decided,
)
from events.ids import fresh_id
from processors.answers.calls import Call, work_of
from processors.answers.dispatch import Dispatcher, DispatchLimits
from processors.answers.engine import EngineFailed, EngineRefused, Message, NoEngine, Overloaded
from processors.answers.scheduling.work import QueueLimits
from tests.processors.answers.fakes import FakeEngine, numbers, request
from tests.processors.answers.test_dispatch import MODEL, PROMPT, failing
from tests.processors.answers.test_worker import (
    House,
    running,
    two_of_which_the_first_asked_breaks_after,
)


def calls_of(house: House) -> list[tuple[int | None, int | None]]:
    """Of each dispatch, which attempt it was, and after how many tokens."""
    told = [one for one in house.decisions if isinstance(one, WasDispatched)]
    return [(one.attempt, one.said_tokens) for one in told]


async def test_a_call_that_goes_on_says_after_how_much_and_that_it_is_the_second() -> None:
    house = House(engines=two_of_which_the_first_asked_breaks_after(3))
    asked = house.ask(8)
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    assert calls_of(house) == [(1, 0), (2, 3)]


async def test_what_another_worker_has_said_counts_and_its_calls_do_not() -> None:
    house = House()
    asked, claim = house.ask(5), ClaimId(0, fresh_id())
    house.log.write(0, Claim(asked.answer, claim, "other", MODEL))
    house.log.write(0, Chunk(asked.answer, claim, 0, numbers(2), 2))
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    assert house.log.of(asked.answer).text == numbers(5)
    assert set(calls_of(house)) == {(1, 2)}


async def test_the_counter_by_which_a_tenant_was_chosen_is_told() -> None:
    decisions: list[Decision] = []
    dispatcher = Dispatcher([FakeEngine("a")], decide=decisions.append)
    for _ in range(2):
        async for _ in Call(dispatcher, work_of(request(), PROMPT, 30), PROMPT).tokens():
            pass
    await dispatcher.close()
    used = [one.tokens for one in decisions if isinstance(one, CallEnded)]
    told = [one.tenant_tokens for one in decisions if isinstance(one, WasDispatched)]
    assert used[0] > 0
    assert told == [0, used[0]]


async def test_engines_that_come_and_go_are_told() -> None:
    decisions: list[Decision] = []
    dispatcher = Dispatcher([FakeEngine("a")], decide=decisions.append)
    call = Call(dispatcher, work_of(request(), PROMPT, 30), PROMPT).tokens()
    await anext(call)
    del decisions[:]
    dispatcher.set_engines([FakeEngine("b")])
    gone, appeared = decisions
    assert isinstance(gone, EngineGone)
    assert (gone.engine, gone.in_flight) == ("a", 1)
    assert isinstance(appeared, EngineAppeared)
    assert appeared.engine == "b"
    dispatcher.set_engines([FakeEngine("b")])
    assert len(decisions) == 2
    await call.aclose()
    await dispatcher.close()


async def said(
    *engines: FakeEngine, limits: DispatchLimits | None = None
) -> tuple[list[Decision], Exception | None]:
    """Of one call."""
    decisions: list[Decision] = []
    dispatcher = Dispatcher(engines, limits, decide=decisions.append)
    error = None
    try:
        async for _ in Call(dispatcher, work_of(request(), PROMPT, 30), PROMPT).tokens():
            pass
    except Exception as raised:  # whatever the call raises
        error = raised
    await dispatcher.close()
    return decisions, error


async def test_a_call_that_went_well_was_queued_dispatched_and_ended() -> None:
    decisions, error = await said(FakeEngine("a"), FakeEngine("b"))
    assert error is None
    queued, dispatched, ended = decisions
    assert isinstance(queued, WasQueued)
    assert isinstance(dispatched, WasDispatched)
    assert isinstance(ended, CallEnded)
    assert (queued.band, queued.model, queued.others, queued.begun) == ("default", MODEL, 0, False)
    assert (dispatched.because, ended.outcome) == ("less_loaded", "finished")
    assert {one.engine for one in dispatched.candidates} == {"a", "b"}
    assert dispatched.engine == ended.engine
    assert queued.tenant == request().tenant
    assert (dispatched.attempt, dispatched.said_tokens) == (1, 0)
    assert (dispatched.level, dispatched.tenant_tokens) == ("default", 0)
    assert queued.answer == dispatched.answer == ended.answer
    assert queued.at_ms <= dispatched.at_ms <= ended.at_ms


async def test_a_failed_call_is_told_with_the_one_that_follows_it() -> None:
    broken = FakeEngine("a", failing(10**9, EngineFailed("dead")))
    decisions, error = await said(broken, FakeEngine("b"))
    assert error is None
    calls = [(one.engine, one.outcome) for one in decisions if isinstance(one, CallEnded)]
    assert calls[-1] == ("b", "finished")
    assert set(calls[:-1]) <= {("a", "failed")}
    attempts = [one.attempt for one in decisions if isinstance(one, WasDispatched)]
    assert attempts == [1, 2][: len(calls)]


async def test_a_call_that_is_closed_is_neither_a_success_nor_a_failure() -> None:
    decisions: list[Decision] = []
    dispatcher = Dispatcher([FakeEngine("a")], decide=decisions.append)
    call = Call(dispatcher, work_of(request(), PROMPT, 30), PROMPT).tokens()
    await anext(call)
    await call.aclose()
    await dispatcher.close()
    (ended,) = [one for one in decisions if isinstance(one, CallEnded)]
    assert ended.outcome == "let_go"
    assert dispatcher.report(0).served == ()


async def test_a_call_that_no_engine_took_has_used_nothing() -> None:
    decisions: list[Decision] = []
    dispatcher = Dispatcher([FakeEngine("a", failing(1, Overloaded()))], decide=decisions.append)
    prompt = replace(PROMPT, messages=(Message(Role.USER, "long " * 100), *PROMPT.messages))
    async for _ in Call(dispatcher, work_of(request(), prompt, 30), prompt).tokens():
        pass
    await dispatcher.close()
    tokens = [one.tokens for one in decisions if isinstance(one, CallEnded)]
    assert tokens == [0, 5 + 5]


async def test_a_breaker_that_opens_is_told() -> None:
    away = FakeEngine("a", failing(10**9, EngineFailed("no connection", reached=False)))
    limits = DispatchLimits(queue=QueueLimits(no_capacity_seconds_max=0.05))
    decisions, error = await said(away, limits=limits)
    assert isinstance(error, NoEngine)
    assert [one.why for one in decisions if isinstance(one, WasGivenUp)] == ["no_capacity"]
    assert [one.outcome for one in decisions if isinstance(one, CallEnded)] == ["away"]
    changed = [one for one in decisions if isinstance(one, BreakerChanged)]
    assert [(one.engine, one.before, one.after) for one in changed] == [("a", "closed", "open")]


async def test_what_nobody_serves_is_given_up_with_the_reason() -> None:
    other = FakeEngine("a")
    other.served = ("something else",)
    decisions, error = await said(other)
    assert isinstance(error, EngineRefused)
    (given_up,) = [one for one in decisions if isinstance(one, WasGivenUp)]
    assert MODEL in given_up.why


TEXT = st.text(max_size=8)
NUMBERS = st.integers(0, 2**40)
SECONDS = st.floats(0, 1e6)
PERHAPS = st.none() | st.integers(0, 1_000)
CANDIDATES = st.builds(
    Candidate, TEXT, SECONDS, NUMBERS, PERHAPS, PERHAPS, PERHAPS, st.none() | SECONDS
)
DECISIONS = st.one_of(
    st.builds(
        WasQueued,
        *(NUMBERS, st.uuids(), TEXT, TEXT, NUMBERS, SECONDS, st.booleans(), NUMBERS),
        st.none() | st.uuids(),
    ),
    st.builds(
        WasDispatched,
        NUMBERS,
        st.uuids(),
        TEXT,
        TEXT,
        SECONDS,
        st.lists(CANDIDATES, max_size=2).map(tuple),
        *(PERHAPS, PERHAPS, st.none() | TEXT, PERHAPS),
    ),
    st.builds(CallEnded, NUMBERS, st.uuids(), TEXT, TEXT, NUMBERS, SECONDS, TEXT),
    st.builds(WasGivenUp, NUMBERS, st.uuids(), TEXT),
    st.builds(BreakerChanged, NUMBERS, TEXT, TEXT, TEXT),
    st.builds(EngineAppeared, NUMBERS, TEXT),
    st.builds(EngineGone, NUMBERS, TEXT, NUMBERS),
)


@given(st.builds(Decided, TEXT, st.lists(DECISIONS, max_size=4).map(tuple)))
def test_decisions_are_read_as_they_were_made(decided: Decided) -> None:
    assert decode_decided(encode_decided(decided)) == decided


def test_what_the_first_version_said_is_still_read() -> None:
    answer = "0190b6a3-0000-7000-8000-000000000001"
    known = b'"queued":null,"running":null,"tokens":null,"age_seconds":null'
    first = (
        b'{"worker":"w","decisions":[{"kind":"queued","said":{"at_ms":1,"answer":"%(answer)s",'
        b'"band":"flex","model":"m","tokens":120,"seconds_left":30.0,"begun":true,"others":7}},'
        b'{"kind":"dispatched","said":{"at_ms":2,"answer":"%(answer)s","engine":"e",'
        b'"because":"only","waited_seconds":0.5,"candidates":[{"engine":"e","load":0.25,'
        b'"in_flight":9,%(known)s}]}}]}' % {b"answer": answer.encode(), b"known": known}
    )
    candidate = Candidate("e", 0.25, 9, None, None, None, None)
    assert decode_decided(first).decisions == (
        WasQueued(1, UUID(answer), "flex", "m", 120, 30.0, True, 7, tenant=None),
        WasDispatched(2, UUID(answer), "e", "only", 0.5, (candidate,), None, None, None, None),
    )


def test_what_a_later_version_says_besides_is_passed_over() -> None:
    one = WasGivenUp(1, uuid4(), "deadline")
    later = encode_decided(Decided("w", (one, replace(one, at_ms=2))))
    later = later.replace(b'"kind":"given_up"', b'"kind":"foretold"', 1)
    later = later.replace(b'"why":', b'"mood":"calm","why":')
    assert decode_decided(later) == Decided("w", (replace(one, at_ms=2),))


@pytest.mark.parametrize(
    "value",
    [None, b"", b"[]", b'{"worker": "w", "decisions": [{"kind": "given_up", "said": {}}]}'],
)
def test_what_is_no_record_of_decisions_is_said_to_be_none(value: bytes | None) -> None:
    with pytest.raises(Undecodable):
        decode_decided(value)
