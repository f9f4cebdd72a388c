"""Figures of a gateway."""

from collections.abc import Callable, Iterable

from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from gateway.fleet.errors import FleetContended, NoEngine, TooManyUnanswered
from gateway.meter import Served
from infra.metrics import families
from infra.metrics.labels import Few, Models

OPERATION, PROVIDER = "chat", "thalweg"
AT_CAPACITY = (FleetContended, NoEngine, TooManyUnanswered)
"""Refusals that alerts are about."""


class GatewayMeter:
    """Implements gateway.meter.Meter."""

    def __init__(self, registry: CollectorRegistry, is_served: Callable[[str], bool]) -> None:
        """`is_served`: by an engine, under this name or an alias."""
        self._seconds = families.REQUEST_SECONDS.histogram(registry)
        self._first = families.FIRST_TOKEN.histogram(registry)
        self._per_token = families.TOKEN_TIME.histogram(registry)
        self._refusals = families.REFUSALS.counter(registry)
        for refusal in AT_CAPACITY:  # a series that begins at 1 has no rate
            self._refusals.labels(refusal.CODE)
        self._models = Models(is_served)
        self._errors = Few(other="_OTHER")

    def refused(self, code: str) -> None:
        self._refusals.labels(code).inc()

    def first_token(self, model: str, seconds: float) -> None:
        self._first.labels(OPERATION, PROVIDER, self._models.of(model)).observe(seconds)

    def served(self, answer: Served) -> None:
        of = OPERATION, PROVIDER, self._models.of(answer.model)
        self._seconds.labels(*of, self._errors.of(answer.error)).observe(answer.seconds)
        if answer.first_seconds is not None and answer.tokens > 1 and not answer.error:
            rest = answer.seconds - answer.first_seconds
            self._per_token.labels(*of).observe(rest / (answer.tokens - 1))


class GatewayFigures(Collector):
    """What is so now."""

    def __init__(self, streams_open: Callable[[], int]) -> None:
        self._streams_open = streams_open

    def collect(self) -> Iterable[Metric]:
        streams = families.STREAMS.gauge_now()
        streams.add_metric((), self._streams_open())
        return (streams,)
