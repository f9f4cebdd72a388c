"""That a projection has applied an answer's end is told as the last stage of its turn."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from events import trace
from events.conversations import AnswerEnded
from events.trace import LIVE_SECONDS_MAX, Span
from infra.projections import tell_ends
from projections.deliveries import Delivery
from tests.contracts.projections.deliver import Partition, a_conversation
from tests.fixtures.spans import names

REQUEST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def batch(*, at: datetime, request: str | None = REQUEST) -> list[Delivery]:
    """A conversation as it comes from the log, whose events are of that time."""
    events = [
        replace(one, meta=replace(one.meta, traceparent=request, time=at))
        for one in a_conversation()
    ]
    assert any(isinstance(one.event, AnswerEnded) for one in events)
    return Partition().send(events)


def test_an_end_is_told_once_it_is_applied(told: list[Span]) -> None:
    tell_ends(batch(at=datetime.now(UTC)), "histories", trace.now_ns())
    assert names(told) == ["project histories"]
    assert told[0].parent == trace.turn_of(REQUEST).split("-")[2]


def test_what_is_read_again_long_after_makes_no_spans(told: list[Span]) -> None:
    long_ago = datetime.now(UTC) - timedelta(seconds=LIVE_SECONDS_MAX + 1)
    tell_ends(batch(at=long_ago), "histories", trace.now_ns())
    tell_ends(batch(at=datetime.now(UTC), request=f"{REQUEST[:-1]}0"), "histories", 1)
    tell_ends(batch(at=datetime.now(UTC), request=None), "histories", 1)
    assert told == []
