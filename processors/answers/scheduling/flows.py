"""The queued work of one level: of the tenants the least served, of its work the most urgent."""

import heapq
from dataclasses import dataclass, field
from uuid import UUID

from processors.answers.scheduling.counters import Counters
from processors.answers.scheduling.work import Level, Queued

DEAD_ENTRIES_MAX = 64
"""Left in a heap besides as many as live ones; then it is made anew."""


@dataclass(slots=True, eq=False)
class Entry:
    """Work where it waits now. Dead: it waits elsewhere, or no more."""

    work: Queued
    level: Level
    number: int
    live: bool = True


@dataclass(slots=True)
class _Tenant:
    heap: list[tuple[float, float, int, Entry]] = field(default_factory=list)
    """By deadline; of equal ones what was asked first."""
    live: int = 0

    def first(self) -> Entry:
        """There must be a live one."""
        while not self.heap[0][-1].live:
            heapq.heappop(self.heap)
        return self.heap[0][-1]

    def tidy(self) -> None:
        if len(self.heap) > 2 * self.live + DEAD_ENTRIES_MAX:
            self.heap = [each for each in self.heap if each[-1].live]
            heapq.heapify(self.heap)


class Flow:
    """The work of one level that the same engines can do."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._tenants: dict[UUID, _Tenant] = {}
        self._order: list[tuple[int, int, UUID]] = []
        """By counter; who got in line first at that goes first. Old numbers are passed over."""
        self._in_line = 0
        """Numbers that were drawn."""
        self.size = 0
        """How much waits."""

    def __contains__(self, tenant: UUID) -> bool:
        return tenant in self._tenants

    @property
    def is_empty(self) -> bool:
        return not self._tenants

    def add(self, entry: Entry) -> None:
        work = entry.work
        tenant = self._tenants.get(work.tenant)
        if tenant is None:
            tenant = self._tenants[work.tenant] = _Tenant()
        heapq.heappush(tenant.heap, (work.deadline, work.asked_at, entry.number, entry))
        tenant.live += 1
        self.size += 1
        if tenant.live == 1:
            self.line_up(work.tenant)

    def kill(self, entry: Entry) -> None:
        """It waits here no more."""
        entry.live = False
        tenant = self._tenants[entry.work.tenant]
        tenant.live -= 1
        self.size -= 1
        if tenant.live:
            tenant.tidy()
        else:
            del self._tenants[entry.work.tenant]

    def line_up(self, tenant: UUID) -> None:
        """Puts a tenant in line at what its counter says now."""
        if tenant in self._tenants:
            self._in_line += 1
            heapq.heappush(self._order, (self._counters.of(tenant), self._in_line, tenant))
            if len(self._order) > 2 * len(self._tenants) + DEAD_ENTRIES_MAX:
                self._tidy()

    def first(self) -> tuple[int, int, Entry] | None:
        """(counter, number in line, work) of what is next; None: nothing waits."""
        while self._order:
            counter, number, tenant = self._order[0]
            waiting = self._tenants.get(tenant)
            if waiting is not None and counter == self._counters.of(tenant):
                return counter, number, waiting.first()
            heapq.heappop(self._order)
        return None

    def _tidy(self) -> None:
        """Keeps one number a tenant: its earliest at its counter of now."""
        kept: dict[UUID, tuple[int, int, UUID]] = {}
        for drawn in sorted(self._order):
            counter, _, tenant = drawn
            if tenant in self._tenants and counter == self._counters.of(tenant):
                kept.setdefault(tenant, drawn)
        self._order = sorted(kept.values())
