"""The queue of a worker: bands, tenants, deadlines, and a bound on everything.

Strictly by level, except that work climbs a level each time it has waited its band's
`waited_seconds_max`; within a level the tenant that was served the fewest tokens; of a tenant the
work with the earliest deadline. It holds no clock: every call is told the time.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import inf
from uuid import UUID

from events.ids import AnswerId
from processors.answers.scheduling.counters import Counters
from processors.answers.scheduling.flows import Entry, Flow
from processors.answers.scheduling.moments import Moments
from processors.answers.scheduling.work import Level, Needs, Queued, QueueLimits, Why

ASKED_AGAIN_SECONDS = 5.0
"""Work that has outwaited every bound but its deadline, between looks whether engines are gone."""
LEFT_MOMENTS_MAX = 256
"""Of work that has left, besides as many as of work that waits; then they are dropped."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a tenant was charged at a dispatch, to be corrected once it is known what was used."""

    tenant: UUID
    level: Level
    tokens: int
    counter: int
    """The tenant's, at this level, before it."""


@dataclass(frozen=True, slots=True)
class Next:
    work: Queued
    charge: Charge
    waited_seconds: float


class Queue:
    """Times are seconds of one clock that never goes back."""

    def __init__(self, limits: QueueLimits | None = None) -> None:
        self._limits = limits or QueueLimits()
        self._counters = {level: Counters() for level in Level}
        self._flows: dict[Level, dict[Needs, Flow]] = {level: {} for level in Level}
        self._entries: dict[AnswerId, Entry] = {}
        self._numbers = count()
        self._moves = Moments()
        """When work climbs, or its deadline passes."""
        self._patience = Moments()
        """When it is asked whether work is to be given up."""
        self._expired: dict[AnswerId, Queued] = {}
        """Taken out by `next`, and not told by `given_up` yet."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, answer: AnswerId) -> bool:
        return answer in self._entries

    def find(self, answer: AnswerId) -> Queued | None:
        entry = self._entries.get(answer)
        return None if entry is None else entry.work

    @property
    def is_full(self) -> bool:
        return len(self) >= self._limits.queued_max

    def put(self, work: Queued, now: float) -> bool:
        """False: it is full. Work that is there already stays where it is."""
        if work.answer in self._entries:
            return True
        self._expired.pop(work.answer, None)
        if self.is_full:
            return False
        self._enter(work, now)
        if not work.begun:
            self._patience.add(work, self._asked_next(work, now, work.asked_at))
        return True

    def next(self, now: float, has_room: Callable[[Needs], bool]) -> Next | None:
        """Takes out what is to be dispatched now, of that for which there is room: never work whose
        deadline has passed."""
        self._move(now)
        for level in Level:
            best: tuple[int, int, Entry] | None = None
            for needs, flow in self._flows[level].items():
                first = flow.first()
                if first is None or (best is not None and first[:2] >= best[:2]):
                    continue
                if has_room(needs):
                    best = first
            if best is not None:
                return self._dispatch(best[2], level, now)
        return None

    def remove(self, answer: AnswerId) -> Queued | None:
        """Its work is not to be dispatched any more. None: it does not wait here."""
        entry = self._entries.get(answer)
        if entry is None:
            return self._expired.pop(answer, None)
        self._leave(entry)
        return entry.work

    def given_up(
        self,
        now: float,
        served_since: Callable[[Needs], float | None],
        out_since: Callable[[Needs], float] = lambda _: -inf,
    ) -> Iterator[tuple[Queued, Why]]:
        """Takes out what has waited too long. `served_since`: since when an engine that can do it
        takes work, though it may be full now; None: none does, and since when is `out_since`."""
        self._move(now)
        while self._expired:
            yield self._expired.popitem()[1], Why.DEADLINE
        for work in self._patience.due(now, self._waits):
            since = served_since(work.needs)
            begins = max(work.asked_at, out_since(work.needs) if since is None else since)
            why = self._why(work, now, begins, is_served=since is not None)
            if why is None:
                self._patience.add(work, self._asked_next(work, now, begins))
            else:
                self._leave(self._entries[work.answer])
                yield work, why

    def settle(self, charge: Charge, used: int) -> None:
        """What was dispatched has ended, and has used so many tokens."""
        self._counters[charge.level].settle(charge.tenant, charge.tokens, used)
        self._line_up(charge.tenant, charge.level)

    def wakes_at(self) -> float:
        """When `given_up` or `next` may have something because time has passed, at the earliest."""
        return min(self._moves.first, self._patience.first)

    def everything(self) -> Iterator[Queued]:
        """What waits, in no order."""
        return (entry.work for entry in self._entries.values())

    def waiting(self) -> Counter[Needs]:
        """How much waits for the same engines."""
        found: Counter[Needs] = Counter()
        for flows in self._flows.values():
            for needs, flow in flows.items():
                found[needs] += flow.size
        return found

    # where work waits ---------------------------------------------------------------------------

    def _enter(self, work: Queued, now: float) -> None:
        level, climbs_at = self._climbed(work, now)
        flows, counters = self._flows[level], self._counters[level]

        def waits(tenant: UUID) -> bool:
            return any(tenant in flow for flow in flows.values())

        if not waits(work.tenant):
            firsts = (flow.first() for flow in flows.values())
            heads = (first[-1].work.tenant for first in firsts if first is not None)
            counters.begins(work.tenant, heads)
        entry = self._entries[work.answer] = Entry(work, level, next(self._numbers))
        if work.needs not in flows:
            flows[work.needs] = Flow(counters)
        flows[work.needs].add(entry)
        counters.tidy(waits)
        self._moves.add(work, min(climbs_at, work.deadline))

    def _leave(self, entry: Entry) -> None:
        del self._entries[entry.work.answer]
        flows = self._flows[entry.level]
        flow = flows[entry.work.needs]
        flow.kill(entry)
        if flow.is_empty:
            del flows[entry.work.needs]
        if not flows:
            self._counters[entry.level].is_last(entry.work.tenant)
        waiting = len(self._entries)
        for moments in (self._moves, self._patience):
            moments.tidy(2 * waiting + LEFT_MOMENTS_MAX, self._waits)

    def _waits(self, work: Queued) -> bool:
        entry = self._entries.get(work.answer)
        return entry is not None and entry.work is work

    def _dispatch(self, entry: Entry, level: Level, now: float) -> Next:
        work = entry.work
        self._leave(entry)
        charge = Charge(work.tenant, level, work.tokens, self._counters[level].of(work.tenant))
        self._counters[level].charge(work.tenant, work.tokens)
        self._line_up(work.tenant, level)
        return Next(work, charge, max(0.0, now - work.asked_at))

    def _line_up(self, tenant: UUID, level: Level) -> None:
        """Its counter has changed."""
        for flow in self._flows[level].values():
            flow.line_up(tenant)

    # what time does -----------------------------------------------------------------------------

    def _climbed(self, work: Queued, now: float) -> tuple[Level, float]:
        """Where work belongs now, and when it climbs on."""
        if work.level <= Level.PRIORITY:
            return work.level, inf
        waited_max = self._limits.patience[work.band].waited_seconds_max
        level: Level = work.level
        climbs_at = work.asked_at + waited_max
        while climbs_at <= now and level > Level.PRIORITY:
            level, climbs_at = Level(level - 1), climbs_at + waited_max
        return level, inf if level is Level.PRIORITY else climbs_at

    def _move(self, now: float) -> None:
        for work in self._moves.due(now, self._waits):
            self._leave(self._entries[work.answer])
            if now >= work.deadline:
                self._expired[work.answer] = work
            else:
                self._enter(work, now)

    def _why(self, work: Queued, now: float, begins: float, *, is_served: bool) -> Why | None:
        """While no engine was there, nobody was preferred: that time is no contention. Nor is time
        in which others were preferred a time without an engine."""
        if is_served:
            contended = self._limits.patience[work.band].contended_seconds_max
            return Why.CONTENDED if now >= begins + contended else None
        waited = now - begins
        return Why.NO_CAPACITY if waited >= self._limits.no_capacity_seconds_max else None

    def _asked_next(self, work: Queued, now: float, begins: float) -> float:
        """Work that has outwaited an outage's bound is looked at all the time: it may begin any
        moment that counts for it. (Work that was called in vain comes back with its old age.)"""
        contended_at = begins + self._limits.patience[work.band].contended_seconds_max
        no_capacity_at = begins + self._limits.no_capacity_seconds_max
        if no_capacity_at <= now:
            no_capacity_at = now + ASKED_AGAIN_SECONDS
        return min(no_capacity_at, contended_at) if contended_at > now else no_capacity_at
