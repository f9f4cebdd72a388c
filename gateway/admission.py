"""Refuses early: before an event is written, when too many answers are still open, or when the
fleet would not get to one in time.

The counts come from the event store, at most `admission_refresh_seconds` old while requests come
in; what this gateway has accepted since is added, less what it has seen ending. So the bounds have
a slack: what other gateways accept within one refresh goes unseen, and so does what ends elsewhere.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from uuid import UUID

from events.conversations import Band
from events.ids import TenantId
from gateway.fleet.errors import FleetContended, NoEngine, TooManyUnanswered
from gateway.fleet.view import FleetView
from gateway.limits import GatewayLimits
from gateway.ports import Admission

ENGINE_RETRY_SECONDS = 10.0
"""What is told while no engine is there: a breaker looks again at least each 15 s."""

FLEX_SHARE = 0.5
"""Of both bounds: up to there work comes in that has no hurry. It stays for minutes, and what is
more urgent needs room meanwhile."""

logger = logging.getLogger("thalweg.gateway")


class AdmissionControl:
    def __init__(
        self, counts: Admission, limits: GatewayLimits, fleet: FleetView | None = None
    ) -> None:
        self._counts = counts
        self._fleet = fleet or FleetView()
        self._limits = limits
        self._unanswered: Mapping[UUID, int] = {}
        self._unanswered_in_all = 0
        self._since: dict[UUID, UUID] = {}
        """Answers that were admitted since the last count, with their tenants."""
        self._since_of: Counter[UUID] = Counter()
        self._unstored: set[UUID] = set()
        """Those of them whose command is not stored yet: no count can have them."""
        self._counted_at = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None

    def expect(self, tenant: TenantId, model: str, band: Band, deadline_seconds: float) -> None:
        """Raises FleetContended and NoEngine for what the workers would give up, as far as they
        have said how they are. Nothing is kept of it.
        """
        outlook = self._fleet.outlook(model, band, tenant, time.monotonic())
        if outlook is None:
            return
        out_seconds = outlook.out_seconds
        if out_seconds is not None and out_seconds > self._limits.no_capacity_seconds_max:
            raise NoEngine(model, out_seconds, ENGINE_RETRY_SECONDS)
        contended = self._limits.contended_seconds_max.get(band, deadline_seconds)
        wait_max = min(contended, deadline_seconds)
        if outlook.wait_seconds is not None and outlook.wait_seconds > wait_max:
            raise FleetContended(band.value, outlook.wait_seconds, wait_max)

    async def admit(self, tenant: UUID, answer: UUID, band: Band) -> None:
        """Makes room for one more answer; say then that it was `stored`, or that it has `ended`.

        Raises TooManyUnanswered, and StoreUnavailable if there are no counts to go by.
        """
        age = time.monotonic() - self._counted_at
        if age > self._limits.admission_refresh_seconds:
            refreshing = self._start_refresh()
            if age > self._limits.admission_stale_seconds_max:
                await asyncio.shield(refreshing)
        limits, share = self._limits, FLEX_SHARE if band is Band.FLEX else 1.0
        in_all = self._unanswered_in_all + len(self._since)
        of_tenant = self._unanswered.get(tenant, 0) + self._since_of[tenant]
        for unanswered, bound, of in (
            (of_tenant, limits.unanswered_requests_per_tenant_max, "tenant"),
            (in_all, limits.unanswered_requests_max, "installation"),
        ):
            bound_of_band = math.ceil(bound * share)
            if unanswered >= bound_of_band:
                raise TooManyUnanswered(unanswered, bound_of_band, of, limits.retry_after_seconds)
        if answer not in self._since:
            self._since[answer] = tenant
            self._since_of[tenant] += 1
            self._unstored.add(answer)

    def stored(self, answer: UUID) -> None:
        """The command that asks for it is in the event store: the next count has it."""
        self._unstored.discard(answer)

    def ended(self, answer: UUID) -> None:
        """Its end was seen here, or it was not asked for after all."""
        self._unstored.discard(answer)
        tenant = self._since.pop(answer, None)
        if tenant is not None:
            self._since_of[tenant] -= 1
            if not self._since_of[tenant]:
                del self._since_of[tenant]

    def _start_refresh(self) -> asyncio.Task[None]:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(_log_failure)
        return self._refreshing

    async def _refresh(self) -> None:
        # What is accepted while the store counts may be in its counts or not: it is kept as ours,
        # and so may count twice until the next refresh. Better that than not at all.
        before = [answer for answer in self._since if answer not in self._unstored]
        self._unanswered = await self._counts.unanswered()
        self._unanswered_in_all = sum(self._unanswered.values())
        for answer in before:
            self.ended(answer)
        self._counted_at = time.monotonic()


def _log_failure(refreshing: asyncio.Task[None]) -> None:
    """Nobody awaits a refresh in the background; who needs it fails by itself."""
    if not refreshing.cancelled() and (error := refreshing.exception()) is not None:
        logger.warning("open answers could not be counted", extra={"reason": str(error)})
