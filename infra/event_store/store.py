"""The event stores of two contexts, on Postgres: implementations of commands.store.EventStore.

Writes go through one writer thread, reads through as many threads as there are other connections.
When Postgres is away every call ends with StoreUnavailable within a bound; when it is back, so are
the stores.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from time import monotonic, sleep
from typing import Generic, TypeVar
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from commands.errors import StoreUnavailable
from commands.store import Append, Attempt, Receipt
from events.envelope import Recorded
from infra.event_store.answers import AnswerRow, ConversationRecorder
from infra.event_store.content_keys import UNENDED_SECONDS_MAX, UNSTORED_SECONDS_MAX
from infra.event_store.datastore import Datastore
from infra.event_store.gathered import Gathered
from infra.event_store.mapper import EventMapper, with_keys
from infra.event_store.recorder import CommandKey, EventRecorder
from infra.event_store.schema import create_schema
from infra.event_store.turns import REPEAT_SECONDS_MAX
from infra.event_store.unreachable import unreachable
from infra.event_store.writer import (
    COMMANDS_PER_TRANSACTION_MAX,
    COMMANDS_QUEUED_MAX,
    LOST,
    RETRY_PAUSE_SECONDS,
    Writer,
    receipt_of,
)
from infra.failpoints import hit

T = TypeVar("T")
R = TypeVar("R", bound=EventRecorder)

CONNECTIONS_MAX = 4
"""Of one process to one context's database: one for the writer, the others for reads."""
LOAD_SECONDS_MAX = 3.0
"""A read is answered by then: with StoreUnavailable if Postgres can't be reached."""
ANSWER_SECONDS_MAX = LOAD_SECONDS_MAX + 1.0
"""With those before it, and for a query that hangs in a connection that is dead."""
Loaded = Sequence[Recorded] | Exception
"""The events of a stream, or why they can't be read."""


