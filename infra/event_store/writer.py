"""Natural batching: one thread a store takes whatever has queued while the last commit ran.

A lone append goes at once; under load many share one commit, without a timer. Nobody pays for
somebody else's conflict: when a group is refused, those whose outcome is settled are answered, and
the rest are stored again, one by one if need be.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol
from uuid import UUID

from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    StoredEvent,
)
from psycopg_pool import PoolTimeout

from commands.errors import CommandReused, StoreSaturated, StoreUnavailable
from commands.store import Append, Attempt, PositionTaken, Receipt
from infra.event_store.recorder import CommandKey, StoredCommand
from infra.failpoints import hit

log = logging.getLogger("thalweg.event_store")

COMMANDS_QUEUED_MAX = 1_024
"""Appends that wait for the writer; more are told StoreSaturated."""
COMMANDS_PER_TRANSACTION_MAX = 128
"""Sharing a commit among more gains nothing."""
TRANSACTION_BYTES_MAX = 8_388_608
"""Of events in one transaction, so that large ones don't fill memory; one append always fits."""
STORE_SECONDS_MAX = 5.0
"""An append is answered by then: with StoreUnavailable if nothing better is known."""
RETRY_PAUSE_SECONDS = 0.05
"""Between attempts while Postgres does not answer."""
CLOSE_SECONDS_MAX = 10.0
"""To finish what is queued; a writer stuck in a dead connection is then left behind."""

LOST = (OperationalError, InterfaceError)
"""The connection or the server went away: nothing is known about the transaction."""


class Recorder(Protocol):
    """What the writer needs of a recorder; EventRecorder says what each promises."""

    def store(
        self, appends: Sequence[Append], stored_events: Sequence[StoredEvent]
    ) -> dict[CommandKey, Receipt]: ...

    def stored_commands(self, keys: Sequence[CommandKey]) -> dict[CommandKey, StoredCommand]: ...

    def heads(self, streams: Sequence[UUID]) -> dict[UUID, int]: ...


@dataclass(slots=True, eq=False)
class Waiting:
    """One append on its way, and who waits for it."""

    append: Append
    stored_events: Sequence[StoredEvent]
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Receipt]"
    deadline: float
    bytes: int
    unsure: bool = False
    """An attempt may have been committed without our hearing of it."""
    outcome: Receipt | BaseException | None = None

    @property
    def key(self) -> CommandKey:
        return self.append.tenant, self.append.command


def receipt_of(append: Append, stored: StoredCommand) -> Receipt:
    """The receipt of a command that was stored before. Raises CommandReused."""
    if stored.fingerprint != append.fingerprint:
        raise CommandReused(append.command)
    return Receipt(stored.stream, stored.position, stored.stored_at, repeated=True)


