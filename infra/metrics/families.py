"""Every family of figures that a role shows: names, labels and meanings, in one place.

`gen_ai_*` are OpenTelemetry's semantic conventions for generative AI (1.42, in development) in
their Prometheus form: dots become underscores, the unit is a suffix, buckets are those advised.
`thalweg_*` are the queue's own. Labels are of a few values each, set by whoever runs the
installation: never a tenant, a user, a conversation, an answer, or anything that somebody wrote.
"""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import CollectorRegistry

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_SECONDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(4**power for power in range(14))
WAIT_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
"""Of our own: a free engine takes work at once, and 15, 30, 60 and 120 s are bounds of the
queue."""

Role = Literal["answers", "gateway", "relay", "recorder"]


@dataclass(frozen=True, slots=True)
class Family:
    """`name` is that of its samples, but for a histogram's suffixes."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    role: Role
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()

    def counter(self, registry: CollectorRegistry) -> Counter:
        return Counter(self.name, self.meaning, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        return Histogram(
            self.name, self.meaning, self.labels, registry=registry, buckets=self.buckets
        )

    def gauge_now(self) -> GaugeMetricFamily:
        """For a collector: filled when somebody asks."""
        return GaugeMetricFamily(self.name, self.meaning, labels=self.labels)

    def counter_now(self) -> CounterMetricFamily:
        return CounterMetricFamily(self.name, self.meaning, labels=self.labels)


_CALL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_AT = ("server_address", "server_port")

CALL_SECONDS = Family(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "answers",
    (*_CALL, *_AT, "error_type"),
    "A call to an engine, from its dispatch to its end.",
    SECONDS,
)
FIRST_CHUNK_SECONDS = Family(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "histogram",
    "answers",
    (*_CALL, *_AT),
    "A call to an engine, from its dispatch to its first token.",
    SECONDS,
)
CALL_TOKENS = Family(
    "gen_ai_client_token_usage",
    "histogram",
    "answers",
    (*_CALL, *_AT, "gen_ai_token_type"),
    "Tokens of a call: of the prompt (input), if the engine says; and those that it said (output).",
    TOKENS,
)
WAITING = Family(
    "thalweg_queue_waiting",
    "gauge",
    "answers",
    ("band", "model"),
    "Requests that wait for an engine.",
)
OLDEST_WAIT = Family(
    "thalweg_queue_oldest_wait_seconds",
    "gauge",
    "answers",
    ("band",),
    "How long the oldest of them has waited.",
)
QUEUE_WAIT = Family(
    "thalweg_queue_wait_seconds",
    "histogram",
    "answers",
    ("band",),
    "How long requests that got an engine had waited for it.",
    WAIT_SECONDS,
)
DISPATCHES = Family(
    "thalweg_dispatches_total",
    "counter",
    "answers",
    ("engine", "because"),
    "Calls that were given to an engine, and why to this one (prefix, only, less_loaded).",
)
CALLS_ENDED = Family(
    "thalweg_calls_ended_total",
    "counter",
    "answers",
    ("engine", "outcome"),
    "Calls that have ended: finished, failed, away (not reached), full, let_go (closed by us, or "
    "refused for what was asked).",
)
GIVEN_UP = Family(
    "thalweg_given_up_total",
    "counter",
    "answers",
    ("reason",),
    "Requests that left the queue without an engine: contended (429), no_capacity (503), deadline, "
    "no_model, queue_full, cannot_continue.",
)
RETRIES = Family(
    "thalweg_retries_total",
    "counter",
    "answers",
    ("budget",),
    "Calls that were to be made again after a failure: granted or denied by the budget.",
)
WASTED = Family(
    "thalweg_tokens_wasted_total",
    "counter",
    "answers",
    (),
    "Tokens that engines said and nobody was shown, of answers that have ended.",
)
BREAKER = Family(
    "thalweg_engine_breaker",
    "gauge",
    "answers",
    ("engine", "state"),
    "1 for the state of an engine's breaker at this worker (closed, half_open, open), else 0.",
)
IN_FLIGHT = Family(
    "thalweg_engine_in_flight",
    "gauge",
    "answers",
    ("engine",),
    "Calls of this worker that an engine is at.",
)
PLACES = Family(
    "thalweg_engine_places",
    "gauge",
    "answers",
    ("engine",),
    "Calls that this worker may have at an engine now: its share, lent and borrowed included.",
)
BOUND = Family(
    "thalweg_engine_bound",
    "gauge",
    "answers",
    ("engine",),
    "Calls that an engine takes at once, of all workers.",
)
LOAD = Family(
    "thalweg_engine_load",
    "gauge",
    "answers",
    ("engine",),
    "How full an engine is, as this worker knows it; 1: full.",
)
HELD = Family(
    "thalweg_requests_held",
    "gauge",
    "answers",
    (),
    "Requests that this worker works on.",
)
PARTITIONS = Family(
    "thalweg_partitions_owned",
    "gauge",
    "answers",
    (),
    "Partitions of the work topics that are this worker's.",
)
DECISIONS_LOST = Family(
    "thalweg_decisions_lost_total",
    "counter",
    "answers",
    (),
    "Decisions that Kafka did not take in time: `thalweg explain` lacks them.",
)
REQUEST_SECONDS = Family(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "gateway",
    (*_CALL, "error_type"),
    "From a request for an answer to the answer's end, as its reader had it.",
    SECONDS,
)
FIRST_TOKEN = Family(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "gateway",
    _CALL,
    "From a request for an answer to its first text.",
    FIRST_TOKEN_SECONDS,
)
TOKEN_TIME = Family(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "gateway",
    _CALL,
    "The rest of an answer that did not fail, divided by its tokens after the first.",
    TOKEN_SECONDS,
)
REFUSALS = Family(
    "thalweg_refusals_total",
    "counter",
    "gateway",
    ("reason",),
    "Requests that were refused, by the `code` that clients are told.",
)
STREAMS = Family(
    "thalweg_streams_open",
    "gauge",
    "gateway",
    (),
    "Clients that read an answer or wait for a whole one.",
)
LEADS = Family(
    "thalweg_relay_leads",
    "gauge",
    "relay",
    ("context",),
    "1 if this process sends the context's events now; one of all relays should.",
)
EVENTS_SENT = Family(
    "thalweg_relay_events_total",
    "counter",
    "relay",
    ("context",),
    "Events that were given to Kafka, repeats after a failure included.",
)
RECORDS_READ = Family(
    "thalweg_recorder_records_total",
    "counter",
    "recorder",
    (),
    "Token records that were read.",
)
ENDS = Family(
    "thalweg_recorder_ends_total",
    "counter",
    "recorder",
    ("outcome",),
    "Ends of answers: recorded; unknown to the event store; refused by it.",
)
ENDS_WAITING = Family(
    "thalweg_recorder_ends_waiting",
    "gauge",
    "recorder",
    (),
    "Ends that wait for the event store.",
)

FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))
