"""The thin Faust app: it brings requests and cancels to the worker, and commits what has ended."""

import logging
from datetime import UTC, datetime
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.types import TP

from events import trace
from events.codec import Undecodable, from_cloudevent
from events.conversations import AnswerAskedAgain, AnswerCancelRequested, AnswerRequested, Band
from events.topics import Topics
from infra.answers_worker.transport import Transport
from infra.answers_worker.watermarks import Watermarks
from infra.failpoints import hit
from infra.settings import Settings
from processors.answers.ports import Place, Request
from processors.answers.worker import Worker

log = logging.getLogger("thalweg.answers")

COMMIT_INTERVAL_SECONDS = 0.5  # what a killed worker's successor reads again at most
BUFFERED_MESSAGES_MAX = 64  # of the agent, which never waits
POLL_RECORDS_MAX = 64  # what may still come after a topic is held back
REQUEST_SECONDS_MAX = 10.0  # of one request to Kafka: it restarts in less
POLL_INTERVAL_SECONDS_MAX = 300.0  # Kafka's default; the agent never waits, so never reached


class _Boot(BootStrategy):  # type: ignore[misc]  # mypy skips faust
    """No web server (Faust's serves data), and no producer: tokens have their own."""

    enable_kafka_producer = False
    enable_web = False


class AnswersApp(faust.App):  # type: ignore[misc]  # mypy skips faust
    """Lives in the loop that makes it. `start` it; it calls the worker."""

    BootStrategy = _Boot

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        worker: Worker,
        watermarks: Watermarks,
        **options: Any,
    ) -> None:
        super().__init__(
            topics.answers_group,
            broker=f"kafka://{settings.kafka_servers.replace(',', ';kafka://')}",
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
            stream_buffer_maxsize=BUFFERED_MESSAGES_MAX,
            broker_commit_interval=COMMIT_INTERVAL_SECONDS,
            broker_session_timeout=settings.session_timeout_seconds,
            broker_heartbeat_interval=settings.heartbeat_seconds,
            broker_rebalance_timeout=settings.rebalance_timeout_seconds,
            broker_request_timeout=REQUEST_SECONDS_MAX,
            broker_max_poll_records=POLL_RECORDS_MAX,
            broker_max_poll_interval=POLL_INTERVAL_SECONDS_MAX,
            broker_client_id="thalweg-answers",
            consumer_auto_offset_reset="earliest",
            key_serializer="raw",
            value_serializer="raw",
            **options,
        )
        self.watermarks = watermarks
        self._worker = worker
        self._models = settings.models_by_alias
        self._bands = {topics.work(band): band for band in Band}
        work = self.topic(*topics.all_work, key_type=bytes, value_type=bytes)
        self.agent(work, name="answers", concurrency=1)(self._consume)
        self.was_assigned = False
        """It has been a member of its group."""

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            try:
                self._handle(message)
            except Exception:  # a bug of ours must not end the stream, nor acknowledge
                log.exception(
                    "a work message could not be handled",
                    extra={"topic": message.topic, "partition": message.partition},
                )

    def _handle(self, message: Any) -> None:
        partition = (message.topic, message.partition)
        if not self.watermarks.take(partition, message.offset):
            return
        headers = _headers(message.headers)
        try:
            recorded = from_cloudevent(headers, message.value)
        except Undecodable as error:
            with trace.within(dict(headers).get("ce_traceparent", b"").decode(errors="replace")):
                log.error(
                    "a work message is passed over",
                    extra={"topic": message.topic, "offset": message.offset, "error": str(error)},
                )
            self.watermarks.finish(partition, message.offset)
            return
        event = recorded.event
        if isinstance(event, AnswerRequested | AnswerAskedAgain):
            place = Place(self._bands[message.topic], message.partition, message.offset)
            self._worker.take(
                Request(
                    event.answer,
                    event.conversation,
                    recorded.meta.tenant,
                    self._models.get(event.model, event.model),
                    place,
                    recorded.meta.traceparent,
                    trace.now_ns(),
                    int((message.timestamp or 0) * 1_000),
                    *_bounds(event, recorded.meta.time),
                )
            )
            hit("answers.after_take")
            return
        if isinstance(event, AnswerCancelRequested):
            self._worker.cancel(event.answer)
        self.watermarks.finish(partition, message.offset)

    async def _wait_for_table_recovery_completed(self) -> bool:
        """There are no tables; Faust's recovery is never begun, and none is waited for."""
        return False

    async def begin_flow(self, assigned: set[TP]) -> None:
        """Messages of these partitions may come from now on."""
        await self.topics.on_partitions_assigned(assigned)
        if not self.flow_control.is_active():
            self.flow_control.resume()
        await self._fetcher.maybe_start()

    def were_assigned(self, generation: int, assigned: set[TP]) -> None:
        """The group was rebalanced. Called before a message of these partitions can come."""
        self.was_assigned = True
        hit("answers.on_assignment")
        self.watermarks.keep({(each.topic, each.partition) for each in assigned})
        self._worker.assigned(generation, {each.partition for each in assigned})


def _bounds(event: AnswerRequested | AnswerAskedAgain, asked_at: datetime) -> tuple[int, float]:
    """Tokens and seconds that are left. Who asks again asks past the deadline."""
    if isinstance(event, AnswerAskedAgain):
        return 0, 0.0
    age = (datetime.now(UTC) - asked_at).total_seconds()
    return event.sampling.max_tokens, event.deadline_seconds - max(0.0, age)


def _headers(headers: Any) -> list[tuple[str, bytes]]:
    return list(headers.items() if isinstance(headers, dict) else headers or ())
