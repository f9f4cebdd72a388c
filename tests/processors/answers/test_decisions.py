"""What the dispatcher says of its decisions is what it did, and reads back as it was said."""

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.codec import Undecodable
from events.decisions import (
    BreakerChanged,
    CallEnded,
    Candidate,
    Decided,
    Decision,
    WasDispatched,
    WasGivenUp,
    WasQueued,
    decode_decided,
    encode_decided,
)
from processors.answers.calls import Call, work_of
from processors.answers.dispatch import Dispatcher, DispatchLimits
from processors.answers.engine import EngineFailed, EngineRefused, NoEngine
from processors.answers.scheduling.work import QueueLimits
from tests.processors.answers.fakes import FakeEngine, request
from tests.processors.answers.test_dispatch import MODEL, PROMPT, failing


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
    assert queued.answer == dispatched.answer == ended.answer
    assert queued.at_ms <= dispatched.at_ms <= ended.at_ms


async def test_a_failed_call_is_told_with_the_one_that_follows_it() -> None:
    broken = FakeEngine("a", failing(10**9, EngineFailed("dead")))
    decisions, error = await said(broken, FakeEngine("b"))
    assert error is None
    calls = [(one.engine, one.outcome) for one in decisions if isinstance(one, CallEnded)]
    assert calls[-1] == ("b", "finished")
    assert set(calls[:-1]) <= {("a", "failed")}


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
    st.builds(WasQueued, NUMBERS, st.uuids(), TEXT, TEXT, NUMBERS, SECONDS, st.booleans(), NUMBERS),
    st.builds(
        WasDispatched,
        NUMBERS,
        st.uuids(),
        TEXT,
        TEXT,
        SECONDS,
        st.lists(CANDIDATES, max_size=2).map(tuple),
    ),
    st.builds(CallEnded, NUMBERS, st.uuids(), TEXT, TEXT, NUMBERS, SECONDS, TEXT),
    st.builds(WasGivenUp, NUMBERS, st.uuids(), TEXT),
    st.builds(BreakerChanged, NUMBERS, TEXT, TEXT, TEXT),
)


@given(st.builds(Decided, TEXT, st.lists(DECISIONS, max_size=4).map(tuple)))
def test_decisions_are_read_as_they_were_made(decided: Decided) -> None:
    assert decode_decided(encode_decided(decided)) == decided


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
