"""An end that is recorded leaves one line, in the trace of the request that it answers."""

import logging
from datetime import UTC, datetime

import pytest

from commands.conversations import CONVERSATIONS, CompleteOnce, complete_once
from commands.submit import Commands
from events import trace
from events.envelope import Meta
from events.ids import fresh_id
from infra.event_store import MemoryStore
from infra.recorder import StoredAnswerEnds
from processors.answers.recorder_ports import Outcome
from tests.commands.examples import A, C, T, ask, ended, new_message

EVENT_BYTES_MAX = 1_000_000


async def test_an_end_is_told_once_in_the_trace_of_its_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, traceparent = MemoryStore(), trace.new_traceparent()
    meta = Meta(T, "call:1", "k", "s", datetime.now(UTC), fresh_id(), traceparent=traceparent)
    command = CompleteOnce(C, (new_message(),), ask())
    commands = Commands(store, CONVERSATIONS, event_bytes_max=EVENT_BYTES_MAX)
    await commands.submit(C, lambda state: complete_once(state, command), meta, b"")
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
    (told,) = caplog.records
    assert vars(told)["answer"] == str(A)
    assert "thalweg is" not in str(vars(told)), "nothing of what was said"
