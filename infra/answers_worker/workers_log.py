"""What workers say to each other, and to gateways, on one partition that all read from its end.

A statement that is not in the log within SAYING_SECONDS_MAX is given up (`lending` counts on it);
whoever made it says it again. Nothing waits for any of it.
"""

import asyncio
import logging
from collections.abc import Callable

from events.codec import Undecodable
from events.statements import Statement, decode_statement, encode_statement
from events.workers import Report, encode_report
from infra.kafka.consumer import Record
from infra.kafka.producer import Delivered, Producer, ProducerFull
from infra.workers_reader import KIND, PARTITION, REPORT, STATEMENT, WorkersReader
from processors.answers.scheduling.lending import SAYING_SECONDS_MAX

log = logging.getLogger("thalweg.answers")

OUTSTANDING_MAX = 100
"""Messages on their way; what comes on top is not said."""
REPORT_SECONDS = 1.0


class WorkersLog:
    """Of one worker, on one event loop."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            bootstrap,
            client_id="thalweg-workers",
            delivery_seconds_max=SAYING_SECONDS_MAX,
            messages_max=OUTSTANDING_MAX,
        )
        self._reader = WorkersReader(bootstrap, topic)

    async def start(self) -> None:
        """Connects; Kafka may be away."""
        await self._producer.start()

    def say(self, statement: Statement) -> None:
        self._send(STATEMENT, statement.worker, encode_statement(statement))

    async def report(self, state: Callable[[], Report]) -> None:
        """Says how this worker is, again and again, until it is cancelled."""
        while True:
            report = state()
            self._send(REPORT, report.worker, encode_report(report))
            await asyncio.sleep(REPORT_SECONDS)

    async def hear(self, heard: Callable[[Statement], None]) -> None:
        """Tells of every statement, this worker's own too, until it is cancelled."""

        def read(record: Record) -> None:
            try:
                statement = decode_statement(record.value)
            except Undecodable as error:
                said = {"offset": record.offset, "error": str(error)}
                log.error("a statement is passed over", extra=said)
            else:
                heard(statement)

        await self._reader.run(STATEMENT, read)

    async def close(self) -> None:
        """Does not wait for what is outstanding: nobody listens for this worker any more."""
        await self._producer.close(seconds_max=0.0)
        await self._reader.close()

    def _send(self, kind: bytes, worker: str, value: bytes) -> None:
        try:
            sent = self._producer.send(
                self._topic,
                key=worker.encode(),
                value=value,
                headers=[(KIND, kind)],
                partition=PARTITION,
            )
        except ProducerFull:  # Kafka is away, and the oldest are about to be given up
            return
        sent.add_done_callback(self._sent)

    def _sent(self, sent: "asyncio.Future[Delivered]") -> None:
        if not sent.cancelled() and sent.exception() is None:
            self._reader.landed(sent.result().offset)