@dataclass(slots=True)
class Writer:
    """Owns the thread. `append` may be called from any event loop; `close` from any thread."""

    recorder: Recorder
    name: str
    queued_max: int = COMMANDS_QUEUED_MAX
    per_transaction_max: int = COMMANDS_PER_TRANSACTION_MAX
    store_seconds_max: float = STORE_SECONDS_MAX
    _queue: deque[Waiting] = field(default_factory=deque)
    _wake: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"writer-{self.name}", daemon=True)
        self._thread.start()

    async def append(self, append: Append, stored_events: Sequence[StoredEvent]) -> Receipt:
        """Returns when it is committed. Raises what commands.store.EventStore.append says."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(
            append,
            stored_events,
            loop,
            loop.create_future(),
            monotonic() + self.store_seconds_max,
            sum(len(event.state) for event in stored_events),
        )
        with self._wake:
            if self._closed:
                raise StoreUnavailable("this process is stopping")
            if len(self._queue) >= self.queued_max:
                raise StoreSaturated(self.queued_max)
            self._queue.append(waiting)
            self._wake.notify()
        try:
            # The writer keeps the deadline itself, unless it hangs in a connection that is dead.
            async with asyncio.timeout(self.store_seconds_max + 1):
                return await waiting.answer
        except TimeoutError:
            raise StoreUnavailable("no answer in time", maybe_stored=True) from None

    def close(self) -> None:
        """Stores what is queued, within a bound, and ends the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS_MAX)

    # In the writer's thread -------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                self._work()
                return
            except Exception:  # without this thread every append would wait in vain, for ever
                log.exception("the writer failed, and goes on with what is queued")
                threading.Event().wait(RETRY_PAUSE_SECONDS)

    def _work(self) -> None:
        """Returns when the writer is closed and nothing is left to store."""
        deferred: list[Waiting] = []
        while True:
            with self._wake:
                while not self._queue and not deferred and not self._closed:
                    self._wake.wait()
                if not self._queue and not deferred:
                    return
                group, deferred = self._take(deferred)
            try:
                self._store_all(group)
                # Those that had to wait for another of their stream or id have mostly lost by now.
                remaining = self._settle(deferred, None) if deferred else []
            except LOST:
                remaining = [waiting for waiting in deferred if not _expired(waiting)]
            except Exception as error:  # whatever it was, nobody may wait for ever
                log.exception("the writer failed on a group of %d appends", len(group))
                remaining = deferred
                for waiting in group:
                    waiting.outcome = waiting.outcome or error
            _answer([*group, *(waiting for waiting in deferred if waiting.outcome is not None)])
            deferred = remaining

    def _take(self, deferred: list[Waiting]) -> tuple[list[Waiting], list[Waiting]]:
        """The next group, in which no two have a command id or a stream in common; and the rest.

        Nor is a repeat in one group with a turn that it may join: a group looks for those before
        any of it is stored.
        """
        group: list[Waiting] = []
        later: list[Waiting] = []
        seen: set[CommandKey | UUID] = set()
        lowest: dict[tuple[UUID, bytes], int] = {}
        size = 0
        candidates = deque(deferred)
        while len(group) < self.per_transaction_max and len(later) < self.per_transaction_max:
            if not candidates and not self._queue:
                break
            waiting = (candidates or self._queue).popleft()
            joins = _joins(waiting.append.attempt, lowest)
            if joins or waiting.key in seen or waiting.append.stream in seen:
                later.append(waiting)
                continue
            if group and size + waiting.bytes > TRANSACTION_BYTES_MAX:
                later.append(waiting)
                break
            seen.update((waiting.key, waiting.append.stream))
            _note(waiting.append.attempt, lowest)
            size += waiting.bytes
            group.append(waiting)
        return group, later + list(candidates)

    def _store_all(self, group: list[Waiting]) -> None:
        """Gives every member its outcome."""
        rest = self._attempt(group)
        if 0 < len(rest) < len(group):  # together again, without those that were in the way
            rest = self._attempt(rest)
        while rest:
            rest = [left for waiting in rest for left in self._attempt([waiting])]

    def _attempt(self, group: list[Waiting]) -> list[Waiting]:
        """Tries to store the group together; returns those that have no outcome yet."""
        group = [waiting for waiting in group if not _expired(waiting)]
        if not group:
            return []
        hit("store.before_append")
        try:
            receipts = self.recorder.store(
                [waiting.append for waiting in group],
                [event for waiting in group for event in waiting.stored_events],
            )
            hit("store.after_append")
        except IntegrityError as error:
            return self._settle(group, error)
        except LOST as error:
            log.warning("storing was interrupted: %s", error)
            was_sent = not isinstance(error.__cause__, PoolTimeout)
            for waiting in group:
                waiting.unsure = waiting.unsure or was_sent
            return self._find_out(group)
        except Exception as error:
            if len(group) > 1:
                return group  # one of them can't be stored at all: each on its own will tell
            group[0].outcome = error
            return []
        for waiting in group:
            waiting.outcome = receipts[waiting.key]
        return []

    def _find_out(self, group: list[Waiting]) -> list[Waiting]:
        """After a lost connection: asks until the deadlines which of the group was committed."""
        while group := [waiting for waiting in group if not _expired(waiting)]:
            threading.Event().wait(RETRY_PAUSE_SECONDS)
            try:
                return self._settle(group, None)
            except LOST:
                continue
        return []

    def _settle(self, group: list[Waiting], error: IntegrityError | None) -> list[Waiting]:
        """Gives an outcome to those that were stored or cannot be; returns the others.

        The heads are read first: if a head includes an append of ours that landed late, its command
        is found for sure, and a success is never taken for a conflict.
        """
        try:
            heads = self.recorder.heads([waiting.append.stream for waiting in group])
            commands = self.recorder.stored_commands([waiting.key for waiting in group])
        except LOST:
            if error is None:
                raise
            return self._find_out(group)
        rest = []
        for waiting in group:
            stored = commands.get(waiting.key)
            if stored is not None:
                waiting.outcome = _outcome_of_stored(waiting, stored)
            elif heads[waiting.append.stream] != waiting.append.events[0].position - 1:
                waiting.outcome = PositionTaken()
            elif error is not None and len(group) == 1:
                waiting.outcome = error  # some other rule of the tables: no retry will help
            else:
                rest.append(waiting)
        return rest


def _outcome_of_stored(waiting: Waiting, stored: StoredCommand) -> Receipt | BaseException:
    try:
        receipt = receipt_of(waiting.append, stored)
    except CommandReused as reused:
        return reused
    if waiting.unsure:
        return Receipt(receipt.stream, receipt.position, receipt.stored_at)
    return receipt


def _joins(attempt: Attempt | None, lowest: dict[tuple[UUID, bytes], int]) -> bool:
    """Whether it may join a turn that an attempt of a lower number begins."""
    if attempt is None:
        return False
    return lowest.get((attempt.key, attempt.asked), attempt.number) < attempt.number


def _note(attempt: Attempt | None, lowest: dict[tuple[UUID, bytes], int]) -> None:
    if attempt is not None:
        turn = attempt.key, attempt.asked
        lowest[turn] = min(attempt.number, lowest.get(turn, attempt.number))


def _expired(waiting: Waiting) -> bool:
    if monotonic() < waiting.deadline:
        return False
    waiting.outcome = StoreUnavailable("Postgres can't be reached", waiting.unsure)
    return True


def _answer(group: Sequence[Waiting]) -> None:
    """Wakes each event loop once, whatever the number of its appends."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}
    for waiting in group:
        by_loop.setdefault(waiting.loop, []).append(waiting)
    for loop, waitings in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, waitings)
        except RuntimeError:
            log.info("%d appends were stored for an event loop that is closed", len(waitings))


def _resolve(group: Sequence[Waiting]) -> None:
    for waiting in group:
        if waiting.answer.done():
            continue
        if isinstance(waiting.outcome, BaseException):
            waiting.answer.set_exception(waiting.outcome)
        elif waiting.outcome is not None:
            waiting.answer.set_result(waiting.outcome)
