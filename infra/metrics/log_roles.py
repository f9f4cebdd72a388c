"""Figures of the relay and of the recorder: read from what they count anyway."""

from collections.abc import Callable, Iterable

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from infra.metrics import families
from infra.relay import Relay
from processors.answers.recorder import Recorder


class RelayFigures(Collector):
    def __init__(self, relays: Callable[[], Iterable[tuple[str, Relay]]]) -> None:
        """Of this process, each with its context."""
        self._relays = relays

    def collect(self) -> Iterable[Metric]:
        leads, sent = families.LEADS.gauge_now(), families.EVENTS_SENT.counter_now()
        for context, relay in self._relays():
            leads.add_metric((context,), float(relay.leads))
            sent.add_metric((context,), relay.events_sent)
        return leads, sent


class RecorderFigures(Collector):
    """A recorder that starts over counts from 0 again, as Prometheus expects of counters."""

    def __init__(self) -> None:
        self._recorder: Recorder | None = None

    def of(self, recorder: Recorder) -> None:
        """This one counts from now on."""
        self._recorder = recorder

    def collect(self) -> Iterable[Metric]:
        recorder = self._recorder
        if recorder is None:
            return ()
        counts = recorder.counts
        records, ends = families.RECORDS_READ.counter_now(), families.ENDS.counter_now()
        records.add_metric((), counts.records)
        for outcome in ("recorded", "unknown", "refused"):
            ends.add_metric((outcome,), getattr(counts, outcome))
        waiting = families.ENDS_WAITING.gauge_now()
        waiting.add_metric((), recorder.ends_waiting)
        return records, ends, waiting