class PostgresEventStore(Generic[R]):
    """The streams of one context. `close` it in the end."""

    def __init__(
        self,
        recorder: R,
        *,
        commands_queued_max: int = COMMANDS_QUEUED_MAX,
        commands_per_transaction_max: int = COMMANDS_PER_TRANSACTION_MAX,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self.recorder = recorder
        context = recorder.datastore.schema
        self._mapper = EventMapper()
        self._readers = ThreadPoolExecutor(max(1, connections_max - 1), f"reader-{context}")
        self._writer = Writer(
            recorder,
            context,
            queued_max=commands_queued_max,
            per_transaction_max=commands_per_transaction_max,
        )
        self._writer.start()
        self._streams = Gathered(self._load, seconds_max=ANSWER_SECONDS_MAX)

    async def load(self, stream: UUID) -> Sequence[Recorded]:
        return await self._streams.get(stream)

    async def _load(self, streams: Sequence[UUID]) -> Mapping[UUID, Loaded]:
        return await self._read(
            lambda: self._decoded(self.recorder.select_streams(streams)),
        )

    def _decoded(self, found: Mapping[UUID, Sequence[StoredEvent]]) -> dict[UUID, Loaded]:
        """One stream that can't be read is an exception, and takes none of the others along."""
        decoded: dict[UUID, Loaded] = {}
        for stream, stored_events in found.items():
            try:
                decoded[stream] = self._opened([self._mapper.decode(one) for one in stored_events])
            except LOST:
                raise
            except Exception as error:
                decoded[stream] = error
        return decoded

    def _opened(self, recorded: Sequence[Recorded]) -> Sequence[Recorded]:
        return recorded

    async def append(self, append: Append) -> Receipt:
        if not append.events:
            raise ValueError("an append has at least one event")
        stored_events = [self._mapper.encode(recorded) for recorded in append.events]
        return await self._writer.append(append, stored_events)

    async def keep_command(
        self, tenant: UUID, command: str, fingerprint: bytes, stream: UUID, position: int
    ) -> Receipt:
        key, given = (tenant, command), Append(tenant, command, fingerprint, stream, ())
        return receipt_of(
            given,
            await self._read(
                lambda: self.recorder.keep_command(key, fingerprint, stream, position)
            ),
        )

    async def receipt(self, tenant: UUID, command: str, fingerprint: bytes) -> Receipt | None:
        key = (tenant, command)
        found = await self._read(lambda: self.recorder.stored_commands([key]))
        if key not in found:
            return None
        return receipt_of(Append(tenant, command, fingerprint, found[key].stream, ()), found[key])

    async def stored_times(self, commands: Collection[CommandKey]) -> dict[CommandKey, datetime]:
        """When these were stored, by the database's clock. Raises StoreUnavailable."""
        found = await self._read(lambda: self.recorder.stored_commands(list(commands)))
        return {key: one.stored_at for key, one in found.items()}

    async def ping(self) -> None:
        """Raises StoreUnavailable if commands can't be accepted."""
        await self._read(lambda: self.recorder.stored_commands([]))

    async def close(self) -> None:
        """Stores what was accepted, then closes the connections."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.shutdown(wait=True, cancel_futures=True)
        self.recorder.datastore.close()

    async def _read(self, query: Callable[[], T]) -> T:
        deadline = monotonic() + LOAD_SECONDS_MAX
        loop = asyncio.get_running_loop()
        try:
            # `_persistently` keeps the deadline, unless it hangs in a connection that is dead.
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await loop.run_in_executor(self._readers, _persistently, query, deadline)
        except TimeoutError:
            raise StoreUnavailable("no answer in time") from None


def _persistently(query: Callable[[], T], deadline: float) -> T:
    """Runs a query again as long as connections turn out to be lost: reading twice harms nobody."""
    while True:
        try:
            return query()
        except LOST as error:
            if monotonic() + RETRY_PAUSE_SECONDS > deadline:
                raise unreachable(error) from error
        sleep(RETRY_PAUSE_SECONDS)


class ConversationStore(PostgresEventStore[ConversationRecorder]):
    """The streams of conversations, the index of their answers, and keys of those not stored."""

    def __init__(self, recorder: ConversationRecorder, **options: int) -> None:
        super().__init__(recorder, **options)
        self._answers = Gathered(self._find_answers, seconds_max=ANSWER_SECONDS_MAX)
        self._asked = Gathered(self._find_asked, seconds_max=ANSWER_SECONDS_MAX)

    def _opened(self, recorded: Sequence[Recorded]) -> Sequence[Recorded]:
        """A key is looked up only if an event turns out to be sealed: stored ones cost nothing."""
        return with_keys(recorded, self.recorder.content_keys)

    async def find_answer(self, answer: UUID) -> AnswerRow | None:
        """Where an answer is and whether it is open. Raises StoreUnavailable."""
        return await self._answers.get(answer)

    async def _find_answers(
        self, answers: Sequence[UUID]
    ) -> Mapping[UUID, AnswerRow | Exception | None]:
        found = await self._read(lambda: self.recorder.find_answers(answers))
        return {answer: found.get(answer) for answer in answers}

    async def find_asked(self, answer: UUID, stream: UUID) -> tuple[AnswerRow | None, Loaded]:
        """`find_answer`, and `load` of its stream, or what `load` would raise: one look at both.

        Raises StoreUnavailable.
        """
        return await self._asked.get((answer, stream))

    async def _find_asked(
        self, keys: Sequence[tuple[UUID, UUID]]
    ) -> Mapping[tuple[UUID, UUID], tuple[AnswerRow | None, Loaded] | Exception]:
        answers, streams = [key[0] for key in keys], list({key[1] for key in keys})

        def query() -> tuple[Mapping[UUID, AnswerRow], Mapping[UUID, Loaded]]:
            rows, found = self.recorder.asked(answers, streams)
            return rows, self._decoded(found)

        rows, decoded = await self._read(query)
        return {(answer, stream): (rows.get(answer), decoded[stream]) for answer, stream in keys}

    async def unanswered(self) -> dict[UUID, int]:
        """Open answers by tenant. Raises StoreUnavailable."""
        return await self._read(self.recorder.unanswered)

    async def destroy_keys(self) -> int:
        """Destroys keys past their time, a bounded number; how many. Raises StoreUnavailable."""
        return await self._read(self.recorder.destroy_keys)

    async def join(self, command: str, attempt: Attempt) -> Receipt | None:
        """The receipt of the turn that this repeat joins, if there is one; else nothing happens.

        As `append` does, without a command of its own. Raises StoreUnavailable.
        """
        return await self._read(lambda: self.recorder.turns.join(command, attempt))

    async def settle(self, turns: Sequence[CommandKey]) -> None:
        """Nobody joins these turns any more. Raises StoreUnavailable."""
        hit("store.before_settle")
        await self._read(lambda: self.recorder.turns.settle(turns))
        hit("store.after_settle")

    async def sweep_turns(self) -> int:
        """Forgets turns too old to be joined: says how many, a few thousand at most.

        Raises StoreUnavailable.
        """
        return await self._read(self.recorder.turns.sweep)


class AccountStore(PostgresEventStore[EventRecorder]):
    """The streams of tenants."""


async def open_conversation_store(
    database_url: str,
    *,
    commands_queued_max: int = COMMANDS_QUEUED_MAX,
    commands_per_transaction_max: int = COMMANDS_PER_TRANSACTION_MAX,
    connections_max: int = CONNECTIONS_MAX,
    unstored_seconds_max: float = UNSTORED_SECONDS_MAX,
    unended_seconds_max: float = UNENDED_SECONDS_MAX,
    repeat_seconds_max: float = REPEAT_SECONDS_MAX,
) -> ConversationStore:
    """Makes the schema if need be. Raises StoreUnavailable, UnsafeSetting."""
    make = partial(ConversationRecorder, repeat_seconds_max=repeat_seconds_max)
    recorder = await asyncio.to_thread(
        open_recorder, make, "conversations", database_url, connections_max
    )
    recorder.unstored_seconds_max = unstored_seconds_max
    recorder.unended_seconds_max = unended_seconds_max
    return ConversationStore(
        recorder,
        commands_queued_max=commands_queued_max,
        commands_per_transaction_max=commands_per_transaction_max,
        connections_max=connections_max,
    )


async def open_account_store(
    database_url: str,
    *,
    commands_queued_max: int = COMMANDS_QUEUED_MAX,
    commands_per_transaction_max: int = COMMANDS_PER_TRANSACTION_MAX,
    connections_max: int = CONNECTIONS_MAX,
) -> AccountStore:
    """Makes the schema if need be. Raises StoreUnavailable, UnsafeSetting."""
    recorder = await asyncio.to_thread(
        open_recorder, EventRecorder, "accounts", database_url, connections_max
    )
    return AccountStore(
        recorder,
        commands_queued_max=commands_queued_max,
        commands_per_transaction_max=commands_per_transaction_max,
        connections_max=connections_max,
    )


def prepare_schema(context: str, database_url: str) -> None:
    """Makes a context's schema if need be, for those who only read it. As `open_..._store`."""
    make: Callable[[Datastore], EventRecorder] = (
        ConversationRecorder if context == "conversations" else EventRecorder
    )
    open_recorder(make, context, database_url, connections_max=1).datastore.close()


def open_recorder(
    make: Callable[[Datastore], R], schema: str, database_url: str, connections_max: int
) -> R:
    """A recorder on its own pool, its tables made. Raises StoreUnavailable, UnsafeSetting."""
    datastore = Datastore(
        database_url,
        schema=schema,
        connections_max=connections_max,
        application_name=f"thalweg-{schema}-{os.getpid()}",
    )
    try:
        recorder = make(datastore)
        create_schema(database_url, recorder)
    except LOST as error:
        datastore.close()
        raise unreachable(error) from error
    except BaseException:
        datastore.close()
        raise
    return recorder
