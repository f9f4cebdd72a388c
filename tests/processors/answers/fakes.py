"""Fakes of what the worker needs: a log in memory, an event store, work topics, engines."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from events.answers import EMPTY, Fold, TokenRecord, fold
from events.conversations import Band, Role, Sampling
from events.ids import AnswerId, ConversationId, fresh_id
from processors.answers.engine import (
    EngineFailed,
    Finished,
    FinishReason,
    Message,
    Prompt,
    Token,
)
from processors.answers.ports import (
    LogUnavailable,
    NotSent,
    Place,
    Request,
    RequestsUnavailable,
    Span,
    Task,
    TokenRead,
)
from processors.answers.scheduling.seats import Figures

MODEL = "numbered"
TENANT = UUID(int=1)


class FakeLog:
    """Partitions in memory. A send lands at once, or when `land` is called (`manual`)."""

    def __init__(self) -> None:
        self.records: dict[int, list[TokenRecord]] = defaultdict(list)
        self.manual = False
        self.fail_sends = False
        self.begins: dict[int, int] = {}
        """Where tails begin; else with the first record."""
        self.recalls: list[tuple[int, int]] = []
        """Partition and time of each reading of earlier records."""
        self.recalled_at_once = 1
        self.recalling = asyncio.Event()
        self.recalling.set()
        """Clear: such a reading waits after what it gets first."""
        self.unavailable = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        """Clear: reads wait."""
        self._unsent: deque[tuple[int, TokenRecord, asyncio.Future[object]]] = deque()
        self._following: dict[int, int] = {}
        self._changed = asyncio.Event()

    def write(self, partition: int, record: TokenRecord) -> None:
        """Somebody else writes."""
        self.records[partition].append(record)
        self._changed.set()

    def land(self, count: int | None = None) -> None:
        for _ in range(len(self._unsent) if count is None else count):
            partition, record, sent = self._unsent.popleft()
            self.write(partition, record)
            sent.set_result(None)

    def of(self, answer: UUID) -> Fold:
        said = EMPTY
        for records in self.records.values():
            for record in records:
                said = fold(said, record) if record.answer == answer else said
        return said

    def written(self, answer: UUID) -> list[TokenRecord]:
        return [r for records in self.records.values() for r in records if r.answer == answer]

    # the port

    def send(
        self, partition: int, conversation: ConversationId, record: TokenRecord
    ) -> "asyncio.Future[object]":
        sent: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self.fail_sends:
            sent.set_exception(NotSent("the log is away"))
            return sent
        self._unsent.append((partition, record, sent))
        if not self.manual:
            self.land()
        return sent

    async def locate(self, since_ms: Mapping[int, int]) -> Mapping[int, Span]:
        if self.unavailable:
            self.unavailable -= 1
            raise LogUnavailable("away")
        return {each: Span(self.begins.get(each, 0), len(self.records[each])) for each in since_ms}

    async def earlier(
        self, partition: int, since_ms: int, conversations: Collection[ConversationId]
    ) -> AsyncGenerator[tuple[int, Sequence[TokenRead]], None]:
        self.recalls.append((partition, since_ms))
        if self.unavailable:
            self.unavailable -= 1
            raise LogUnavailable("away")
        yield 0, ()
        at = 0
        while True:
            reads = [
                TokenRead(partition, offset, record)
                for offset, record in enumerate(
                    self.records[partition][at : at + self.recalled_at_once], at
                )
            ]
            at += len(reads)
            yield at, reads
            await self.recalling.wait()
            await asyncio.sleep(0)

    async def begin(self, offsets: Mapping[int, int]) -> None:
        self._following.update(offsets)
        self._changed.set()

    async def stop(self, partitions: Collection[int]) -> None:
        for each in partitions:
            self._following.pop(each, None)

    @property
    def followed(self) -> set[int]:
        return set(self._following)

    async def read(self) -> Sequence[TokenRead]:
        while True:
            await self.flowing.wait()
            self._changed.clear()
            found: list[TokenRead] = []
            for partition, at in list(self._following.items()):
                new = self.records[partition][at:]
                found += [
                    TokenRead(partition, offset, record) for offset, record in enumerate(new, at)
                ]
                self._following[partition] = at + len(new)
            if found:
                return found
            await self._changed.wait()


class FakeWork:
    """Notes what is acknowledged and held back."""

    def __init__(self) -> None:
        self.acknowledged: list[Place] = []
        self.held_back: tuple[Band, ...] = ()
        self.member = True

    def is_member(self) -> bool:
        return self.member

    async def oldest(self, partitions: Collection[int]) -> Mapping[int, int]:
        return dict.fromkeys(partitions, 1_000_000)

    def acknowledge(self, place: Place) -> None:
        self.acknowledged.append(place)

    def hold_back(self, bands: Collection[Band]) -> None:
        self.held_back = tuple(bands)


@dataclass
class FakeRequests:
    """An event store that knows what it is told."""

    tasks: dict[UUID, Task] = field(default_factory=dict)
    failures: int = 0
    loads: int = 0

    async def load(self, request: Request) -> Task:
        self.loads += 1
        if self.failures:
            self.failures -= 1
            raise RequestsUnavailable("away")
        return self.tasks[request.answer]


Script = Callable[[Prompt], AsyncIterator[Token | Finished]]


async def counting(prompt: Prompt) -> AsyncIterator[Token | Finished]:
    """Says " 0 1 2 ..." up to the number in the last message, continuing from what was said."""
    last = int(prompt.messages[-1].content)
    start = len(prompt.said.split())
    for number in range(start, last):
        if number - start >= prompt.tokens_max:
            yield Finished(FinishReason.LENGTH, prompt_tokens=5 + start)
            return
        await asyncio.sleep(0)
        yield Token(f" {number}", number)
    yield Finished(FinishReason.STOP, prompt_tokens=5 + start)


def breaking_after(count: int) -> Script:
    """Like `counting`, but the connection breaks after that many tokens of a call."""

    async def script(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        said = 0
        async for item in counting(prompt):
            if said == count:
                raise EngineFailed("the connection broke")
            said += 1
            yield item

    return script


class FakeEngine:
    """An engine that follows a script, and notes its calls."""

    def __init__(self, name: str, script: Script = counting, models: Sequence[str] = (MODEL,)):
        self._name = name
        self.script = script
        self.served = tuple(models)
        self.calls: list[Prompt] = []
        self.open = 0
        self.open_max = 0
        self.unreachable = False
        self.says: Callable[[], Figures | None] = lambda: None
        """Of its load."""
        self.asked_figures = 0
        self.closed = asyncio.Event()

    @property
    def name(self) -> str:
        return self._name

    async def models(self) -> tuple[str, ...]:
        if self.unreachable:
            raise EngineFailed("no connection", reached=False)
        return self.served

    async def generate(self, prompt: Prompt) -> AsyncIterator[Token | Finished]:
        self.calls.append(prompt)
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        try:
            async for item in self.script(prompt):
                yield item
        finally:
            self.open -= 1

    async def healthy(self) -> bool:
        return not self.unreachable

    async def figures(self) -> Figures | None:
        self.asked_figures += 1
        return self.says()

    async def close(self) -> None:
        self.closed.set()


class Slow(FakeEngine):
    """While it is `unreachable` it can be connected to, and does not say what it serves in time."""

    async def models(self) -> tuple[str, ...]:
        if self.unreachable:
            raise EngineFailed("silent")
        return await super().models()


def request(
    partition: int = 0, offset: int = 0, band: Band = Band.DEFAULT, answer: AnswerId | None = None
) -> Request:
    return Request(
        answer or AnswerId(fresh_id()),
        ConversationId(fresh_id()),
        TENANT,
        MODEL,
        Place(band, partition, offset),
        tokens_max=1_000,
        seconds_left=60,
    )


def task(count: int, *, tokens_max: int = 1_000, **changes: object) -> Task:
    fields: dict[str, object] = {
        "messages": (Message(Role.USER, str(count)),),
        "sampling": Sampling(max_tokens=tokens_max),
        "tokens_max": tokens_max,
        "seconds_left": 60.0,
        "ended": False,
        "cancel_requested": False,
    }
    return Task(**{**fields, **changes})  # type: ignore[arg-type]  # fields by name


def numbers(count: int) -> str:
    return "".join(f" {number}" for number in range(count))
