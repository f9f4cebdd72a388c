"""Tells of a worker's decisions, on a topic of their own. Nothing waits for it: what Kafka does not
take in time is lost, and counted.
"""

import asyncio
import logging
from functools import partial
from itertools import islice

from events.decisions import Decided, Decision, encode_decided, key_of
from infra.kafka.producer import Delivered, Producer, ProducerFull

log = logging.getLogger("thalweg.answers")

GATHER_SECONDS = 0.25
"""Most calls are queued, dispatched and ended within some of these: a record or two each."""
DECISIONS_MAX = 10_000
"""Gathered at a time: some 3 MB."""
RECORDS_PER_TURN_MAX = 100
"""Of the loop, which carries tokens too: some 3 ms."""
OUTSTANDING_MAX = 5_000
"""Records on their way to Kafka."""
DELIVERY_SECONDS_MAX = 30.0
"""A broker restarts in less."""


class DecisionsLog:
    """Of one worker, on one event loop."""

    def __init__(self, bootstrap: str, topic: str, worker: str) -> None:
        self._topic, self._worker = topic, worker
        self._producer = Producer(
            bootstrap,
            client_id="thalweg-decisions",
            delivery_seconds_max=DELIVERY_SECONDS_MAX,
            messages_max=OUTSTANDING_MAX,
        )
        self._gathered: dict[str, list[Decision]] = {}
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = 1
        self.lost = 0
        """Decisions that nobody will read."""

    async def start(self) -> None:
        """Connects; Kafka may be away."""
        await self._producer.start()

    def say(self, decision: Decision) -> None:
        if self._number >= DECISIONS_MAX:
            self._lose(1)
            return
        self._gathered.setdefault(key_of(decision), []).append(decision)
        self._number += 1
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(GATHER_SECONDS, self._send_all)

    async def close(self) -> None:
        while self._gathered:
            self._send_all()
        if self._timer is not None:
            self._timer.cancel()
        await self._producer.close(seconds_max=1.0)

    def _send_all(self) -> None:
        """The longest waiting ones; the others have their turn after what else the loop does."""
        self._timer = None
        for about in list(islice(self._gathered, RECORDS_PER_TURN_MAX)):
            decisions = self._gathered.pop(about)
            self._number -= len(decisions)
            value = encode_decided(Decided(self._worker, tuple(decisions)))
            try:
                sent = self._producer.send(self._topic, key=about.encode(), value=value)
            except ProducerFull:
                self._lose(len(decisions))
            else:
                sent.add_done_callback(partial(self._sent, len(decisions)))
        if self._gathered:
            self._timer = asyncio.get_running_loop().call_later(0, self._send_all)

    def _sent(self, number: int, sent: "asyncio.Future[Delivered]") -> None:
        if not sent.cancelled() and sent.exception() is not None:
            self._lose(number)

    def _lose(self, number: int) -> None:
        self.lost += number
        if self.lost >= self._told_at:
            log.warning(
                "decisions are lost: Kafka does not take them in time", extra={"lost": self.lost}
            )
            self._told_at = 2 * self.lost
