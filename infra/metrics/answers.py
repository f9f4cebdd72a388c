"""Figures of an answering worker: counted as it decides, and read from its report when asked."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from events.conversations import Band
from events.workers import Report
from infra.engines import provider_of
from infra.metrics import families
from infra.metrics.labels import OTHER, Few, Models
from processors.answers.engine import Engine
from processors.answers.meter import NOTHING, LeftWithout, Spoken
from processors.answers.scheduling.breaker import BreakerState
from processors.answers.scheduling.scheduler import Dispatch, Outcome

OPERATION = "chat"
GONE_SECONDS_MAX = 600.0
"""An engine that has left the fleet for so long loses its series: addresses of containers come and
go without end. A scrape or two have seen the last of it by then."""
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class _At:
    """An engine, as labels name it."""

    provider: str
    address: str
    port: str


class AnswersMeter:
    """Implements processors.answers.meter.Meter. `watch` the worker once it is made."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._seconds = families.CALL_SECONDS.histogram(registry)
        self._first = families.FIRST_CHUNK_SECONDS.histogram(registry)
        self._tokens = families.CALL_TOKENS.histogram(registry)
        self._wait = families.QUEUE_WAIT.histogram(registry)
        self._dispatches = families.DISPATCHES.counter(registry)
        self._ended = families.CALLS_ENDED.counter(registry)
        self._given_up = families.GIVEN_UP.counter(registry)
        self._retries = families.RETRIES.counter(registry)
        self._wasted = families.WASTED.counter(registry)
        for reason in LeftWithout:  # a series that begins at 1 has no rate
            self._given_up.labels(reason.value)
        for budget in ("granted", "denied"):
            self._retries.labels(budget)
        self._models, self._errors = Few(), Few(other="_OTHER")
        self._engine: Callable[[str], Engine] | None = None
        self._ats: dict[str, _At] = {}

    def watch(
        self,
        *,
        engine: Callable[[str], Engine],
        report: Callable[[], Report],
        decisions_lost: Callable[[], int],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Where engines are found by name, and what is read when somebody asks: on this loop."""
        self._engine = engine
        self._registry.register(_State(report, decisions_lost, self._forget, now))

    def dispatched(self, dispatch: Dispatch) -> None:
        self._wait.labels(dispatch.work.band.value).observe(dispatch.waited_seconds)
        self._dispatches.labels(dispatch.seat.name, dispatch.choice.because.value).inc()

    def ended(self, dispatch: Dispatch, outcome: Outcome, spoken: Spoken, error: str) -> None:
        engine = dispatch.seat.name
        self._ended.labels(engine, outcome.value).inc()
        if spoken is NOTHING:  # the place was given back without a call
            return
        at, model = self._at(engine), self._models.of(dispatch.work.model)
        call = (OPERATION, at.provider, model, at.address, at.port)
        failed = self._errors.of(_error_type(outcome, spoken, error))
        self._seconds.labels(*call, failed).observe(time.monotonic() - dispatch.began_at)
        if spoken.tokens and spoken.first_seconds is not None:
            self._first.labels(*call).observe(spoken.first_seconds)
            self._tokens.labels(*call, "output").observe(spoken.tokens)
        if spoken.prompt_tokens is not None:
            self._tokens.labels(*call, "input").observe(spoken.prompt_tokens)

    def given_up(self, reason: LeftWithout) -> None:
        self._given_up.labels(reason.value).inc()

    def retried(self, *, granted: bool) -> None:
        self._retries.labels("granted" if granted else "denied").inc()

    def wasted(self, tokens: int) -> None:
        self._wasted.inc(tokens)

    def _at(self, name: str) -> _At:
        known = self._ats.get(name)
        if known is None:
            url = urlsplit(name)
            port = url.port or PORTS.get(url.scheme, 0)
            found = self._engine(name) if self._engine is not None else None
            known = self._ats[name] = _At(provider_of(found), url.hostname or "", str(port))
        return known

    def _forget(self, engine: str) -> None:
        for family in (self._dispatches, self._ended):
            family.remove_by_labels({"engine": engine})
        at = self._ats.pop(engine, None)
        if at is not None:
            where = {"server_address": at.address, "server_port": at.port}
            for histogram in (self._seconds, self._first, self._tokens):
                histogram.remove_by_labels(where)


class _State(Collector):
    """What is so now, by the report that the worker makes of itself each second."""

    def __init__(
        self,
        report: Callable[[], Report],
        decisions_lost: Callable[[], int],
        forget: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._report, self._decisions_lost, self._forget = report, decisions_lost, forget
        self._now = now
        self._seen_at: dict[str, float] = {}

    def collect(self) -> Iterable[Metric]:
        report = self._report()
        self._forget_gone(report, self._now())
        return (*_queues(report), *_engines(report), *self._worker(report))

    def _worker(self, report: Report) -> Iterable[Metric]:
        held, partitions = families.HELD.gauge_now(), families.PARTITIONS.gauge_now()
        held.add_metric((), report.held)
        partitions.add_metric((), report.partitions)
        lost = families.DECISIONS_LOST.counter_now()
        lost.add_metric((), self._decisions_lost())
        return held, partitions, lost

    def _forget_gone(self, report: Report, now: float) -> None:
        self._seen_at |= {engine.name: now for engine in report.engines}
        for engine, seen_at in list(self._seen_at.items()):
            if now - seen_at > GONE_SECONDS_MAX:
                del self._seen_at[engine]
                self._forget(engine)


def _queues(report: Report) -> Iterable[Metric]:
    served = {model for engine in report.engines for model in engine.models or ()}
    models = Models(served.__contains__)
    waiting: dict[tuple[str, str], int] = {}
    oldest: dict[str, float] = {}
    for line in report.queues:
        at = line.band.value, models.of(line.model)
        waiting[at] = waiting.get(at, 0) + line.waiting
        oldest[at[0]] = max(oldest.get(at[0], 0.0), line.waited_seconds)
    for each in Band:  # an empty queue is a figure too
        oldest.setdefault(each.value, 0.0)
        for model in (*map(models.of, sorted(served)), OTHER):
            waiting.setdefault((each.value, model), 0)
    waits, oldests = families.WAITING.gauge_now(), families.OLDEST_WAIT.gauge_now()
    for labels, number in waiting.items():
        waits.add_metric(labels, number)
    for band, seconds in oldest.items():
        oldests.add_metric((band,), seconds)
    return waits, oldests


def _engines(report: Report) -> Iterable[Metric]:
    breaker, in_flight = families.BREAKER.gauge_now(), families.IN_FLIGHT.gauge_now()
    places, bound = families.PLACES.gauge_now(), families.BOUND.gauge_now()
    load = families.LOAD.gauge_now()
    for engine in report.engines:
        for state in BreakerState:
            breaker.add_metric((engine.name, state.value), float(engine.breaker == state.value))
        for family, value in (
            (in_flight, engine.in_flight),
            (places, engine.places),
            (bound, engine.bound),
            (load, engine.load),
        ):
            family.add_metric((engine.name,), value)
    return breaker, in_flight, places, bound, load


def _error_type(outcome: Outcome, spoken: Spoken, error: str) -> str:
    """Empty: it did not end in an error. Who has heard enough lets go, too."""
    match outcome:
        case Outcome.FINISHED:
            return ""
        case Outcome.FULL:
            return "overloaded"
        case Outcome.LET_GO:
            return "" if spoken.tokens else "let_go"
        case _:
            return error.removeprefix("HTTP ") or "failed"
