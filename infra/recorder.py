"""The role `recorder`: joins the recorder to Kafka, Redis and the conversations' event store."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from commands.conversations import CONVERSATIONS, RecordAnswer, record_answer
from commands.errors import (
    Busy,
    CommandReused,
    Refused,
    StoreSaturated,
    StoreUnavailable,
    UnknownAnswer,
)
from commands.store import Append, EventStore, Receipt
from commands.submit import Commands, fingerprint
from events import trace
from events.codec import Undecodable
from events.conversations import AnswerEnded, AnswerRequested, EndKind
from events.envelope import Meta, Recorded
from events.ids import AnswerId
from events.topics import Topics
from infra.failpoints import hit
from infra.kafka.consumer import CommitFailed, GroupReader, Partition, ReadFailed
from infra.live_writer import RedisLiveWriter
from infra.settings import Settings
from processors.answers.protocol_words import ERRORS
from processors.answers.recorder import Recorder
from processors.answers.recorder_ports import EndsUnavailable, LogRecord, Outcome

log = logging.getLogger("thalweg.recorder")

RETRY_SECONDS = 1.0
"""Before starting over after Kafka has refused us."""


async def run_recorder(
    settings: Settings,
    topics: Topics,
    store: "ConversationStore",
    *,
    began: Callable[[Recorder], None] = lambda recorder: None,
) -> None:
    """Runs until cancelled; outages of Kafka, Postgres and Redis are waited out. `began` is told of
    each recorder that it starts over with."""
    live = RedisLiveWriter(
        settings.redis_url,
        prefix=topics.prefix,
        expiry_seconds=settings.live_expiry_seconds,
        open_expiry_seconds=settings.live_open_expiry_seconds,
    )
    ends = StoredAnswerEnds(store, event_bytes_max=settings.event_bytes_max)
    try:
        while True:
            recorder = Recorder(live, ends, answer_seconds_max=settings.answer_seconds_max)
            began(recorder)
            source = KafkaTokenLog(settings, topics, recorder)
            try:
                await recorder.run(source)
            except* ReadFailed as errors:
                reasons = "; ".join(str(error) for error in errors.exceptions)
                log.error("the recorder starts over", extra={"reason": reasons})
            finally:
                await asyncio.shield(source.close())
            await asyncio.sleep(RETRY_SECONDS)
    finally:
        await live.close()


class KafkaTokenLog:
    """See processors.answers.recorder_ports.TokenLog."""

    def __init__(self, settings: Settings, topics: Topics, recorder: Recorder) -> None:
        self._topic = topics.tokens
        self._recorder = recorder
        self._reader = GroupReader(
            settings.kafka_servers,
            topics.recorder_group,
            [self._topic],
            self._assigned,
            self._revoked,
            client_id="recorder",
            session_timeout_seconds=settings.session_timeout_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
        )

    async def _assigned(self, partitions: list[Partition]) -> None:
        hit("recorder.on_assignment")
        self._recorder.assigned(number for _, number in partitions)

    async def _revoked(self, partitions: list[Partition]) -> None:
        self._recorder.revoked(number for _, number in partitions)

    async def read(self, records_max: int, seconds_max: float) -> Sequence[LogRecord]:
        records = await self._reader.read(records_max, seconds_max)
        if records:
            hit("recorder.after_read")
        return [
            LogRecord(each.partition, each.offset, each.key, each.value, each.timestamp_ms)
            for each in records
        ]

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        hit("recorder.before_commit")
        try:
            await self._reader.commit({(self._topic, p): at for p, at in offsets.items()})
        except CommitFailed as error:
            log.warning("offsets were not committed", extra={"reason": str(error)})
            return False
        hit("recorder.after_commit")
        return True

    async def pause(self, partitions: Iterable[int]) -> None:
        await self._reader.pause([(self._topic, number) for number in partitions])

    async def resume(self, partitions: Iterable[int]) -> None:
        await self._reader.resume([(self._topic, number) for number in partitions])

    async def close(self) -> None:
        await self._reader.close()


class Answered(Protocol):
    @property
    def ended(self) -> bool: ...


class ConversationStore(EventStore, Protocol):
    """The event store, and its index of answers."""

    async def find_answer(self, answer: UUID) -> Answered | None: ...


class StoredAnswerEnds:
    """See processors.answers.recorder_ports.AnswerEnds."""

    def __init__(self, store: ConversationStore, *, event_bytes_max: int) -> None:
        self._store = store
        self._event_bytes_max = event_bytes_max

    async def record(self, ended: AnswerEnded) -> Outcome:
        try:
            return await self._record(ended)
        except (StoreUnavailable, StoreSaturated, Busy, Undecodable) as error:
            raise EndsUnavailable(str(error)) from error
        except UnknownAnswer:
            return Outcome.UNKNOWN
        except CommandReused:
            return Outcome.RECORDED
        except Refused as error:
            log.error(
                "an end was refused", extra={"answer": str(ended.answer), "reason": str(error)}
            )
            return Outcome.REFUSED

    async def _record(self, ended: AnswerEnded) -> Outcome:
        recorded = await self._store.load(ended.conversation)
        requested: Recorded | None = None
        for one in recorded:
            event = one.event
            if isinstance(event, AnswerRequested) and event.answer == ended.answer:
                requested = one
            elif isinstance(event, AnswerEnded) and event.answer == ended.answer:
                # By somebody who may have died before the turn's span was sent: told again, alike.
                tell_turn(requested, event, one.meta.time)
                return Outcome.RECORDED
        if requested is None:
            return Outcome.UNKNOWN
        if recorded[0].event.begins_sealed:
            ended = in_own_words(ended)
        asked = requested.meta
        meta = Meta(
            tenant=asked.tenant,
            command=f"answer-end:{ended.answer}",
            actor="recorder",
            subject=asked.subject,
            time=datetime.now(UTC),
            correlation=asked.correlation,
            causation=requested.id,
            traceparent=asked.traceparent,
        )
        commands = Commands(
            _LoadedBefore(self._store, ended.conversation, recorded),
            CONVERSATIONS,
            event_bytes_max=self._event_bytes_max,
        )
        began = trace.now_ns()
        turn = trace.turn_of(asked.traceparent) if asked.traceparent else None
        hit("recorder.before_record")
        with trace.within(turn):
            await commands.submit(
                ended.conversation,
                lambda state: record_answer(state, RecordAnswer(ended)),
                meta,
                fingerprint("answer-end", str(ended.answer)),
            )
            hit("recorder.after_record")
            log.info(
                "an end was recorded",
                extra={
                    "answer": str(ended.answer),
                    "end": ended.kind.value,
                    "reason": ended.reason,
                },
            )
            trace.stage("record end", turn, began)
        tell_turn(requested, ended, meta.time)
        return Outcome.RECORDED

    async def is_over(self, answer: AnswerId) -> bool:
        try:
            row = await self._store.find_answer(answer)
        except StoreUnavailable as error:
            raise EndsUnavailable(str(error)) from error
        return row is None or row.ended


def in_own_words(ended: AnswerEnded) -> AnswerEnded:
    """Without what an engine said of a failure: it may quote what was asked, and is not sealed."""
    errors = {failure.value: error for failure, error in ERRORS.items()}
    if ended.error is None or ended.reason not in errors:
        return ended  # the other reasons are ours, and so are their words
    return ended.model_copy(update={"error": errors[ended.reason]})


def tell_turn(requested: Recorded | None, ended: AnswerEnded, at: datetime) -> None:
    """The span of which all stages of a turn are children, whole, from what is in the store.

    Whoever tells it says the same, so it may be told twice.
    """
    if requested is None or not isinstance(requested.event, AnswerRequested):
        return
    asked = requested.meta.traceparent
    ids = trace.ids_of(asked)
    if ids is None or not trace.is_told(asked, of=at):
        return
    attributes: dict[str, trace.Attribute] = {
        "thalweg.answer": str(ended.answer),
        "thalweg.conversation": str(ended.conversation),
        "thalweg.tenant": str(requested.meta.tenant),
        "thalweg.end": ended.kind.value,
        "thalweg.seams": len(ended.seams),
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": requested.event.model,
        "gen_ai.response.finish_reasons": (ended.reason,),
        "gen_ai.usage.input_tokens": ended.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": ended.usage.completion_tokens,
    }
    began_ns, ended_ns = (round(one.timestamp() * 1e9) for one in (requested.meta.time, at))
    trace.tell(
        trace.Span(
            "turn",
            trace.turn_of(asked),
            ids[1],
            began_ns,
            max(began_ns, ended_ns),
            attributes=attributes,
            failed=ended.reason if ended.kind is EndKind.FAIL else "",
        )
    )


class _LoadedBefore:
    """The event store, whose one stream has just been loaded: the first load costs nothing."""

    def __init__(self, store: EventStore, stream: UUID, recorded: Sequence[Recorded]) -> None:
        self._store = store
        self._stream = stream
        self._recorded: Sequence[Recorded] | None = recorded

    async def load(self, stream: UUID) -> Sequence[Recorded]:
        known, self._recorded = self._recorded, None
        if known is not None and stream == self._stream:
            return known
        return await self._store.load(stream)

    async def append(self, append: Append) -> Receipt:
        return await self._store.append(append)

    async def receipt(self, tenant: UUID, command: str, asked: bytes) -> Receipt | None:
        return await self._store.receipt(tenant, command, asked)

    async def keep_command(
        self, tenant: UUID, command: str, asked: bytes, stream: UUID, position: int
    ) -> Receipt:
        return await self._store.keep_command(tenant, command, asked, stream, position)
