"""The gateway's ports in memory, and the gateway served for real over them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any
from uuid import UUID

import httpx2

from commands.conversations import CONVERSATIONS, RecordAnswer, record_answer
from commands.store import Append
from commands.submit import Commands
from events.answers import Entry, EntryEnd
from events.conversations import AnswerEnded, EndKind, Usage
from events.envelope import Meta, Recorded
from events.ids import AnswerId, ConversationId, KeyId, TenantId, fresh_id
from gateway.answer_streams import IDLE, AnswerRef, AnswerStreamUnavailable, Idle
from gateway.app import create_app, desk_of
from gateway.desk import Desk
from gateway.errors import AnswerExpired
from gateway.fleet.view import FleetView
from gateway.limits import GatewayLimits
from gateway.log.ports import EventLog
from gateway.meter import UNMEASURED, Meter
from gateway.parts import Gateway, utc_now
from gateway.ports import Caller, HealthReport
from gateway.server import ServerLimits, serve_gateway
from infra.event_log import MemoryLog
from infra.event_store.mapper import with_keys
from infra.event_store.memory import MemoryStore
from tests.gateway.fake_completions import MemoryCompletions
from tests.gateway.memory_histories import MemoryHistories
from tests.gateway.memory_usage import MemoryUsage
from tests.projections.histories_events import Told

API_KEY = "tw_test"
OTHER_KEY = "tw_other"
MODEL = "thalweg-demo"
EVENTS_MAX = 10_000
"""That a test stores."""
SECONDS_MAX = 30
"""Whatever a test waits for comes within this, or it has failed."""

TENANT = Caller(TenantId(UUID(int=1)), KeyId(UUID(int=11)), "owner-1")
OTHER_TENANT = Caller(TenantId(UUID(int=2)), KeyId(UUID(int=22)), "owner-2")


class MemoryKeys:
    def __init__(self) -> None:
        self.callers = {hashed(API_KEY): TENANT, hashed(OTHER_KEY): OTHER_TENANT}
        self.asked = 0

    async def find(self, key_hash: str) -> Caller | None:
        self.asked += 1
        await asyncio.sleep(0)
        return self.callers.get(key_hash)


def hashed(key: str) -> str:
    return sha256(key.encode()).hexdigest()


class MemoryStreams:
    """Each answer says `script`, and then whatever the test lets it say."""

    def __init__(self) -> None:
        self.script: Sequence[Entry] = spoken("Hel", "lo")
        self.said: dict[UUID, list[Entry]] = {}
        self.keepalive_seconds = 5.0
        self.pulled = 0
        """Entries that were taken from here, in all."""
        self.idles = 0
        self.reading = 0
        """Readers that are open now."""
        self.unavailable_after: int | None = None
        self.expired_after: int | None = None
        self.refs: list[AnswerRef] = []
        self._news = asyncio.Event()

    def say(self, answer: UUID, *entries: Entry) -> None:
        self.said.setdefault(answer, list(self.script)).extend(entries)
        self._news.set()
        self._news = asyncio.Event()

    async def read(self, ref: AnswerRef, *, after: int = -1) -> AsyncIterator[Entry | Idle]:
        said = self.said.setdefault(ref.answer, list(self.script))
        self.refs.append(ref)
        self.reading += 1
        try:
            while True:
                if after == self.unavailable_after:
                    raise AnswerStreamUnavailable(ref.answer, after, 1)
                if after == self.expired_after:
                    raise AnswerExpired(ref.answer)
                if said and said[-1].end is not None and after >= said[-1].index:
                    return
                if after + 1 >= len(said):
                    try:
                        await asyncio.wait_for(self._news.wait(), self.keepalive_seconds)
                    except TimeoutError:
                        self.idles += 1
                        yield IDLE
                    continue
                after += 1
                self.pulled += 1
                yield said[after]
        finally:
            self.reading -= 1


def spoken(
    *texts: str,
    kind: EndKind = EndKind.FINISH,
    reason: str = "stop",
    error: str | None = None,
    last: str = "",
) -> list[Entry]:
    """A whole answer: the chunks, and an end that carries `last`."""
    usage = Usage(prompt_tokens=3, completion_tokens=len(texts))
    end = Entry(len(texts), last, EntryEnd(kind, reason, error, usage))
    return [*begun(*texts), end]


def begun(*texts: str) -> list[Entry]:
    return [Entry(index, text) for index, text in enumerate(texts)]


class FixedModels:
    def __init__(self) -> None:
        self.served: Sequence[str] | None = (MODEL, "org/other")
        self.is_complete = True
        """All engines have said what they serve."""
        self.asked = 0

    async def ids(self) -> Sequence[str] | None:
        self.asked += 1
        return self.served

    async def may_serve(self, model: str) -> bool:
        served = await self.ids()
        return served is None or not self.is_complete or model in served


class FixedCounts:
    """Counts of open answers that the test sets; None: those of the store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.fixed: Mapping[UUID, int] | None = None

    async def unanswered(self) -> Mapping[UUID, int]:
        return await self._store.unanswered() if self.fixed is None else self.fixed


