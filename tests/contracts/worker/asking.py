"""An installation without gateway, relay and recorder: a test asks, and folds the tokens."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from commands.store import Append
from events.answers import EMPTY, Chunk, Claim, Fold, TokenRecord, fold
from events.codec import decode_token_record, to_cloudevent
from events.conversations import (
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    Band,
    ConversationStarted,
    EndKind,
    MessagePosted,
    Role,
    Sampling,
    Usage,
)
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, ConversationId, MessageId, TenantId, fresh_id
from events.topics import Topics
from infra.event_store import ConversationStore
from infra.kafka.consumer import LogReader
from infra.kafka.offsets import QueryFailed
from infra.kafka.producer import Producer
from infra.settings import Settings

TENANT = TenantId(fresh_id())
MODEL = "numbered"
SECONDS_MAX = 180.0
ANSWER_SECONDS_MAX = 300.0
"""Long enough for a broker that is started again on a machine under load."""


@dataclass
class Folds:
    """What the token log says, as everybody would read it."""

    folds: dict[UUID, Fold] = field(default_factory=dict)
    records: list[tuple[float, TokenRecord]] = field(default_factory=list)

    def take(self, record: TokenRecord) -> None:
        self.records.append((time.monotonic(), record))
        self.folds[record.answer] = fold(self.folds.get(record.answer, EMPTY), record)

    def of(self, answer: UUID) -> Fold:
        return self.folds.get(answer, EMPTY)

    def claims(self, answer: UUID) -> list[Claim]:
        return [r for _, r in self.records if isinstance(r, Claim) and r.answer == answer]

    def chunks(self, answer: UUID) -> list[Chunk]:
        return [r for _, r in self.records if isinstance(r, Chunk) and r.answer == answer]


class Installation:
    """Asks, reads, and waits for what a test says."""

    def __init__(self, settings: Settings, topics: Topics, store: ConversationStore) -> None:
        self.settings, self.topics, self.store = settings, topics, store
        self.producer = Producer(settings.kafka_servers)
        self.reader = LogReader(settings.kafka_servers, group=topics.answers_group)
        self.log = Folds()
        self._positions: dict[UUID, int] = {}
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.reader.assign(
            {(self.topics.tokens, each): 0 for each in range(self.settings.partitions)}
        )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            for record in await self.reader.read():
                self.log.take(decode_token_record(record.value))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self.reader.close()
        await self.producer.close()

    async def append(self, stream: UUID, *events: Event) -> list[Recorded]:
        meta = Meta(
            TENANT, f"call:{fresh_id()}", "tester", "somebody", datetime.now(UTC), fresh_id()
        )
        start = self._positions.get(stream, 0) + 1
        recorded = [
            Recorded(fresh_id(), stream, position, meta, event)
            for position, event in enumerate(events, start=start)
        ]
        self._positions[stream] = start + len(events) - 1
        await self.store.append(Append(TENANT, meta.command, b"asked", stream, recorded))
        return recorded

    async def ask(
        self,
        text: str,
        *,
        tokens_max: int = 1_000,
        stop: tuple[str, ...] = (),
        seconds: float = ANSWER_SECONDS_MAX,
        band: Band = Band.DEFAULT,
        conversation: UUID | None = None,
        model: str = MODEL,
    ) -> tuple[UUID, AnswerId, Recorded]:
        """What a gateway and the relay do, up to the work topic."""
        stream = conversation or fresh_id()
        answer = AnswerId(fresh_id())
        message = MessageId(fresh_id())
        recorded = await self.append(
            stream,
            ConversationStarted(conversation=ConversationId(stream)),
            MessagePosted(
                conversation=ConversationId(stream),
                message=message,
                role=Role.USER,
                content=text,
                parent=None,
            ),
            AnswerRequested(
                conversation=ConversationId(stream),
                answer=answer,
                parent=message,
                model=model,
                band=band,
                deadline_seconds=seconds,
                sampling=Sampling(max_tokens=tokens_max, stop=stop),
            ),
        )
        await self.relay(recorded[-1], band)
        return stream, answer, recorded[-1]

    async def cancel(self, stream: UUID, answer: AnswerId) -> None:
        event = AnswerCancelRequested(conversation=ConversationId(stream), answer=answer)
        (recorded,) = await self.append(stream, event)
        await self.relay(recorded, Band.PRIORITY)

    async def end(self, stream: UUID, answer: AnswerId) -> None:
        """As a recorder would, whatever the tokens say."""
        event = AnswerEnded(
            conversation=ConversationId(stream),
            answer=answer,
            kind=EndKind.FINISH,
            reason="stop",
            text="",
            chunk_lengths=(0,),
            usage=Usage(),
        )
        await self.append(stream, event)

    async def relay(self, recorded: Recorded, band: Band) -> int:
        key, headers, value = to_cloudevent(recorded)
        topic = self.topics.work(band)
        return (await self.producer.send(topic, key=key, value=value, headers=headers)).partition

    async def until(
        self, condition: Callable[[], bool], what: str, *, seconds_max: float = SECONDS_MAX
    ) -> None:
        end = time.monotonic() + seconds_max
        while not condition():
            assert time.monotonic() < end, f"waited {seconds_max} s in vain: {what}"
            assert self._reading is not None
            assert not self._reading.done(), "the test reads no more"
            await asyncio.sleep(0.005)

    async def ended(self, answer: UUID, *, seconds_max: float = SECONDS_MAX) -> Fold:
        await self.until(
            lambda: self.log.of(answer).end is not None, "the end", seconds_max=seconds_max
        )
        return self.log.of(answer)

    async def acknowledged(self, *, seconds_max: float = SECONDS_MAX) -> None:
        """Waits until everything on the work topics is committed. A broker that has just come back
        may not know yet whose group it coordinates."""
        end = time.monotonic() + seconds_max
        while True:
            try:
                behind: object = await self._behind()
            except QueryFailed as failed:
                behind = failed
            if behind == 0:
                return
            assert time.monotonic() < end, f"not everything is acknowledged: {behind}"

    async def _behind(self) -> int:
        """How many messages of the work topics are not committed."""
        partitions, behind = range(self.settings.partitions), 0
        for topic in self.topics.all_work:
            ends = await self.reader.end_offsets(topic, partitions)
            committed = await self.reader.committed([(topic, each) for each in partitions])
            behind += sum(at - committed.get((topic, each), 0) for each, at in ends.items())
        return behind


def numbers(count: int) -> str:
    """What the numbered engine says."""
    return "".join(f" {number}" for number in range(count))
