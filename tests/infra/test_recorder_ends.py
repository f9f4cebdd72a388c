"""An end that is recorded leaves one line, in the trace of the request that it answers."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from commands.conversations import (
    CONVERSATIONS,
    CompleteOnce,
    RecordAnswer,
    complete_once,
    record_answer,
)
from commands.submit import Commands
from events import trace
from events.conversations import AnswerEnded, EndKind
from events.envelope import Meta
from events.ids import fresh_id
from events.trace import LIVE_SECONDS_MAX, Span
from infra.event_store import MemoryStore
from infra.recorder import StoredAnswerEnds
from processors.answers.recorder_ports import Outcome
from tests.commands.examples import A, C, T, ask, ended, new_message
from tests.fixtures.spans import names

EVENT_BYTES_MAX = 1_000_000


async def asked_in(traceparent: str, at: datetime, *, stored: bool = True) -> MemoryStore:
    """An event store in which the answer was asked for."""
    store = MemoryStore()
    meta = Meta(T, "call:1", "k", "s", at, fresh_id(), traceparent=traceparent)
    command = CompleteOnce(C, (new_message(),), ask(), stored=stored)
    commands = Commands(store, CONVERSATIONS, event_bytes_max=EVENT_BYTES_MAX)
    await commands.submit(C, lambda state: complete_once(state, command), meta, b"")
    return store


async def test_an_end_is_told_once_in_the_trace_of_its_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    traceparent = trace.new_traceparent()
    store = await asked_in(traceparent, datetime.now(UTC))
    traces: list[str | None] = []

    class Traces(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            traces.append(trace.current.get())

    log, seen = logging.getLogger("thalweg.recorder"), Traces()
    log.addHandler(seen)
    try:
        with caplog.at_level(logging.INFO, "thalweg.recorder"):
            ends = StoredAnswerEnds(store, event_bytes_max=EVENT_BYTES_MAX)
            assert await ends.record(ended()) is Outcome.RECORDED
            assert await ends.record(ended()) is Outcome.RECORDED
    finally:
        log.removeHandler(seen)
    ((trace_id, _),) = [ids for one in traces if (ids := trace.ids_of(one))]
    assert trace_id == traceparent.split("-")[1]
    (told,) = [one for one in caplog.records if one.name == "thalweg.recorder"]
    assert vars(told)["answer"] == str(A)
    assert "thalweg is" not in str(vars(told)), "nothing of what was said"


async def test_the_turn_is_told_by_whoever_records_its_end(told: list[Span]) -> None:
    request, asked_at = trace.new_traceparent(), datetime.now(UTC)
    ends = StoredAnswerEnds(await asked_in(request, asked_at), event_bytes_max=EVENT_BYTES_MAX)
    await ends.record(ended())
    stage, turn = told
    assert names(told) == ["record end", "turn"]
    assert stage.parent == turn.traceparent.split("-")[2]
    assert turn.traceparent == trace.turn_of(request)
    assert turn.parent == request.split("-")[2]
    assert turn.began_ns == pytest.approx(asked_at.timestamp() * 1e9, abs=1_000)
    assert turn.attributes["thalweg.answer"] == str(A)
    assert "thalweg is" not in str(turn), "nothing of what was said"


async def test_a_recorder_that_died_before_it_told_the_turn_is_made_up_for(
    told: list[Span],
) -> None:
    store = await asked_in(trace.new_traceparent(), datetime.now(UTC))
    await StoredAnswerEnds(store, event_bytes_max=EVENT_BYTES_MAX).record(ended())
    lost = told[-1]
    told.clear()
    await StoredAnswerEnds(store, event_bytes_max=EVENT_BYTES_MAX).record(ended())
    assert told == [lost], "the same span, with the same id"


async def test_tokens_that_are_read_again_long_after_make_no_spans(told: list[Span]) -> None:
    long_ago = datetime.now(UTC) - timedelta(seconds=LIVE_SECONDS_MAX + 1)
    request = trace.new_traceparent()
    store = await asked_in(request, long_ago)
    meta = Meta(T, "answer-end:1", "recorder", "s", long_ago, fresh_id(), traceparent=request)
    commands = Commands(store, CONVERSATIONS, event_bytes_max=EVENT_BYTES_MAX)
    await commands.submit(
        C, lambda state: record_answer(state, RecordAnswer(ended())), meta, b"end"
    )
    ends = StoredAnswerEnds(store, event_bytes_max=EVENT_BYTES_MAX)
    assert await ends.record(ended()) is Outcome.RECORDED
    assert told == []


@pytest.mark.parametrize(
    ("stored", "reason", "error", "kept"),
    [
        (True, "refused", "engine: 'What is' is too long", "engine: 'What is' is too long"),
        (False, "refused", "engine: 'What is' is too long", "The engine refused the request."),
        (False, "poisonous", "3 attempts in a row", "3 attempts in a row"),
        (False, "engine", None, None),
    ],
)
async def test_an_engine_s_words_are_not_kept_of_what_is_not_stored(
    stored: bool, reason: str, error: str | None, kept: str | None
) -> None:
    store = await asked_in(trace.new_traceparent(), datetime.now(UTC), stored=stored)
    ends = StoredAnswerEnds(store, event_bytes_max=EVENT_BYTES_MAX)
    fail = {"kind": EndKind.FAIL, "reason": reason, "error": error}
    assert await ends.record(ended().model_copy(update=fail)) is Outcome.RECORDED
    last = (await store.load(C))[-1].event
    assert isinstance(last, AnswerEnded)
    assert (last.reason, last.error) == (reason, kept)