class FixedHealth:
    report = HealthReport(True, True, {"postgres": "ready", "kafka": "ready"})

    async def check(self) -> HealthReport:
        return self.report


@dataclass
class Bench:
    """A gateway over fakes: what a test arranges and looks at."""

    limits: GatewayLimits = field(default_factory=GatewayLimits)
    store: MemoryStore = field(default_factory=MemoryStore)
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    streams: MemoryStreams = field(default_factory=MemoryStreams)
    models: FixedModels = field(default_factory=FixedModels)
    health: FixedHealth = field(default_factory=FixedHealth)
    fleet: FleetView = field(default_factory=FleetView)
    meter: Meter = UNMEASURED

    def __post_init__(self) -> None:
        self.counts = FixedCounts(self.store)
        self.log = MemoryLog(self.store)
        self.logs: dict[str, EventLog] = {
            "conversations": self.log,
            "accounts": MemoryLog(MemoryStore()),
        }
        self.histories = MemoryHistories(self.all_events)
        self.commands = Commands(self.store, CONVERSATIONS, event_bytes_max=950_000)
        self.app = create_app(
            Gateway(
                conversations=self.commands,
                receipts=self.store,
                turns=self.store,
                completions=MemoryCompletions(self.store),
                recordings=self.store,
                keys=self.keys,
                answers=self.store,
                streams=self.streams,
                models=self.models,
                admission=self.counts,
                fleet=self.fleet,
                health=self.health,
                logs=self.logs,
                histories=self.histories,
                changes=self.histories,
                usage=MemoryUsage(self.all_events),
                limits=self.limits,
                meter=self.meter,
            )
        )
        self.url = ""
        self.port = 0
        self.stopping = asyncio.Event()

    @property
    def desk(self) -> Desk:
        return desk_of(self.app)

    def events(self, stream: UUID | str) -> list[Any]:
        """What the store has of a stream."""
        stored = self.store.recorder.select_events(UUID(str(stream)))
        decoded = [self.store._mapper.decode(one) for one in stored]
        return list(with_keys(decoded, self.store._find_keys))

    def all_events(self) -> list[Recorded]:
        """Of all streams, in commit order."""
        stored = self.store.recorder.select_notifications(None, EVENTS_MAX)
        return [self.store._mapper.decode(one) for one in stored]

    async def tell(self, told: Told) -> None:
        """Stores what the conversation has said since the last time."""
        new = told.recorded[len(self.events(told.id)) :]
        command = f"told:{fresh_id()}"
        await self.store.append(Append(told.tenant, command, b"", told.id, new))

    def events_stored(self) -> int:
        return self.store.recorder.max_notification_id() or 0

    async def end(self, conversation: str, answer: str, **more: Any) -> None:
        """Records the end of an answer, as the recorder does."""
        fields: dict[str, Any] = {
            "kind": EndKind.FINISH,
            "reason": "stop",
            "text": "Hello",
            "chunk_lengths": (3, 2, 0),
            "usage": Usage(),
            **more,
        }
        ended = AnswerEnded(
            conversation=ConversationId(UUID(conversation)),
            answer=AnswerId(UUID(answer)),
            **fields,
        )
        meta = Meta(TENANT.tenant, f"answer-end:{answer}", "recorder", "o", utc_now(), fresh_id())
        await self.commands.submit(
            UUID(conversation), lambda state: record_answer(state, RecordAnswer(ended)), meta, b""
        )


@asynccontextmanager
async def served(
    limits: GatewayLimits | None = None,
    server: ServerLimits | None = None,
    store: MemoryStore | None = None,
    meter: Meter = UNMEASURED,
) -> AsyncIterator[Bench]:
    """A gateway on a port of its own, until the block ends."""
    limits = limits or GatewayLimits(drain_seconds_max=0.2)
    bench = Bench(limits, store or MemoryStore(), meter=meter)
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_gateway(
            bench.app,
            host="127.0.0.1",
            port=0,
            stopping=bench.stopping,
            started=port.set_result,
            limits=server,
        )
    )
    bench.port = await asyncio.wait_for(port, SECONDS_MAX)
    bench.url = f"http://127.0.0.1:{bench.port}"
    try:
        yield bench
    finally:
        bench.stopping.set()
        await asyncio.wait_for(serving, SECONDS_MAX)


@asynccontextmanager
async def calling(bench: Bench, key: str = API_KEY) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(
        base_url=bench.url, headers=headers, timeout=SECONDS_MAX
    ) as client:
        yield client


async def until(condition: Any) -> None:
    """Waits for a condition, with a bound."""
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 (a condition of any kind has no event)
            await asyncio.sleep(0.005)


def with_limits(**changed: Any) -> GatewayLimits:
    return replace(GatewayLimits(drain_seconds_max=0.2), **changed)
