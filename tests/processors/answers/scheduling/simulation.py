"""A fleet in virtual time: requests come, wait, are dispatched, speak, and engines break."""

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from events.ids import AnswerId
from processors.answers.scheduling.breaker import BreakerLimits
from processors.answers.scheduling.scheduler import Dispatch, Outcome, Scheduler
from processors.answers.scheduling.seats import Seat, SeatLimits
from processors.answers.scheduling.work import Queued, QueueLimits, Why

TOKEN_SECONDS = 0.02
PROMPT_TOKENS = 50


@dataclass(frozen=True)
class Arrival:
    at: float
    work: Queued
    says: int
    """Tokens, in the end."""


@dataclass
class Engine:
    """Says a token each TOKEN_SECONDS, as many at once as its places."""

    name: str
    fails: Callable[[float], Outcome | None] = lambda _now: None
    over: int = 0
    """The most calls that it ever had at once."""
    in_flight: int = 0
    calls: int = 0


@dataclass
class Run:
    answered: dict[AnswerId, float] = field(default_factory=dict)
    """When it began to be answered, of those that were answered whole."""
    given_up: dict[AnswerId, Why] = field(default_factory=dict)
    refused: set[AnswerId] = field(default_factory=set)
    """The queue was full."""
    used: Counter[object] = field(default_factory=Counter)
    """Tokens by tenant."""
    retries: int = 0
    too_late: int = 0
    """Dispatched past the deadline."""
    waits: defaultdict[object, list[float]] = field(default_factory=lambda: defaultdict(list))
    queued_most: int = 0


def run(
    arrivals: Iterable[Arrival],
    engines: list[Engine],
    *,
    seed: int = 1,
    seats: SeatLimits | None = None,
    queue: QueueLimits | None = None,
    until: float = float("inf"),
    probes_well: Callable[[Engine, float], bool] = lambda engine, now: engine.fails(now) is None,
) -> Run:
    """Plays it to its end, or for so many seconds. All of it is virtual: no clock, no wait."""
    scheduler = Scheduler(random.Random(seed), limits=queue)
    by_name = {engine.name: engine for engine in engines}
    for engine in engines:
        seat = Seat(engine.name, limits=seats, breaker=BreakerLimits())
        seat.models = ("m",)
        scheduler.seats[engine.name] = seat
    found, numbers = Run(), count()
    says: dict[AnswerId, int] = {}
    happens: list[tuple[float, int, Arrival | Dispatch | None]] = [
        (each.at, next(numbers), each) for each in arrivals
    ]
    heapq.heapify(happens)
    while happens:
        now, _, what = heapq.heappop(happens)
        if now > until:
            break
        match what:
            case Arrival(work=work):
                says[work.answer] = what.says
                if not scheduler.queue.put(work, now):
                    found.refused.add(work.answer)
                heapq.heappush(happens, (work.deadline, next(numbers), None))
            case Dispatch(work=work, seat=seat):
                engine = by_name[seat.name]
                engine.in_flight -= 1
                outcome = engine.fails(what.began_at) or Outcome.FINISHED
                tokens = PROMPT_TOKENS + says[work.answer] if outcome is Outcome.FINISHED else 0
                scheduler.ended(what, outcome, tokens, now)
                if outcome is Outcome.FINISHED:
                    found.answered[work.answer] = what.began_at
                    found.used[work.tenant] += tokens
                elif scheduler.retries.take(now):
                    found.retries += 1
                    scheduler.queue.put(work, now)
                else:
                    found.given_up[work.answer] = Why.NO_CAPACITY
        for seat in scheduler.seats.values():
            if seat.breaker.probe_due(now):
                well = probes_well(by_name[seat.name], now)
                seat.breaker.probed(healthy=well, now=now)
        for work, why in scheduler.given_up(now):
            found.given_up[work.answer] = why
        found.queued_most = max(found.queued_most, len(scheduler.queue))
        while (dispatch := scheduler.next(now)) is not None:
            work, engine = dispatch.work, by_name[dispatch.seat.name]
            scheduler.retries.called(now)
            found.too_late += now >= work.deadline
            found.waits[work.tenant].append(dispatch.waited_seconds)
            engine.in_flight += 1
            engine.calls += 1
            engine.over = max(engine.over, engine.in_flight)
            is_quick = engine.fails(now) is not None
            lasts = 0.003 if is_quick else says[work.answer] * TOKEN_SECONDS
            heapq.heappush(happens, (now + lasts, next(numbers), dispatch))
        if len(scheduler.queue):
            wakes = scheduler.queue.wakes_at()
            if wakes < float("inf") and (not happens or wakes < happens[0][0]):
                heapq.heappush(happens, (max(wakes, now + 0.01), next(numbers), None))
            elif not happens:
                heapq.heappush(happens, (now + 0.1, next(numbers), None))
    return found
