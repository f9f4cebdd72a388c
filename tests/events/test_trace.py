"""Traceparents, and the spans that are told under them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from events import trace
from events.trace import LIVE_SECONDS_MAX, Span

REQUEST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = REQUEST[:-1] + "0"


@pytest.fixture(autouse=True)
def _nobody_exports_afterwards() -> Iterator[None]:
    yield
    trace.export_to(None)


def test_everybody_makes_the_same_turn_of_a_request() -> None:
    turn = trace.turn_of(REQUEST)
    assert turn == trace.turn_of(REQUEST)
    assert trace.ids_of(turn) is not None
    assert turn.split("-")[1] == REQUEST.split("-")[1]
    assert turn.split("-")[2] != REQUEST.split("-")[2]
    assert trace.turn_of(trace.child_of(REQUEST)) != turn, "another request's is another"


def test_the_decision_to_sample_goes_on_in_the_flags() -> None:
    assert trace.turn_of(UNSAMPLED).endswith("-00")
    assert trace.child_of(UNSAMPLED).endswith("-00")
    assert trace.child_of(REQUEST).endswith("-01")


@pytest.mark.parametrize(
    ("ratio", "least", "most"), [(0.0, 0, 0), (0.25, 150, 350), (1.0, 1000, 1000)]
)
def test_a_share_of_the_new_traces_is_sampled(ratio: float, least: int, most: int) -> None:
    trace.export_to(lambda span: None, ratio=ratio)
    made = [trace.new_traceparent() for _ in range(1000)]
    assert least <= sum(one.endswith("-01") for one in made) <= most
    assert trace.child_of(REQUEST).endswith("-01"), "who began a trace has decided"


def test_nothing_is_told_without_an_exporter_or_in_a_trace_that_is_not_sampled() -> None:
    assert not trace.is_told(REQUEST)
    told: list[Span] = []
    trace.export_to(told.append)
    assert not trace.is_told(UNSAMPLED)
    assert not trace.is_told(None)
    assert not trace.is_told("")
    for under in (UNSAMPLED, None, "nonsense"):
        trace.stage("a stage", under, trace.now_ns())
    assert told == []
    trace.stage("a stage", REQUEST, trace.now_ns())
    assert len(told) == 1


def test_a_stage_is_a_child_and_never_ends_before_it_began() -> None:
    told: list[Span] = []
    trace.export_to(told.append)
    trace.stage("a stage", REQUEST, 2_000, ended_ns=1_000)  # clocks of two machines
    (span,) = told
    assert span.parent == REQUEST.split("-")[2]
    assert span.traceparent.split("-")[1] == REQUEST.split("-")[1]
    assert span.traceparent.split("-")[2] != span.parent
    assert (span.began_ns, span.ended_ns) == (2_000, 2_000)


def test_an_event_that_is_read_again_long_after_makes_no_spans() -> None:
    trace.export_to(lambda span: None)
    now = datetime.now(UTC)
    assert trace.is_told(REQUEST, of=now)
    assert not trace.is_told(REQUEST, of=now - timedelta(seconds=LIVE_SECONDS_MAX + 1))
