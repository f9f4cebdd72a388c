"""The relay's stages of a turn, told as spans: its request and its end are sent."""

import asyncio

from events import trace
from events.conversations import AnswerEnded, AnswerRequested
from events.envelope import Recorded
from infra.kafka.producer import Delivered


def tell_when_sent(one: Recorded, topic: str, sent: "asyncio.Future[Delivered]") -> None:
    """Told once Kafka has acknowledged the event, or has not."""
    asked = one.meta.traceparent
    if not isinstance(one.event, AnswerRequested | AnswerEnded):
        return
    if not trace.is_told(asked, of=one.meta.time):
        return
    began = trace.now_ns()

    def tell(sent: "asyncio.Future[Delivered]") -> None:
        lost = sent.cancelled() or sent.exception() is not None
        trace.stage(
            f"send {topic}",
            trace.turn_of(asked),
            began,
            kind=trace.Kind.PRODUCER,
            failed="not delivered" if lost else "",
            attributes={"messaging.system": "kafka", "messaging.destination.name": topic},
        )

    sent.add_done_callback(tell)
