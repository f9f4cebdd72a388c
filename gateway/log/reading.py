"""The response that carries a reading of the log: NDJSON, one CloudEvent a line.

Its last line is an event of the reading itself, not of the log: that it ended and why, or what
broke it, and where to go on. A reading without such a line was cut off; whatever came of it is
whole lines and an incomplete one at most, and the last whole line says where it was.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import orjson
from starlette.types import Receive, Scope, Send

from commands.errors import Refused
from events.codec import to_cloudevent_json
from events.ids import fresh_id
from gateway import problems
from gateway.errors import Declined, status_of
from gateway.limits import GatewayLimits
from gateway.log.asked import Asked
from gateway.log.errors import EventUnreadable, TooManyReaders
from gateway.log.ports import EventLog, Logged, Unreadable
from gateway.open_streams import OpenStreams
from gateway.sent_events import Put, SentEvents

logger = logging.getLogger("thalweg.gateway")

ENDED = "thalweg.reading.ended"
BROKEN = "thalweg.reading.broken"
EMPTY_LINE = b"\n"
"""Keeps a silent connection open; readers of NDJSON pass over it."""


class Readers:
    """Who reads the log through this gateway: each tenant has a share of the places."""

    def __init__(self, readers_max: int, per_tenant_max: int) -> None:
        self._readers_max = readers_max
        self._per_tenant_max = per_tenant_max
        self._reading: Counter[UUID] = Counter()

    def check(self, tenant: UUID) -> None:
        """Raises TooManyReaders if there is no place for one more of a tenant."""
        if self._reading[tenant] >= self._per_tenant_max:
            raise TooManyReaders(self._per_tenant_max, "tenant")
        if self._reading.total() >= self._readers_max:
            raise TooManyReaders(self._readers_max, "gateway")

    @contextmanager
    def reading(self, tenant: UUID) -> Iterator[None]:
        self._reading[tenant] += 1
        try:
            yield
        finally:
            self._reading[tenant] -= 1
            self._reading += Counter()  # forgets those with none


class Reading(SentEvents):
    """One reading. What is sent is sent in whole lines, or not at all."""

    media_type = "application/x-ndjson"

    def __init__(
        self,
        open_streams: OpenStreams,
        readers: Readers,
        limits: GatewayLimits,
        log: EventLog,
        asked: Asked,
        after: int,
        *,
        tenant: UUID,
        still_allowed: Callable[[], Awaitable[object]],
        request_id: str,
    ) -> None:
        """`after`: the place behind which to begin. `still_allowed` raises once it is not."""
        super().__init__(open_streams, {}, patient=False, about={"reading": asked.context})
        self._readers = readers
        self._tenant = tenant
        self._limits = limits
        self._log = log
        self._asked = asked
        self._place = after
        self._next = asked.first
        self._left = asked.limit if asked.limit is not None else limits.log_events_max
        self._bytes_left = limits.log_bytes_max
        self._still_allowed = still_allowed
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._readers.reading(self._tenant):
            await super().__call__(scope, receive, send)

    async def pump(self, put: Put) -> None:
        limits, loop = self._limits, asyncio.get_running_loop()
        follow = self._asked.follow
        seconds = limits.log_follow_seconds_max if follow else limits.log_seconds_max
        until = loop.time() + seconds
        spoke_at = loop.time()
        reason = None
        while reason is None:
            events_max = min(self._left, limits.log_events_per_step)
            step = await self._log.read(self._asked.wanted, self._place, events_max=events_max)
            for start in range(0, len(step.found), limits.log_events_per_write):
                await self._pass_on(step.found[start : start + limits.log_events_per_write], put)
                spoke_at = loop.time()
                if self._bytes_left <= 0:
                    break
            else:
                self._looked_at(step.place)
            reason = self._ends(past=step.past, at_end=step.at_end, late=loop.time() >= until)
            if reason is None and loop.time() - spoke_at >= limits.keepalive_seconds:
                await put(EMPTY_LINE)
                spoke_at = loop.time()
            if reason is None and follow:
                await self._still_allowed()
                if step.at_end:
                    await asyncio.sleep(limits.log_follow_poll_seconds)
        await put(self._ended(reason), more=False)

    async def _pass_on(self, some: Sequence[Logged], put: Put) -> None:
        lines = [_line(one) for one in some]
        block = b"".join(lines)
        await put(block)
        # Only now: what was interrupted before it was written is read again.
        self._left -= len(lines)
        self._bytes_left -= len(block)
        self._looked_at(some[-1].place)
        if self._asked.by_position:
            self._next = some[-1].recorded.position + 1

    def _looked_at(self, place: int) -> None:
        self._place = place
        if not self._asked.by_position:
            self._next = place + 1

    def _ends(self, *, past: bool, at_end: bool, late: bool) -> str | None:
        if self._left <= 0:
            return "limit"
        if self._bytes_left <= 0:
            return "bytes"
        if past:
            return "until"
        if at_end and not self._asked.follow:
            return "end"
        return "seconds" if late else None

    def _ended(self, reason: str) -> bytes:
        return self._own_line(ENDED, {"reason": reason, "next": self._next})

    def draining(self) -> bytes:
        return self._ended("draining")

    def broken(self, error: Exception) -> bytes:
        if isinstance(error, Unreadable):
            error = EventUnreadable(error.place)
        if isinstance(error, Declined | Refused):
            status, code, detail = status_of(error), error.CODE, str(error)
        else:
            logger.error("a reading of the log broke", extra=dict(self._about), exc_info=error)
            status, code = 500, "internal_error"
            detail = "something went wrong here; the log has it under this request's id"
        problem = problems.fields_of(status, code, detail, self._request_id)
        return self._own_line(BROKEN, {"problem": problem, "next": self._next})

    def _own_line(self, type_name: str, data: Mapping[str, Any]) -> bytes:
        event = {
            "specversion": "1.0",
            "id": str(fresh_id()),
            "source": f"/thalweg/{self._asked.context}",
            "type": type_name,
            "logposition": str(self._place),
            "datacontenttype": "application/json",
            "data": data,
        }
        return orjson.dumps(event) + b"\n"


def _line(one: Logged) -> bytes:
    return to_cloudevent_json(one.recorded, logposition=str(one.place)) + b"\n"
