"""What a worker says of itself: its engines, what waits, and how quickly it is served."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import islice
from math import inf
from uuid import UUID

from events.conversations import Band
from events.workers import (
    ENGINES_REPORTED_MAX,
    MODELS_REPORTED_MAX,
    QUEUES_REPORTED_MAX,
    SERVED_REPORTED_MAX,
    TENANTS_REPORTED_MAX,
    EngineReport,
    QueueReport,
    Report,
    ServedReport,
)
from processors.answers.scheduling.scheduler import Scheduler
from processors.answers.scheduling.seats import Seat
from processors.answers.scheduling.work import Queued

SERVED_SECONDS = 10.0
"""The rate is of so long: several answers of some seconds end in it."""
SERVED_KEPT_MAX = 20_000
"""Ends that are counted; at more than 2,000 a second the rate is of less time."""
SECONDS_MIN = 0.001
"""Of a call: nothing is divided by nothing."""
CALLS_WEIGHED = 20
"""The mean time of a call is about that of so many: a few long ones among short ones count."""


@dataclass(slots=True)
class Served:
    """Calls under way and ends of the last seconds, by model. Pure: it is told the time."""

    _ends: deque[tuple[float, str, int]] = field(
        default_factory=lambda: deque(maxlen=SERVED_KEPT_MAX)
    )
    _under_way: Counter[str] = field(default_factory=Counter)
    _means: dict[str, "_Mean"] = field(default_factory=dict)

    def began(self, model: str) -> None:
        """A call that will be `over`."""
        self._under_way[model] += 1

    def over(self, model: str) -> None:
        self._under_way[model] -= 1
        if not self._under_way[model]:
            del self._under_way[model]

    def finished(self, model: str, tokens: int, seconds: float, now: float) -> None:
        """An answer's call has used so many tokens, and so much time with its way there."""
        self._ends.append((now, model, tokens))
        self._means.setdefault(model, _Mean()).add(seconds)

    def report(self, now: float) -> tuple[ServedReport, ...]:
        while self._ends and self._ends[0][0] < now - SERVED_SECONDS:
            self._ends.popleft()
        requests: Counter[str] = Counter()
        requests.update(dict.fromkeys(self._means.keys() & self._under_way.keys(), 0))
        tokens: defaultdict[str, int] = defaultdict(int)
        for _, model, used in self._ends:
            requests[model] += 1
            tokens[model] += used
        self._means = {model: mean for model, mean in self._means.items() if model in requests}
        return tuple(
            ServedReport(
                model,
                number / SERVED_SECONDS,
                tokens[model] / SERVED_SECONDS,
                self._under_way[model] / self._means[model].seconds,
            )
            for model, number in requests.most_common(SERVED_REPORTED_MAX)
        )


@dataclass(slots=True)
class _Mean:
    """Of the last calls' times, an older one's weight falling by and by."""

    seconds: float = 0.0
    _number: int = 0

    def add(self, seconds: float) -> None:
        self._number = min(self._number + 1, CALLS_WEIGHED)
        self.seconds += (max(seconds, SECONDS_MIN) - self.seconds) / self._number


def report_of(
    worker: str, partitions: int, held: int, scheduler: Scheduler, served: Served, now: float
) -> Report:
    lines = _queues(scheduler.queue.everything(), now)
    seats = scheduler.seats.values()
    return Report(
        worker,
        partitions,
        held,
        tuple(_engine(seat, now) for seat in islice(seats, ENGINES_REPORTED_MAX)),
        tuple(nlargest(QUEUES_REPORTED_MAX, lines, key=lambda each: each.waiting)),
        served.report(now),
    )


def _engine(seat: Seat, now: float) -> EngineReport:
    load, lets_since = seat.load(now), seat.breaker.lets_since
    return EngineReport(
        name=seat.name,
        models=None if seat.models is None else tuple(seat.models[:MODELS_REPORTED_MAX]),
        breaker=seat.breaker.state.value,
        out_seconds=None if lets_since is not None else now - seat.breaker.out_since,
        places=min(seat.share, seat.breaker.calls_max(seat.limits.bound, now)),
        bound=seat.limits.bound,
        in_flight=load.in_flight,
        load=round(load.load, 3),
        queued=load.queued,
        running=load.running,
        tokens=load.tokens,
        age_seconds=load.age_seconds,
    )


def _queues(waiting: Iterable[Queued], now: float) -> Iterator[QueueReport]:
    """A line for each of the tenants with most waiting, and one for all others."""
    lines: defaultdict[tuple[str, Band], defaultdict[UUID, _Line]]
    lines = defaultdict(lambda: defaultdict(_Line))
    for work in waiting:
        line = lines[work.model, work.band][work.tenant]
        line.waiting += 1
        line.tokens += work.tokens
        line.oldest = min(line.oldest, work.asked_at)
    for (model, band), of_tenant in lines.items():
        ordered = sorted(of_tenant.items(), key=lambda each: -each[1].waiting)
        for tenant, line in ordered[:TENANTS_REPORTED_MAX]:
            yield line.report(model, band, tenant, now)
        others = [line for _, line in ordered[TENANTS_REPORTED_MAX:]]
        if others:
            rest = _Line(
                sum(line.waiting for line in others),
                sum(line.tokens for line in others),
                min(line.oldest for line in others),
            )
            yield rest.report(model, band, None, now)


@dataclass(slots=True)
class _Line:
    waiting: int = 0
    tokens: int = 0
    oldest: float = inf

    def report(self, model: str, band: Band, tenant: UUID | None, now: float) -> QueueReport:
        waited = max(0.0, now - self.oldest)
        return QueueReport(model, band, tenant, self.waiting, self.tokens, waited)
