"""Declared repeats: a client that numbers its sends gets one turn for them, without a key.

The official clients repeat a call on a broken connection, without an idempotency key, and say which
repeat it is. Such a repeat joins the turn that it repeats (the event store does that, in the
transaction of the append), unless that one's response was delivered. Which were is told to the
store late and in batches, again and again while it is away: a gateway that dies before leaves turns
that can be joined until they are too old.
"""

import asyncio
import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from fastapi import Request

from commands.errors import StoreUnavailable
from commands.store import Attempt
from gateway.intake import Call, asked_of
from gateway.limits import GatewayLimits
from gateway.ports import Turns

logger = logging.getLogger("thalweg.gateway")

RETRY_COUNT = "x-stainless-retry-count"
_COUNT = re.compile(r"[0-9]{1,4}")  # nobody repeats a call ten thousand times within the bound

Turn = tuple[UUID, str]
"""Tenant, and the command that began it."""


def with_attempt(request: Request, call: Call, body: dict[str, Any]) -> Call:
    """The call with the number of its send. One with an idempotency key needs none.

    Without a count, or with one that is none, it is a first send: the header is telemetry, and no
    reason to refuse a call.
    """
    if call.keyed:
        return call
    counts = request.headers.getlist(RETRY_COUNT)
    number = int(counts[0]) if len(counts) == 1 and _COUNT.fullmatch(counts[0]) else 0
    return replace(call, attempt=Attempt(call.caller.key, asked_of(request, body), number))


class Repeats:
    """Tells the store which turns nobody is to join any more, and has old ones swept."""

    def __init__(self, turns: Turns, limits: GatewayLimits) -> None:
        self._turns = turns
        self._limits = limits
        self._settled: dict[Turn, None] = {}
        """Not told yet, the oldest first."""
        self._timer: asyncio.TimerHandle | None = None
        self._timed: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._begun = self._ended = 0
        """Flushes, counted."""
        self._sweep_at = 0.0

    def begun(self) -> None:
        """A turn was begun here: while there are such, old ones are swept."""
        self._flush_soon()

    def delivered(self, turn: Turn) -> None:
        """Its response has reached the client."""
        self._note([turn])
        self._flush_soon()

    async def settle(self, turn: Turn) -> None:
        """Nobody joins it from now on; if the store is away, from when it is back on."""
        self._note([turn])
        await self.flush()

    async def flush(self) -> None:
        """Tells the store what it does not know yet. Never raises.

        One that is under way is waited for: it may hold what was delivered a moment ago. All who
        wait for it share the next one, so that nobody waits for more than two.
        """
        known = self._begun
        async with self._one_at_a_time:
            if self._ended > known:
                return
            self._begun += 1
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            await self._tell()
            await self._sweep()
            self._ended = self._begun

    async def close(self) -> None:
        """Tells what is left to tell, if the store is there. No more deliveries come."""
        await self.flush()
        if self._timer is not None:
            self._timer.cancel()

    async def _tell(self) -> None:
        settled, self._settled = list(self._settled), {}
        told = not settled
        try:
            if settled:
                await self._turns.settle(settled)
                told = True
        except StoreUnavailable as error:
            logger.warning(
                "the store can't be told now what was delivered: it can be joined meanwhile",
                extra={"turns": len(settled), "reason": str(error)},
            )
        finally:
            if not told:
                newer, self._settled = list(self._settled), {}
                self._note([*settled, *newer])
                self._flush_soon()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._sweep_at:
            return
        self._sweep_at = loop.time() + self._limits.turns_sweep_seconds
        try:
            if await self._turns.sweep_turns():
                self._sweep_at = 0  # perhaps there are more: again with the next batch
        except StoreUnavailable as error:
            logger.warning("old turns could not be swept", extra={"reason": str(error)})

    def _note(self, turns: Iterable[Turn]) -> None:
        """Keeps the newest; one that is forgotten can be joined until it is too old."""
        self._settled |= dict.fromkeys(turns)
        while len(self._settled) > self._limits.settled_turns_max:
            del self._settled[next(iter(self._settled))]

    def _flush_soon(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limits.settle_delay_seconds, self._flush_now)

    def _flush_now(self) -> None:
        self._timer = None
        if self._timed is not None and not self._timed.done():
            self._flush_soon()
            return
        self._timed = asyncio.create_task(self.flush())
