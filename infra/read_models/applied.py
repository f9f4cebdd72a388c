"""Waiting until a read model has applied something: one question for all who wait at once."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from gateway.read_ports import Seen, StreamPosition
from infra.read_models.models import (
    APPLIED_POLL_SECONDS,
    OFFSETS,
    ProjectionMissing,
    ReadModels,
)
from projections.tables import Tables

WAITING_MAX = 1_000
"""Reads that wait at one gateway for one read model; more are told at once to come again."""

# Parked streams have an entry of their own: nothing more will be applied to them for now.
STREAMS = """
SELECT stream, position FROM {positions} WHERE stream = ANY(%(streams)s)
UNION ALL
SELECT stream, NULL FROM {parked} WHERE stream = ANY(%(streams)s)
"""
PARKED = "SELECT FROM {parked} WHERE stream = ANY(%s) LIMIT 1"


@dataclass(frozen=True, slots=True)
class _State:
    """How far a read model is."""

    positions: dict[UUID, int]
    parked: set[UUID]
    offsets: dict[int, int]

    def has(self, after: StreamPosition | Seen, context: str) -> bool:
        if isinstance(after, StreamPosition):
            at = self.positions.get(after.stream, 0)
            return at >= after.position or after.stream in self.parked
        if after.context != context:
            return True  # it says nothing about what is shown here
        return all(self.offsets.get(part, 0) >= at for part, at in after.offsets.items())


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    after: Sequence[StreamPosition | Seen]
    done: asyncio.Future[None]


class AppliedPositions:
    """See gateway.read_ports.Applied. One task asks while anybody waits; no connection is held."""

    def __init__(self, models: ReadModels, tables: Tables, context: str) -> None:
        self._models = models
        self._tables = tables
        self._context = context
        self._waiters: set[_Waiter] = set()
        self._asking: asyncio.Task[None] | None = None

    async def wait(self, after: Sequence[StreamPosition | Seen], *, seconds_max: float) -> bool:
        loop = asyncio.get_running_loop()
        if await self._is_applied(after):
            return True
        if len(self._waiters) >= WAITING_MAX:
            return False
        waiter = _Waiter(after, loop.create_future())
        self._waiters.add(waiter)
        if self._asking is None:
            self._asking = loop.create_task(self._ask(), name=f"applied {self._tables.name}")
        try:
            async with asyncio.timeout(seconds_max):
                await waiter.done
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def seen(self) -> Seen:
        return Seen(self._context, dict(await self._models.read(self._tables, OFFSETS, ())))

    async def parked(self, streams: Sequence[UUID]) -> bool:
        return bool(await self._models.read(self._tables, PARKED, (list(streams),)))

    async def _is_applied(self, after: Sequence[StreamPosition | Seen]) -> bool:
        state = await self._state(after)
        return all(state.has(one, self._context) for one in after)

    async def _ask(self) -> None:
        """Until nobody waits any more."""
        try:
            while self._waiters:
                await asyncio.sleep(APPLIED_POLL_SECONDS)
                state = await self._state([one for each in self._waiters for one in each.after])
                for waiter in list(self._waiters):
                    if not waiter.done.done() and all(
                        state.has(one, self._context) for one in waiter.after
                    ):
                        waiter.done.set_result(None)
        except Exception as error:
            for waiter in list(self._waiters):
                if not waiter.done.done():
                    waiter.done.set_exception(error)
            self._waiters.clear()
        finally:
            self._asking = None

    async def _state(self, after: Iterable[StreamPosition | Seen]) -> _State:
        streams = [one.stream for one in after if isinstance(one, StreamPosition)]
        tokens = any(isinstance(one, Seen) and one.context == self._context for one in after)
        state = _State({}, set(), {})
        try:
            rows = []
            if streams:
                rows = await self._models.read(self._tables, STREAMS, {"streams": streams})
            if tokens:
                state.offsets.update(await self._models.read(self._tables, OFFSETS, ()))
        except ProjectionMissing:
            return state
        for stream, position in rows:
            if position is None:
                state.parked.add(stream)
            else:
                state.positions[stream] = position
        return state
